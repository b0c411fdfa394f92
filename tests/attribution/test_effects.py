"""Shapley values and interactions against their axioms and against brute force; intervals and verdicts."""

from __future__ import annotations

import math
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lossgap.attribution.design import Design, design, quantile, together
from lossgap.attribution.effects import RESOLUTION, Game, Mean, effects, interaction, marginals, mean, shapley, verdict

NAMES = ("capacity", "context", "batch", "length", "schedule")
LOSSES = st.floats(min_value=0.5, max_value=12.0)


def subsets(names: tuple[str, ...]) -> list[frozenset[str]]:
    return [frozenset(chosen) for size in range(len(names) + 1) for chosen in combinations(names, size)]


@st.composite
def games(draw: st.DrawFn, least: int = 1, most: int = 5) -> tuple[tuple[str, ...], Game]:
    """(names, game): any loss for every subset of 1 to 5 factors."""
    names = NAMES[: draw(st.integers(least, most))]
    arms = subsets(names)
    losses = draw(st.lists(LOSSES, min_size=len(arms), max_size=len(arms)))
    return names, dict(zip(arms, losses, strict=True))


def over_orders(game: Game, names: tuple[str, ...]) -> dict[str, float]:
    """The definition: the mean over all k! orders of what switching a factor in its turn changes."""
    orders = list(permutations(names))
    changes = dict.fromkeys(names, 0.0)
    for order in orders:
        for place, name in enumerate(order):
            changes[name] += game[frozenset(order[: place + 1])] - game[frozenset(order[:place])]
    return {name: value / len(orders) for name, value in changes.items()}


def joint_over_orders(game: Game, names: tuple[str, ...], first: str, second: str) -> float:
    """The two as one player in all (k-1)! orders: the mean of what they do together beyond what each does alone."""
    pair = frozenset({first, second})
    players = [pair, *(frozenset({name}) for name in names if name not in pair)]
    found = []
    for order in permutations(players):
        before = frozenset().union(*order[: order.index(pair)])
        alone = [game[before | {name}] - game[before] for name in pair]
        found.append(game[before | pair] - game[before] - sum(alone))
    return sum(found) / len(found)


@given(games())
@settings(max_examples=60, deadline=None)
def test_shapley_is_the_mean_over_all_orders(made: tuple[tuple[str, ...], Game]) -> None:
    names, game = made
    expected = over_orders(game, names)
    for name in names:
        assert shapley(game, names, name) == pytest.approx(expected[name], abs=1e-12)


@given(games(least=2))
@settings(max_examples=60, deadline=None)
def test_interaction_is_its_definition_over_orders_of_the_merged_pair(made: tuple[tuple[str, ...], Game]) -> None:
    names, game = made
    for first, second in combinations(names, 2):
        found = interaction(game, names, first, second)
        assert found == pytest.approx(joint_over_orders(game, names, first, second), abs=1e-12)
        assert found == pytest.approx(interaction(game, names, second, first), abs=1e-12)


@given(games())
@settings(max_examples=60, deadline=None)
def test_efficiency(made: tuple[tuple[str, ...], Game]) -> None:
    names, game = made
    total = sum(shapley(game, names, name) for name in names)
    assert total == pytest.approx(game[frozenset(names)] - game[frozenset()], abs=1e-12)


@given(games(least=2))
@settings(max_examples=60, deadline=None)
def test_symmetry(made: tuple[tuple[str, ...], Game]) -> None:
    """Two factors that change the same wherever they are switched have the same value."""
    names, game = made
    first, second = names[:2]
    swap = {first: second, second: first}
    same = {arm: (game[arm] + game[frozenset(swap.get(name, name) for name in arm)]) / 2 for arm in game}
    assert shapley(same, names, first) == pytest.approx(shapley(same, names, second), abs=1e-12)


@given(games(), LOSSES)
@settings(max_examples=60, deadline=None)
def test_a_factor_that_adds_a_constant_is_worth_it_and_interacts_with_nothing(
    made: tuple[tuple[str, ...], Game], constant: float
) -> None:
    names, game = made
    dummy = "dummy"
    wider = {arm | extra: loss + constant * len(extra) for arm, loss in game.items() for extra in (set(), {dummy})}
    all_names = (*names, dummy)
    assert shapley(wider, all_names, dummy) == pytest.approx(constant, abs=1e-12)
    for name in names:
        assert shapley(wider, all_names, name) == pytest.approx(shapley(game, names, name), abs=1e-12)
        assert interaction(wider, all_names, name, dummy) == pytest.approx(0, abs=1e-12)


@given(games(), st.data())
@settings(max_examples=60, deadline=None)
def test_additivity(made: tuple[tuple[str, ...], Game], data: st.DataObject) -> None:
    names, game = made
    other = {arm: data.draw(LOSSES) for arm in game}
    both = {arm: game[arm] + other[arm] for arm in game}
    for name in names:
        parts = shapley(game, names, name) + shapley(other, names, name)
        assert shapley(both, names, name) == pytest.approx(parts, abs=1e-12)


@given(games())
@settings(max_examples=40, deadline=None)
def test_antithetic_pairs_are_unbiased_and_each_sums_to_the_gap(made: tuple[tuple[str, ...], Game]) -> None:
    names, game = made
    orders = tuple(permutations(names))
    seeds = tuple(range(len(orders)))
    found = effects(Design(kind="permutations", factors=names, seeds=seeds, orders=orders), dict.fromkeys(seeds, game))
    exact = [shapley(game, names, name) for name in names]
    assert found.contributions.mean(axis=0) == pytest.approx(exact, abs=1e-12)
    assert found.contributions.sum(axis=1) == pytest.approx(found.gaps, abs=1e-12)
    assert found.pairs == ()
    assert found.interactions.shape == (len(seeds), 0)


@given(games(least=2))
@settings(max_examples=40, deadline=None)
def test_of_an_antithetic_pair_two_factors_that_interact_share_it_equally(
    made: tuple[tuple[str, ...], Game],
) -> None:
    """Games of main effects and pairs alone: every pair of orders gives the exact values."""
    names, game = made
    single = {name: game[frozenset({name})] for name in names}
    double = {frozenset(pair): game[frozenset(pair)] for pair in combinations(names, 2)}
    plain = {
        arm: sum(single[name] for name in arm) + sum(double[frozenset(pair)] for pair in combinations(sorted(arm), 2))
        for arm in game
    }
    for order in permutations(names):
        forth, back = marginals(plain, order), marginals(plain, order[::-1])
        for name in names:
            assert (forth[name] + back[name]) / 2 == pytest.approx(shapley(plain, names, name), abs=1e-10)


def test_effects_are_seed_by_seed() -> None:
    names = NAMES[:2]
    games = {
        7: dict(zip(subsets(names), (3.0, 2.5, 2.75, 2.0), strict=True)),
        8: dict(zip(subsets(names), (3.1, 2.5, 3.0, 2.2), strict=True)),
    }
    found = effects(Design(kind="factorial", factors=names, seeds=(7, 8)), games)
    assert found.gaps == pytest.approx([-1.0, -0.9])
    assert found.contributions == pytest.approx(np.array([[-0.625, -0.375], [-0.7, -0.2]]))
    assert found.pairs == (names,)
    assert found.interactions == pytest.approx(np.array([[-0.25], [-0.2]]))
    assert found.dropped == pytest.approx([0.0, 0.0])


@pytest.mark.parametrize("kind", ["factorial", "permutations"])
def test_dropped_factors_are_one_part_beside_the_contributions(kind: str) -> None:
    names, dropped = NAMES[:3], ("optimizer", "data")
    made = design(names, 9 * 4, seed=3, kind=kind, dropped=dropped)  # type: ignore[arg-type]  # parametrised
    generator = np.random.default_rng(1)
    games = {seed: {arm: float(generator.uniform(2, 4)) for arm in made.arms(seed)} for seed in made.seeds}
    found = effects(made, games)
    for place, seed in enumerate(made.seeds):
        whole = games[seed][frozenset((*names, *dropped))]
        assert found.dropped[place] == pytest.approx(whole - games[seed][frozenset(names)])
        assert found.gaps[place] == pytest.approx(whole - games[seed][frozenset()])
    assert found.contributions.sum(axis=1) + found.dropped == pytest.approx(found.gaps, abs=1e-12)


def test_without_factors_the_gap_is_what_was_dropped() -> None:
    made = design((), 6, dropped=("batch",))
    games = {seed: {frozenset[str](): 3.0, frozenset({"batch"}): 2.0 + seed} for seed in made.seeds}
    found = effects(made, games)
    assert found.contributions.shape == (3, 0)
    assert found.gaps.tolist() == found.dropped.tolist() == [0.0, 1.0, 2.0]


# ---------------------------------------------------------------------------------------------
# Intervals


@given(st.lists(LOSSES, min_size=3, max_size=30), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_an_interval_is_that_of_student_with_bonferroni(values: list[float], intervals: int) -> None:
    found = mean(np.array(values), intervals)
    assert found.value == pytest.approx(float(np.mean(values)))
    assert found.ci is not None
    level = 1 - 0.05 / intervals
    half = (found.ci[1] - found.ci[0]) / 2
    assert sum(found.ci) / 2 == pytest.approx(found.value)
    if len(set(values)) == 1:
        assert half == pytest.approx(0, abs=1e-12)
        return
    low, high = stats.t.interval(level, len(values) - 1, 0, float(stats.sem(values)))
    assert half == pytest.approx(max(high, RESOLUTION), abs=1e-9)
    assert low == pytest.approx(-high)


def test_quantiles_are_those_of_the_tables() -> None:
    """Student's t, two-sided: 95%, 97.5% and 99%."""
    assert quantile(3, 1) == pytest.approx(4.3027, abs=1e-4)
    assert quantile(11, 1) == pytest.approx(2.2281, abs=1e-4)
    assert quantile(11, 2) == pytest.approx(2.6338, abs=1e-4)
    assert quantile(5, 5) == pytest.approx(4.6041, abs=1e-4)
    assert quantile(100_000, 1) == pytest.approx(1.96, abs=1e-3)


def test_seeds_that_almost_agree_do_not_tell_more_than_the_resolution() -> None:
    close = mean(np.array([0.0020, 0.0021, 0.0022]))
    assert close.ci == pytest.approx((0.0021 - RESOLUTION, 0.0021 + RESOLUTION))
    same = mean(np.array([0.002, 0.002, 0.002]))
    assert same.ci == pytest.approx((0.002, 0.002), abs=1e-15)


def test_contributions_hold_together_and_a_single_one_is_held_to_what_two_are() -> None:
    assert [together(k) for k in (1, 2, 3, 5)] == [2, 2, 3, 5]


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_give_no_interval_and_say_so(seeds: int) -> None:
    found = mean(np.array([1.0, 2.0][:seeds]), 2)
    assert found.ci is None
    assert str(seeds) in found.why
    assert verdict(found, 0.01) == "inconclusive"


@pytest.mark.parametrize(
    ("ci", "word"),
    [
        ((-0.02, -0.001), "different"),
        ((0.001, 0.02), "different"),
        ((0.001, 0.009), "equivalent"),
        ((-0.01, 0.01), "equivalent"),
        ((0.0, 0.0), "equivalent"),
        ((-0.002, 0.02), "inconclusive"),
        ((0.0, 0.02), "inconclusive"),
        ((-0.02, 0.0), "inconclusive"),
    ],
)
def test_verdicts(ci: tuple[float, float], word: str) -> None:
    assert verdict(Mean(value=sum(ci) / 2, ci=ci), 0.01) == word


def test_a_sum_does_not_depend_on_the_order_of_its_terms() -> None:
    """Values of very different sizes: the mean of a seed's losses is exact."""
    values = np.array([1e16, 1.0, -1e16, 1.0])
    assert mean(values).value == 0.5
    assert math.isfinite(mean(values).value)


@pytest.mark.parametrize("k", range(2, 8))
def test_exact_values_equal_those_of_an_outside_library(k: int) -> None:
    """shapiq's exact computer (MIT), of the extra `oracle`: Shapley values and the interaction index, to 1e-12."""
    shapiq = pytest.importorskip("shapiq", reason="shapiq is not installed (pip install lossgap[oracle])")
    names = tuple(f"factor{place}" for place in range(k))
    table = np.random.default_rng(k).uniform(1, 4, 2**k)
    places = 2 ** np.arange(k)
    game = {arm: float(table[sum(2 ** names.index(name) for name in arm)]) for arm in subsets(names)}
    exact = shapiq.ExactComputer(n_players=k, game=lambda arms: table[np.asarray(arms, dtype=int) @ places])
    values = exact("SV")
    ours = [shapley(game, names, name) for name in names]
    assert ours == pytest.approx([values[(place,)] for place in range(k)], abs=1e-12)
    pairs = exact("SII", order=2)
    for first, second in combinations(range(k), 2):
        found = interaction(game, names, names[first], names[second])
        assert found == pytest.approx(pairs[(first, second)], abs=1e-12)
