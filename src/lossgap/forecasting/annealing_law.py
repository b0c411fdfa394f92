"""The law of the loss under a schedule: a power of the area under the rate, less what annealing gives, plus repetition.

    L(t) = L0 + A a(t)^-alpha - B sum_k d_k G(r_k^-gamma (a(t) - a_k)) + c max(0, p(t) - 1)
    G(x) = 1 - (1 + C x)^-beta

a(t) is the area under the rate over its peak (Tissue et al. 2024, arXiv:2408.11029, where annealing has an area of its
own); d_k is the fall of the rate at k over the peak and r_k the rate after it: the multi-power law (Luo et al. 2025,
arXiv:2503.12811). p(t) are the passes over the data: an additive penalty for repeating data in the sense of Lovelace
et al. 2026, arXiv:2605.01640, of which c is the one coefficient. On the train split it may be negative: what is
repeated is learned by heart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lossgap.forecasting.rate_curve import Floats, RateCurve

NAMES = ("L0", "ln A", "alpha", "ln B", "ln C", "beta", "gamma", "c")
"""The parameters in their order; `A` is the reducible loss at an area of `UNIT`, L0, A, B and c are losses."""
LOSSES = np.array([True, False, False, False, False, False, False, True])
LOGS_OF_LOSSES = np.array([False, True, False, True, False, False, False, False])
UNIT = 1000.0
"""Iterations at the peak rate."""
MOST_PASSES = 16
"""The passes up to which the penalty was fitted in arXiv:2605.01640; beyond, its form is not known to hold."""


@dataclass(frozen=True)
class LawInput:
    """Iterations seen through a rate curve: all that the law needs to know of them."""

    area: Floats
    """a(t) / UNIT"""
    beyond: Floats
    """(iterations, falls): the area since each fall over UNIT, 0 before it."""
    fall: Floats
    after: Floats
    repeats: Floats
    """Passes beyond the first."""


def place(at: Sequence[float] | Floats, rates: RateCurve, passes_per_iter: float) -> LawInput:
    """Iterations `at` under `rates`; `passes_per_iter` is 0 where the passes are not known."""
    iters = np.asarray(at, dtype=float)
    area = np.maximum(rates.area(iters), 1e-9)
    where, fall, after = rates.falls
    return LawInput(
        area=area / UNIT,
        beyond=np.maximum(area[:, None] - where[None, :], 0.0) / UNIT,
        fall=fall,
        after=after,
        repeats=np.maximum(iters * passes_per_iter - 1.0, 0.0),
    )


def law(theta: Floats, where: LawInput) -> Floats:
    """The loss at those places."""
    level, log_a, alpha, log_b, log_c, beta, gamma, repetition = theta
    found = level + np.exp(log_a - alpha * np.log(where.area)) + repetition * where.repeats
    if len(where.fall):
        reach = np.exp(np.minimum(log_c - gamma * np.log(where.after), 50.0))
        gone = 1.0 - (1.0 + reach * where.beyond) ** -max(beta, 0.0)
        found = found - np.exp(log_b) * (gone @ where.fall)
    return np.asarray(found)


def slopes(theta: Floats, where: LawInput) -> Floats:
    """d law / d theta, (places, parameters), by central differences."""
    step = 1e-5
    moves = np.eye(len(theta)) * step
    return np.stack([(law(theta + move, where) - law(theta - move, where)) / (2 * step) for move in moves], axis=1)
