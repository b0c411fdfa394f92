"""The stored bank, and what experiments on it say against its truth (attribution/truth)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import permutations
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from scipy import stats

from attribution.truth import bank as stored
from attribution.truth import make_bank, recipes
from attribution.truth.bank import Bank, load, save
from attribution.truth.calibrate import (
    ALIGNMENTS,
    FEW,
    KINDS,
    REPETITIONS,
    Experiment,
    Score,
    budgeted,
    contributions,
    generator_of,
)
from attribution.truth.nulls import LUCK, WATCHING, Null
from attribution.truth.page import truths
from lossgap.attribution import effects as formulas
from lossgap.attribution.arm import Arm
from lossgap.attribution.design import Design, Kind, design, together
from lossgap.attribution.effects import mean, verdict
from lossgap.attribution.executor import Done, Executor
from lossgap.attribution.explanation import At
from lossgap.attribution.factor import factors
from lossgap.attribution.local import work
from lossgap.attribution.measure import our_arm, run_arm
from lossgap.attribution.pricing import measured
from lossgap.config import TrainConfig
from lossgap.corpus import open_corpus

BANKS = {bank.name: bank for bank in load()}
HELD_OUT = {bank.name: bank for bank in load(stored.HELD_OUT_PATH)}
PAGE = Path(__file__).parents[2] / "docs" / "explain-calibration.md"
SOME = 1000
"""Repetitions of the quick kind."""
pairs = pytest.mark.parametrize("bank", BANKS.values(), ids=BANKS)
kinds = pytest.mark.parametrize("kind", KINDS)
alignments = pytest.mark.parametrize("at", ALIGNMENTS)

# ---------------------------------------------------------------------------------------------
# The bank


BOTH = [(BANKS, recipes.SEEDS, stored.PATH), (HELD_OUT, recipes.HELD_OUT, stored.HELD_OUT_PATH)]


@pytest.mark.parametrize(("banks", "seeds", "path"), BOTH, ids=["bank", "held out"])
def test_the_banks_are_of_the_recipes(banks: Mapping[str, Bank], seeds: tuple[int, ...], path: Path) -> None:
    assert list(banks) == [pair.name for pair in recipes.PAIRS]
    assert [len(bank.factors) for bank in banks.values()] == [3, 4, 5]
    assert len(seeds) == 60
    for pair in recipes.PAIRS:
        bank = banks[pair.name]
        assert bank.control == {**recipes.BASE, **pair.control}
        assert bank.test == {**recipes.BASE, **pair.test}
        assert bank.factors == pair.factors == pair.plan("text").names
        assert bank.seeds == seeds
        for losses in bank.losses.values():
            assert losses.shape == (60, 2 ** len(pair.factors))
            assert np.isfinite(losses).all()


@pytest.mark.parametrize(("banks", "seeds", "path"), BOTH, ids=["bank", "held out"])
def test_the_banks_are_of_the_text_that_is_made_here(
    banks: Mapping[str, Bank], seeds: tuple[int, ...], path: Path, tmp_path: Path
) -> None:
    """And they are written with the same bytes for the same numbers."""
    digest = sha256(recipes.text().encode()).hexdigest()
    save(list(banks.values()), digest, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    assert path.stat().st_size < 500_000


def test_no_seed_is_in_both_banks() -> None:
    assert not set(recipes.SEEDS) & set(recipes.HELD_OUT)


@pairs
def test_models_learn_and_every_pair_has_a_top_factor_small_ones_and_an_interaction(bank: Bank) -> None:
    letters = np.unique(list(recipes.text()), return_counts=True)[1]
    for at in ALIGNMENTS:
        assert bank.losses[at].mean(axis=0).max() < float(stats.entropy(letters))
        sizes = np.sort(np.abs(bank.truth(at)))[::-1]
        assert sizes[0] > 1.5 * sizes[1] > 0
        assert sizes[-1] < sizes[0] / 4
    assert bank.name == "four" or sizes[-1] < 0.005
    numbers = tuple(range(60))
    found = bank.draw(Design(kind="factorial", factors=bank.factors, seeds=numbers), numbers, "last")
    assert np.abs(found.interactions.mean(axis=0) / stats.sem(found.interactions, axis=0)).max() > 4


@pairs
@alignments
def test_the_truth_is_the_mean_of_the_seeds_own_values(bank: Bank, at: At) -> None:
    """Over orders by definition, and by the project's formula: contributions are linear in the losses."""
    assert bank.truth(at) == pytest.approx(contributions(bank, "factorial", at)[0].mean(axis=0), abs=1e-12)
    everything = contributions(bank, "permutations", at)
    assert bank.truth(at) == pytest.approx(everything.mean(axis=(0, 1)), abs=1e-12)
    assert bank.truth(at).sum() == pytest.approx((bank.losses[at][:, -1] - bank.losses[at][:, 0]).mean(), abs=1e-12)


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("LOSSGAP_CACHE", str(tmp_path / "cache"))
    path = tmp_path / recipes.TEXT
    path.write_text(recipes.text())
    return str(path)


@pytest.mark.parametrize(("switched", "seed"), [(frozenset(), 1), (frozenset({"batch", "schedule"}), 60)])
def test_an_arm_of_the_bank_trained_again_has_its_losses(
    corpus: str, tmp_path: Path, switched: frozenset[str], seed: int
) -> None:
    """Up to what another machine's rounding grows to in 60 iterations."""
    bank, plan = BANKS["three"], recipes.PAIRS[0].plan(corpus)
    arm = our_arm(plan.settings(switched), seed, measured(plan), open_corpus(corpus), "cpu", 1)
    found = run_arm(arm, tmp_path)
    assert found.val_loss == pytest.approx(bank.game(seed - 1, "last")[switched], abs=1e-3)
    assert found.best_val_loss == pytest.approx(bank.game(seed - 1, "best")[switched], abs=1e-3)


class InThisProcess(Executor):
    """Trains where the test runs, and remembers how often."""

    trained = 0

    def __init__(self, root: Path, at_once: int) -> None:
        self.root, self.at_once = root, at_once

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def run(self, arms: Sequence[Arm]) -> Iterator[Done]:
        for arm in arms:
            InThisProcess.trained += 1
            yield work(arm.to_dict(), str(self.root))


def test_the_bank_is_made_again_with_the_same_bytes_and_nothing_is_trained_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short: Mapping[str, object] = {"max_iters": 8, "lr_decay_iters": 8, "warmup_iters": 2}
    pair = recipes.Pair(name="two", control=short, test={**short, "batch_size": 6}, factors=("batch",))
    monkeypatch.setenv("LOSSGAP_CACHE", str(tmp_path / "cache"))
    patched = {"PAIRS": (pair,), "SEEDS": (1, 2), "HELD_OUT": (3, 4), "LocalExecutor": InThisProcess}
    patched |= {"OVERFIT": pair, "OVERFIT_SEEDS": (1, 2)}
    for name, value in patched.items():
        monkeypatch.setattr(make_bank, name, value)
    written = []
    for place, folder in enumerate(("one", "one", "other")):
        paths = [tmp_path / f"{place}{name}.json" for name in ("", "-held-out")]
        monkeypatch.setattr(make_bank, "PATH", paths[0])
        monkeypatch.setattr(make_bank, "HELD_OUT_PATH", paths[1])
        monkeypatch.setattr(make_bank, "OVERFIT_PATH", tmp_path / f"{place}-overfit.json")
        assert make_bank.main([str(tmp_path / folder)]) == 0
        written.append((*(path.read_bytes() for path in paths), InThisProcess.trained))
    assert [count for *_, count in written] == [8, 8, 16]
    assert len({data[:2] for data in written}) == 1
    assert load(tmp_path / "0.json")[0].losses["last"].shape == (2, 2)
    assert load(tmp_path / "0-held-out.json")[0].seeds == (3, 4)


# ---------------------------------------------------------------------------------------------
# Calibration


def within(found: Score) -> bool:
    """The goal: 90% to 99%."""
    return 0.90 <= found.covered / found.repetitions <= 0.99


@pairs
@kinds
@alignments
def test_a_quarter_of_the_runs_covers_the_truth_and_ranks_the_top_factor_first(bank: Bank, kind: Kind, at: At) -> None:
    seeds = len(budgeted(bank, kind).seeds)
    made = Experiment(bank=bank, kind=kind, seeds=seeds, at=at)
    assert 2 ** len(bank.factors) <= made.runs <= bank.losses[at].size / 4
    for found in (made.score(REPETITIONS), made.score(SOME)):
        assert within(found)
        assert found.first >= 0.95 * found.repetitions


@pytest.mark.parametrize("bank", HELD_OUT.values(), ids=HELD_OUT)
@alignments
def test_on_seeds_that_nothing_was_chosen_by_it_does_so_too(bank: Bank, at: At) -> None:
    for kind in KINDS:
        found = Experiment(bank=bank, kind=kind, seeds=len(budgeted(bank, kind).seeds), at=at).score(SOME)
        assert within(found)
        assert found.first >= 0.95 * SOME


@pairs
@alignments
def test_seeds_that_are_drawn_once_cover_it_too(bank: Bank, at: At) -> None:
    chosen = budgeted(bank)
    made = Experiment(bank=bank, kind=chosen.kind, seeds=len(chosen.seeds), at=at, draw="without")
    assert within(made.score(REPETITIONS))
    assert within(made.score(SOME))


@pairs
@kinds
@pytest.mark.parametrize("seeds", FEW)
def test_smaller_budgets_cover_the_truth(bank: Bank, kind: Kind, seeds: int) -> None:
    for at in ALIGNMENTS:
        assert within(Experiment(bank=bank, kind=kind, seeds=seeds, at=at).score(SOME))


@pairs
@kinds
def test_the_table_gives_what_the_projects_own_design_gives(bank: Bank, kind: Kind) -> None:
    made = Experiment(bank=bank, kind=kind, seeds=4, at="last")
    found = made.once(generator_of(3, 5))
    generator = generator_of(3, 5)
    own = design(bank.factors, made.runs, int(generator.integers(1, 1 << 31)), kind)
    places = generator.integers(0, 60, 4).tolist()
    table = contributions(bank, kind, "last")
    listed = [tuple(order) for order in permutations(bank.factors)]
    orders = [listed.index(order) for order in own.orders] if own.orders else [0] * 4
    assert found == pytest.approx(table[orders, places], abs=1e-12)


FAULTS = {
    "normal instead of Student": (lambda n, m: float(stats.norm.ppf(1 - 0.025 / m)), 4),
    "no Bonferroni": (lambda n, m: float(stats.t.ppf(0.975, n - 1)), 15),
    "no root of n": (lambda n, m: float(stats.t.ppf(1 - 0.025 / m, n - 1) * n**0.5), 15),
    "half the spread": (lambda n, m: float(stats.t.ppf(1 - 0.025 / m, n - 1) / 2), 15),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_in_the_interval_are_seen(name: str) -> None:
    fault, seeds = FAULTS[name]
    with mock.patch.object(formulas, "quantile", fault):
        scores = [
            Experiment(bank=bank, kind="factorial", seeds=seeds, at="last").score(SOME) for bank in BANKS.values()
        ]
    assert not any(within(found) for found in scores)


def test_without_a_least_half_width_a_rare_seed_is_left_out_too_often() -> None:
    """Pair three's weight decay: one seed of 60 in which it changes much more than in all others."""
    made = [Experiment(bank=BANKS["three"], kind="factorial", seeds=15, at=at) for at in ALIGNMENTS]
    sound = [item.score(SOME).covered for item in made]
    with mock.patch.object(formulas, "RESOLUTION", 0.0):
        plain = [item.score(SOME).covered for item in made]
    assert sum(sound) - sum(plain) > 40


# ---------------------------------------------------------------------------------------------
# Nulls


@pytest.mark.parametrize("seeds", [3, 5, 10, 15])
@pytest.mark.parametrize("beside", ["nothing", "a setting without effect"])
def test_a_seed_that_poses_as_a_factor_is_different_in_at_most_one_of_twenty(beside: str, seeds: int) -> None:
    found = [
        Null(bank=bank, beside=beside, kind="factorial", seeds=seeds).alarms(REPETITIONS)  # type: ignore[arg-type]
        for bank in BANKS.values()
    ]
    assert sum(item.either for item in found) <= 0.05 * sum(item.repetitions for item in found)


@pairs
@kinds
def test_beside_real_factors_it_is_rarer_still(bank: Bank, kind: Kind) -> None:
    for seeds in (3, 15):
        found = Null(bank=bank, beside="all real factors", kind=kind, seeds=seeds).alarms(SOME)
        assert found.either <= 0.05 * found.repetitions


@pairs
def test_the_null_table_gives_what_the_projects_own_design_gives(bank: Bank) -> None:
    made = Null(bank=bank, beside="all real factors", kind="factorial", seeds=3)
    generator = generator_of(1, 2)
    found = made.once(generator)
    generator = generator_of(1, 2)
    generator.integers(1, 1 << 31)
    pairs_drawn = np.array(made.drawn(generator)).T
    for at, table in made.tables().items():
        expected = table[0, pairs_drawn[1]] - table[0, pairs_drawn[0]]
        assert found[at].contributions[:, -1] == pytest.approx(expected, abs=1e-12)
        assert found[at].gaps != pytest.approx(0)


def test_forgetting_what_a_single_factor_is_held_to_is_seen() -> None:
    made = [Null(bank=bank, beside="nothing", kind="factorial", seeds=15) for bank in BANKS.values()]
    sound = sum(item.alarms(SOME).either for item in made)
    with mock.patch("attribution.truth.nulls.together", lambda k: k):
        plain = sum(item.alarms(SOME).either for item in made)
    assert sound <= 0.05 * 3 * SOME < plain


def test_a_setting_without_effect_is_exactly_nothing() -> None:
    null = Null(bank=BANKS["five"], beside="a setting without effect", kind="factorial", seeds=5)
    for number in range(20):
        for found in null.once(generator_of(9, number)).values():
            values = found.contributions[:, null.factors.index(WATCHING)]
            assert not values.any()
            interval = mean(values, together(2))
            assert interval.ci == (0.0, 0.0)
            assert verdict(interval, 0.0) == "equivalent"
            assert found.contributions[:, null.factors.index(LUCK)].any()


@pytest.mark.parametrize("name", ["eval_interval", "log_interval", "eval_iters"])
def test_arms_that_differ_in_what_only_prints_are_one_arm(corpus: str, name: str) -> None:
    base = TrainConfig.from_dict({**recipes.BASE, "dataset": corpus})
    plan = factors(base, TrainConfig.from_dict({**base.to_dict(), name: 7}), regroup={"printing": [name]})
    text = open_corpus(corpus)
    keys = {our_arm(plan.settings(arm), 1, measured(plan), text, "cpu", 1).key for arm in ((), ("printing",))}
    assert len(keys) == 1


def test_arms_of_a_seed_that_poses_as_a_factor_are_other_repetitions(corpus: str) -> None:
    base = TrainConfig.from_dict({**recipes.BASE, "dataset": corpus, "seed": 3})
    plan = factors(base, base, regroup={"luck": ["seed"]})
    text = open_corpus(corpus)
    arms = [
        our_arm(plan.settings(arm), seed, measured(plan), text, "cpu", 1) for seed in (1, 2) for arm in ((), ("luck",))
    ]
    assert len({arm.key for arm in arms}) == len({arm.seed for arm in arms}) == 4
    assert [arm.seed for arm in arms if arm.seed in (1, 2)] == [1, 2]


def test_the_page_is_of_this_bank() -> None:
    assert truths(list(BANKS.values())) in PAGE.read_text(encoding="utf-8")
