"""The loss of a model over windows of tokens: the one loop, and the one numerics, of every loss that is compared.

    score(model, tokens, windows, numerics)           # a training's own evaluation, where and as it trains
    score_alike(model, tokens, windows, alike())      # models of several trainings: float32, eager, the same kernels

Re-evaluation, our own arms and foreign arms use `score_alike`, so no two of their losses differ by how they were taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from lossgap.corpus import Tokens, token_window
from lossgap.corpus.windows import Int64s
from lossgap.evaluation.same_targets import Windows
from lossgap.gpt import GPT
from lossgap.machine.device import resolve_device
from lossgap.training import distributed
from lossgap.training.numerics import Numerics, applied

Float64s = npt.NDArray[np.float64]

TOKENS_PER_PASS = 1 << 14
LOGITS_PER_PASS = 1 << 25
"""Bounds on one forward pass: constants, so that the sums never depend on the machine."""
BLOCKS = 256
"""Stretches of val whose mean losses a final evaluation keeps: two runs on one val split are compared stretch by
stretch, and the spread of those differences is the error of their gap that the choice of the text makes."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Scored:
    """The cross-entropies of windows, in nats, summed in float64."""

    windows: Windows
    nats: Float64s
    """(W,) the sum over each window's targets."""
    block_nats: Float64s
    """(K,) the sum over the targets of each stretch; empty where no stretches were asked for."""
    block_targets: Int64s
    """(K,) targets of each stretch."""

    @property
    def total(self) -> float:
        """Nats of all targets."""
        return math.fsum(self.nats)

    @property
    def mean(self) -> float:
        """Nats per token over all targets."""
        return self.total / self.windows.targets

    @property
    def window_means(self) -> list[float]:
        """Nats per token of each window, in their order."""
        means: list[float] = (self.nats / self.windows.lengths).tolist()
        return means

    @property
    def block_means(self) -> list[float]:
        """Nats per token of each stretch, from the first token on."""
        means: list[float] = (self.block_nats / self.block_targets).tolist()
        return means


def score(model: GPT, tokens: Tokens, windows: Windows, numerics: Numerics, blocks: int = 0) -> Scored:
    """Score every window of `tokens` with a model that is on the numerics' device already.

    Each of several processes scores its part, and all get the whole, the same bits for any number of them. `blocks`
    cuts the tokens after the first into so many equal stretches (at most one per token), by place and not by window, so
    that models of two contexts have the same ones. Raises IndexError for a window that `tokens` does not have.
    """
    n_targets = len(tokens) - 1
    blocks = min(blocks, n_targets)
    passes = list(_passes(windows, min(TOKENS_PER_PASS, LOGITS_PER_PASS // model.config.vocab_size)))
    rank, world_size = distributed.position()
    mine: list[tuple[list[float], list[float]]] = []
    with evaluating(model, numerics):
        for rows, length in passes[rank::world_size]:
            starts = windows.starts[rows]
            losses_BT = _losses(model, tokens, starts, length, numerics.device)
            block_BT = (starts[:, None] + np.arange(length)) * blocks // n_targets
            by_block = np.bincount(block_BT.ravel(), losses_BT.ravel(), blocks) if blocks else np.zeros(0)
            mine.append((losses_BT.sum(1).tolist(), by_block.tolist()))
    nats, block_nats = np.empty(len(windows.starts)), np.zeros(blocks)
    for (rows, _), (by_row, by_block_) in zip(passes, distributed.interleaved(mine), strict=True):
        nats[rows] = by_row
        block_nats += by_block_
    edges = -(-np.arange(blocks + 1, dtype=np.int64) * n_targets // max(blocks, 1))
    return Scored(windows=windows, nats=nats, block_nats=block_nats, block_targets=np.diff(edges))


def alike(device: str = "auto", threads: int = 0) -> Numerics:
    """The numerics of every loss that is compared: float32 without TF32, eager, torch's fused attention.

    `device` is by default the best one here, `threads` torch's own choice. Raises MachineError for a device that is not
    here.
    """
    return Numerics(
        device=resolve_device(device).value,
        dtype="float32",
        tf32=False,
        compile=False,
        attention="fused",
        adamw="loop",
        threads=threads or torch.get_num_threads(),
        deterministic=False,
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
    )


def score_alike(model: GPT, tokens: Tokens, windows: Windows, numerics: Numerics) -> Scored:
    """Score every window with `alike` numerics; the model is on the CPU before and after."""
    with applied(numerics):
        model.use_attention(numerics.attention)
        model.to(numerics.device)
        try:
            return score(model, tokens, windows, numerics)
        finally:
            model.to("cpu")


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


def device_window(tokens: Tokens, starts: Int64s, length: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets (B, T) of the windows at `starts`, on a device."""
    x, y = token_window(tokens, starts, length)
    return torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)


def _passes(windows: Windows, bound: int) -> Iterator[tuple[Int64s, int]]:
    """Indices (B,) of windows of one length, of at most `bound` tokens together, and the length."""
    for length in np.unique(windows.lengths)[::-1].tolist():
        rows = np.flatnonzero(windows.lengths == length)
        size = max(1, bound // length)
        for first in range(0, len(rows), size):
            yield rows[first : first + size], length


def _losses(model: GPT, tokens: Tokens, starts: Int64s, length: int, device: str) -> Float64s:
    """The cross-entropy of every target, (B, T)."""
    x, y = device_window(tokens, starts, length, device)
    hidden, _ = model.hidden(x)
    logits = model.logits(hidden).flatten(0, 1).float()
    losses_BT = F.cross_entropy(logits, y.flatten(), reduction="none").view(y.shape)
    losses: Float64s = losses_BT.cpu().double().numpy()  # cpu(): MPS has no float64
    return losses
