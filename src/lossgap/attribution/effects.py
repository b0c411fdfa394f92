"""Contributions and interactions from the losses of arms.

For every seed s a game v_s: switched factors -> loss. The gap of a seed is v_s(all) - v_s(none), and each factor's
contribution is its Shapley value: the mean, over all orders in which the factors could be switched, of what switching
it changes (Shapley 1953). They sum to the gap of the kept factors, seed by seed. The interaction of two factors is the
Shapley interaction index (Grabisch and Roubens 1999): it stands beside the sum and is not part of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from lossgap.attribution.design import LEAST_SEEDS, Design, Switched, quantile
from lossgap.comparison.verdict import Word

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Game = Mapping[Switched, float]
"""Loss of each arm of one seed, nats per token."""
RESOLUTION = 0.001
"""Nats per token: no interval is narrower than +- this, unless all seeds give exactly the same.

The effect of a small change is amplified by the training of a rare seed to many times its usual size. A few seeds do
not show it, and their agreement alone would give an interval that leaves the mean out too often
(docs/explain-calibration.md). A small constant against small standard deviations: Tusher, Tibshirani, Chu 2001.
"""


@dataclass(frozen=True, eq=False, kw_only=True)
class Effects:
    """What the arms of a design say: per seed, so that intervals can be taken over seeds."""

    factors: tuple[str, ...]
    gaps: Floats
    """(seeds,) of the ends."""
    dropped: Floats
    """(seeds,) of what screening dropped, switched together after all others; 0 if nothing was."""
    contributions: Floats
    """(seeds, factors)"""
    pairs: tuple[tuple[str, str], ...]
    """The pairs of factors that `interactions` is of; none with permutations."""
    interactions: Floats
    """(seeds, pairs)"""


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean over seeds and its 95% interval."""

    value: float
    ci: tuple[float, float] | None
    why: str = ""
    """Why there is no interval."""


def effects(design: Design, games: Mapping[int, Game]) -> Effects:
    """Contributions and interactions of every seed of the design. `games` has all its arms."""
    names = design.factors
    pairs = tuple(combinations(names, 2)) if design.kind == "factorial" else ()
    rows, joint = [], []
    for seed in design.seeds:
        game = games[seed]
        if design.kind == "factorial":
            rows.append([shapley(game, names, name) for name in names])
            joint.append([interaction(game, names, first, second) for first, second in pairs])
        else:
            order = design.orders[design.seeds.index(seed)]
            forth, back = marginals(game, order), marginals(game, order[::-1])
            rows.append([(forth[name] + back[name]) / 2 for name in names])
            joint.append([])
    nothing, kept, everything = frozenset[str](), frozenset(names), design.everything
    return Effects(
        factors=names,
        gaps=np.array([games[seed][everything] - games[seed][nothing] for seed in design.seeds]),
        dropped=np.array([games[seed][everything] - games[seed][kept] for seed in design.seeds]),
        contributions=np.array(rows).reshape(len(design.seeds), len(names)),
        pairs=pairs,
        interactions=np.array(joint).reshape(len(design.seeds), len(pairs)),
    )


def shapley(game: Game, names: tuple[str, ...], name: str) -> float:
    """sum over S without `name` of |S|! (k - |S| - 1)! / k! x (v(S + name) - v(S))."""
    others = [other for other in names if other != name]
    k = len(names)
    terms = []
    for size in range(k):
        weight = 1 / (k * math.comb(k - 1, size))
        for chosen in combinations(others, size):
            before = frozenset(chosen)
            terms.append(weight * (game[before | {name}] - game[before]))
    return math.fsum(terms)


def interaction(game: Game, names: tuple[str, ...], first: str, second: str) -> float:
    """sum over S without both of |S|! (k-|S|-2)! / (k-1)! x (v(S + both) - v(S + first) - v(S + second) + v(S))."""
    others = [other for other in names if other not in (first, second)]
    k = len(names)
    terms = []
    for size in range(k - 1):
        weight = 1 / ((k - 1) * math.comb(k - 2, size))
        for chosen in combinations(others, size):
            before = frozenset(chosen)
            both = game[before | {first, second}] - game[before | {first}] - game[before | {second}] + game[before]
            terms.append(weight * both)
    return math.fsum(terms)


def marginals(game: Game, order: tuple[str, ...]) -> dict[str, float]:
    """What each factor changes when it is switched in its turn."""
    found, before = {}, frozenset[str]()
    for name in order:
        after = before | {name}
        found[name] = game[after] - game[before]
        before = after
    return found


def mean(values: Floats, intervals: int = 1) -> Mean:
    """The mean over seeds (n,), with one of `intervals` simultaneous 95% intervals.

    mean +- t sd / sqrt(n), and at least +- `RESOLUTION`.
    """
    return _around(values, 1 / len(values), 0.0, intervals)


def another(values: Floats, error: float) -> Mean:
    """The mean over seeds (n,), with the 95% interval of one more seed's value that has a standard error of `error`.

    mean +- t sqrt(sd^2 (1 + 1/n) + error^2), a prediction interval (Hahn and Meeker, Statistical Intervals, 1991), t
    with n - 1 degrees of freedom; at least +- `RESOLUTION`.
    """
    return _around(values, 1 + 1 / len(values), error, 1)


def _around(values: Floats, share: float, error: float, intervals: int) -> Mean:
    """`share`: how much of the variance between seeds the interval has."""
    value = math.fsum(values.tolist()) / len(values)
    if len(values) < LEAST_SEEDS:
        return Mean(value=value, ci=None, why=f"an interval takes {LEAST_SEEDS} seeds; there are {len(values)}")
    variance = float(np.var(values, ddof=1)) * share + error**2
    half = quantile(len(values), intervals) * math.sqrt(variance)
    if values.min() != values.max():
        half = max(half, RESOLUTION)
    return Mean(value=value, ci=(value - half, value + half))


def verdict(found: Mean, margin: float) -> Word:
    """equivalent if the interval lies within the margin, else different if it leaves 0 out, else inconclusive."""
    if found.ci is None:
        return "inconclusive"
    low, high = found.ci
    if -margin <= low and high <= margin:
        return "equivalent"
    return "inconclusive" if low <= 0 <= high else "different"
