"""How small a p-value must be after m runs, so that looking after every run makes no more false alarms than one look.

    boundary(baseline=8, alpha=0.02)[:4]            # (0.0037, 0.0064, 0.0063, 0.0056)

Alpha spending (Lan and DeMets, Biometrika 70, 1983): after m new runs at most `spent(m)` of the false alarms of a null
may have happened. The statistic is the two-sample t of all new runs against the baseline's. Its joint distribution
over m, under normal runs with equal variances, depends on the size of the baseline and on nothing else (it is
invariant to location and scale), so the boundary is computed once for a baseline size, by simulation with a fixed
generator, and holds for every recipe. The intervals that belong to it, shift -+ t error with the boundary's quantile,
are repeated confidence intervals (Jennison and Turnbull, J. R. Statist. Soc. B 51, 1989): all of them hold at once.
A look that is left out spends nothing: that is allowed, and makes fewer false alarms.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from lossgap.comparison.curve import Floats

LOOKS = 64
"""New runs at most; a change that is not decided by then needs a larger margin or a larger baseline."""
HALF, EARLY = 2.0, 0.85
"""So much of the false alarms is spent early, half of it by the second run: most changes are decided by a few. The
rest is spent evenly. A choice, made on simulated runs."""
BLOCKS = (*(range(look, look + 1) for look in range(1, 9)), range(9, 13), range(13, 17), range(17, 25), range(25, 33),
          range(33, 49), range(49, 65))  # fmt: skip
"""Looks that share a level, so that each level rests on enough simulated false alarms."""
REPETITIONS = 60_000
_SEED = 20_261_124


def spent(look: int, alpha: float) -> float:
    """The share of nulls that may have been called within so many looks."""
    return alpha * (EARLY * look**2 / (look**2 + HALF**2) + (1 - EARLY) * min(look, LOOKS) / LOOKS)


@cache
def boundary(baseline: int, alpha: float) -> tuple[float, ...]:
    """(LOOKS,) one-sided p-values, for 1, 2, ... new runs, that must not be exceeded to call a change.

    `baseline` is the number of runs of the baseline, at least 2.
    """
    p = null_p_values(baseline)
    alive = np.ones(len(p), dtype=bool)
    found: list[float] = []
    for block in BLOCKS:
        least = p[:, block.start - 1 : block.stop - 1].min(axis=1)
        allowed = int(spent(block.stop - 1, alpha) * len(p)) - int((~alive).sum())
        # The next larger value would be one call too many.
        level = float(np.sort(least[alive])[max(0, allowed)]) * (1 - 1e-9)
        found += [level] * len(block)
        alive &= least > level
    return tuple(found)


@cache
def null_p_values(baseline: int) -> Floats:
    """(repetitions, LOOKS) one-sided p-values of the two-sample t when nothing changed."""
    from scipy.special import stdtr  # loaded when needed: it takes longer than the rest together

    generator = np.random.Generator(np.random.Philox(_SEED))
    old = generator.standard_normal((REPETITIONS, baseline))
    new = generator.standard_normal((REPETITIONS, LOOKS))
    t, df = statistics_of(old, new, 0.0)
    p = np.ones_like(t)
    # No boundary lies above 0.3: the other p-values need not be computed.
    at = np.nonzero(t > 0.4)
    p[at] = stdtr(np.broadcast_to(df, t.shape)[at], -t[at])
    return p


def p_values(old: Floats, new: Floats, shift: float) -> Floats:
    """(repetitions, looks) p-values of `mean(new) - mean(old) <= shift`, after 1, 2, ... of the new runs.

    `old` is (repetitions, n) and `new` (repetitions, looks). Student's t with pooled variance, n + m - 2 degrees.
    """
    from scipy.special import stdtr  # loaded when needed: it takes longer than the rest together

    t, df = statistics_of(old, new, shift)
    return np.asarray(stdtr(df, -t), dtype=float)


def statistics_of(old: Floats, new: Floats, shift: float) -> tuple[Floats, Floats]:
    """(repetitions, looks) t statistics of `mean(new) - mean(old) - shift`, and (looks,) degrees of freedom."""
    n = old.shape[1]
    m = np.arange(1, new.shape[1] + 1, dtype=float)
    mean = new.cumsum(axis=1) / m
    squares = (new**2).cumsum(axis=1) - m * mean**2
    pooled = old.var(axis=1, ddof=0)[:, None] * n + squares.clip(min=0.0)
    df = n + m - 2
    error = np.sqrt(pooled / df * (1 / n + 1 / m))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (mean - old.mean(axis=1)[:, None] - shift) / error
    return np.nan_to_num(t, nan=0.0, posinf=1e9, neginf=-1e9), df
