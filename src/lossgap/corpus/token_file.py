"""nanoGPT's `train.bin` and `val.bin`: token ids in the machine's byte order, memory-mapped, never read whole."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lossgap.corpus.fingerprint import BLOCK_BYTES, sampled_blocks
from lossgap.errors import CorpusError

Tokens: TypeAlias = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
"""Token ids, one dimension: (n,)."""

LARGEST_UINT16_VOCABULARY = 65_536
_CHECK_WHOLE_BELOW_BYTES = 100_000_000
_CHECKED_BLOCKS = 64
_LARGE_BYTES = 1024**3


def token_dtype(vocab_size: int | None) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
    """uint16 as in nanoGPT, uint32 for a vocabulary of more than 65,536."""
    if vocab_size is not None and vocab_size > LARGEST_UINT16_VOCABULARY:
        return np.dtype(np.uint32)
    return np.dtype(np.uint16)


def open_token_file(path: Path, vocab_size: int | None) -> Tokens:
    """The tokens of the file as a read-only memory map, (n,).

    With a `vocab_size` the ids are checked against it: all of them up to 100 MB, 64 evenly spaced blocks of 1 MiB
    above.

    Raises:
        CorpusError: `unreadable-corpus`; `bad-token-file` for a file that is empty, not a whole number of tokens, or
            visibly something else; `token-outside-vocabulary` names the id.
    """
    dtype = token_dtype(vocab_size)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(64)
        if reason := _why_no_token_file(head, size, dtype.itemsize):
            raise CorpusError(
                "bad-token-file",
                f"{path} is not a token file: {reason}; it must hold nothing but {dtype.name} token ids, as "
                "nanoGPT's prepare.py writes them with tofile",
            )
        if vocab_size is not None:
            _check_ids(path, dtype, vocab_size)
        tokens: Tokens = np.memmap(path, dtype=dtype, mode="r")
    except (OSError, ValueError) as problem:
        raise CorpusError("unreadable-corpus", f"{path} cannot be read: {problem}") from None
    # A window is some hundred bytes; reading ahead of it would read a hundred times as much.
    _advise(tokens, "MADV_RANDOM")
    return tokens


def forget_pages(tokens: Tokens) -> None:
    """Give the pages of a large memory map back; the next access maps them again, mostly from the system's cache.

    Otherwise the process grows to the size of the file: each page that a random window touched stays mapped, and is
    counted as its memory. Files below 1 GB are left alone, and systems that have no such call.
    """
    _advise(tokens, "MADV_DONTNEED")


def _advise(tokens: Tokens, advice: str) -> None:
    if tokens.nbytes > _LARGE_BYTES and isinstance(tokens.base, mmap.mmap) and hasattr(mmap, advice):
        tokens.base.madvise(getattr(mmap, advice))


def _why_no_token_file(head: bytes, size: int, itemsize: int) -> str | None:
    if size == 0:
        return "it is empty"
    if head.startswith(b"\x93NUMPY"):
        return "it begins like a file of numpy.save, whose header would be read as tokens (use tofile)"
    if head.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, not the file itself (run `git lfs pull`)"
    if head.startswith((b"PK\x03\x04", b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
        return "it is compressed (unpack it)"
    if size % itemsize:
        return f"its size, {size:,} bytes, is not a multiple of {itemsize} (it may be cut off)"
    return None


def _check_ids(path: Path, dtype: np.dtype[np.uint16] | np.dtype[np.uint32], vocab_size: int) -> None:
    for block in _blocks_to_check(path):
        largest = int(np.frombuffer(block, dtype=dtype).max())
        if largest >= vocab_size:
            raise CorpusError(
                "token-outside-vocabulary",
                f"{path} holds the token {largest}, but the vocabulary has {vocab_size:,} (0 to {vocab_size - 1:,}): "
                "the tokens and meta.pkl do not belong together, prepare the folder again",
            )


def _blocks_to_check(path: Path) -> Iterator[bytes]:
    whole = path.stat().st_size <= _CHECK_WHOLE_BELOW_BYTES
    return sampled_blocks(path, _CHECK_WHOLE_BELOW_BYTES // BLOCK_BYTES + 1 if whole else _CHECKED_BLOCKS)
