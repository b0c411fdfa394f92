"""The loss of a model on both splits: sampled as nanoGPT does, or exact."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from lossgap.corpus import Corpus, Split, count_starts, evenly_spaced_windows, exact_windows, token_window
from lossgap.corpus.token_file import Tokens
from lossgap.gpt import GPT
from lossgap.random import Int64
from lossgap.training import distributed
from lossgap.training.draws import Draws
from lossgap.training.numerics import Numerics

Mode = Literal["sampled", "exact"]

TOKENS_PER_PASS = 1 << 14
LOGITS_PER_PASS = 1 << 25
"""Bounds on one forward pass of an exact evaluation: constants, so that the sums never depend on the machine."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Mean losses of both splits in nats per token, with standard errors and how they were measured."""

    iter: int
    mode: Mode
    train_loss: float
    val_loss: float
    train_se: float | None
    val_se: float | None
    eval_iters: int | None
    context: int
    stride: int | None
    windows: int
    seconds: float


@dataclass(frozen=True)
class Mean:
    """A mean loss, its standard error (None where one window tells none), and how many windows it is over."""

    loss: float
    standard_error: float | None
    windows: int


class Evaluator:
    """Scores models on a corpus in evaluation mode. Every process scores its part and gets the whole result."""

    def __init__(self, corpus: Corpus, numerics: Numerics) -> None:
        self.corpus = corpus
        self.numerics = numerics

    def sampled(self, model: GPT, draws: Draws, iteration: int, eval_iters: int, batch_size: int) -> Evaluation:
        """nanoGPT's `estimate_loss`: the mean over `eval_iters` batches of `batch_size` windows of block_size.

        Standard error: sd of the batch means / sqrt(eval_iters). Raises CorpusError for a split that is too small.
        """
        start = time.perf_counter()
        with evaluating(model, self.numerics):
            train = self._sampled_split(model, draws, "train", eval_iters, batch_size)
            val = self._sampled_split(model, draws, "val", eval_iters, batch_size)
        return _evaluation(iteration, "sampled", train, val, model.config.block_size, eval_iters, start)

    def exact(self, model: GPT, iteration: int, context: int | None = None) -> Evaluation:
        """Non-overlapping windows of `context` tokens (default: block_size) from token 0, the last one shorter.

        On val each token after the first is scored once, so there is no sampling error (0). On train: as many
        evenly spaced full windows as val has; standard error: sd of the windows' means / sqrt(windows).
        """
        start = time.perf_counter()
        context = context or model.config.block_size
        with evaluating(model, self.numerics):
            val = self._exact_val(model, context)
            starts = evenly_spaced_windows(len(self.corpus.train), context, val.windows)
            losses = self._window_losses(model, self.corpus.train, starts, context)
        train = Mean(math.fsum(losses) / len(losses), standard_error(losses), len(losses))
        return _evaluation(iteration, "exact", train, val, context, None, start)

    def _sampled_split(self, model: GPT, draws: Draws, split: Split, eval_iters: int, batch_size: int) -> Mean:
        tokens, T = self.corpus.tokens(split), model.config.block_size
        count_starts(len(tokens), T, split)
        rank, world_size = distributed.position()
        means = []
        for k in range(rank, eval_iters, world_size):
            starts = draws.eval_starts(split, range(k * batch_size, (k + 1) * batch_size), len(tokens), T)
            _, loss = model(*self._windows(tokens, starts, T))
            means.append(float(loss))
        means = distributed.interleaved(means)
        return Mean(mean_loss(means), standard_error(means), eval_iters * batch_size)

    def _exact_val(self, model: GPT, context: int) -> Mean:
        tokens = self.corpus.val
        starts, lengths = exact_windows(len(tokens), context)
        full = starts[lengths == context]
        total = math.fsum(self._window_losses(model, tokens, full, context)) * context
        for start, length in zip(starts[len(full) :], lengths[len(full) :], strict=True):
            total += self._rows_losses(model, tokens, np.array([start]), int(length))[0] * int(length)
        return Mean(total / int(lengths.sum()), 0.0, len(starts))

    def _window_losses(self, model: GPT, tokens: Tokens, starts: Int64, length: int) -> list[float]:
        """The mean loss of every window, in the order of `starts`."""
        bound = min(TOKENS_PER_PASS, LOGITS_PER_PASS // model.config.vocab_size)
        rows = max(1, bound // length)
        passes = [starts[first : first + rows] for first in range(0, len(starts), rows)]
        rank, world_size = distributed.position()
        mine = [self._rows_losses(model, tokens, rows_starts, length) for rows_starts in passes[rank::world_size]]
        return [loss for losses in distributed.interleaved(mine) for loss in losses]

    def _rows_losses(self, model: GPT, tokens: Tokens, starts: Int64, length: int) -> list[float]:
        x, y = self._windows(tokens, starts, length)
        hidden, _ = model.hidden(x)
        logits = model.lm_head(hidden)
        losses_BT = F.cross_entropy(logits.flatten(0, 1).float(), y.flatten(), reduction="none").view(y.shape)
        losses: list[float] = losses_BT.cpu().double().mean(1).tolist()  # cpu(): MPS has no float64
        return losses

    def _windows(self, tokens: Tokens, starts: Int64, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = token_window(tokens, starts, length)
        return torch.from_numpy(x).to(self.numerics.device), torch.from_numpy(y).to(self.numerics.device)


def mean_loss(means: Sequence[float]) -> float:
    """The mean of the batches' losses in float32, as nanoGPT has it, so that no printed digit rounds another way."""
    return float(torch.tensor(means, dtype=torch.float32).mean())


@contextmanager
def evaluating(model: GPT, numerics: Numerics) -> Iterator[None]:
    """Evaluation mode, no gradients, the numerics' autocast; the model's mode is put back."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), numerics.autocast():
            yield
    finally:
        model.train(training)


def _evaluation(
    iteration: int, mode: Mode, train: Mean, val: Mean, context: int, eval_iters: int | None, start: float
) -> Evaluation:
    return Evaluation(
        iter=iteration,
        mode=mode,
        train_loss=train.loss,
        val_loss=val.loss,
        train_se=train.standard_error,
        val_se=val.standard_error,
        eval_iters=eval_iters,
        context=context,
        stride=context if mode == "exact" else None,
        windows=val.windows,
        seconds=time.perf_counter() - start,
    )


def standard_error(values: Sequence[float]) -> float | None:
    """Standard error of the mean, sd / sqrt(n) with n - 1 in the sd; None below two values, or if one is not finite."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None
    return statistics.stdev(values) / math.sqrt(len(values))
