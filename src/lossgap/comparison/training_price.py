"""How long a suggested training takes: at a compared log's own time an iteration, or by FLOPs at the rate it reached.

training_price("lossgap train shakespeare_char_cpu --max_iters=5000", pair)
# about 10 min at control's 116 ms an iteration
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import numpy as np
import polars as pl

from lossgap.arithmetic import flops_per_token, muon_flops, nanogpt_parameters
from lossgap.comparison.facts import Facts
from lossgap.config import TrainConfig
from lossgap.config_file import resolve_arguments, train_config
from lossgap.duration import duration
from lossgap.errors import ConfigError

LEAST = 60.0
"""Seconds from which a price is said."""
FORWARD = 1 / 3
"""The part of an update's FLOPs that an evaluation of as many tokens takes: it has no backward pass, which takes two
thirds (Kaplan et al. 2020, arXiv 2001.08361, section 2.1)."""
_SHAPE = ("n_layer", "n_embd", "block_size", "batch_size", "gradient_accumulation_steps", "optimizer")


def training_price(command: str, runs: Sequence[tuple[str, Facts]]) -> str:
    """How long `lossgap train ...` takes, evaluations included, in words; empty under a minute, or where unknown.

    `runs` are the compared runs with their names. A run of the same shape gives the time of an iteration; else the
    first one with times and FLOPs gives the rate.
    """
    try:
        config = train_config(resolve_arguments(shlex.split(command)[2:]))
    except ConfigError:  # a rule of the caller's own may suggest what only its machine has
        return ""
    updates = config.max_iters + _evaluations(config)
    timed = [(name, facts, ms) for name, facts in runs if (ms := milliseconds(facts)) is not None]
    for name, facts, ms in timed:
        if all(facts.setting(item).value == getattr(config, item) for item in _SHAPE):
            return _said(updates * ms / 1000, f"{name}'s {ms:,.0f} ms an iteration")
    vocabulary = next((size for _, facts in runs if (size := facts.vocab_size.value)), None)
    if vocabulary is None:
        return ""
    flops = training_flops(config, vocabulary)
    for name, facts, ms in timed:
        spent = facts.flops_per_iter.value
        if spent:
            rate = 1000 * spent / ms
            return _said(flops / rate, f"the {rate / 1e12:.3g} TFLOP/s of {name}")
    return f"{flops:.2g} FLOPs"


def milliseconds(facts: Facts) -> float | None:
    """The time of an iteration: the median of the rows after the first that did not evaluate; None without any."""
    evaluated = facts.run.evals["iter"].drop_nulls().to_list()
    rows = facts.run.iters.filter(pl.col("ms").is_not_null() & (pl.col("ms") > 0) & ~pl.col("iter").is_in(evaluated))
    times = rows["ms"].to_numpy()[1:].astype(float)
    times = times[np.isfinite(times)]
    return float(np.median(times)) if len(times) else None


def _evaluations(config: TrainConfig) -> float:
    """The cost of evaluating both splits, in updates."""
    often = config.max_iters // config.eval_interval + 1
    return FORWARD * often * 2 * config.eval_iters / config.gradient_accumulation_steps


def training_flops(config: TrainConfig, vocabulary: int) -> float:
    """FLOPs of a whole training, its evaluations included."""
    count = nanogpt_parameters(config.n_layer, config.n_embd, vocabulary, bias=config.bias)
    update = config.tokens_per_iter * float(flops_per_token(count, config.n_layer, config.n_embd, config.block_size))
    muon = config.max_iters * muon_flops(config.n_layer, config.n_embd) if config.optimizer == "muon" else 0
    return (config.max_iters + _evaluations(config)) * update + muon


def _said(seconds: float, rate: str) -> str:
    return f"about {duration(seconds)} at {rate}" if seconds >= LEAST else ""
