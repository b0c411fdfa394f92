"""The loss of a model on both splits: sampled as nanoGPT does, or exact."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from lossgap.corpus import Corpus, Split, count_starts, evenly_spaced_windows
from lossgap.evaluation.losses import device_window, evaluating, score
from lossgap.evaluation.same_targets import Windows
from lossgap.gpt import GPT
from lossgap.training import distributed
from lossgap.training.draws import Draws
from lossgap.training.numerics import Numerics

Mode = Literal["sampled", "exact"]


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
    val_blocks: tuple[float, ...] = ()
    """The mean loss of each of so many equal stretches of val, of an exact evaluation that was asked for them."""

    def losses(self) -> dict[str, object]:
        """JSON-safe: everything but the stretches."""
        values = dataclasses.asdict(self)
        del values["val_blocks"]
        return values

    def row(self) -> dict[str, object]:
        """A row of `metrics.jsonl` without its kind: the stretches only where there are some."""
        return self.losses() | ({"val_blocks": list(self.val_blocks)} if self.val_blocks else {})


@dataclass(frozen=True)
class SplitLoss:
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

    def exact(self, model: GPT, iteration: int, context: int | None = None, blocks: int = 0) -> Evaluation:
        """Non-overlapping windows of `context` tokens (default: block_size) from token 0, the last one shorter.

        On val each token after the first is scored once, so there is no sampling error (0). On train: as many
        evenly spaced full windows as val has; standard error: sd of the windows' means / sqrt(windows). `blocks` is the
        number of stretches of val whose mean losses are kept, too.
        """
        start = time.perf_counter()
        context = context or model.config.block_size
        laid = Windows.side_by_side(len(self.corpus.val), context)
        val = score(model, self.corpus.val, laid, self.numerics, blocks)
        starts = evenly_spaced_windows(len(self.corpus.train), context, len(laid.starts))
        spread = Windows(starts=starts, lengths=np.full(len(starts), context))
        losses = score(model, self.corpus.train, spread, self.numerics).window_means
        return _evaluation(
            iteration,
            "exact",
            SplitLoss(math.fsum(losses) / len(losses), standard_error(losses), len(losses)),
            SplitLoss(val.mean, 0.0, len(laid.starts)),
            context,
            None,
            start,
            tuple(val.block_means),
        )

    def _sampled_split(self, model: GPT, draws: Draws, split: Split, eval_iters: int, batch_size: int) -> SplitLoss:
        tokens, T = self.corpus.tokens(split), model.config.block_size
        count_starts(len(tokens), T, split)
        rank, world_size = distributed.position()
        means = []
        for k in range(rank, eval_iters, world_size):
            starts = draws.eval_starts(split, range(k * batch_size, (k + 1) * batch_size), len(tokens), T)
            _, loss = model(*device_window(tokens, starts, T, self.numerics.device))
            means.append(float(loss))
        means = distributed.interleaved(means)
        return SplitLoss(mean_loss(means), standard_error(means), eval_iters * batch_size)


def mean_loss(means: Sequence[float]) -> float:
    """The mean of the batches' losses in float32, as nanoGPT has it, so that no printed digit rounds another way."""
    return float(torch.tensor(means, dtype=torch.float32).mean())


def _evaluation(
    iteration: int,
    mode: Mode,
    train: SplitLoss,
    val: SplitLoss,
    context: int,
    eval_iters: int | None,
    start: float,
    val_blocks: tuple[float, ...] = (),
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
        val_blocks=val_blocks,
    )


def standard_error(values: Sequence[float]) -> float | None:
    """Standard error of the mean, sd / sqrt(n) with n - 1 in the sd; None below two values, or if one is not finite."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None
    return statistics.stdev(values) / math.sqrt(len(values))
