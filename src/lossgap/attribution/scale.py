"""Smaller experiments of the same two recipes, for machines on which the true ones are out of reach.

Both ends are divided alike, so that their ratios stay: iterations and horizons by one number; channels, context and
sequences by another, heads and layers left as they are.
"""

from __future__ import annotations

import math
import re

from lossgap.attribution.explanation import Scale
from lossgap.config import TrainConfig
from lossgap.errors import ConfigError
from lossgap.strangers import one_line

STEPS = ((1, 1), (2, 1), (4, 1), (4, 2), (8, 2), (16, 2), (8, 4), (16, 4), (32, 4), (16, 8), (32, 8), (64, 8))
"""(iterations, shape) divisors, from the true scale down: `--scale=auto` takes the first that fits the budget."""
LEAST_HEAD = 4
LEAST_CONTEXT = 8
_FORM = re.compile(r"([1-9][0-9]{0,5})(?::([1-9][0-9]{0,5}))?")


def scaled(config: TrainConfig, scale: Scale) -> TrainConfig:
    """The config at this scale.

    Iterations / `scale.iterations`, with `lr_decay_iters` and `warmup_iters` in proportion; head size, `block_size` and
    sequences per update / `scale.shape`; at least 4 channels a head, 8 tokens and 1 sequence.
    """
    if scale.true:
        return config
    values = config.to_dict()
    values["max_iters"] = max(1, round(config.max_iters / scale.iterations)) if config.max_iters else 0
    for name in ("lr_decay_iters", "warmup_iters"):
        horizon = values[name] * values["max_iters"] / max(config.max_iters, 1)
        values[name] = max(1, round(horizon)) if values[name] else 0
    if values["lr_decay_iters"] == values["warmup_iters"]:
        values["lr_decay_iters"] += 1
    head = config.n_embd // config.n_head
    values["n_embd"] = config.n_head * min(head, max(LEAST_HEAD, round(head / scale.shape)))
    values["block_size"] = min(config.block_size, max(LEAST_CONTEXT, round(config.block_size / scale.shape)))
    sequences = max(1, round(config.batch_size * config.gradient_accumulation_steps / scale.shape))
    values["gradient_accumulation_steps"] = math.gcd(config.gradient_accumulation_steps, sequences)
    values["batch_size"] = sequences // values["gradient_accumulation_steps"]
    return TrainConfig.from_dict(values)


def made(iterations: int, shape: int) -> Scale:
    """A scale with its sentence."""
    if iterations == shape == 1:
        return Scale()
    rule = (
        f"both ends divided alike: iterations and horizons by {iterations}, channels, context and batch by {shape}; "
        "which factors matter, their order and signs are evidence about the true runs, the sizes are of this scale"
    )
    return Scale(iterations=iterations, shape=shape, rule=rule)


def parse(text: str) -> Scale | None:
    """`1`, `ITERATIONS` or `ITERATIONS:SHAPE`, whole numbers of at least 1; None for `auto`. Raises ConfigError."""
    if text == "auto":
        return None
    if found := _FORM.fullmatch(text):
        return made(int(found[1]), int(found[2] or 1))
    raise ConfigError(
        "bad-scale",
        f"--scale={one_line(text, 40)}: a scale is auto, or whole numbers ITERATIONS:SHAPE up to 999999 by which "
        "both ends are divided, e.g. --scale=8:4; 1 is the true scale",
    )
