"""Which arms an experiment trains: a function of the factors, the budget in runs and the seed, and of nothing else.

The seed is the unit of repetition. Each seed trains either

- all 2^k arms (`factorial`): its Shapley values are exact, and its interactions known; or
- the arms along one order of the factors and along the reverse order (`permutations`, an antithetic pair): 2k arms,
  whose mean marginal effects are an unbiased estimate of the Shapley values that sums to that seed's gap exactly
  (Castro, Gomez, Tejada 2009; antithetic pairs: Mitchell et al. 2022, arXiv:2104.12199).

Orders come from counter-based random numbers, seed by seed, so a longer experiment contains the shorter one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from scipy import stats

from lossgap import random
from lossgap.errors import ConfigError

Kind = Literal["factorial", "permutations"]
Switched = frozenset[str]
"""The factors of an arm that have the test's level."""
LEAST_SEEDS = 3
"""Fewer give no interval."""
MOST_SEEDS = 10_000
"""More are not worth their runs, whatever the budget allows."""
MOST_FACTORIAL = 8
"""2^8 arms a seed; beyond that only permutations."""
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Design:
    """The arms of an experiment."""

    kind: Kind
    factors: tuple[str, ...]
    seeds: tuple[int, ...]
    orders: tuple[tuple[str, ...], ...] = ()
    """Of each seed the order of its antithetic pair; empty for factorial."""
    dropped: tuple[str, ...] = ()
    """Factors that screening dropped: at the control's level in every arm but one more, `everything`."""

    @property
    def everything(self) -> Switched:
        """The arm with the dropped factors switched, too: the test's end."""
        return frozenset((*self.factors, *self.dropped))

    def arms(self, seed: int) -> tuple[Switched, ...]:
        """The arms of one seed, each once: the ends first, then by size."""
        kept = frozenset(self.factors)
        if self.kind == "factorial":
            found = {_subset(self.factors, bits) for bits in range(2 ** len(self.factors))}
        else:
            order = self.orders[self.seeds.index(seed)]
            found = {frozenset(path[:size]) for path in (order, order[::-1]) for size in range(len(order) + 1)}
        inner = found - {frozenset(), kept}
        ends = dict.fromkeys((frozenset[str](), kept, self.everything))
        return (*ends, *sorted(inner, key=lambda item: (len(item), sorted(item))))

    @property
    def arms_per_seed(self) -> int:
        """Distinct arms of one seed."""
        return arms_per_seed(self.kind, len(self.factors), bool(self.dropped))

    @property
    def runs(self) -> int:
        """Arms in all."""
        return self.arms_per_seed * len(self.seeds)

    def replacing(self, seed: int, by: int) -> Design:
        """The design with another seed, and its own order, in the place of one that failed."""
        place = self.seeds.index(seed)
        seeds = (*self.seeds[:place], by, *self.seeds[place + 1 :])
        orders = self.orders
        if orders:
            orders = (*orders[:place], _order(self.factors, by), *orders[place + 1 :])
        return replace(self, seeds=seeds, orders=orders)


def design(
    factors: Sequence[str], runs: int, seed: int = 1, kind: Kind | None = None, dropped: Sequence[str] = ()
) -> Design:
    """The design of at most `runs` arms whose intervals are narrowest: see `relative_width`; `kind` forces one.

    Without factors (screening dropped all) the ends alone. Seeds are `seed`, `seed + 1`, ..., 10,000 at most. Raises
    ConfigError `small-budget` if not even one seed fits.
    """
    k = len(factors)
    assert k or dropped
    kinds: list[Kind] = [kind] if kind else ["permutations", "factorial"]
    if k > MOST_FACTORIAL and not kind:
        kinds = ["permutations"]
    seeds = {item: min(runs // arms_per_seed(item, k, bool(dropped)), MOST_SEEDS) for item in kinds}
    possible = [item for item in kinds if seeds[item]]
    if not possible:
        least = min(arms_per_seed(item, k, bool(dropped)) for item in kinds)
        raise ConfigError(
            "small-budget",
            f"the budget allows {runs} runs, one seed of {k} factors takes {least}, and intervals take {LEAST_SEEDS} "
            f"seeds: give {LEAST_SEEDS * least} runs or more, fewer factors (--factor NAME=A,B), or a smaller --scale",
        )
    # With equal widths the factorial, which also tells the interactions.
    chosen = min(reversed(possible), key=lambda item: relative_width(item, k, seeds[item]))
    numbers = tuple(range(seed, seed + seeds[chosen]))
    orders = tuple(_order(factors, number) for number in numbers) if chosen == "permutations" else ()
    return Design(kind=chosen, factors=tuple(factors), seeds=numbers, orders=orders, dropped=tuple(dropped))


def arms_per_seed(kind: Kind, k: int, dropped: bool = False) -> int:
    """Distinct arms of one seed: 2^k, or 2 (k - 1) inner ones of two paths and the two ends; one more if dropped."""
    return (2**k if kind == "factorial" or k < 2 else 2 * k) + dropped


def relative_width(kind: Kind, k: int, seeds: int) -> float:
    """Half width of a contribution's interval, in units of an arm's own standard deviation; infinite below 3 seeds.

    quantile x sqrt(variance / seeds) with the variance of one seed's contribution if the arms' deviations were
    independent with variance 1: a contribution is a weighted sum of arms, so it is the sum of squared weights. For
    the Shapley value that is 2 sum_s 1 / (k^2 C(k-1, s)), for an antithetic pair 4 (1/2)^2 = 1, plus the spread of the
    orders, which nobody knows before and which is left out.
    """
    if seeds < LEAST_SEEDS:
        return math.inf if seeds < 1 else 1e6 / seeds
    if kind == "factorial" or k < 2:
        variance = 2 * sum(1 / (k * k * math.comb(k - 1, size)) for size in range(k)) if k else 2.0
    else:
        variance = 1.0
    return quantile(seeds, together(k)) * math.sqrt(variance / seeds)


def together(k: int) -> int:
    """The contributions whose intervals hold together: all k; a single one is held to what two are.

    It is judged twice, at last and at best, and at 95% a pair that differs in luck alone would be called different one
    time in twenty by each. More factors share that risk.
    """
    return max(k, 2)


@cache
def quantile(seeds: int, intervals: int) -> float:
    """Student's t for `intervals` simultaneous two-sided 95% intervals over `seeds` seeds (Bonferroni; Dunn 1961)."""
    return float(stats.t.ppf(1 - (1 - CONFIDENCE) / (2 * intervals), seeds - 1))


def _subset(factors: Sequence[str], bits: int) -> Switched:
    return frozenset(name for place, name in enumerate(factors) if bits >> place & 1)


def _order(factors: Sequence[str], seed: int) -> tuple[str, ...]:
    """A random order, by sorting random words: a function of the factors and the seed."""
    keys = random.words(seed, random.Purpose.ORDER, 0, len(factors)).tolist()
    return tuple(name for _, name in sorted(zip(keys, factors, strict=True)))
