"""Likeness of two stretches of printed iteration losses: those of the same batches rise and fall together.

A micro-batch that is easy for one model is easy for another, so the losses of the same batches correlate even between
models of other sizes (0.49 between two sizes of GPT-2), between a model and itself hundreds of iterations later (0.62),
and all but agree for runs of one recipe (0.98 to 0.99); those of other batches do not (-0.10 to 0.03). What correlates
is each loss minus the mean of its two neighbours, so that the common fall of the curves does not count, by ranks, so
that a few large steps at the beginning do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lossgap.comparison.curve import Curve, Floats
from lossgap.comparison.facts import Facts

FEWEST = 50
"""Losses in common below which nothing is said."""
LEAST = 0.35
"""A correlation from which batches are called the same, if it also stands `SIGMAS` standard errors above 0."""
MOST = 0.45
"""Batches are called others if the correlation lies `BELOW` standard errors under this: less than the least one seen
of the same batches."""
SIGMAS = 4.0
BELOW = 3.0
_OVERLAP = 1 + 2 * ((2 / 3) ** 2 + (1 / 6) ** 2)
"""Neighbouring terms share losses, autocorrelations -2/3 and 1/6: so many terms count as one (Bartlett's formula)."""


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """The rank correlation of `count` losses, and its standard error where the batches are unrelated."""

    correlation: float
    count: int

    @property
    def error(self) -> float:
        """Standard error about 0."""
        return math.sqrt(_OVERLAP / max(1, self.count - 2))

    @property
    def same(self) -> bool | None:
        """True if the batches are the same; None where the losses do not tell."""
        if self.correlation >= max(LEAST, SIGMAS * self.error):
            return True
        return False if self.correlation + BELOW * self.error < MOST else None

    @property
    def said(self) -> str:
        """In words, with its numbers."""
        return f"rank correlation {self.correlation:.2f} over {self.count:,} printed losses"


def between(control: Facts, test: Facts, start: int = 0) -> Likeness | None:
    """The likeness of two runs at the iterations from `start` on that both printed; None where those are too few."""
    first, second = _single(control), _single(test)
    if first is None or second is None:
        return None
    iters, places, others = np.intersect1d(first.iters, second.iters, return_indices=True)
    later = iters >= start
    return of(first.values[places[later]], second.values[others[later]])


def within(facts: Facts, at: int, start: int = 0) -> Likeness | None:
    """The likeness within one run: iterations from `at` on against those from `start` on, without overlap."""
    curve = _single(facts)
    if curve is None or at <= start:
        return None
    early = curve.iters[(curve.iters >= start) & (curve.iters < at)]
    _, places, later = np.intersect1d(early, curve.iters[curve.iters >= at] - (at - start), return_indices=True)
    return of(curve.values[(curve.iters >= start) & (curve.iters < at)][places], curve.values[curve.iters >= at][later])


def of(first: Floats, second: Floats) -> Likeness | None:
    """The likeness of two series of equal length (n,); None where they are short or constant."""
    if len(first) < FEWEST:
        return None
    moves = [series[1:-1] - (series[:-2] + series[2:]) / 2 for series in (first, second)]
    if any(float(np.ptp(move)) == 0.0 for move in moves):
        return None
    from scipy.stats import rankdata  # loaded when needed: it takes longer than the rest together

    ranks = [rankdata(move) for move in moves]
    return Likeness(correlation=float(np.corrcoef(*ranks)[0, 1]), count=len(first))


def _single(facts: Facts) -> Curve | None:
    """Printed losses, each of one iteration: no means over several, no thinned rows."""
    curve = facts.train
    if curve is None or facts.run.thinned is not None or curve.meaning.kind in ("moving-average", "run-mean"):
        return None
    return None if curve.meaning.kind == "interval-mean" else curve
