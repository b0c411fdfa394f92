"""Schedules by iteration: learning rate (also of a run that somebody logged), decay, momentum, context."""

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
        shape=config.lr_schedule,
        decay_fraction=config.decay_fraction,
    )


def weight_decay(config: TrainConfig, iteration: int) -> float:
    """The weight decay of update `iteration`: constant, or falling linearly to 0 at `lr_decay_iters`."""
    if config.weight_decay_schedule == "constant":
        return config.weight_decay
    return config.weight_decay * max(0.0, 1.0 - iteration / max(config.lr_decay_iters, 1))


LEAST_MOMENTUM = 0.85
"""Where muon's momentum starts with a warm-up: modded-nanogpt's value."""


def momentum(config: TrainConfig, iteration: int) -> float:
    """Muon's momentum of update `iteration`: from 0.85 to `muon_momentum`, linearly over `momentum_warmup_iters`."""
    if iteration >= config.momentum_warmup_iters:
        return config.muon_momentum
    return LEAST_MOMENTUM + (config.muon_momentum - LEAST_MOMENTUM) * iteration / config.momentum_warmup_iters


CONTEXT_STAGES = 3
"""A context warm-up starts at block_size / 2^3 and doubles three times."""


def context_parts(config: TrainConfig, iteration: int) -> int:
    """How many pieces each window of block_size tokens is cut into at update `iteration`: 8, 4, 2, and 1 at the end."""
    if iteration >= config.context_warmup_iters:
        return 1
    return int(2 ** (CONTEXT_STAGES - iteration * CONTEXT_STAGES // config.context_warmup_iters))


def nanogpt_rate(
    iteration: float,
    *,
    learning_rate: float,
    min_lr: float,
    warmup_iters: float,
    lr_decay_iters: float,
    decay_lr: bool,
    shape: str = "cosine",
    decay_fraction: float = 1.0,
) -> float:
    """Linear warm-up, decay to `min_lr`, then constant; for fractions of an iteration, too.

    Warm-up: learning_rate * (i + 1) / (warmup_iters + 1). Decay: min_lr + (learning_rate - min_lr) * w(r) with
    r = (i - warmup_iters) / (lr_decay_iters - warmup_iters) and w(r) = (1 + cos(pi * r)) / 2 for `cosine`, 1 - r for
    `linear`, min(1, (1 - r) / decay_fraction) for `wsd` (Hu et al. 2024, arXiv:2404.06395). Warm-up and cosine are
    nanoGPT's `get_lr` since December 2024; the older one started the warm-up at 0. A horizon within the warm-up, which
    a stranger's log may have, gives `min_lr`.
    """
    if not decay_lr:
        return learning_rate
    if iteration < warmup_iters:
        return learning_rate * (iteration + 1) / (warmup_iters + 1)
    if iteration > lr_decay_iters or lr_decay_iters <= warmup_iters:
        return min_lr
    ratio = (iteration - warmup_iters) / (lr_decay_iters - warmup_iters)
    if shape == "linear":
        weight = 1.0 - ratio
    elif shape == "wsd":
        weight = min(1.0, (1.0 - ratio) / decay_fraction)
    else:
        weight = 0.5 * (1.0 + math.cos(math.pi * ratio))
    return min_lr + weight * (learning_rate - min_lr)
