"""Text to `train.bin` and `val.bin`, once: the result is kept in the cache and checked at each use.

1. One pass collects the characters and counts them; the vocabulary is their sorted set, as in nanoGPT.
2. A second pass writes the ids, the first `int(n * 0.9)` characters to `train.bin`, the rest to `val.bin`.
3. The folder gets its name only when it is complete. Its manifest holds the hashes of both files.

Memory stays at some ten pieces of 4 MiB, however long the text is.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lossgap.corpus.dataset import tokens_fingerprint
from lossgap.corpus.fingerprint import Fingerprint, fingerprint
from lossgap.corpus.text_file import CODE_POINTS, TextFile
from lossgap.corpus.token_file import Tokens, open_token_file, token_dtype
from lossgap.corpus.tokenizer import BpeTokenizer, CharTokenizer, Tokenizer, tokenizer_from_dict
from lossgap.errors import CorpusError

TRAIN_FRACTION = 0.9
"""nanoGPT's, counted in characters also where tokens are not characters."""

_FORMAT = 1


@dataclass(frozen=True, eq=False)
class TextTokens:
    """The tokens of a text: read-only memory maps, (n_train,) and (n_val,), and how they were made."""

    train: Tokens
    val: Tokens
    tokenizer: Tokenizer
    text_sha256: str
    fingerprint: Fingerprint
    kept_in: str
    """Where the tokens lie, in words."""


def char_tokens(path: Path, cache: Path) -> TextTokens:
    """The characters of a UTF-8 text file as tokens.

    Raises:
        CorpusError: `invalid-utf8`, `corpus-too-small` (fewer than 2 characters), `unreadable-corpus`, `text-changed`,
            `no-place-for-tokens`.
    """
    return _tokens(path, cache, "char", _write_chars)


def bpe_tokens(path: Path, cache: Path) -> TextTokens:
    """The text's GPT-2 tokens, each split encoded on its own as in nanoGPT; the text is read into memory.

    Raises:
        CorpusError: as `char_tokens`, and `no-bpe`.
    """
    return _tokens(path, cache, "gpt2", _write_bpe)


def _tokens(path: Path, cache: Path, kind: str, write: Callable[[TextFile, Path], Tokenizer]) -> TextTokens:
    try:
        text_sha256 = fingerprint(path, cache, whole=True).sha256
    except OSError as problem:
        raise CorpusError("unreadable-corpus", f"{path} cannot be read: {problem}") from None
    folder = cache / "tokens" / f"{text_sha256}-{kind}-{_FORMAT}"
    if kept := _kept(folder, text_sha256, cache):
        return kept
    failures: list[str] = []
    for parent, permanent in ((folder.parent, True), (Path(tempfile.gettempdir()), False)):
        try:
            with _new_folder(parent) as new:
                _write_folder(path, text_sha256, new, write)
                if permanent:
                    _put_in_place(new, folder, lambda: _kept(folder, text_sha256, cache) is not None)
                made = _kept(folder if permanent else new, text_sha256, cache)
                if made and permanent:
                    return made
                if made:
                    # Where the system allows it, the files go at once and the maps keep their content.
                    reason = f"memory only, the cache cannot be written ({failures[0]})"
                    return TextTokens(made.train, made.val, made.tokenizer, text_sha256, made.fingerprint, reason)
                failures.append(f"{folder}: damaged at once")
        except OSError as problem:
            failures.append(f"{parent}: {problem.strerror or problem}")
    raise CorpusError(
        "no-place-for-tokens",
        f"the tokens of {path} could not be written ({'; '.join(failures)}): name a folder with room in LOSSGAP_CACHE",
    )


def _write_folder(path: Path, text_sha256: str, new: Path, write: Callable[[TextFile, Path], Tokenizer]) -> None:
    text = TextFile(path)
    text.sha256 = text_sha256
    tokenizer = write(text, new)
    with contextlib.ExitStack() as files:
        for name in ("train.bin", "val.bin"):
            os.fsync(files.enter_context((new / name).open("rb+")).fileno())
    manifest = {
        "format": _FORMAT,
        "text_sha256": text_sha256,
        "tokens_sha256": tokens_fingerprint(new, new).sha256,
        "tokenizer": tokenizer.to_dict(),
    }
    (new / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def _write_chars(text: TextFile, new: Path) -> CharTokenizer:
    seen = np.zeros(CODE_POINTS, dtype=np.bool_)
    n_chars = 0
    for piece in text.code_points():
        seen[piece] = True
        n_chars += len(piece)
    _check_length(n_chars, text.path)
    vocabulary = np.flatnonzero(seen)
    dtype = token_dtype(len(vocabulary))
    id_of = np.zeros(CODE_POINTS, dtype=dtype)
    id_of[vocabulary] = np.arange(len(vocabulary), dtype=dtype)
    left = _train_length(n_chars)
    with (new / "train.bin").open("wb") as train, (new / "val.bin").open("wb") as val:
        for piece in text.code_points():
            ids = id_of[piece]
            train.write(ids[:left].tobytes())
            val.write(ids[left:].tobytes())
            left = max(left - len(ids), 0)
    return CharTokenizer("".join(map(chr, vocabulary.tolist())))


def _write_bpe(text: TextFile, new: Path) -> BpeTokenizer:
    tokenizer = BpeTokenizer()
    whole = text.text()
    _check_length(len(whole), text.path)
    cut = _train_length(len(whole))
    for name, part in (("train.bin", whole[:cut]), ("val.bin", whole[cut:])):
        (new / name).write_bytes(np.array(tokenizer.encode_corpus(part), dtype=np.uint16).tobytes())
    return tokenizer


def _train_length(n_chars: int) -> int:
    # The product is a float64, rounded down, as in nanoGPT.
    return int(n_chars * TRAIN_FRACTION)


def _check_length(n_chars: int, path: Path) -> None:
    if n_chars < 2:
        raise CorpusError(
            "corpus-too-small",
            f"{path} has {n_chars} characters: at least 2 are needed to have one in each split; give a longer text",
        )


def _kept(folder: Path, text_sha256: str, cache: Path) -> TextTokens | None:
    """The tokens in a finished folder; None if it is not there, or anything in it is not as its manifest says."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if manifest["format"] != _FORMAT or manifest["text_sha256"] != text_sha256:
            return None
        tokenizer = tokenizer_from_dict(manifest["tokenizer"])
        found = tokens_fingerprint(folder, cache)
        if found.sha256 != manifest["tokens_sha256"]:
            return None
        train = open_token_file(folder / "train.bin", tokenizer.vocab_size)
        val = open_token_file(folder / "val.bin", tokenizer.vocab_size)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, CorpusError):
        return None
    return TextTokens(train, val, tokenizer, text_sha256, found, f"tokens kept in {folder}")


@contextlib.contextmanager
def _new_folder(parent: Path) -> Iterator[Path]:
    """A fresh folder that is gone at the end, unless it was renamed."""
    parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=parent, prefix=".lossgap-new-"))
    try:
        yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _put_in_place(new: Path, folder: Path, is_good: Callable[[], bool]) -> None:
    """Rename `new` to `folder`. What is there already stays if it is good: then another process was quicker."""
    try:
        new.rename(folder)
    except OSError:
        if is_good():
            return
        with _new_folder(folder.parent) as aside:
            with contextlib.suppress(FileNotFoundError):
                folder.rename(aside / "damaged")
            new.rename(folder)
