"""The `Corpus`: what a training reads, and what identifies it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from lossgap.corpus.fingerprint import Fingerprint, fingerprint
from lossgap.corpus.token_file import Tokens
from lossgap.corpus.tokenizer import Tokenizer
from lossgap.corpus.windows import Split
from lossgap.errors import CorpusError


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """Tokens for training and validation, and where they came from."""

    name: str
    """As it was asked for, nanoGPT's `dataset`."""

    source: str
    """One line: where the tokens came from."""

    sha256: str
    """The hash of the text file's bytes; of the token files (equal to `tokens_sha256`) where there is no text."""

    tokens_sha256: str
    """The hash of the token files. Equal tokens have equal values, from a text or from nanoGPT's prepared folder."""

    hash_method: str
    """The part of each token file that `tokens_sha256` hashed: all of it, or the size and a sample of blocks."""

    train: Tokens = field(repr=False)
    """Read-only memory map, (n_train,)."""

    val: Tokens = field(repr=False)
    """Read-only memory map, (n_val,)."""

    vocab_size: int | None
    """As nanoGPT's `meta.pkl` has it; None where nanoGPT knows none (GPT-2's tokens: its models have 50,304)."""

    tokenizer: Tokenizer | None
    """None if the prepared folder does not record it."""

    def tokens(self, split: Split) -> Tokens:
        """The tokens of one split, (n,)."""
        return self.train if split == "train" else self.val


def tokens_fingerprint(folder: Path, cache: Path) -> Fingerprint:
    """One hash over `train.bin` and `val.bin`: SHA-256 of the two files' hashes.

    Raises:
        CorpusError: (`unreadable-corpus`).
    """
    try:
        train, val = fingerprint(folder / "train.bin", cache), fingerprint(folder / "val.bin", cache)
    except OSError as problem:
        raise CorpusError("unreadable-corpus", f"{folder} cannot be read: {problem}") from None
    method = train.method if train.method == val.method else f"train {train.method}, val {val.method}"
    return Fingerprint(hashlib.sha256(f"train {train.sha256}\nval {val.sha256}\n".encode()).hexdigest(), method)
