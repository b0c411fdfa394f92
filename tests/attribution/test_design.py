"""Which arms an experiment trains."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from lossgap.attribution.design import (
    MODERATION,
    MOST_FACTORIAL,
    MOST_SEEDS,
    NO_INTERVAL,
    ORDER_SPREAD,
    Kind,
    Switched,
    all_arms,
    arms_per_seed,
    design,
    least_cost,
    least_orders,
    one_run,
    quantile,
    relative_width,
    together,
    width,
)
from lossgap.attribution.effects import effects
from lossgap.attribution.orders import block_size, order
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
    assert 0 < made.runs <= runs
    assert made.single or runs < made.runs + made.arms_per_seed or len(made.seeds) == MOST_SEEDS
    kept = frozenset(names)
    for number in made.seeds[:5]:
        arms = made.arms(number)
        assert len(arms) == len(set(arms))
        assert len(arms) == (made.repeated if number != made.seeds[0] and made.single else made.arms_per_seed)
        assert {frozenset(), kept, kept | set(gone)} <= set(arms)
        assert arms[0] == frozenset()
        inner = [arm for arm in arms if arm != made.everything]
        assert all(arm <= kept for arm in inner)
        if len(arms) == made.arms_per_seed and (made.kind == "factorial" or k < 3):
            assert len(set(inner)) == 2**k - (not dropped)


@given(st.integers(3, 9), st.integers(0, 2**40))
@settings(max_examples=60, deadline=None)
def test_the_arms_of_an_antithetic_pair_lie_along_its_order_and_back(k: int, seed: int) -> None:
    made = design(NAMES[:k], 4 * 2 * k, seed, "permutations")
    for number, path in zip(made.seeds, made.orders, strict=True):
        assert sorted(path) == sorted(NAMES[:k])
        forth = {frozenset(path[:size]) for size in range(k + 1)}
        back = {frozenset(path[size:]) for size in range(k + 1)}
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


@pytest.mark.parametrize("k", range(2, 10))
def test_the_orders_of_a_block_and_their_reverses_are_balanced(k: int) -> None:
    """Every factor stands at every place equally often, and follows every other one equally often."""
    for block in range(3):
        first = 1 + block * block_size(k)
        paths = [order(NAMES[:k], number) for number in range(first, first + block_size(k))]
        both = [*paths, *(path[::-1] for path in paths)]
        places = Counter((place, name) for path in both for place, name in enumerate(path))
        followers = Counter(pair for path in both for pair in pairwise(path))
        assert (len(places), len(set(places.values()))) == (k * k, 1)
        assert (len(followers), len(set(followers.values()))) == (k * (k - 1), 1)


def test_each_order_is_equally_likely() -> None:
    counted = Counter(order(NAMES[:4], number) for number in range(1, 4801))
    assert len(counted) == math.factorial(4)
    assert stats.chisquare([counted[path] for path in permutations(NAMES[:4])]).pvalue > 0.001


@pytest.mark.parametrize("k", range(2, MOST_FACTORIAL + 1))
def test_every_arm_of_a_single_factorial_has_a_seed_of_its_own(k: int) -> None:
    """One seed for all arms is common luck, which the scatter of arms trained again does not show."""
    made = design(NAMES[:k], least_cost(NAMES[:k], one_run, "factorial"))
    assert made.single
    seeds = [made.training_seed(number, arm) for number in made.seeds for arm in made.arms(number)]
    assert len(seeds) == len(set(seeds)) == made.runs
    assert set(made.arms(made.seeds[0])) == set(all_arms(NAMES[:k]))
    kept = frozenset(NAMES[:k])
    near = {frozenset(), kept, *(frozenset({name}) for name in kept), *(kept - {name} for name in kept)}
    assert all(near <= set(made.arms(number)) for number in made.seeds)


def test_the_cheaper_half_is_trained_again_and_costs_decide_what_fits() -> None:
    names = NAMES[:4]

    def cost(arm: Switched) -> float:
        return 1000.0 if {"capacity", "length"} <= arm else 1.0

    whole = sum(map(cost, all_arms(names)))
    made = design(names, 2.5 * whole, cost=cost)
    spent = sum(cost(arm) for number in made.seeds for arm in made.arms(number))
    assert made.single
    assert spent <= 2.5 * whole
    assert all(cost(arm) == 1.0 for arm in set(all_arms(names)) - made.dear)
    assert set(all_arms(names)) - made.dear <= set(made.arms(made.seeds[1]))
    # As many runs of arms that all cost the same allow another design than these.
    assert design(names, 2.5 * 16).runs != made.runs or design(names, 2.5 * 16).dear != made.dear


def test_the_dear_pair_of_the_note_is_trained_whole_at_the_cost_of_few_orders() -> None:
    """Where four arms of 64 have half of the cost, eight seeds of orders cost more than all 64 arms."""
    names = NAMES[:6]

    def cost(arm: Switched) -> float:
        return float(np.prod([{"capacity": 7.0, "context": 4.0, "batch": 5.0, "length": 2.5}.get(x, 1.0) for x in arm]))

    least = least_cost(names, cost)
    assert least < least_cost(names, cost, "permutations")
    made = design(names, least * (1 + 1e-6), cost=cost)
    assert made.single
    assert made.arms_per_seed == 64


def test_after_ctrl_c_a_part_of_a_single_factorial_is_one_still() -> None:
    made = design(NAMES[:3], 24)
    assert made.single
    assert made.part([0, 2]).rounds == (made.rounds[0], made.rounds[2])
    assert made.replacing(2, 9).arms(9) == made.arms(2)
    assert made.replacing(2, 9).training_seed(9, frozenset()) == 9 << 3


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
    made = design(names, arms_per_seed(kind, k) * 9, 1, kind)
    seed = made.seeds[0]
    variance = np.zeros(k)
    for one in made.arms(seed):
        games = {number: dict.fromkeys(made.arms(number), 0.0) for number in made.seeds}
        games[seed][one] = 1.0
        variance += effects(made, games).contributions[0] ** 2
    orders = kind == "permutations" and k > 2
    t = quantile(9 + (MODERATION if orders else 0), together(k))
    expected = t * np.sqrt((variance + (ORDER_SPREAD**2 if orders else 0.0)) / 9)
    assert relative_width(kind, k, 9) == pytest.approx(expected)


@given(st.integers(1, MOST_FACTORIAL), st.integers(6, 2000))
@settings(max_examples=60, deadline=None)
def test_the_design_with_the_narrower_intervals_is_taken(k: int, runs: int) -> None:
    assume(runs >= arms_per_seed("permutations", k))
    made = design(NAMES[:k], runs)
    for kind in ("factorial", "permutations"):
        if runs >= arms_per_seed(kind, k):
            assert width(made) <= width(design(NAMES[:k], runs, kind=kind))


@pytest.mark.parametrize("k", range(1, MOST_FACTORIAL + 2))
def test_the_least_cost_gives_intervals_and_less_gives_none(k: int) -> None:
    least = least_cost(NAMES[:k], one_run)
    assert width(design(NAMES[:k], least)) < NO_INTERVAL
    assert width(design(NAMES[:k], least - 1)) > NO_INTERVAL


def test_without_intervals_the_whole_game_goes_before_a_few_orders() -> None:
    assert (design(NAMES[:5], 40).kind, design(NAMES[:5], 31).kind) == ("factorial", "permutations")
    assert relative_width("factorial", 4, 0) == math.inf
    assert relative_width("permutations", 6, least_orders(6) - 1) > NO_INTERVAL > relative_width("permutations", 6, 9)


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
    assert f"{least_cost(NAMES[:k], one_run, kind):,.0f} runs" in str(caught.value)
