"""Forecasts of what a run has already shown, from its own beginning: how far the law can be trusted for this run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lossgap.forecasting.law_fit import Points, fit
from lossgap.forecasting.prior import Prior
from lossgap.forecasting.rate_curve import RateCurve
from lossgap.forecasting.run_points import LEAST

CUTS = (0.4, 0.5, 0.6, 0.75)
"""Parts of the run that are seen in turn."""
LEVEL = 0.90
WIDTH = 1.6449
"""Standard deviations to each side of a 90% interval."""
WEIGHT = 4
"""How many back-tests the law's own uncertainty counts as."""
NARROWEST = 0.8
"""An interval is never made narrower than this part of what the law says, however well the run followed it."""


@dataclass(frozen=True, kw_only=True)
class BackTest:
    """One forecast of the run's last points from a part of it, in nats per token."""

    seen_until: float
    at: float
    forecast: float
    low: float
    high: float
    measured: float
    deviation: float
    """(forecast - measured) / standard deviation of the forecast."""

    @property
    def inside(self) -> bool:
        """True if the interval holds what was measured."""
        return self.low <= self.measured <= self.high


def back_tests(points: Points, rates: RateCurve, prior: Prior, passes_per_iter: float) -> tuple[BackTest, ...]:
    """Forecasts of the end from parts of the run: those that leave enough points to fit."""
    last = float(points.iters[-1])
    tail = points.since(float(points.iters[max(-3, -len(points.iters))]))
    weights = 1 / tail.noise**2
    measured, at = float(np.average(tail.losses, weights=weights)), float(np.average(tail.iters, weights=weights))
    error = float(weights.sum() ** -0.5)
    found: list[BackTest] = []
    for cut in CUTS:
        part = points.until(cut * last)
        again = bool(found) and bool(len(part.iters)) and found[-1].seen_until == part.iters[-1]
        if len(part.iters) < LEAST or part.iters[-1] >= tail.iters[0] or again:
            continue
        mean, sd = fit(part, rates, prior, passes_per_iter).predict(np.array([at]))
        whole = math.hypot(float(sd[0]), error)
        found.append(
            BackTest(
                seen_until=float(part.iters[-1]),
                at=at,
                forecast=float(mean[0]),
                low=float(mean[0]) - WIDTH * whole,
                high=float(mean[0]) + WIDTH * whole,
                measured=measured,
                deviation=(float(mean[0]) - measured) / whole,
            )
        )
    return tuple(found)


def widening(tests: Sequence[BackTest], rates_known: bool) -> float:
    """The factor on the law's standard deviation: sqrt of the mean squared deviation, with `WEIGHT` tests of 1.

    Where the rates are not known it is 1 at least: a decay at the end has not been seen by any back-test.
    """
    total = sum(item.deviation**2 for item in tests)
    return max(NARROWEST if rates_known else 1.0, math.sqrt((WEIGHT + total) / (WEIGHT + len(tests))))
