"""Smaller experiments of the same two recipes, for machines on which the true ones are out of reach.

Both ends are divided alike, so that their ratios stay: iterations and horizons by one number; channels, context and
sequences by another, heads and layers left as they are. The train split is cut with the tokens, so that each end
passes over it as often as at the true scale: passes decide whether a model overfits. Val stays whole, as it is what
every arm is measured on.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace

from lossgap.attribution.explanation import Scale
from lossgap.config import TrainConfig
from lossgap.errors import ConfigError
from lossgap.strangers import one_line

STEPS = ((1, 1), (2, 1), (4, 1), (4, 2), (8, 2), (16, 2), (8, 4), (16, 4), (32, 4), (16, 8), (32, 8), (64, 8))
"""(iterations, shape) divisors, from the true scale down: `--scale=auto` takes the first that fits the budget."""
LEAST_HEAD = 4
LEAST_CONTEXT = 8
LEAST_WINDOWS = 4
"""The windows of the longer context that a train split keeps at least."""
CLAIM = "numbers, order and signs are of this scale, and may differ at the true one"
FEWER = "are fewer than at the true scale, and overfitting may be missed"
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
        f"{CLAIM}"
    )
    return Scale(iterations=iterations, shape=shape, rule=rule)


def with_corpus(scale: Scale, control: TrainConfig, test: TrainConfig, train_tokens: int | None) -> Scale:
    """The scale with the length of its train split: cut as the tokens are of the end that reads more of them.

    `control` and `test` are at the true scale; `train_tokens` is the length of the whole split, None where somebody
    else's trainer has it, which then is not cut. At least `LEAST_WINDOWS` windows of the longer scaled context stay.
    """
    if scale.true:
        return scale
    if train_tokens is None:
        return replace(
            scale, rule=f"{scale.rule}; the corpus is the trainer's and was not cut, so that passes over it {FEWER}"
        )
    longer = max((control, test), key=_tokens)
    kept = math.ceil(train_tokens * min(1.0, _tokens(scaled(longer, scale)) / max(_tokens(longer), 1)))
    least = LEAST_WINDOWS * (max(scaled(end, scale).block_size for end in (control, test)) + 1)
    cut = min(train_tokens, max(kept, least))
    rule = f"{scale.rule}; the train split cut to its first {cut:,} of {train_tokens:,} tokens, which keeps the passes"
    if cut > kept:
        rule = (
            f"{scale.rule}; the train split cut to its first {cut:,} of {train_tokens:,} tokens and no further, so "
            f"that passes {FEWER}"
        )
    return replace(scale, rule=rule, train_tokens=0 if cut == train_tokens else cut)


def _tokens(config: TrainConfig) -> int:
    """Tokens that a training reads."""
    return config.tokens_per_iter * config.max_iters


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
