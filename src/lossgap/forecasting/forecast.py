"""`forecast(runs, iters=...)`: the train and val loss of a run later, with an interval that was back-tested on it.

A `Forecast` has one `SeriesForecast` for each loss. A loss that cannot be forecast says why, and has no number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from lossgap.comparison.facts import Facts
from lossgap.errors import ConfigError
from lossgap.forecasting.annealing_law import MOST_PASSES, NAMES
from lossgap.forecasting.back_test import WIDTH, BackTest, back_tests, widening
from lossgap.forecasting.law_fit import Fitted, Points, fit
from lossgap.forecasting.prior import Prior, shipped
from lossgap.forecasting.rate_curve import Floats
from lossgap.forecasting.run_points import Seen, seen, series_of
from lossgap.forecasting.run_rates import RunRates, run_rates
from lossgap.runs.run import Run
from lossgap.shown import Shown

LOSSES = ("val_loss", "train_loss")
FARTHEST = 10.0
"""Times the iterations that were seen: beyond, nothing was ever back-tested."""
STEPS = 120
"""Points of the fan."""


@dataclass(frozen=True, kw_only=True)
class Fan:
    """The forecast over iterations, from where the run is: mean and 90% interval, in nats per token."""

    iters: Floats
    mean: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, kw_only=True)
class Lowest:
    """Where the forecast has its minimum, if that lies before the end."""

    iter: float
    loss: float


@dataclass(frozen=True, kw_only=True)
class Reaching:
    """When a loss is reached: by the forecast, and by the two ends of its interval; None is not within it."""

    target: float
    expected: float | None
    earliest: float | None
    latest: float | None
    within: float
    """The last iteration that was looked at."""


@dataclass(frozen=True, kw_only=True)
class SeriesForecast:
    """One loss of the run at the iteration that was asked for."""

    name: str
    last_iter: float | None = None
    last_loss: float | None = None
    measured: bool = False
    """True where the run has been there: then `loss` is its own value."""
    loss: float | None = None
    low: float | None = None
    high: float | None = None
    fan: Fan | None = None
    lowest: Lowest | None = None
    back_tests: tuple[BackTest, ...] = ()
    widening: float = 1.0
    points: Points | None = None
    law: dict[str, float] = field(default_factory=dict)
    reaching: Reaching | None = None
    why: str = ""


@dataclass(frozen=True, repr=False, kw_only=True)
class Forecast(Shown):
    """See the top of this file."""

    run: str
    runs: int
    target: int
    last_iter: int
    schedule: str
    prior: str
    val: SeriesForecast
    train: SeriesForecast
    passes: float | None
    """Passes over the train split at `target`; None if the record does not say its data."""
    rates_known: bool
    notes: tuple[str, ...] = ()

    @property
    def main(self) -> SeriesForecast:
        """The loss that the answer begins with: val, or train where val cannot be forecast."""
        return self.val if not self.val.why or self.train.why else self.train


def forecast(
    runs: Sequence[Run],
    *,
    iters: int | None = None,
    horizon: int | None = None,
    fresh: bool = False,
    target: float | None = None,
    until: int | None = None,
    prior: Prior | None = None,
) -> Forecast:
    """Forecast a run, or the mean of several seeds of one recipe, at `iters`. Raises ConfigError `bad-forecast`."""
    if not runs:
        raise ConfigError("bad-forecast", "no run was given")
    every = [Facts.of(run) for run in runs]
    facts = every[0]
    iters = facts.max_iters.value if iters is None else iters
    if iters is None:
        raise ConfigError("bad-forecast", "the record has no max_iters: say which iteration is meant, --iters=5000")
    if iters < 1 or (horizon is not None and horizon < 1):
        raise ConfigError("bad-forecast", f"--iters={iters}: give an iteration of 1 at least")
    ends = [value for item in every if (value := _last(item, until)) is not None]
    last = min(ends) if ends else 0.0
    rates = run_rates(facts, last, _farthest(iters, last, target), horizon, fresh)
    passes = facts.passes_at(1000.0).value
    per_iter = (passes or 0.0) / 1000
    used = prior or shipped()["any run"]
    found = {name: _series(every, name, rates, used, per_iter, iters, until, target) for name in LOSSES}
    return Forecast(
        run=facts.run.name,
        runs=len(runs),
        target=iters,
        last_iter=int(last),
        schedule=rates.said,
        prior=used.name,
        val=found["val_loss"],
        train=found["train_loss"],
        passes=None if passes is None else per_iter * iters,
        rates_known=rates.seen.known,
        notes=tuple(_notes(rates, found["val_loss"], per_iter * iters)),
    )


def _farthest(iters: int, last: float, target: float | None) -> float:
    return max(iters, FARTHEST * last if target is not None else iters)


def _last(facts: Facts, until: int | None) -> float | None:
    ends = [float(curve.iters[-1]) for name in LOSSES if (curve := series_of(facts, name)) is not None]
    end = max(ends, default=None)
    return end if end is None or until is None else min(end, until)


def _series(
    every: Sequence[Facts],
    name: str,
    rates: RunRates,
    prior: Prior,
    per_iter: float,
    iters: int,
    until: int | None,
    target: float | None,
) -> SeriesForecast:
    known = _seen(every, name, until)
    if known is None:
        return SeriesForecast(name=name, why="the record has no such loss")
    points = known.points
    if not len(points.iters):
        return SeriesForecast(name=name, why=known.why)
    last = float(points.iters[-1])
    result = SeriesForecast(name=name, last_iter=last, last_loss=float(points.losses[-1]), points=points)
    if iters <= last and target is None:
        return _measured(result, points, iters)
    if known.why:
        return replace(result, why=known.why)
    if iters > FARTHEST * last:
        far = f"{iters:,} is {iters / last:.0f} times the {last:,.0f} iterations that were seen"
        return replace(result, why=f"{far}; beyond {FARTHEST:.0f} times no forecast was ever tested")
    fitted = fit(known.used, rates.seen, prior, per_iter)
    if not fitted.follows:
        return replace(result, why=f"{fitted.unlike}: it is still in its first fall, or of another kind")
    tests = back_tests(known.used, rates.seen, prior, per_iter)
    wide = widening(tests, rates.seen.known)
    error = float(np.median(known.used.noise[-5:]))
    result = replace(
        result,
        back_tests=tests,
        widening=wide,
        law=dict(zip(NAMES, fitted.theta.tolist(), strict=True)),
        reaching=None if target is None else _reaching(fitted, rates, wide, error, target, points, iters),
    )
    if iters <= last:
        return _measured(result, points, iters)
    fan = _fan(fitted, rates, wide, error, iters)
    place = int(np.argmin(fan.mean))
    lowest = (
        Lowest(iter=float(fan.iters[place]), loss=float(fan.mean[place])) if 0 < place < len(fan.mean) - 1 else None
    )
    return replace(
        result,
        loss=float(fan.mean[-1]),
        low=float(fan.low[-1]),
        high=float(fan.high[-1]),
        fan=fan,
        lowest=lowest,
    )


def _seen(every: Sequence[Facts], name: str, until: int | None) -> Seen | None:
    """The points of one run, or of all seeds together, in the order of their iterations."""
    found = []
    for facts in every:
        curve = series_of(facts, name)
        if curve is not None:
            warmup = float(facts.warmup_iters.value or 0)
            found.append(seen(curve, warmup, until, may_rise=name == "val_loss"))
    if not found:
        return None
    if len(found) == 1:
        return found[0]
    order = np.argsort(np.concatenate([item.points.iters for item in found]), kind="stable")
    points = Points(
        iters=np.concatenate([item.points.iters for item in found])[order],
        losses=np.concatenate([item.points.losses for item in found])[order],
        noise=np.concatenate([item.points.noise for item in found])[order],
    )
    why = next((item.why for item in found if item.why), "")
    return Seen(points=points, start=max(item.start for item in found), why=why)


def _measured(result: SeriesForecast, points: Points, iters: int) -> SeriesForecast:
    """The run's own value where it has been, straight between two evaluations."""
    if iters < points.iters[0]:
        return replace(result, why=f"the record begins at iteration {points.iters[0]:,.0f}")
    loss = float(np.interp(iters, points.iters, points.losses))
    error = WIDTH * float(np.interp(iters, points.iters, points.noise))
    return replace(result, measured=True, loss=loss, low=loss - error, high=loss + error)


def _predict(fitted: Fitted, rates: RunRates, wide: float, error: float, at: Floats) -> Fan:
    mean, sd = fitted.predict(at, rates.later)
    half = WIDTH * np.hypot(sd * wide, error)
    return Fan(iters=at, mean=mean, low=mean - half, high=mean + half)


def _fan(fitted: Fitted, rates: RunRates, wide: float, error: float, iters: int) -> Fan:
    return _predict(fitted, rates, wide, error, np.linspace(fitted.last, iters, STEPS))


def _reaching(
    fitted: Fitted, rates: RunRates, wide: float, error: float, target: float, points: Points, iters: int
) -> Reaching:
    """When the curve first is at or below `target`: in what was seen, else up to the end of the horizon asked for."""
    below = np.flatnonzero(points.losses <= target)
    if len(below):
        at = float(points.iters[below[0]])
        return Reaching(target=target, expected=at, earliest=at, latest=at, within=fitted.last)
    end = max(float(iters), fitted.last + 1)
    fan = _predict(fitted, rates, wide, error, np.linspace(fitted.last, end, 10 * STEPS))

    def first(values: Floats) -> float | None:
        at = np.flatnonzero(values <= target)
        return float(fan.iters[at[0]]) if len(at) else None

    return Reaching(
        target=target, expected=first(fan.mean), earliest=first(fan.low), latest=first(fan.high), within=end
    )


def _notes(rates: RunRates, val: SeriesForecast, passes: float) -> list[str]:
    found = []
    if not rates.seen.known:
        found.append(
            "The record has no learning rates and no schedule: what a decay takes off is in the interval only."
        )
    if passes > MOST_PASSES and not val.why and not val.measured:
        found.append(
            f"At {passes:.0f} passes over the data the overfitting penalty is outside the {MOST_PASSES} for which its "
            "form was fitted."
        )
    outside = [item for item in val.back_tests if not item.inside]
    if len(outside) > len(val.back_tests) / 2:
        worst = max(abs(item.forecast - item.measured) for item in outside)
        found.append(f"The run does not follow the law: back-tests missed by up to {worst:.3f}; the interval is wider.")
    if val.loss is not None and not math.isfinite(val.loss):
        found.append("The law has no finite value there.")
    return found
