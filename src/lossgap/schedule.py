"""nanoGPT's learning rate at an iteration, of a training of ours and of a run that somebody logged."""

from __future__ import annotations

import math

from lossgap.config import TrainConfig


def learning_rate(config: TrainConfig, iteration: int) -> float:
    """The learning rate of update `iteration` of a training, see `nanogpt_rate`."""
    return nanogpt_rate(
        iteration,
        learning_rate=config.learning_rate,
        min_lr=config.min_lr,
        warmup_iters=config.warmup_iters,
        lr_decay_iters=config.lr_decay_iters,
        decay_lr=config.decay_lr,
    )


def nanogpt_rate(
    iteration: float,
    *,
    learning_rate: float,
    min_lr: float,
    warmup_iters: float,
    lr_decay_iters: float,
    decay_lr: bool,
) -> float:
    """Linear warm-up, cosine decay to `min_lr`, then constant; for fractions of an iteration, too.

    Warm-up: learning_rate * (i + 1) / (warmup_iters + 1). Decay: min_lr + (learning_rate - min_lr) *
    (1 + cos(pi * r)) / 2, r = (i - warmup_iters) / (lr_decay_iters - warmup_iters). As nanoGPT's `get_lr`
    since December 2024; the older one started the warm-up at 0. A horizon within the warm-up, which a stranger's log
    may have, gives `min_lr`.
    """
    if not decay_lr:
        return learning_rate
    if iteration < warmup_iters:
        return learning_rate * (iteration + 1) / (warmup_iters + 1)
    if iteration > lr_decay_iters or lr_decay_iters <= warmup_iters:
        return min_lr
    ratio = (iteration - warmup_iters) / (lr_decay_iters - warmup_iters)
    return min_lr + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (learning_rate - min_lr)
