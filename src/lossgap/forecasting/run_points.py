"""The points of a run that the law is fitted to, and the reasons for which a run cannot be forecast."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lossgap.comparison.curve import Curve, blocks
from lossgap.comparison.facts import Facts
from lossgap.forecasting.law_fit import Points
from lossgap.forecasting.rate_curve import Floats

MOST = 120
"""Means of blocks that many single losses are reduced to."""
LEAST = 5
"""Points behind the start that a fit needs: as many as there are losses and shapes to tell apart."""
START = 0.15
"""The part of a curve that the law leaves out at the beginning, beside the warm-up: the first fall has other laws."""
RISE = 0.25
"""A part of the fall: a train loss that has risen again by more has diverged."""
STILL = 2e-3
"""A part of the loss: a curve that moves less from its first points on is constant."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One series of a run: its points, and the iteration from which the law is fitted; or why it cannot be."""

    points: Points
    start: float = 0.0
    why: str = ""

    @property
    def used(self) -> Points:
        """The points that the law is fitted to."""
        return self.points.since(self.start)


def series_of(facts: Facts, name: str) -> Curve | None:
    """`val_loss`, or `train_loss`: of evaluations, else means of the losses that iterations print."""
    if name == "val_loss":
        return facts.val
    found = facts.train_eval if facts.train_eval is not None and len(facts.train_eval) >= LEAST else None
    return found or (blocks(facts.train, MOST) if facts.train is not None else facts.train_eval)


def seen(curve: Curve, warmup: float, until: float | None, *, may_rise: bool) -> Seen:
    """The points of a curve up to `until`; with `may_rise` (val loss) a rise is overfitting and no divergence."""
    known = curve if until is None else curve.until(until)
    iters, losses = known.iters.astype(float), known.values
    points = Points(iters=iters, losses=losses, noise=_noise(known))
    if not len(known):
        return Seen(points=points, why="there is no loss up to there")
    start = max(warmup, iters[0] + START * (iters[-1] - iters[0]))
    if np.count_nonzero(iters >= start) < LEAST and len(iters) > LEAST + 1:
        start = max(min(start, iters[-LEAST]), min(warmup, iters[-LEAST]))
    return Seen(points=points, start=start, why=_why_not(points, points.since(start), may_rise))


def _why_not(every: Points, used: Points, may_rise: bool) -> str:
    count = len(used.iters)
    if len(every.iters) < LEAST or count < LEAST:
        return f"there are {count} points behind the first fall, and the law needs {LEAST}"
    if not np.isfinite(every.losses).all():
        return "a loss is not finite"
    first, low, last = float(every.losses[0]), float(every.losses.min()), float(np.median(used.losses[-3:]))
    noise = float(np.median(used.noise))
    moved = first - low
    if moved < max(STILL * abs(first), 3 * noise) and float(np.ptp(every.losses)) < max(STILL * abs(first), 8 * noise):
        return f"the loss does not change: it is {last:.4g} from the first point to the last"
    if not may_rise and last - low > RISE * max(moved, 0.0) + 3 * noise:
        return f"the run has diverged: its loss was {low:.4g} and is {last:.4g}"
    if last > first + 3 * noise:
        return f"the loss has risen since the first point, from {first:.4g} to {last:.4g}"
    return ""


def _noise(curve: Curve) -> Floats:
    """The sampling noise of each point: as the record says it, else from second differences of the later half."""
    rough = _roughness(curve)
    floor = max(1e-4 * abs(float(curve.values[-1])), rounding(curve)) if len(curve) else 0.0
    found = np.where(np.isfinite(curve.errors), curve.errors, rough)
    return np.maximum(found, floor)


def rounding(curve: Curve) -> float:
    """The standard deviation of the rounding of print."""
    digits = curve.meaning.digits
    return 0.0 if digits is None else float(10.0**-digits / math.sqrt(12))


def _roughness(curve: Curve) -> float:
    values = curve.values[len(curve) // 3 :]
    if len(values) < 3:
        return 0.01 * abs(float(curve.values[-1])) if len(curve) else 0.0
    second = values[2:] - 2 * values[1:-1] + values[:-2]
    return float(np.median(np.abs(second)) * 1.4826 / math.sqrt(6))
