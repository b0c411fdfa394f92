"""Contributions, effects at the two ends, and interactions, from the losses of arms.

For every seed s a game v_s: switched factors -> loss. The gap of a seed is v_s(all) - v_s(none), and each factor's
contribution is its Shapley value: the mean, over all orders in which the factors could be switched, of what switching
it changes (Shapley 1953). They sum to the gap of the kept factors, seed by seed, as every order does. The interaction
of two factors is the Shapley interaction index (Grabisch and Roubens 1999): it stands beside the sum, no part of it.
What a factor does in the control's recipe is v(factor) - v(none), in the test's v(all) - v(all but factor).

All of these are weighted sums of arms. Of a repeated factorial, and of permutations, intervals are over seeds.
In a single factorial, whose arms are each trained once or a few times with seeds of their own, the standard error is
sqrt(sum of weight^2 variance / runs) (`design.standard_error`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from typing import Literal

import numpy as np

from lossgap.attribution.design import (
    LEAST_SEEDS,
    MODERATION,
    Design,
    Switched,
    least_orders,
    quantile,
    runs_of,
    shapley_weights,
    standard_error,
)
from lossgap.comparison.verdict import Word

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Game = Mapping[Switched, float]
"""Loss of each arm of one seed, nats per token."""
Weights = Mapping[Switched, float]
"""The weights of a weighted sum of arms' losses."""
Part = Literal["gaps", "dropped", "contributions", "interactions", "in_control", "in_test", "higher_order"]
RESOLUTION = 0.001
"""Nats per token: no interval is narrower than +- this, unless all seeds give exactly the same.

The effect of a small change is amplified by the training of a rare seed to many times its usual size. A few seeds do
not show it, and their agreement alone would give an interval that leaves the mean out too often
(docs/explain-calibration.md). A small constant against small standard deviations: Tusher, Tibshirani, Chu 2001.
"""


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean over seeds and its 95% interval."""

    value: float
    ci: tuple[float, float] | None
    why: str = ""
    """Why there is no interval."""
    error: float | None = None
    """The standard error, where there is an interval."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Effects:
    """The losses of a design's arms: a row for each seed, so that intervals can be taken over seeds.

    A single factorial has one row, of its arms' means, and `errors`.
    """

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
    in_control: Floats
    """(seeds, factors) of what a factor changes alone; NaN where the seed's order does not begin or end with it."""
    in_test: Floats
    """(seeds, factors) of what it changes after all others; NaN likewise."""
    higher_order: Floats
    """(seeds,) of the gap of the kept factors minus the sum of (in_control + in_test) / 2: 0 unless three factors or
    more interact; NaN with permutations."""
    least: int = LEAST_SEEDS
    """Rows that an interval of a contribution takes."""
    errors: Mapping[Part, Sequence[tuple[float, float]]] = field(default_factory=dict)
    """The standard error and its degrees of freedom, for each column of each part of a single factorial."""

    def mean(self, part: Part, place: int = 0, intervals: int = 1) -> Mean:
        """One column of one part, with one of `intervals` simultaneous 95% intervals."""
        table: Floats = getattr(self, part)
        values = table[:, place] if table.ndim == 2 else table
        values = values[~np.isnan(values)]
        if not values.size:
            return Mean(value=math.nan, ci=None, why="no order of the seeds begins or ends with it")
        if self.errors:
            return around(float(values[0]), *self.errors[part][place], intervals)
        if part == "contributions" and self.least > LEAST_SEEDS:
            return moderated(table, place, intervals, self.least)
        return mean(values, intervals)


def effects(design: Design, games: Mapping[int, Game]) -> Effects:
    """Contributions, effects at the ends, and interactions. `games` has all arms of every seed of the design."""
    if design.single:
        return _of_single(design, games)
    names = design.factors
    whole = design.kind == "factorial"
    parts: dict[Part, list[list[float]]] = {"contributions": [], "interactions": [], "in_control": [], "in_test": []}
    for seed in design.seeds:
        game = games[seed]
        if whole:
            rows: dict[Part, list[float]] = {
                part: [total(weights, game) for weights in of] for part, of in weights_of(names).items()
            }
        else:
            order = design.orders[design.seeds.index(seed)]
            forth, back = marginals(game, order), marginals(game, order[::-1])
            ends = set(order[:1] + order[-1:])
            rows = {
                "contributions": [(forth[name] + back[name]) / 2 for name in names],
                "interactions": [],
                "in_control": [
                    (forth if order[0] == name else back)[name] if name in ends else math.nan for name in names
                ],
                "in_test": [
                    (forth if order[-1] == name else back)[name] if name in ends else math.nan for name in names
                ],
            }
        for part, found in parts.items():
            found.append(rows[part])
    nothing, kept, everything = frozenset[str](), frozenset(names), design.everything
    seeds, k = len(design.seeds), len(names)
    alone, after = (np.array(parts[part]).reshape(seeds, k) for part in ("in_control", "in_test"))
    inner = np.array([games[seed][kept] - games[seed][nothing] for seed in design.seeds])
    pairs = tuple(combinations(names, 2)) if whole else ()
    return Effects(
        factors=names,
        gaps=np.array([games[seed][everything] - games[seed][nothing] for seed in design.seeds]),
        dropped=np.array([games[seed][everything] - games[seed][kept] for seed in design.seeds]),
        contributions=np.array(parts["contributions"]).reshape(seeds, k),
        pairs=pairs,
        interactions=np.array(parts["interactions"]).reshape(seeds, len(pairs)),
        in_control=alone,
        in_test=after,
        higher_order=inner - (alone + after).sum(axis=1) / 2,
        least=LEAST_SEEDS if whole else least_orders(k),
    )


def _of_single(design: Design, games: Mapping[int, Game]) -> Effects:
    losses: dict[Switched, list[float]] = {}
    for seed in design.seeds:
        for arm in design.arms(seed):
            losses.setdefault(arm, []).append(games[seed][arm])
    game = {arm: math.fsum(values) / len(values) for arm, values in losses.items()}
    counts, names = runs_of(design), design.factors
    nothing, kept, everything = frozenset[str](), frozenset(names), design.everything
    weighed: dict[Part, list[Weights]] = {
        **weights_of(names),
        "gaps": [{everything: 1.0, nothing: -1.0}],
        "dropped": [{everything: 1.0, kept: -1.0} if everything != kept else {}],
        "higher_order": [higher_order_weights(names)],
    }
    values = {part: np.array([[total(weights, game) for weights in of]]) for part, of in weighed.items()}
    variances = {arm: _sd(np.array(found)) ** 2 for arm, found in losses.items() if len(found) > 1}
    errors = {
        part: [standard_error(weights, counts, variances, design.dear) for weights in of]
        for part, of in weighed.items()
    }
    return Effects(
        factors=names,
        gaps=values["gaps"][0],
        dropped=values["dropped"][0],
        contributions=values["contributions"].reshape(1, len(names)),
        pairs=tuple(combinations(names, 2)),
        interactions=values["interactions"].reshape(1, -1),
        in_control=values["in_control"].reshape(1, len(names)),
        in_test=values["in_test"].reshape(1, len(names)),
        higher_order=values["higher_order"][0],
        errors=errors,
    )


# ---------------------------------------------------------------------------------------------
# Weighted sums of arms


@cache
def weights_of(names: tuple[str, ...]) -> dict[Part, list[Weights]]:
    """Return the weights of everything that all 2^k arms say about each factor, or pair of factors."""
    kept, nothing = frozenset(names), frozenset[str]()
    return {
        "contributions": [shapley_weights(names, name) for name in names],
        "interactions": [interaction_weights(names, *pair) for pair in combinations(names, 2)],
        "in_control": [{frozenset({name}): 1.0, nothing: -1.0} for name in names],
        "in_test": [{kept: 1.0, kept - {name}: -1.0} for name in names],
    }


def interaction_weights(names: tuple[str, ...], first: str, second: str) -> Weights:
    """sum over S without both of |S|! (k-|S|-2)! / (k-1)! x (v(S + both) - v(S + first) - v(S + second) + v(S))."""
    others = [other for other in names if other not in (first, second)]
    k, weights = len(names), {}
    for size in range(k - 1):
        weight = 1 / ((k - 1) * math.comb(k - 2, size))
        for chosen in combinations(others, size):
            before = frozenset(chosen)
            weights[before | {first, second}], weights[before] = weight, weight
            weights[before | {first}] = weights[before | {second}] = -weight
    return weights


def higher_order_weights(names: tuple[str, ...]) -> Weights:
    """The gap minus the sum over factors of half of what each does alone and after all others."""
    kept = frozenset(names)
    weights: dict[Switched, float] = {}
    parts = [(kept, 1.0), (frozenset[str](), -1.0)]
    for name in names:
        parts += [(frozenset({name}), -0.5), (frozenset[str](), 0.5), (kept, -0.5), (kept - {name}, 0.5)]
    for arm, weight in parts:
        weights[arm] = weights.get(arm, 0.0) + weight
    return weights


def total(weights: Weights, game: Game) -> float:
    """The weighted sum: exactly 0 where it takes the same loss as often as it adds it."""
    return math.fsum(weight * game[arm] for arm, weight in weights.items())


def shapley(game: Game, names: tuple[str, ...], name: str) -> float:
    """sum over S without `name` of |S|! (k - |S| - 1)! / k! x (v(S + name) - v(S))."""
    return total(shapley_weights(names, name), game)


def interaction(game: Game, names: tuple[str, ...], first: str, second: str) -> float:
    """The Shapley interaction index of two factors."""
    return total(interaction_weights(names, first, second), game)


def marginals(game: Game, order: tuple[str, ...]) -> dict[str, float]:
    """Return what each factor changes when it is switched in its turn."""
    found, before = {}, frozenset[str]()
    for name in order:
        after = before | {name}
        found[name] = game[after] - game[before]
        before = after
    return found


def all_marginals(games: Mapping[int, Game], name: str) -> dict[Switched, float]:
    """Return the change that `name` makes after each measured set of others: means over the seeds that have both."""
    found: dict[Switched, list[float]] = {}
    for game in games.values():
        for arm, loss in game.items():
            before = arm - {name}
            if name in arm and before in game:
                found.setdefault(before, []).append(loss - game[before])
    return {before: math.fsum(values) / len(values) for before, values in found.items()}


# ---------------------------------------------------------------------------------------------
# Intervals


def mean(values: Floats, intervals: int = 1, least: int = LEAST_SEEDS) -> Mean:
    """The mean over seeds (n,), with one of `intervals` simultaneous 95% intervals.

    mean +- t sd / sqrt(n), and at least +- `RESOLUTION`; none below `least` seeds.
    """
    value, n = math.fsum(values.tolist()) / len(values), len(values)
    if n < least:
        return Mean(value=value, ci=None, why=f"an interval takes {least} seeds; there are {n}")
    return around(value, _sd(values) / math.sqrt(n), n - 1, intervals)


def another(values: Floats, error: float) -> Mean:
    """The mean over seeds (n,), with the 95% interval of one more seed's value that has a standard error of `error`.

    mean +- t sqrt(sd^2 (1 + 1/n) + error^2), a prediction interval (Hahn and Meeker, Statistical Intervals, 1991), t
    with n - 1 degrees of freedom; at least +- `RESOLUTION`.
    """
    value, n = math.fsum(values.tolist()) / len(values), len(values)
    if n < LEAST_SEEDS:
        return Mean(value=value, ci=None, why=f"an interval takes {LEAST_SEEDS} seeds; there are {n}")
    return around(value, math.hypot(_sd(values) * math.sqrt(1 + 1 / n), error), n - 1, 1)


def moderated(table: Floats, place: int, intervals: int, least: int) -> Mean:
    """`mean` of one column (seeds, factors), whose variance is moderated by those of the others (Smyth 2004).

    A few seeds whose orders have a factor at like places agree, whatever it does elsewhere; so the mean variance of all
    columns counts as `MODERATION` further degrees of freedom. (limma estimates that number from thousands of columns; a
    handful cannot, and it is a choice, tried in docs/explain-coverage.md.)
    """
    values, n = table[:, place], len(table)
    value = math.fsum(values.tolist()) / n
    if n < least:
        return Mean(value=value, ci=None, why=f"an interval over orders takes {least} seeds; there are {n}")
    squares = [_sd(column) ** 2 for column in table.T]
    shared = math.fsum(squares) / len(squares)
    variance = (MODERATION * shared + (n - 1) * squares[place]) / (MODERATION + n - 1)
    return around(value, math.sqrt(variance / n), n - 1 + MODERATION, intervals)


def around(value: float, error: float, df: float, intervals: int) -> Mean:
    """value +- t error, one of `intervals` simultaneous 95% intervals; at least +- `RESOLUTION` if error > 0."""
    if not math.isfinite(error):
        return Mean(value=value, ci=None, why="no arm of its kind was trained more than once")
    half = quantile(df + 1, intervals) * error
    if error > 0:
        half = max(half, RESOLUTION)
    return Mean(value=value, ci=(value - half, value + half), error=error)


def _sd(values: Floats) -> float:
    """0 if all are the same, which a mean of rounded numbers need not give."""
    return 0.0 if values.min() == values.max() else float(np.std(values, ddof=1))


def verdict(found: Mean, margin: float) -> Word:
    """equivalent if the interval lies within the margin, else different if it leaves 0 out, else inconclusive."""
    if found.ci is None:
        return "inconclusive"
    low, high = found.ci
    if -margin <= low and high <= margin:
        return "equivalent"
    return "inconclusive" if low <= 0 <= high else "different"
