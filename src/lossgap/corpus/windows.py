"""Windows on the tokens: what a batch reads, and which windows an exact evaluation scores.

A window of length T at start s has the inputs `tokens[s : s + T]` and, one further on, the targets
`tokens[s + 1 : s + T + 1]`. Starts are 64-bit: a corpus may have more than 2**32 tokens.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from lossgap.corpus.token_file import Tokens, forget_pages
from lossgap.errors import CorpusError

Split: TypeAlias = Literal["train", "val"]
Int64s: TypeAlias = npt.NDArray[np.int64]


def count_starts(n_tokens: int, block_size: int, split: Split) -> int:
    """How many starts a full window has: `n_tokens - block_size`, the bound that nanoGPT draws below.

    Raises:
        CorpusError: (`corpus-too-small`) if there is none.
    """
    if n_tokens < block_size + 1:
        raise CorpusError(
            "corpus-too-small",
            f"the {split} split has {n_tokens:,} tokens, but block_size={block_size} needs {block_size + 1:,} (a "
            f"window and one more token): use --block_size={max(n_tokens - 1, 1)} or smaller, or a larger corpus",
        )
    return n_tokens - block_size


def token_window(tokens: Tokens, starts: Int64s, length: int) -> tuple[Int64s, Int64s]:
    """Inputs and targets of the windows of `length` tokens at `starts`.

    Args:
        tokens: (n,), usually a memory map; only the windows are read.
        starts: (B,), each from 0 to `n - length - 1`.
        length: T, at least 1.

    Returns:
        x (B, T) and y (B, T), both int64 and contiguous; y is x shifted by one token.

    Raises:
        IndexError: if a start is out of range; `count_starts` gives the range.
    """
    if length < 1 or (starts.size and not 0 <= int(starts.min()) <= int(starts.max()) < len(tokens) - length):
        raise IndexError(f"a start is not between 0 and {len(tokens) - length - 1}, or the length {length} is below 1")
    places = starts[:, None] + np.arange(length + 1)
    # A plain view of the memory map: indexing the subclass costs more than the reading.
    window = np.asarray(tokens)[places]
    forget_pages(tokens)
    return inputs_and_targets(window)


def inputs_and_targets(windows: npt.NDArray[np.integer]) -> tuple[Int64s, Int64s]:
    """Inputs x (..., T) and targets y (..., T), one token further on, of windows (..., T + 1); contiguous int64."""
    return windows[..., :-1].astype(np.int64), windows[..., 1:].astype(np.int64)


def exact_windows(n_tokens: int, length: int) -> tuple[Int64s, Int64s]:
    """Windows that score each token after the first exactly once: starts (W,) and lengths (W,).

    They lie side by side from token 0, `length` each, the last one shorter if need be; `n_tokens - 1` targets in all.

    Raises:
        CorpusError: (`corpus-too-small`) for fewer than 2 tokens, which leave nothing to score.
    """
    if n_tokens < 2 or length < 1:
        raise CorpusError(
            "corpus-too-small",
            f"{n_tokens} tokens cannot be scored in windows of {length}: a target needs a token before it and a window "
            "at least 1 token; use a larger corpus",
        )
    starts = np.arange(0, n_tokens - 1, length, dtype=np.int64)
    return starts, np.minimum(length, n_tokens - 1 - starts)


def evenly_spaced_windows(n_tokens: int, length: int, count: int) -> Int64s:
    """Starts (W,) of full windows spread evenly from the first token to the last; no two overlap.

    W is `count`, or as many as fit without overlap, `(n_tokens - 1) // length`, if that is less.

    Raises:
        CorpusError: (`corpus-too-small`) if not even one window fits.
    """
    last = count_starts(n_tokens, length, "train") - 1
    count = min(count, (n_tokens - 1) // length)
    # Integers all the way: a float64 product is inexact above 2**53, and rounding could let windows overlap.
    return np.array([index * last // max(count - 1, 1) for index in range(count)], dtype=np.int64)
