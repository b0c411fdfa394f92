"""R8: non-finite losses, and trainings that diverge."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import polars as pl

from lossgap.comparison.curve import Curve, Floats
from lossgap.comparison.fact import Fact, Known, Unknown
from lossgap.comparison.facts import Facts
from lossgap.comparison.findings.chance import could_be_worse_for
from lossgap.comparison.metric import Metric
from lossgap.comparison.rules import Finding, Pair, Result, cause, lacking, remark, rule

_BAD = r"(?:^|; )(?:loss|train_loss|val_loss) is (nan|-?inf)"
"""The mark that readers leave for a loss that is not a number. z-scores of llm.c, averages of times in modded-nanogpt
and the first gradient norms of a float16 run are not losses: they may be nan in a healthy run."""
BACK = 3
"""Numbers after the first loss that is none from which a run has recovered."""


@dataclass(frozen=True, kw_only=True)
class NotFinite:
    """Losses of a run that are not numbers."""

    count: int
    first: int
    """Iteration."""
    line: int | None
    word: str
    """nan, inf or -inf."""
    to_the_end: bool
    """True if the loss never was a number again."""
    speed: float | None
    """Median time of an iteration after over before; None where times do not tell."""


def not_finite(facts: Facts) -> NotFinite | None:
    """The losses of a run that are nan or inf; None if there are none."""
    tables = (facts.run.iters, facts.run.evals)
    bad = pl.concat([_bad(table).select("iter", "line", "why") for table in tables]).sort("iter")
    if bad.is_empty():
        return None
    first = int(bad["iter"][0])
    curve = facts.train if facts.train is not None and _bad(facts.run.iters).height else facts.val
    good_after = 0 if curve is None else int((curve.iters > first).sum())
    return NotFinite(
        count=bad.height,
        first=first,
        line=bad["line"][0],
        word=(re.search(_BAD, str(bad["why"][0])) or ["", "nan"])[1],
        to_the_end=good_after < BACK,
        speed=_speed(facts, first),
    )


def _bad(table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(pl.col("iter").is_not_null() & pl.col("why").fill_null("").str.contains(_BAD))


def _speed(facts: Facts, first: int) -> float | None:
    evaluated = pl.col("iter").is_in(facts.run.evals["iter"].drop_nulls().to_list())
    plain = facts.run.iters.filter(pl.col("ms").is_not_null() & ~evaluated)
    before = plain.filter(pl.col("iter") < first)["ms"].to_numpy()[1:]
    after = plain.filter(pl.col("iter") >= first)["ms"].to_numpy()
    return float(np.median(after) / np.median(before)) if len(before) > 3 and len(after) > 3 else None


@rule("not-finite", title="The loss became NaN or infinite", group="E", order=8)
def losses_not_finite(pair: Pair) -> Result:
    """nan or inf: from there on nothing was learned."""
    for label, facts in pair.runs:
        found = not_finite(facts)
        if found is None:
            continue
        numbers: dict[str, object] = {
            "run": label,
            "iteration": found.first,
            "count": found.count,
            "line": found.line,
        }
        start = f"The loss of {label} is {found.word}"
        if not found.to_the_end:
            often = "once" if found.count == 1 else f"{found.count:,} times"
            text = f"{start} {often}, first at iteration {found.first:,}, and a number again after it."
            yield remark("inferred", text, numbers=numbers)
            continue
        line = f" (line {found.line:,})" if found.line else ""
        text = (
            f"{start} from iteration {found.first:,}{line} to its end: nothing was learned from there on, and what is "
            "compared is the last number before it."
        )
        settle = f"Train {label} from a checkpoint before iteration {found.first:,}, with a lower rate or in float32."
        yield _harm(pair, label, text, numbers, settle, strong=True, effect=pair.alignment.gap("last"))


def _harm(
    pair: Pair,
    label: str,
    text: str,
    numbers: dict[str, object],
    settle: str,
    *,
    strong: bool,
    effect: float | None = None,
) -> Finding:
    """A cause if the run that it harms is the worse one, or there is no gap to tell; else a remark."""
    if not could_be_worse_for(pair, label):
        return remark("inferred", text, numbers=numbers, settle=settle)
    return cause("strong" if strong else "likely", "inferred", text, numbers=numbers, settle=settle, effect=effect)


SKIPPED = 0.97
"""Iterations that take this part of their time from the first nan on had their updates skipped. nanoGPT#215: 0.93."""


@rule("float16-overflow", title="float16 overflowed", group="E", order=8)
def float16_overflow(pair: Pair) -> Result:
    """A loss that becomes nan in float16, whose largest number is 65,504 (nanoGPT#215, #167, #554)."""
    for label, facts in pair.runs:
        found = not_finite(facts)
        if found is None or not found.to_the_end:
            continue
        skipped = found.speed is not None and found.speed < SKIPPED
        if facts.dtype.value in ("float16", "fp16") or (not facts.dtype.known and skipped):
            yield _overflowed(pair, label, facts, found, skipped)
        elif isinstance(facts.dtype, Unknown):
            nothing: Fact[object] = Known(None, "stated", "")
            sides = (facts.dtype, nothing) if label == "control" else (nothing, facts.dtype)
            yield lacking(*sides, what=f"whether {label} ran in float16 when its loss became {found.word}")


def _overflowed(pair: Pair, label: str, facts: Facts, found: NotFinite, skipped: bool) -> Finding:
    ran = "ran in float16" if facts.dtype.known else "seems to have run in float16, which its record does not say"
    text = (
        f"{label} {ran}. Its largest number is 65,504, and the loss became {found.word} at iteration {found.first:,}."
    )
    if skipped and found.speed is not None:
        text += (
            f" From there on iterations were {100 * (1 - found.speed):.0f}% faster, as they are when a gradient scaler "
            "skips updates that overflow."
        )
    numbers: dict[str, object] = {"run": label, "iteration": found.first, "time_ratio": found.speed}
    settle = f"Train {label} in bfloat16, or in float32 where the machine has none."
    return _harm(pair, label, text, numbers, settle, strong=skipped and facts.dtype.known)


# ---------------------------------------------------------------------------------------------
# Divergence

RISE = 0.3
"""Nats by which the loss on the training data must rise above its lowest level, and stay up, to be called diverged.
A choice: neither overfitting nor a schedule raises it, and single batches and evaluations scatter by less."""
SIGMAS = 4.0


@dataclass(frozen=True, kw_only=True)
class Risen:
    """A loss on the training data that was `low` at iteration `at` and is at `end` at the end."""

    low: float
    at: int
    end: float
    series: str


@rule("diverged", title="The training diverged", group="E", order=8)
def diverged(pair: Pair) -> Result:
    """The loss on the training data rises and stays up. A val loss alone that rises is overfitting."""
    for label, facts in pair.runs:
        found = risen(facts)
        if found is None:
            continue
        text = (
            f"The {found.series} of {label} was down at {found.low:.3f} at iteration {found.at:,} and is at "
            f"{found.end:.3f} at the end: the training diverged. Overfitting would not raise it."
        )
        numbers: dict[str, object] = {"run": label, "low": found.low, "iteration": found.at, "end": found.end}
        settle = (
            f"Train {label} with a lower learning rate, a longer warm-up or clipped gradients, and look at what "
            f"happened after iteration {found.at:,}."
        )
        yield _harm(pair, label, text, numbers, settle, strong=True, effect=_lost(pair, label))


def _lost(pair: Pair, label: str) -> float | None:
    """The loss that the run gave up since its best value, with its sign in test minus control."""
    metric = pair.alignment.metric
    if not isinstance(metric, Metric):
        return None
    curve = metric.control if label == "control" else metric.test
    lost = curve.last.value - curve.best.value
    return lost if label == "test" else -lost


def risen(facts: Facts) -> Risen | None:
    """How far the loss on the training data rose, if it rose by `RISE` or more and stayed up."""
    if facts.train_eval is not None and len(facts.train_eval) > 3:
        return _risen_evaluations(facts.train_eval)
    curve = facts.train
    least = 20 if curve is not None and curve.meaning.kind == "interval-mean" else 40  # a mean of many batches
    if curve is None or len(curve) < least or curve.meaning.kind == "run-mean":
        return None
    width = max(5, len(curve) // 20)
    level = medians(curve.values, width)
    low = int(level.argmin())
    rise = float(level[-1] - level[low])
    if rise <= max(RISE, SIGMAS * _scatter(curve)):
        return None
    at = int(curve.iters[low + width // 2])
    return Risen(low=float(level[low]), at=at, end=float(level[-1]), series="train loss")


def _risen_evaluations(curve: Curve) -> Risen | None:
    low = int(curve.values.argmin())
    # The lower of the last two: one bad evaluation is no divergence.
    end = float(curve.values[-2:].min())
    if end - float(curve.values[low]) <= RISE:
        return None
    at = int(curve.iters[low])
    return Risen(low=float(curve.values[low]), at=at, end=end, series="train loss in evaluation mode")


def medians(values: Floats, width: int) -> Floats:
    """Medians of `width` neighbouring values, (n - width + 1,)."""
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(values, width), axis=1))


def _scatter(curve: Curve) -> float:
    """Robust scatter of single losses about their trend."""
    steps = np.diff(curve.values)
    return float(1.4826 * np.median(np.abs(steps - np.median(steps))) / np.sqrt(2))
