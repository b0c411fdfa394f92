from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossgap.corpus import BpeTokenizer, CharTokenizer, open_corpus, tokenizer_from_dict
from lossgap.corpus import tokenizer as tokenizer_module
from lossgap.errors import CorpusError

TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1)


@given(TEXTS, st.data())
def test_round_trip(text: str, data: st.DataObject) -> None:
    tokenizer = CharTokenizer("".join(sorted(set(text))))
    again = tokenizer_from_dict(tokenizer.to_dict())
    some = data.draw(st.lists(st.sampled_from(text)).map("".join))
    for encoder in (tokenizer, again):
        assert encoder.decode(encoder.encode(some)) == some
    assert again == tokenizer
    assert all(0 <= index < tokenizer.vocab_size for index in tokenizer.encode(text))
    assert tokenizer.encode(tokenizer.chars) == list(range(tokenizer.vocab_size))


def test_character_outside_the_vocabulary_is_named() -> None:
    with pytest.raises(CorpusError, match=r"'ß' \(U\+00DF, at place 2\)") as caught:
        CharTokenizer("abc").encode("abß")
    assert caught.value.slug == "not-in-vocabulary"


@pytest.mark.parametrize("index", [-1, 3])
def test_id_outside_the_vocabulary_is_named(index: int) -> None:
    with pytest.raises(CorpusError, match=rf"token {index} is outside the vocabulary \(0 to 2\)"):
        CharTokenizer("abc").decode([0, index])


@pytest.mark.parametrize("description", [{}, {"kind": "char"}, {"kind": "char", "chars": 5}, {"kind": "os.system"}])
def test_description_from_a_stranger(description: dict[str, object]) -> None:
    with pytest.raises(CorpusError) as caught:
        tokenizer_from_dict(description)
    assert caught.value.slug == "bad-tokenizer"


@pytest.mark.parametrize("chars", ["", "aba"])
def test_vocabulary_needs_distinct_characters(chars: str) -> None:
    with pytest.raises(CorpusError, match="exactly one id"):
        CharTokenizer(chars)


def test_gpt2_without_tiktoken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    tokenizer_module._gpt2.cache_clear()
    for use in (lambda: BpeTokenizer().encode("a"), lambda: open_corpus("shakespeare")):
        with pytest.raises(CorpusError, match=r"pip install 'lossgap\[bpe\]'") as caught:
            use()
        assert caught.value.slug == "no-bpe"


def test_gpt2_without_its_vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tiktoken")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "empty"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    tiktoken_registry = pytest.importorskip("tiktoken.registry")
    monkeypatch.setattr(tiktoken_registry, "ENCODINGS", {})
    tokenizer_module._gpt2.cache_clear()
    with pytest.raises(CorpusError, match="TIKTOKEN_CACHE_DIR") as caught:
        BpeTokenizer().encode("a")
    assert caught.value.slug == "no-bpe"
    assert "\n" not in str(caught.value)


@pytest.fixture
def byte_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """tiktoken with a vocabulary of bytes in place of GPT-2's, which would have to be downloaded."""
    tiktoken = pytest.importorskip("tiktoken")
    encoding = tiktoken.Encoding(
        "bytes",
        pat_str=r"\S+|\s+",
        mergeable_ranks={bytes([value]): value for value in range(256)},
        special_tokens={"<|endoftext|>": 50_256},
    )
    monkeypatch.setattr(tiktoken, "get_encoding", lambda _: encoding)
    tokenizer_module._gpt2.cache_clear()


@pytest.mark.usefixtures("byte_vocabulary")
def test_gpt2_prompt_and_corpus() -> None:
    tokenizer = BpeTokenizer()
    assert tokenizer.encode("a<|endoftext|>") == [97, 50_256]
    assert tokenizer.encode_corpus("<|endoftext|>") == list(b"<|endoftext|>")
    assert tokenizer.decode([97, 50_256]) == "a<|endoftext|>"
    assert tokenizer_from_dict(tokenizer.to_dict()) == tokenizer
    with pytest.raises(CorpusError, match=r"token 50300 is outside"):
        tokenizer.decode([50_300])
    tokenizer_module._gpt2.cache_clear()


@pytest.mark.usefixtures("byte_vocabulary")
def test_shakespeare_as_gpt2_tokens() -> None:
    corpus = open_corpus("shakespeare")
    assert corpus.vocab_size is None
    assert (len(corpus.train), len(corpus.val)) == (1_003_854, 111_540)
    assert bytes(corpus.train[:14].tolist()) == b"First Citizen:"
    tokenizer_module._gpt2.cache_clear()


def test_shakespeare_with_the_real_vocabulary() -> None:
    pytest.importorskip("tiktoken")
    tokenizer_module._gpt2.cache_clear()
    try:
        BpeTokenizer().encode("a")
    except CorpusError as problem:
        pytest.skip(f"GPT-2's vocabulary is not on this machine: {problem}")
    corpus = open_corpus("shakespeare")
    assert (len(corpus.train), len(corpus.val)) == (301_966, 36_059)  # from data/shakespeare/prepare.py of nanoGPT
