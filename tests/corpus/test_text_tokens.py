from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lossgap.corpus import Corpus, open_corpus, text_file
from lossgap.errors import CorpusError


def nanogpt_tokens(path: Path) -> tuple[list[int], list[int], str]:
    """What a prepare.py in nanoGPT's manner makes of the text, one character at a time."""
    data = path.read_text(encoding="utf-8")
    chars = sorted(set(data))
    place = {char: index for index, char in enumerate(chars)}
    cut = int(len(data) * 0.9)
    return [place[c] for c in data[:cut]], [place[c] for c in data[cut:]], "".join(chars)


def agrees(corpus: Corpus, path: Path) -> bool:
    train, val, chars = nanogpt_tokens(path)
    assert corpus.tokenizer is not None
    return (corpus.train.tolist(), corpus.val.tolist(), corpus.tokenizer.chars) == (train, val, chars)


# Fixtures are per test, not per example: the cache then holds the examples before, which must not matter.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.text(alphabet=st.sampled_from("ab\r\n\ufeffß漢🎭"), min_size=8, max_size=80), piece=st.integers(1, 9))
def test_as_nanogpt_wherever_the_pieces_are_cut(
    here: Path, monkeypatch: pytest.MonkeyPatch, content: str, piece: int
) -> None:
    monkeypatch.setattr(text_file, "PIECE_BYTES", piece)
    path = here / "text.txt"
    path.write_bytes(content.encode())
    assert agrees(open_corpus("text.txt"), path)


def test_newlines_and_byte_order_mark_as_in_text_mode(here: Path) -> None:
    (here / "crlf.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n" * 9)
    (here / "lf.txt").write_bytes(b"\xef\xbb\xbfone\ntwo\nthree\n" * 9)
    crlf, lf = open_corpus("crlf.txt"), open_corpus("lf.txt")
    assert crlf.tokens_sha256 == lf.tokens_sha256
    assert crlf.sha256 != lf.sha256
    assert crlf.sha256 == hashlib.sha256((here / "crlf.txt").read_bytes()).hexdigest()
    assert crlf.tokenizer is not None
    assert crlf.tokenizer.chars is not None
    assert "\r" not in crlf.tokenizer.chars
    assert "\ufeff" in crlf.tokenizer.chars


@pytest.mark.parametrize("piece", [1, 3, 4, 1024])
@pytest.mark.parametrize(("tail", "place"), [(b"\xff", 6), (b"\xe6\xbc", 6), (b"\xe6\xbc!", 6), (b"ok\xed\xa0\x80", 8)])
def test_invalid_utf8_names_the_byte(
    here: Path, monkeypatch: pytest.MonkeyPatch, piece: int, tail: bytes, place: int
) -> None:
    monkeypatch.setattr(text_file, "PIECE_BYTES", piece)
    (here / "text.txt").write_bytes("aß漢".encode() + tail)
    with pytest.raises(CorpusError, match=rf"byte {place} \(0x") as caught:
        open_corpus("text.txt")
    assert caught.value.slug == "invalid-utf8"


def test_token_file_given_as_text(here: Path) -> None:
    (here / "train.bin").write_bytes(b"\xff\xff")
    with pytest.raises(CorpusError, match=r"give the folder that holds train\.bin"):
        open_corpus("train.bin")


@pytest.mark.parametrize("content", [b"", b"a"])
def test_too_short(here: Path, content: bytes) -> None:
    (here / "text.txt").write_bytes(content)
    with pytest.raises(CorpusError) as caught:
        open_corpus("text.txt")
    assert caught.value.slug == "corpus-too-small"


def test_more_than_65536_characters_need_uint32(here: Path) -> None:
    codes = [code for code in range(0x20, 0x20000) if not 0xD800 <= code < 0xE000]
    for count, dtype in ((65_536, np.uint16), (65_537, np.uint32)):
        path = here / f"{count}.txt"
        path.write_text("".join(map(chr, reversed(codes[:count]))), encoding="utf-8", newline="")
        corpus = open_corpus(path.name)
        assert corpus.train.dtype == corpus.val.dtype == dtype
        assert corpus.vocab_size == len(set(path.read_text(encoding="utf-8")))
        assert agrees(corpus, path)


def test_tokens_are_made_once_and_read_only(here: Path, cache: Path) -> None:
    (here / "text.txt").write_text("some text\n" * 50)
    first = open_corpus("text.txt")
    kept = next((cache / "tokens").iterdir())
    before = {file.name: file.stat().st_mtime_ns for file in kept.iterdir()}
    second = open_corpus("text.txt")
    assert {file.name: file.stat().st_mtime_ns for file in kept.iterdir()} == before
    assert first.tokens_sha256 == second.tokens_sha256
    for tokens in (first.train, first.val, second.train, second.val):
        assert isinstance(tokens, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            tokens[0] = 1
    assert [item.name for item in (cache / "tokens").iterdir()] == [kept.name]


@pytest.mark.parametrize("file", ["train.bin", "val.bin", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "json"])
def test_damaged_tokens_are_made_again(here: Path, cache: Path, file: str, damage: str) -> None:
    path = here / "text.txt"
    path.write_text("some text\n" * 50)
    open_corpus("text.txt")
    damaged = next((cache / "tokens").iterdir()) / file
    content = damaged.read_bytes()
    if damage == "gone":
        damaged.unlink()
    else:
        flipped = bytes([content[0] ^ 1]) + content[1:]
        damaged.write_bytes({"cut": content[:-2], "flip": flipped, "json": b"[]"}[damage])
    assert agrees(open_corpus("text.txt"), path)
    assert damaged.read_bytes() == content
    assert len(list((cache / "tokens").iterdir())) == 1


def test_changed_text_gets_new_tokens(here: Path) -> None:
    path = here / "text.txt"
    for content in ("some text\n" * 50, "some tixt\n" * 50):
        path.write_text(content)
        assert agrees(open_corpus("text.txt"), path)


def test_unwritable_cache_costs_time_only(here: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (here / "text.txt").write_text("some text\n" * 50)
    corpus = open_corpus("text.txt", cache=tmp_path / "file")
    assert agrees(corpus, here / "text.txt")
    assert "memory only, the cache cannot be written" in corpus.source
    assert open_corpus("shakespeare_char", cache=tmp_path / "file").vocab_size == 65
    assert not list(Path(tempfile.gettempdir()).glob(".lossgap-new-*"))


def test_no_place_at_all(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    (here / "text.txt").write_text("some text\n" * 50)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    with pytest.raises(CorpusError, match="LOSSGAP_CACHE") as caught:
        open_corpus("text.txt", cache=tmp_path / "file")
    assert caught.value.slug == "no-place-for-tokens"


def test_many_at_once(here: Path) -> None:
    path = here / "text.txt"
    path.write_text("some text for many\n" * 5_000)
    with ThreadPoolExecutor(8) as pool:
        corpora = list(pool.map(lambda _: open_corpus("text.txt"), range(16)))
    assert all("tokens kept in" in corpus.source for corpus in corpora)
    assert all(agrees(corpus, path) for corpus in corpora)


_MEASURE = """
import sys
from lossgap.corpus import open_corpus
before = peak_memory()
corpus = open_corpus(sys.argv[1])
print(peak_memory() - before, len(corpus.train) + len(corpus.val))
"""


def test_large_text_needs_little_memory(here: Path, run_python: Callable[..., str]) -> None:
    block = "To be, or not to be: ß漢\n" * 400_000
    with (here / "text.txt").open("w", encoding="utf-8") as file:
        for _ in range(8):
            file.write(block)
    size = (here / "text.txt").stat().st_size
    grown, n_tokens = map(int, run_python(_MEASURE, "text.txt").split())
    assert n_tokens == 8 * len(block)
    # The bound does not depend on the text, which has 93 MB here and 150 MB of tokens. Measured: 85 MB.
    assert size > 80_000_000
    assert grown < 150_000_000
