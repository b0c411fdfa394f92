"""The learning rate at an iteration."""

from __future__ import annotations

import math

from lossgap.config import TrainConfig


def learning_rate(config: TrainConfig, iteration: int) -> float:
    """Learning rate of update `iteration`: linear warm-up, cosine decay to `min_lr`, then constant.

    Warm-up: learning_rate * (i + 1) / (warmup_iters + 1). Decay: min_lr + (learning_rate - min_lr) *
    (1 + cos(pi * r)) / 2, r = (i - warmup_iters) / (lr_decay_iters - warmup_iters). As nanoGPT's `get_lr`
    since December 2024; the older one started the warm-up at 0.
    """
    c = config
    if not c.decay_lr:
        return c.learning_rate
    if iteration < c.warmup_iters:
        return c.learning_rate * (iteration + 1) / (c.warmup_iters + 1)
    if iteration > c.lr_decay_iters:
        return c.min_lr
    ratio = (iteration - c.warmup_iters) / (c.lr_decay_iters - c.warmup_iters)
    return c.min_lr + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (c.learning_rate - c.min_lr)
