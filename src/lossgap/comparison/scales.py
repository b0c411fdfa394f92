"""Where an iteration of a run lies in tokens, passes over the data, FLOPs, seconds and learning-rate phase.

At iteration i, i updates are done, so i x (tokens per update) tokens are read. Time is that of the training alone:
our own record says it; nanoGPT prints the time of single iterations, where that of an evaluating one contains the
evaluation and the first contains compilation, so those count as the median of the others.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import polars as pl

from lossgap.comparison.curve import IterScale, linear, tabulated
from lossgap.comparison.fact import Fact, Known, Unknown, derive
from lossgap.runs.run import Run
from lossgap.schedule import nanogpt_rate

Name = Literal["iterations", "tokens", "passes", "flops", "seconds", "phase"]
NAMES: tuple[Name, ...] = ("iterations", "tokens", "passes", "flops", "seconds", "phase")
_BATCH_SETTINGS = frozenset({"batch_size", "block_size", "gradient_accumulation_steps"})


class Timed(Protocol):
    """The facts of a run that a scale needs."""

    @property
    def run(self) -> Run:
        """The record."""

    @property
    def is_own(self) -> bool:
        """Our trainer wrote the record, whose rows count what is done after their update."""

    @property
    def tokens_per_iter(self) -> Fact[int]:
        """Tokens per update over all processes."""

    @property
    def flops_per_iter(self) -> Fact[float]:
        """FLOPs of one update."""

    @property
    def train_tokens(self) -> Fact[float]:
        """Tokens of the train split."""

    @property
    def decay_lr(self) -> Fact[bool]:
        """The learning rate is scheduled at all."""

    @property
    def learning_rate(self) -> Fact[float]:
        """The highest."""

    @property
    def logged_rates(self) -> dict[float, float]:
        """The learning rates of the record's rows by iteration."""

    @property
    def min_lr(self) -> Fact[float]:
        """The lowest after the decay."""

    @property
    def warmup_iters(self) -> Fact[int]:
        """Iterations of warm-up."""

    @property
    def horizon(self) -> Fact[int]:
        """Iteration at which the decay ends."""


def scale(facts: Timed, name: Name) -> Fact[IterScale]:
    """The scale `name` of a run."""
    if name == "iterations":
        return Known(linear(name, "iterations", 1.0), "stated", "the record")
    if name == "tokens":
        return _tokens(facts)
    if name == "passes":
        return _times(_tokens(facts), "passes", "passes over the train split", facts.train_tokens, divide=True)
    if name == "flops":
        per_token = derive("FLOPs per token", lambda f, n: f / n, facts.flops_per_iter, facts.tokens_per_iter)
        return _times(_tokens(facts), "flops", "FLOPs", per_token)
    if name == "seconds":
        return _seconds(facts)
    return derive("iteration / lr_decay_iters", lambda n: linear(name, "of the horizon", 1 / n), facts.horizon)


def _times(
    tokens: Fact[IterScale], name: str, unit: str, factor: Fact[float], *, divide: bool = False
) -> Fact[IterScale]:
    def scaled(source: IterScale, by: float) -> IterScale:
        times = 1 / by if divide else by
        return IterScale(name, unit, lambda iters: source.at(iters) * times)

    return derive(unit, scaled, tokens, factor)


def _tokens(facts: Timed) -> Fact[IterScale]:
    """Constant tokens per update, unless a resumed leg changed the batch: then what the rows say."""
    logged = facts.run.iters.filter(pl.col("tokens").is_not_null() & pl.col("iter").is_not_null())
    changed = any(_BATCH_SETTINGS & _changes(seam) for seam in facts.run.seams)
    if logged.height > 1 and (changed or not facts.tokens_per_iter.known):
        rows = logged.unique(subset="iter", keep="last").sort("iter")
        # A row's tokens include its own batch, so they are those before the next iteration.
        shift = 1.0 if facts.is_own else 0.0
        at, tokens = rows["iter"].to_numpy() + shift, rows["tokens"].to_numpy().astype(float)
        if facts.is_own:
            at, tokens = np.insert(at, 0, 0.0), np.insert(tokens, 0, 0.0)
        if (np.diff(tokens) >= 0).all():
            return Known(tabulated("tokens", "tokens", at, tokens), "stated", "the tokens that the rows say")
    return derive("tokens per update x updates", lambda n: linear("tokens", "tokens", n), facts.tokens_per_iter)


def _changes(seam: object) -> set[str]:
    changed = seam.get("changed") if isinstance(seam, dict) else None
    names = [item.get("setting") for item in changed if isinstance(item, dict)] if isinstance(changed, list) else []
    return {name for name in names if isinstance(name, str)}


def _seconds(facts: Timed) -> Fact[IterScale]:
    rows = facts.run.iters.filter(pl.col("iter").is_not_null())
    for column, read in (("seconds", _logged_seconds), ("ms", _summed_seconds)):
        usable = rows.filter(pl.col(column).is_not_null()).unique(subset="iter", keep="last").sort("iter")
        if usable.height > 1:
            return read(facts, usable)
    return Unknown("the record has no times of iterations")


def _logged_seconds(facts: Timed, rows: pl.DataFrame) -> Fact[IterScale]:
    seconds = rows["seconds"].to_numpy()
    if (np.diff(seconds) < 0).any():
        return Unknown("the seconds in the record go back")
    # Our rows give the seconds after their update: those before the next iteration.
    shift = 1.0 if facts.is_own else 0.0
    at = rows["iter"].to_numpy() + shift
    if facts.is_own:
        at, seconds = np.insert(at, 0, 0.0), np.insert(seconds, 0, 0.0)
    return Known(tabulated("seconds", "s", at, seconds), "stated", "the seconds that the rows say")


def _summed_seconds(facts: Timed, rows: pl.DataFrame) -> Fact[IterScale]:
    iters, ms = rows["iter"].to_numpy(), rows["ms"].to_numpy().astype(float)
    evaluating = np.isin(iters, facts.run.evals["iter"].drop_nulls().to_numpy())
    evaluating[0] = True
    plain = ms[~evaluating]
    if not len(plain):
        return Unknown("every time that the record has contains an evaluation or compilation")
    ms[evaluating] = np.minimum(ms[evaluating], np.median(plain))
    steps = np.diff(iters)
    # A printed time stands for the iterations since the one printed before it.
    seconds = np.concatenate(([0.0], np.cumsum(ms[1:] * steps))) / 1000 + iters[0] * ms[0] / 1000
    how = "times of the printed iterations, without those that contain an evaluation or compilation"
    return Known(tabulated("seconds", "s", iters.astype(float), seconds), "computed", how)


def learning_rate(facts: Timed, iteration: float) -> Fact[float]:
    """The learning rate: the row of that iteration if there is one, else nanoGPT's schedule."""
    logged = facts.logged_rates.get(iteration)
    if logged is not None:
        return Known(logged, "stated", "the record's row")
    if facts.decay_lr.value is False:
        return facts.learning_rate
    return derive(
        "nanoGPT's schedule",
        lambda peak, low, warm, end: nanogpt_rate(
            iteration,
            learning_rate=peak,
            min_lr=low,
            warmup_iters=warm,
            lr_decay_iters=end,
            decay_lr=True,
            shape=str(facts.run.config.get("lr_schedule", "cosine")),
        ),
        facts.learning_rate,
        facts.min_lr,
        facts.warmup_iters,
        facts.horizon,
    )


def decayed(facts: Timed, iteration: float) -> Fact[float]:
    """(learning_rate - lr) / (learning_rate - min_lr) after the warm-up, 0 before."""

    def part(lr: float, peak: float, low: float, warm: int) -> float:
        if iteration < warm or peak == low:
            return 0.0
        return min(1.0, max(0.0, (peak - lr) / (peak - low)))

    if facts.decay_lr.value is False:
        return Unknown("the learning rate is constant")
    rate = learning_rate(facts, iteration)
    return derive("from the schedule", part, rate, facts.learning_rate, facts.min_lr, facts.warmup_iters)
