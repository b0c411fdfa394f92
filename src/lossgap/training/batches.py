"""A process's micro-batches, in order, drawn one ahead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lossgap.corpus import Corpus
from lossgap.corpus.windows import count_starts, token_window
from lossgap.training.distributed import Share
from lossgap.training.draws import Draws


@dataclass(frozen=True)
class Batch:
    """Inputs x and targets y (B, T) int64, and dropout keys (B, places, 2) int32 or None, on the device."""

    x: Tensor
    y: Tensor
    keys: Tensor | None


class Batches:
    """The training micro-batches of one process from iteration `iteration` on.

    `take` gives the next one; `prefetch` draws the one after it, which nanoGPT does between forward and backward,
    so that a GPU does not wait for it. With `parts` (see `lossgap.schedule.context_parts`) the windows of an iteration
    are cut, so that (B, T) becomes (parts B, T / parts): the same tokens in shorter contexts. Raises CorpusError where
    the corpus is smaller than one window.
    """

    def __init__(
        self,
        corpus: Corpus,
        draws: Draws,
        share: Share,
        block_size: int,
        places: int,
        device: str,
        iteration: int,
        parts: Callable[[int], int] = lambda iteration: 1,
    ) -> None:
        self.tokens = corpus.train
        count_starts(len(corpus.train), block_size, "train")
        self.draws, self.share, self.block_size, self.places, self.device = draws, share, block_size, places, device
        self.parts = parts
        self._iteration, self._micro_step = iteration, 0
        self._next = self._draw()

    def take(self) -> Batch:
        """The next micro-batch, already drawn."""
        return self._next

    def prefetch(self) -> None:
        """Draw the micro-batch after the one just taken."""
        self._micro_step += 1
        if self._micro_step == self.share.micro_steps:
            self._iteration, self._micro_step = self._iteration + 1, 0
        self._next = self._draw()

    def _draw(self) -> Batch:
        sequences = self.share.sequences(self._micro_step)
        starts = self.draws.train_starts(self._iteration, sequences, len(self.tokens), self.block_size)
        x, y = token_window(self.tokens, starts, self.block_size)
        parts = self.parts(self._iteration)
        pieces = range(sequences.start * parts, sequences.stop * parts)
        keys = self.draws.dropout_keys(self._iteration, pieces, self.places) if self.places else None
        x, y = (part.reshape(len(pieces), -1) for part in (x, y))
        return Batch(self._move(x), self._move(y), None if keys is None else keys.to(self.device))

    def _move(self, array: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.device.startswith("cuda"):
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)
