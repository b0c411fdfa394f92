"""The learning rate of a run over its iterations, past and to come: what the law of the loss is a function of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rate = Callable[[Floats], Floats]
MOST_KNOTS = 120
LEAST_CHANGE = 1e-6
"""Relative to the peak: a smaller change of the rate between two knots is none."""


@dataclass(frozen=True)
class RateCurve:
    """A rate that is linear between its knots, and the area under it.

    `iters` rise strictly from 0; `rates` are at least 0, in the units of the log. Beyond the last knot the rate stays.
    """

    iters: Floats
    rates: Floats
    known: bool = True
    """False where the run does not say its rates, and a constant one stands for them."""

    @property
    def peak(self) -> float:
        """The highest rate."""
        return float(self.rates.max())

    @cached_property
    def areas(self) -> Floats:
        """The area under the rate up to each knot, over the peak: iterations at the peak rate."""
        steps = np.diff(self.iters) * (self.rates[1:] + self.rates[:-1]) / 2
        return np.concatenate([[0.0], np.cumsum(steps)]) / self.peak

    def area(self, at: Floats) -> Floats:
        """The area up to iterations `at`."""
        inside = np.minimum(at, self.iters[-1])
        k = np.clip(np.searchsorted(self.iters, inside, side="right") - 1, 0, len(self.iters) - 2)
        width = inside - self.iters[k]
        slope = (self.rates[k + 1] - self.rates[k]) / (self.iters[k + 1] - self.iters[k])
        part = width * (self.rates[k] + slope * width / 2) / self.peak
        beyond = np.maximum(at - self.iters[-1], 0) * self.rates[-1] / self.peak
        return np.asarray(self.areas[k] + part + beyond)

    @cached_property
    def falls(self) -> tuple[Floats, Floats, Floats]:
        """Area, fall and rate after it, both over the peak, where the rate changes after its first peak.

        A rise is a negative fall. The warm-up is none: the law starts behind it.
        """
        relative = self.rates / self.peak
        first = int(np.argmax(relative >= relative.max() * (1 - 1e-9)))
        fall = relative[:-1] - relative[1:]
        at = np.flatnonzero((np.abs(fall) > LEAST_CHANGE) & (np.arange(len(fall)) >= first))
        return self.areas[at + 1], fall[at], np.maximum(relative[at + 1], 1e-4)

    def followed_by(self, other: RateCurve, at: float) -> RateCurve:
        """This rate up to iteration `at`, then that of `other`: a resume with another schedule."""
        mine, its = self.iters < at, other.iters > at
        here = np.array([float(np.interp(at, self.iters, self.rates)), float(np.interp(at, other.iters, other.rates))])
        return RateCurve(
            np.concatenate([self.iters[mine], [at, at + 1e-3], other.iters[its]]),
            np.concatenate([self.rates[mine], here, other.rates[its]]),
            self.known and other.known,
        )


def sampled(rate: Callable[[float], float], until: float, corners: tuple[float, ...] = ()) -> RateCurve:
    """The rate curve of a function of the iteration up to `until`; `corners` are knots where it bends."""
    inner = [value for value in corners if 0 < value < until]
    iters = np.unique(np.concatenate([np.linspace(0, max(until, 1.0), MOST_KNOTS), inner]))
    return RateCurve(iters, np.array([max(rate(float(at)), 0.0) for at in iters]))


def logged(iters: Floats, rates: Floats, *, warmup: bool = True) -> RateCurve:
    """The rate curve of logged values; with `warmup` what lies before the first row is taken as a rise from 0.

    A step stays a step: where the rate jumps between two rows it is held until the later one.
    """
    peak = float(rates.max())
    change = np.abs(np.diff(rates)) > 0.05 * peak
    keep = np.zeros(len(iters), dtype=bool)
    keep[np.linspace(0, len(iters) - 1, MOST_KNOTS).astype(int)] = True
    keep[1:] |= change
    keep[:-1] |= change
    at, value = iters[keep], rates[keep]
    jumps = np.flatnonzero(np.abs(np.diff(value)) > 0.05 * peak)
    jumps = jumps[np.diff(at)[jumps] > 1e-3]
    at = np.insert(at, jumps + 1, at[jumps + 1] - 1e-3)
    value = np.insert(value, jumps + 1, value[jumps])
    if at[0] > 0:
        at, value = np.concatenate([[0.0], at]), np.concatenate([[0.0 if warmup else value[0]], value])
    return RateCurve(at, value)


def constant(until: float) -> RateCurve:
    """A rate of 1 throughout, for a run whose rates are not known."""
    return RateCurve(np.array([0.0, max(until, 1.0)]), np.ones(2), known=False)
