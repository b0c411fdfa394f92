"""Which arms an experiment trains."""

from __future__ import annotations

import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from lossgap.attribution.design import (
    LEAST_SEEDS,
    MOST_FACTORIAL,
    MOST_SEEDS,
    Kind,
    arms_per_seed,
    design,
    quantile,
    relative_width,
    together,
)
from lossgap.attribution.effects import effects
from lossgap.errors import ConfigError

NAMES = ("capacity", "context", "batch", "length", "schedule", "regularisation", "optimizer", "data", "numerics")
KINDS = st.sampled_from([None, "factorial", "permutations"])


@given(st.integers(1, 9), st.integers(2, 3000), st.integers(0, 2**40), KINDS, st.booleans())
@settings(max_examples=150, deadline=None)
def test_every_seed_has_its_arms_once_and_all_fit_the_budget(
    k: int, runs: int, seed: int, kind: Kind | None, dropped: bool
) -> None:
    names, gone = NAMES[:k], ("dropped",) if dropped else ()
    assume(runs >= arms_per_seed(kind or "permutations", k, dropped))
    made = design(names, runs, seed, kind, gone)
    assert made.seeds == tuple(range(seed, seed + len(made.seeds)))
    assert 0 < made.runs <= runs < made.runs + made.arms_per_seed
    kept = frozenset(names)
    for number in made.seeds[:5]:
        arms = made.arms(number)
        assert len(arms) == len(set(arms)) == made.arms_per_seed
        assert {frozenset(), kept, kept | set(gone)} <= set(arms)
        assert arms[0] == frozenset()
        inner = [arm for arm in arms if arm != made.everything]
        assert all(arm <= kept for arm in inner)
        if made.kind == "factorial" or k < 3:
            assert len(set(inner)) == 2**k - (not dropped)


@given(st.integers(3, 9), st.integers(0, 2**40))
@settings(max_examples=60, deadline=None)
def test_the_arms_of_an_antithetic_pair_lie_along_its_order_and_back(k: int, seed: int) -> None:
    made = design(NAMES[:k], 4 * 2 * k, seed, "permutations")
    for number, order in zip(made.seeds, made.orders, strict=True):
        assert sorted(order) == sorted(NAMES[:k])
        forth = {frozenset(order[:size]) for size in range(k + 1)}
        back = {frozenset(order[size:]) for size in range(k + 1)}
        assert set(made.arms(number)) == forth | back


@given(st.integers(1, 9), st.integers(1, 2000), st.integers(0, 1000), KINDS)
@settings(max_examples=60, deadline=None)
def test_a_design_is_a_function_of_its_arguments(k: int, runs: int, seed: int, kind: Kind | None) -> None:
    assume(runs >= arms_per_seed(kind or "permutations", k))
    one, other = (design(NAMES[:k], runs, seed, kind) for _ in range(2))
    assert one == other
    assert [one.arms(number) for number in one.seeds] == [other.arms(number) for number in other.seeds]


@given(st.integers(1, 8), st.integers(1, 400), st.integers(0, 400), st.sampled_from(["factorial", "permutations"]))
@settings(max_examples=60, deadline=None)
def test_a_longer_experiment_contains_the_shorter(k: int, runs: int, more: int, kind: Kind) -> None:
    assume(runs >= arms_per_seed(kind, k))
    short, long = (design(NAMES[:k], amount, 5, kind) for amount in (runs, runs + more))
    assert long.seeds[: len(short.seeds)] == short.seeds
    assert long.orders[: len(short.orders)] == short.orders
    for seed in short.seeds[:5]:
        assert long.arms(seed) == short.arms(seed)


@given(st.integers(3, 8), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_a_pair_of_orders_is_a_part_of_the_same_seeds_factorial(k: int, seed: int) -> None:
    """So nothing is trained twice where a larger budget leads from the one kind to the other."""
    pair, whole = (design(NAMES[:k], 2**k * 2, seed, kind) for kind in ("permutations", "factorial"))
    for number in whole.seeds:
        assert set(pair.arms(number)) <= set(whole.arms(number))


def test_orders_are_random_over_seeds_and_each_equally_likely() -> None:
    made = design(NAMES[:4], 8 * 4800, 1, "permutations")
    counted = Counter(made.orders)
    assert len(counted) == math.factorial(4)
    assert stats.chisquare([counted[order] for order in permutations(NAMES[:4])]).pvalue > 0.001
    # No order says anything of the next seed's.
    pairs = Counter((one[0], other[0]) for one, other in zip(made.orders, made.orders[1:], strict=False))
    table = np.array([[pairs[one, other] for other in NAMES[:4]] for one in NAMES[:4]])
    assert stats.chi2_contingency(table).pvalue > 0.001


def test_another_seed_takes_the_place_of_a_failed_one_with_its_own_order() -> None:
    made = design(NAMES[:5], 50, 1, "permutations")
    later = design(NAMES[:5], 10, 99, "permutations")
    found = made.replacing(3, 99)
    assert found.seeds == (1, 2, 99, 4, 5)
    assert found.orders == (*made.orders[:2], later.orders[0], *made.orders[3:])
    assert found.arms(99) == later.arms(99)
    assert found.arms(4) == made.arms(4)
    whole = design(NAMES[:3], 24, 1, "factorial").replacing(1, 99)
    assert (whole.seeds, whole.orders) == ((99, 2, 3), ())


@pytest.mark.parametrize("kind", ["factorial", "permutations"])
@pytest.mark.parametrize("k", range(1, 7))
def test_the_relative_width_is_that_of_independent_arms(kind: Kind, k: int) -> None:
    """The variance of a contribution is the sum of the squares of what it makes of each arm alone."""
    names = NAMES[:k]
    made = design(names, arms_per_seed(kind, k) * 4, 1, kind)
    seed = made.seeds[0]
    arms = made.arms(seed)
    variance = np.zeros(k)
    for one in arms:
        games = {number: dict.fromkeys(made.arms(number), 0.0) for number in made.seeds}
        games[seed][one] = 1.0
        variance += effects(made, games).contributions[0] ** 2
    expected = quantile(len(made.seeds), together(k)) * np.sqrt(variance / len(made.seeds))
    assert relative_width(kind, k, len(made.seeds)) == pytest.approx(expected)


@given(st.integers(1, MOST_FACTORIAL), st.integers(6, 4000))
@settings(max_examples=100, deadline=None)
def test_the_kind_with_the_narrower_intervals_is_taken(k: int, runs: int) -> None:
    assume(runs >= arms_per_seed("permutations", k))
    made = design(NAMES[:k], runs)
    widths = {kind: relative_width(kind, k, runs // arms_per_seed(kind, k)) for kind in ("factorial", "permutations")}
    best = min(widths.values())
    assert widths[made.kind] == best
    if widths["factorial"] == best:
        assert made.kind == "factorial"


def test_a_kind_that_gives_an_interval_goes_before_one_that_gives_none() -> None:
    assert relative_width("factorial", 4, 3) < relative_width("permutations", 4, 2) < math.inf
    assert relative_width("factorial", 4, 0) == math.inf
    made = design(NAMES[:5], 40)
    assert (made.kind, len(made.seeds)) == ("permutations", 4)
    assert made.runs == 40


@pytest.mark.parametrize("runs", [100, 10_000, 10**12])
def test_many_factors_are_permuted_whatever_the_budget(runs: int) -> None:
    """Also where the most seeds are reached, and only all 2^k arms of each could make the intervals narrower."""
    assert design(NAMES, runs).kind == "permutations"
    assert design([f"factor{number}" for number in range(30)], runs).kind == "permutations"


@pytest.mark.parametrize("kind", ["factorial", "permutations"])
def test_a_boundless_budget_is_not_spent(kind: Kind) -> None:
    made = design(NAMES[:3], 10**18, kind=kind)
    assert len(made.seeds) == MOST_SEEDS


@pytest.mark.parametrize(("kind", "k", "runs"), [(None, 4, 7), ("factorial", 5, 31), ("permutations", 5, 9)])
def test_a_budget_below_one_seed_is_refused_in_one_line(kind: Kind | None, k: int, runs: int) -> None:
    with pytest.raises(ConfigError) as caught:
        design(NAMES[:k], runs, kind=kind)
    assert caught.value.slug == "small-budget"
    assert "\n" not in str(caught.value)
    assert str(LEAST_SEEDS * arms_per_seed(kind or "permutations", k)) in str(caught.value)
