"""Which arms an experiment trains: a function of the factors, what arms cost, what is allowed, and the seed.

Three designs:

- `factorial`, repeated: all 2^k arms with each of three seeds or more, the arms of a seed sharing its random numbers.
  Intervals are over seeds.
- `factorial`, single: all 2^k arms once, each with a seed of its own; then the ends, what is one factor away from them,
  and the cheaper half of all once or twice more, or all arms twice more. What these scatter by gives the standard
  errors. Seeds differ because arms that share one also share what luck does to a factor, and no contrast of such arms
  shows it.
- `permutations`: with each of eight seeds or more (`least_orders`) the arms along one order of the factors and along
  the reverse order, 2k arms, whose mean marginal effects are an unbiased estimate of the Shapley values (Castro, Gomez,
  Tejada 2009; antithetic pairs: Mitchell et al. 2022, arXiv:2104.12199, and exact for games without interactions of
  three factors: Mayer and Wuthrich 2025, arXiv:2508.12947). Orders are balanced (orders.py).

Of those that the budget allows, the one whose intervals are expected to be narrowest is taken. A longer experiment of
the same kind contains the shorter one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from scipy import stats

from lossgap.attribution.orders import order
from lossgap.errors import ConfigError

Kind = Literal["factorial", "permutations"]
Switched = frozenset[str]
"""The factors of an arm that have the test's level."""
Cost = Callable[[Switched], float]
"""The part of the budget that an arm takes: 1 where that is in runs, else its FLOPs or seconds."""
LEAST_SEEDS = 3
"""Fewer repetitions give no interval."""
LEAST_ORDERS = 8
"""Fewer seeds of permutations give none: a few orders agree by luck where factors interact."""
ORDERS_PER_FACTOR = 1.5
"""Seeds of permutations for each factor, at least, beyond `LEAST_ORDERS`."""
ORDER_SPREAD = 2.0
"""Standard deviation of a contribution over orders, in those of an arm over seeds: permutations are priced with it."""
NO_INTERVAL = 1e2
"""A `width` of so many standard deviations or more is of a design that gives none."""
MOST_SEEDS = 10_000
"""More are not worth their runs, whatever the budget allows."""
MOST_FACTORIAL = 8
"""2^8 arms a seed; beyond that only permutations."""
AGAIN = (1, 2)
"""Times that a single factorial trains its replicated arms again; once gives too few degrees of freedom below
`LEAST_ONCE` factors."""
LEAST_ONCE = 4
MODERATION = 4
"""Degrees of freedom that the mean variance of all contributions has beside each one's own, with permutations."""
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Design:
    """The arms of an experiment."""

    kind: Kind
    factors: tuple[str, ...]
    seeds: tuple[int, ...]
    """The seeds; for a single factorial its rounds, counted from the first seed."""
    orders: tuple[tuple[str, ...], ...] = ()
    """The order of each seed's antithetic pair; empty for factorial."""
    rounds: tuple[tuple[Switched, ...], ...] = ()
    """The arms of each round of a single factorial, each with a seed of its own; empty for the other kinds."""
    dear: frozenset[Switched] = frozenset()
    """The dearer half of a single factorial's arms: those trained once are taken to scatter as the others of them."""
    dropped: tuple[str, ...] = ()
    """Factors that screening dropped: at the control's level in every arm but one more, `everything`."""

    @property
    def everything(self) -> Switched:
        """The arm with the dropped factors switched, too: the test's end."""
        return frozenset((*self.factors, *self.dropped))

    @property
    def single(self) -> bool:
        """True if every arm has a seed of its own."""
        return bool(self.rounds)

    def arms(self, seed: int) -> tuple[Switched, ...]:
        """The arms of one seed, or round, each once: the ends first, then by size."""
        if self.rounds:
            return self.rounds[self.seeds.index(seed)]
        if self.kind == "factorial":
            return all_arms(self.factors, self.dropped)
        path = self.orders[self.seeds.index(seed)]
        inner = {frozenset(way[:size]) for way in (path, path[::-1]) for size in range(len(path) + 1)}
        return _ordered(inner, self.factors, self.dropped)

    def training_seed(self, seed: int, switched: Switched) -> int:
        """The seed that the arm is trained with: that of all arms of a seed, or, in a single factorial, its own."""
        if not self.rounds:
            return seed
        names = (*self.factors, *self.dropped)
        return (seed << len(names)) + sum(1 << place for place, name in enumerate(names) if name in switched)

    @property
    def arms_per_seed(self) -> int:
        """Distinct arms of one seed; of a single factorial, those of its first round."""
        return arms_per_seed(self.kind, len(self.factors), bool(self.dropped))

    @property
    def repeated(self) -> int:
        """Arms that a single factorial trains more than once; 0 for the others."""
        return len(self.rounds[1]) if len(self.rounds) > 1 else 0

    @property
    def runs(self) -> int:
        """Arms in all."""
        return sum(map(len, self.rounds)) if self.rounds else self.arms_per_seed * len(self.seeds)

    def part(self, places: Sequence[int]) -> Design:
        """The design with these of its seeds, in this order."""
        return replace(
            self,
            seeds=tuple(self.seeds[place] for place in places),
            orders=tuple(self.orders[place] for place in places) if self.orders else (),
            rounds=tuple(self.rounds[place] for place in places) if self.rounds else (),
        )

    def replacing(self, seed: int, by: int) -> Design:
        """The design with another seed, and its own order, in the place of one that failed."""
        place = self.seeds.index(seed)
        seeds = (*self.seeds[:place], by, *self.seeds[place + 1 :])
        orders = self.orders
        if orders:
            orders = (*orders[:place], order(self.factors, by), *orders[place + 1 :])
        return replace(self, seeds=seeds, orders=orders)


def one_run(_: Switched) -> float:
    """Return what an arm takes of a budget in runs."""
    return 1.0


def design(
    factors: Sequence[str],
    allowed: float,
    seed: int = 1,
    kind: Kind | None = None,
    dropped: Sequence[str] = (),
    cost: Cost = one_run,
    *,
    single: bool = True,
) -> Design:
    """The design that costs at most `allowed` and has the narrowest intervals: see `width`.

    `kind` forces permutations, or the repeated factorial.
    Without `single` no single factorial, e.g. as the trainer has no seeds. Without factors (screening dropped all) the
    ends alone. Seeds are `seed`, `seed + 1`, ..., 10,000 at most. Raises ConfigError `small-budget` if not even one
    seed fits.
    """
    names, gone = tuple(factors), tuple(dropped)
    assert names or gone
    found: list[Design] = []
    if kind != "permutations" and (len(names) <= MOST_FACTORIAL or kind):
        found += _factorials(names, allowed, seed, gone, cost, single=single and kind is None)
    if kind != "factorial":
        found += _permutations(names, allowed, seed, gone, cost)
    if not found:
        per_seed = min(arms_per_seed(item, len(names), bool(gone)) for item in ([kind] if kind else KINDS))
        least = least_cost(names, cost, kind, gone)
        much = f"{least:,.0f} runs" if cost is one_run else f"{least / allowed:.3g} times the budget"
        raise ConfigError(
            "small-budget",
            f"the budget allows no seed of {len(names)} factors, which takes {per_seed} runs, and intervals take "
            f"{much}: give that much, fewer factors (--factor NAME=A,B), or a smaller --scale",
        )
    return min(found, key=width)  # with equal widths the factorial, which also tells the interactions


KINDS: tuple[Kind, ...] = ("factorial", "permutations")


def _factorials(
    names: tuple[str, ...], allowed: float, seed: int, gone: tuple[str, ...], cost: Cost, *, single: bool
) -> list[Design]:
    arms = all_arms(names, gone)
    whole = math.fsum(map(cost, arms))
    seeds = _times(allowed, whole)
    if not seeds:
        return []
    found = [Design(kind="factorial", factors=names, seeds=tuple(range(seed, seed + seeds)), dropped=gone)]
    if not single or len(names) < 2:
        return found
    for rounds in _rounds(names, gone, cost):
        if math.fsum(cost(arm) for part in rounds for arm in part) <= allowed * (1 + 1e-9):
            numbers = tuple(range(seed, seed + len(rounds)))
            dear = frozenset(arms) - _cheap(arms, cost)
            found.append(Design(kind="factorial", factors=names, seeds=numbers, rounds=rounds, dear=dear, dropped=gone))
    return found


def _rounds(names: tuple[str, ...], gone: tuple[str, ...], cost: Cost) -> list[tuple[tuple[Switched, ...], ...]]:
    """The rounds of the single factorials that there are."""
    arms = all_arms(names, gone)
    again = replicated(arms, frozenset(names), frozenset((*names, *gone)), cost)
    found = [(arms, *((again,) * times)) for times in AGAIN if times > 1 or len(names) >= LEAST_ONCE]
    return [*found, (arms,) * LEAST_SEEDS]


def _permutations(names: tuple[str, ...], allowed: float, seed: int, gone: tuple[str, ...], cost: Cost) -> list[Design]:
    # One seed at a time, as an order may have the dear arms more often than another.
    found: list[tuple[str, ...]] = []
    spent, number = 0.0, seed
    while len(found) < MOST_SEEDS:
        path = order(names, number)
        one = Design(kind="permutations", factors=names, seeds=(number,), orders=(path,), dropped=gone)
        spent += math.fsum(map(cost, one.arms(number)))
        if spent > allowed * (1 + 1e-9):
            break
        found.append(path)
        number += 1
    numbers = tuple(range(seed, number))
    return (
        [Design(kind="permutations", factors=names, seeds=numbers, orders=tuple(found), dropped=gone)] if found else []
    )


def _times(allowed: float, whole: float) -> int:
    """How often `whole` goes into what is allowed, but for rounding."""
    return min(MOST_SEEDS, int(max(allowed, 0.0) * (1 + 1e-9) / whole)) if whole > 0 else MOST_SEEDS


def replicated(arms: Sequence[Switched], kept: Switched, everything: Switched, cost: Cost) -> tuple[Switched, ...]:
    """The ends, what is one factor away from them, and the cheaper half, in the order of `arms`.

    Arms at the ends have the largest weights in a Shapley value, and are what a factor does in either recipe.
    """
    cheap = _cheap(arms, cost)
    return tuple(arm for arm in arms if len(arm) < 2 or len(arm) >= len(kept) - 1 or arm == everything or arm in cheap)


def _cheap(arms: Sequence[Switched], cost: Cost) -> frozenset[Switched]:
    return frozenset(sorted(arms, key=cost)[: len(arms) // 2])


def least_cost(names: Sequence[str], cost: Cost, kind: Kind | None = None, dropped: Sequence[str] = ()) -> float:
    """Return the cost of the cheapest design that gives intervals."""
    factors, gone = tuple(names), tuple(dropped)
    found = []
    if kind != "permutations" and len(factors) <= MOST_FACTORIAL:
        arms = all_arms(factors, gone)
        whole = math.fsum(map(cost, arms))
        found.append(LEAST_SEEDS * whole)
        if len(factors) > 1:
            found += [
                math.fsum(cost(arm) for part in rounds for arm in part) for rounds in _rounds(factors, gone, cost)
            ]
    if kind != "factorial":
        numbers = tuple(range(1, least_orders(len(factors)) + 1))
        paths = tuple(order(factors, number) for number in numbers)
        made = Design(kind="permutations", factors=factors, seeds=numbers, orders=paths, dropped=gone)
        found.append(math.fsum(cost(arm) for number in numbers for arm in made.arms(number)))
    return min(found)


def one_order_cost(names: Sequence[str], cost: Cost, seed: int) -> float:
    """Return the cost of the arms along the seed's order and its reverse, which divide a gap and give no interval."""
    path = order(names, seed)
    made = Design(kind="permutations", factors=tuple(names), seeds=(seed,), orders=(path,))
    return math.fsum(map(cost, made.arms(seed)))


def least_orders(k: int) -> int:
    """Seeds that intervals over orders of k factors take; fewer than three factors have too few orders."""
    return max(LEAST_ORDERS, math.ceil(ORDERS_PER_FACTOR * k)) if k > 2 else LEAST_SEEDS


def all_arms(factors: Sequence[str], dropped: Sequence[str] = ()) -> tuple[Switched, ...]:
    """All combinations of the factors, and the test's end: the ends first, then by size."""
    return _ordered({_subset(factors, bits) for bits in range(2 ** len(factors))}, factors, dropped)


def arms_per_seed(kind: Kind, k: int, dropped: bool = False) -> int:
    """Distinct arms of one seed: 2^k, or 2 (k - 1) inner ones of two paths and the two ends; one more if dropped."""
    return (2**k if kind == "factorial" or k < 2 else 2 * k) + dropped


def width(made: Design) -> float:
    """Half width that a contribution's interval is expected to have, in standard deviations of an arm over seeds.

    A contribution is a weighted sum of arms. If their deviations are independent with variance 1, the variance of the
    sum is that of the squared weights, each divided by the runs of its arm. Over permutations the spread of the orders
    comes on top. Designs that give no interval come last: the factorial, then the one with the most seeds.
    """
    k, seeds = len(made.factors), len(made.seeds)
    if not made.single:
        return relative_width(made.kind, k, seeds)
    counts = runs_of(made)
    ones = dict.fromkeys(counts, 1.0)
    found = [standard_error(shapley_weights(made.factors, name), counts, ones, made.dear) for name in made.factors]
    return math.fsum(quantile(df + 1, together(k)) * error for error, df in found) / k


def standard_error(
    weights: Mapping[Switched, float], counts: Mapping[Switched, int], variances: Mapping[Switched, float],
    dear: frozenset[Switched],
) -> tuple[float, float]:  # fmt: skip
    """(standard error, degrees of freedom) of a weighted sum of the means of arms with seeds of their own.

    `counts` are the runs of each arm, `variances` those over its seeds, of the arms with several runs. Each of these
    has its own variance; an arm with one run has the mean of those in its half. The degrees of freedom are
    Satterthwaite's (1946). (inf, 1) where no arm of a half has several runs.
    """
    terms: list[tuple[float, float]] = []
    for half in (True, False):
        single, known = 0.0, []
        for arm, weight in weights.items():
            if (arm in dear) is half and counts[arm] > 1:
                terms.append((weight**2 / counts[arm] * variances[arm], counts[arm] - 1))
            elif (arm in dear) is half:
                single += weight**2
        if single:
            known = [arm for arm, runs in counts.items() if runs > 1 and (arm in dear) is half]
            if not known:
                return math.inf, 1.0
            mean = math.fsum(variances[arm] for arm in known) / len(known)
            terms.append((single * mean, sum(counts[arm] - 1 for arm in known)))
    total = math.fsum(value for value, _ in terms)
    below = math.fsum(value**2 / df for value, df in terms)
    return math.sqrt(total), total**2 / below if below else math.fsum(df for _, df in terms)


def runs_of(made: Design) -> dict[Switched, int]:
    """How often each arm is trained."""
    counts: dict[Switched, int] = {}
    for seed in made.seeds:
        for arm in made.arms(seed):
            counts[arm] = counts.get(arm, 0) + 1
    return counts


def relative_width(kind: Kind, k: int, seeds: int) -> float:
    """`width` of a repeated factorial or of permutations: quantile x sqrt(variance / seeds).

    The variance of one seed's Shapley value is 2 sum_s 1 / (k^2 C(k-1, s)); of an antithetic pair's it is
    4 (1/2)^2 = 1, and `ORDER_SPREAD`^2 for its order, which fewer than three factors do not have.
    """
    if seeds < (LEAST_SEEDS if kind == "factorial" else least_orders(k)):
        return math.inf if seeds < 1 else (1e5 if kind == "factorial" else 1e7) / seeds
    if kind == "factorial" or k < 2:
        variance = 2 * sum(1 / (k * k * math.comb(k - 1, size)) for size in range(k)) if k else 2.0
    else:
        variance = 1.0 + (ORDER_SPREAD**2 if k > 2 else 0.0)
        if k > 2:
            return quantile(seeds + MODERATION, together(k)) * math.sqrt(variance / seeds)
    return quantile(seeds, together(k)) * math.sqrt(variance / seeds)


@cache
def shapley_weights(names: tuple[str, ...], name: str) -> dict[Switched, float]:
    """Return the weight of each arm's loss in the Shapley value of `name`.

    sum over S without `name` of |S|! (k - |S| - 1)! / k! x (v(S + name) - v(S)).
    """
    k, weights = len(names), {}
    others = [other for other in names if other != name]
    for bits in range(2 ** len(others)):
        before = _subset(others, bits)
        weight = 1 / (k * math.comb(k - 1, len(before)))
        weights[before | {name}], weights[before] = weight, -weight
    return weights


def together(k: int) -> int:
    """The contributions whose intervals hold together at one alignment: all k; a single one is held to what two are.

    It is judged twice, at last and at best, and at 95% a pair that differs in luck alone would be called different one
    time in twenty by each. More factors share that risk. Last and best are two families, each of them held to 95%.
    """
    return max(k, 2)


@cache
def quantile(seeds: float, intervals: int) -> float:
    """Student's t, seeds - 1 degrees of freedom, for `intervals` simultaneous two-sided 95% intervals (Dunn 1961)."""
    return float(stats.t.ppf(1 - (1 - CONFIDENCE) / (2 * intervals), seeds - 1))


def _subset(factors: Sequence[str], bits: int) -> Switched:
    return frozenset(name for place, name in enumerate(factors) if bits >> place & 1)


def _ordered(arms: set[Switched], factors: Sequence[str], dropped: Sequence[str]) -> tuple[Switched, ...]:
    kept = frozenset(factors)
    ends = dict.fromkeys((frozenset[str](), kept, kept | frozenset(dropped)))
    return (*ends, *sorted(arms - {frozenset(), kept}, key=lambda item: (len(item), sorted(item))))
