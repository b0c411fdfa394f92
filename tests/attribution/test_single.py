"""The single factorial: every arm with a seed of its own, its intervals, and screening by marginals."""

from __future__ import annotations

import importlib.util
import sys
from itertools import permutations
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from lossgap.attribution.design import (
    Design,
    Switched,
    all_arms,
    design,
    least_orders,
    shapley_weights,
    standard_error,
    together,
)
from lossgap.attribution.effects import Game, all_marginals, effects, mean, moderated, shapley
from lossgap.attribution.explain import sift

NAMES = ("capacity", "context", "batch", "length", "schedule", "regularisation")


def single(k: int, runs: float) -> Design:
    made = design(NAMES[:k], runs)
    assert made.single
    return made


def games_of(made: Design, game: Game, generator: np.random.Generator, sds: Game) -> dict[int, Game]:
    return {
        seed: {arm: game[arm] + sds[arm] * float(generator.standard_normal()) for arm in made.arms(seed)}
        for seed in made.seeds
    }


@pytest.mark.parametrize("k", range(2, 7))
def test_the_shapley_values_are_those_of_all_orders_to_the_last_digits(k: int) -> None:
    generator, names = np.random.default_rng(k), NAMES[:k]
    game = {arm: float(generator.uniform(1, 4)) for arm in all_arms(names)}
    orders = list(permutations(names))
    for name in names:
        changes = []
        for order in orders:
            before = frozenset(order[: order.index(name)])
            changes.append(game[before | {name}] - game[before])
        assert shapley(game, names, name) == pytest.approx(sum(changes) / len(changes), abs=1e-12)


def test_standard_errors_are_satterthwaites() -> None:
    """Two arms trained three times, and one once, whose variance is the mean of its half's."""
    a, b, c = (frozenset(name) for name in "abc")
    weights, counts, variances = {a: 1.0, b: -0.5, c: 2.0}, {a: 3, b: 3, c: 1}, {a: 0.04, b: 0.01}
    error, df = standard_error(weights, counts, variances, frozenset((a, b, c)))
    terms = [(0.04 / 3, 2), (0.25 * 0.01 / 3, 2), (4 * 0.025, 4)]
    total = sum(value for value, _ in terms)
    assert error**2 == pytest.approx(total)
    assert df == pytest.approx(total**2 / sum(value**2 / of for value, of in terms))
    assert standard_error(weights, counts, variances, frozenset((a, b)))[0] == float("inf")  # nothing tells c's
    assert standard_error(weights, counts, {a: 0.0, b: 0.0}, frozenset((a, b, c)))[0] == 0.0


def test_the_interval_is_of_the_means_of_arms() -> None:
    made = single(3, 24)
    generator = np.random.default_rng(3)
    games = games_of(made, dict.fromkeys(all_arms(NAMES[:3]), 2.0), generator, dict.fromkeys(all_arms(NAMES[:3]), 0.1))
    found = effects(made, games)
    arms = all_arms(NAMES[:3])
    means = {arm: np.mean([games[seed][arm] for seed in made.seeds]) for arm in arms}
    for place, name in enumerate(made.factors):
        weights = shapley_weights(made.factors, name)
        terms = [weights[arm] ** 2 * np.var([games[seed][arm] for seed in made.seeds], ddof=1) / 3 for arm in arms]
        total, df = sum(terms), sum(terms) ** 2 / sum(value**2 / 2 for value in terms)
        half = stats.t.ppf(1 - 0.05 / (2 * together(3)), df) * np.sqrt(total)
        value = sum(weight * means[arm] for arm, weight in weights.items())
        assert found.mean("contributions", place, together(3)).ci == pytest.approx((value - half, value + half))
    assert found.contributions.sum() == pytest.approx(found.gaps[0], abs=1e-12)


@pytest.mark.parametrize(("k", "runs"), [(4, 40), (5, 74)])
def test_intervals_hold_where_the_dear_arms_scatter_more(k: int, runs: int) -> None:
    """A variance pooled over all arms covers a half here (planted: 56% and 33%)."""
    benchmark = loaded("explain_coverage")
    setting = benchmark.Setting.of(single(k, runs))
    for family in (benchmark.overfitting, benchmark.additive):
        assert benchmark.coverage(setting, family, stress=True).mean() > 0.92
        assert 0.93 < benchmark.coverage(setting, family, stress=False).mean() < 0.98


def loaded(name: str) -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("k", "runs"), [(3, 24), (4, 40), (5, 53)])
def test_the_benchmark_repeats_what_the_product_does(k: int, runs: int) -> None:
    benchmark = loaded("explain_coverage")
    made = single(k, runs)
    generator, arms = np.random.default_rng(k), all_arms(NAMES[:k])
    games = games_of(made, dict.fromkeys(arms, 2.0), generator, dict.fromkeys(arms, 0.1))
    losses = np.zeros((1, len(made.seeds), 2**k))
    for row, seed in enumerate(made.seeds):
        for arm, loss in games[seed].items():
            losses[0, row, benchmark.number(made.factors, arm)] = loss
    middles, halves = benchmark.Setting.of(made).single_intervals(losses)
    found = [effects(made, games).mean("contributions", place, together(k)) for place in range(k)]
    assert [item.value for item in found] == pytest.approx(middles[0].tolist())
    assert [item.error and (item.ci or (0, 0))[1] - item.value for item in found] == pytest.approx(halves[0].tolist())


def test_permutations_take_eight_seeds_and_variances_are_moderated() -> None:
    generator = np.random.default_rng(0)
    table = generator.normal(0, [0.01, 0.1, 0.02, 0.05, 0.03, 0.04], (9, 6))
    assert moderated(table[:8], 0, 6, least_orders(6)).ci is None
    assert "takes 9 seeds; there are 8" in moderated(table[:8], 0, 6, least_orders(6)).why
    squares = table.var(axis=0, ddof=1)
    for place in range(6):
        found = moderated(table, place, 6, least_orders(6))
        half = stats.t.ppf(1 - 0.05 / 12, 12) * np.sqrt((4 * squares.mean() + 8 * squares[place]) / 12 / 9)
        assert found.ci == pytest.approx((found.value - half, found.value + half))
    made = design(NAMES[:6], 12 * 8, kind="permutations")
    games = {seed: {arm: 1.0 + len(arm) for arm in made.arms(seed)} for seed in made.seeds}
    assert effects(made, games).mean("contributions", 0, 6).ci is None
    assert effects(made, games).mean("gaps", intervals=6).ci is not None  # the ends know of no order


@pytest.mark.parametrize("kind", ["factorial", "permutations"])
def test_higher_order_is_zero_without_interactions_of_three(kind: str) -> None:
    def two(arm: Switched) -> float:
        return 3 - 0.1 * len(arm) + 0.2 * ({"capacity", "batch"} <= arm) - 0.3 * ({"context", "batch"} <= arm)

    made = design(NAMES[:3], 24, kind=kind)  # type: ignore[arg-type]  # of two literals
    pure = effects(made, {seed: {arm: two(arm) for arm in made.arms(seed)} for seed in made.seeds})
    three = effects(
        made, {seed: {arm: two(arm) + 0.4 * (len(arm) == 3) for arm in made.arms(seed)} for seed in made.seeds}
    )
    if kind == "permutations":
        assert np.isnan(pure.higher_order).all()
        ends = pure.in_control[~np.isnan(pure.in_control)]
        assert ends.size == 2 * len(made.seeds)  # the first of each order, and of its reverse
        return
    assert pure.higher_order == pytest.approx(0.0, abs=1e-12)
    assert three.higher_order == pytest.approx(0.4 - 3 * 0.4 / 2)
    assert three.in_control[0] == pytest.approx([-0.1, -0.1, -0.1])
    assert three.in_test[0] == pytest.approx([-0.1 + 0.2 + 0.4, -0.1 - 0.3 + 0.4, -0.1 - 0.1 + 0.4])


def test_a_factor_that_harms_here_and_helps_there_is_not_screened_out() -> None:
    """Its mean over orders is 0: dropout that costs 0.1 alone and saves 0.2 with length, say."""

    def loss(arm: Switched) -> float:
        harm = 0.1 * ("batch" in arm) - 0.2 * ({"batch", "length"} <= arm)
        return 3 + harm - 0.3 * ("length" in arm)

    made = design(NAMES[:4], 40)
    games = {seed: {arm: loss(arm) for arm in made.arms(seed)} for seed in made.seeds}
    found = effects(made, games)
    assert found.mean("contributions", 2, 4).ci == pytest.approx((0.0, 0.0), abs=1e-12)
    assert {round(value, 9) for value in all_marginals(games, "batch").values()} == {0.1, -0.1}
    screened = SimpleNamespace(design=made, games=lambda at: games)
    assert sift(screened, margin=0.01) == (("batch", "length"), ("capacity", "context"))  # type: ignore[arg-type]


def test_a_mean_has_its_standard_error() -> None:
    found = mean(np.array([1.0, 2.0, 4.0]))
    assert found.error == pytest.approx(float(np.std([1, 2, 4], ddof=1)) / 3**0.5)
