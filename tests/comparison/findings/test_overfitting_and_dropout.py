"""overfitting, dropout, training-mode."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import replace

import polars as pl
import pytest

from comparison.findings.answer import ask, laptop
from comparison.made import GPU, LAPTOP, curve, run
from lossgap.runs.run import Run


def _overfit(end: float, best: float = 1.5, config: Mapping[str, object] = LAPTOP, *, train_rises: bool = False) -> Run:
    """val falls to `best` at iteration 1,000 and rises to `end`, while the train loss goes on falling or rises too."""
    values = curve(best, last=1000)
    values |= {at: round(best + (end - best) * (at - 1000) / 1000, 4) for at in range(1250, 2001, 250)}
    made = run(values, config=config)
    if train_rises:
        return made
    falling = pl.min_horizontal(pl.col("train_loss"), best - 0.1 - 1e-4 * (pl.col("iter") - 1000))
    return replace(made, evals=made.evals.with_columns(train_loss=falling))


def test_the_run_that_rises_more_overfits_and_best_against_best_is_said() -> None:
    answer = ask("overfitting", _overfit(1.55), _overfit(1.95))
    found = answer.cause
    assert (found.strength, found.evidence) == ("strong", "inferred")
    assert found.effect == pytest.approx(0.4 if len(answer.findings) == 2 else 0.45, abs=0.06)
    assert found.numbers["gap_best"] == 0
    assert "The test overfits more" in found.title


def test_overfitting_that_hides_an_advantage_is_a_remark() -> None:
    answer = ask("overfitting", laptop(2.0), _overfit(1.7))
    assert not answer.causes
    assert any("pushes the other way" in item.text for item in answer.findings)


def test_a_fluctuation_is_no_overfitting() -> None:
    values = curve(1.9) | {1750: 1.88}
    answer = ask("overfitting", laptop(1.5), run(values, config=LAPTOP))
    assert answer.silent
    assert answer.ruled_out


def test_equal_overfitting_is_no_cause() -> None:
    assert not ask("overfitting", _overfit(1.95), _overfit(2.3, 1.86)).causes


def test_a_train_loss_that_rises_too_is_no_overfitting() -> None:
    found = ask("overfitting", laptop(1.5), _overfit(1.95, train_rises=True))
    assert any("not overfitting" in item.text for item in found.findings)
    assert not found.causes


def test_one_figure_is_held_against_the_best_of_its_recipe() -> None:
    gpu = run({5000: 1.70}, config=GPU | {"beta1": 0.9, "beta2": 0.99, "grad_clip": 1.0})
    answer = ask("overfitting", run({5000: 1.48}, config={}), gpu)
    assert answer.cause.effect == pytest.approx(1.70 - 1.4673)


def test_without_val_losses_nothing_is_said() -> None:
    assert ask("overfitting", run({}, config={}), run({}, config={})).silent


# ---------------------------------------------------------------------------------------------


def _lifted(end: float, lift: float, seed: int, config: Mapping[str, object], sd: float = 0.05) -> Run:
    """Printed losses lie `lift` above the train split's evaluations (0.1 below val), with noise."""
    draw = random.Random(seed)
    values = curve(end)
    at_eval = sorted(values)
    losses = {}
    for at in range(0, 2001, 10):
        after = next(item for item in at_eval if item >= at)
        before = max(item for item in at_eval if item <= at)
        share = 0.0 if after == before else (at - before) / (after - before)
        train = (1 - share) * values[before] + share * values[after] - 0.1
        losses[at] = train + lift + draw.gauss(0, sd)
    return run(values, config=config, losses=losses)


@pytest.mark.parametrize("end", [2.4, 1.5])
def test_another_dropout_is_the_cause_whichever_run_is_higher(end: float) -> None:
    found = ask("dropout", laptop(), laptop(end, dropout=0.2)).cause
    assert (found.strength, found.evidence) == ("strong", "computed")
    assert found.size == pytest.approx(0.1)
    assert ("slows learning" in found.text) == (end > 1.9)


@pytest.mark.parametrize("seed", range(5))
def test_the_curves_show_dropout_where_no_setting_does(seed: int) -> None:
    found = ask("dropout", _lifted(1.9, 0.0, seed, {}), _lifted(2.4, 0.15, seed + 50, {}))
    assert found.cause.evidence == "inferred"
    assert set(found.needs) == {"control.dropout", "test.dropout"}


@pytest.mark.parametrize("seed", range(20))
def test_equal_lifts_show_nothing(seed: int) -> None:
    answer = ask("dropout", _lifted(1.9, 0.1, seed, {}), _lifted(2.4, 0.1, seed + 50, {}))
    assert not answer.causes
    assert set(answer.needs) == {"control.dropout", "test.dropout"}


@pytest.mark.parametrize("seed", range(20))
def test_noisy_losses_show_no_lift(seed: int) -> None:
    first, second = (_lifted(end, 0.1, seed + by, {}, sd=0.5) for end, by in ((1.9, 0), (2.4, 50)))
    assert not ask("dropout", first, second).causes


def test_equal_settings_with_another_lift_are_a_fault() -> None:
    config = LAPTOP | {"dropout": 0.2}
    answer = ask("dropout", _lifted(1.9, 0.15, 1, config), _lifted(2.4, 0.0, 2, config))
    assert "not on and off at the same places" in answer.cause.text
    assert ask("dropout", _lifted(1.9, 0.15, 1, config), _lifted(2.4, 0.15, 2, config)).silent


def test_printed_losses_with_dropout_are_told_apart_from_evaluations() -> None:
    config = LAPTOP | {"dropout": 0.2}
    quiet = laptop()
    assert "not to be held against" in ask("training-mode", quiet, _lifted(1.9, 0.2, 1, config)).remark.text
    assert (
        "off in training, or on in evaluation"
        in ask("training-mode", quiet, _lifted(1.9, -0.05, 1, config)).remark.text
    )
    assert ask("training-mode", quiet, _lifted(1.9, 0.2, 1, LAPTOP)).silent
    assert ask("training-mode", quiet, _lifted(1.9, 0.2, 1, {})).silent


def _falling(every: int) -> Run:
    """A steep start, evaluated every so many iterations, whose printed losses lie exactly on the curve."""

    def loss(iteration: int) -> float:
        return 2.0 + 12.0 * math.exp(-iteration / 15)

    values = {at: loss(at) for at in range(0, 61, every)}
    return run({at: value + 0.1 for at, value in values.items()}, losses={at: loss(at) for at in range(61)})


def test_a_steep_curve_between_few_evaluations_is_no_dropout() -> None:
    """Printed losses lie below the straight line between two evaluations of a curve that falls ever more slowly."""
    assert ask("dropout", _falling(20), _falling(5)).silent


def test_a_run_against_the_first_half_of_its_own_log_has_no_other_dropout() -> None:
    whole = _lifted(1.5, 0.1, 3, {})
    early = pl.col("iter") <= 1000
    half = replace(whole, evals=whole.evals.filter(early), iters=whole.iters.filter(early))
    for pair in ((whole, half), (half, whole)):
        assert not ask("dropout", *pair).causes


def test_printed_losses_below_the_evaluations_are_no_dropout() -> None:
    assert not ask("dropout", _lifted(1.9, 0.0, 1, {}), _lifted(2.4, -0.15, 2, {})).causes


@pytest.mark.parametrize("count", [10, 20, 50, 100])
def test_the_luck_of_the_lowest_evaluation_is_no_overfitting(count: int) -> None:
    """Flat curves with normal noise: before, 10 to 33% of them rose by three errors over their lowest value."""
    false = 0
    for seed in range(100):
        draw = random.Random(1000 * count + seed)
        values = {at: 1.9 + draw.gauss(0, 0.02) for at in range(0, 20 * count, 20)}
        flat = replace(run(values, config={}), evals=run(values, config={}).evals.with_columns(val_se=pl.lit(0.02)))
        false += any("best" in item.numbers for item in ask("overfitting", laptop(1.5), flat).findings)
    assert false <= 3


def test_a_large_distance_of_val_and_train_is_overfitting_without_a_rise() -> None:
    def ending(train: float, val: float) -> Run:
        made = laptop(val)
        drop = (val - 0.1 - train) / 2000
        return replace(made, evals=made.evals.with_columns(train_loss=pl.col("train_loss") - drop * pl.col("iter")))

    found = ask("overfitting", ending(2.36, 2.42), ending(1.78, 2.62)).cause
    assert found.title == "The test overfits more"
    assert found.numbers["train_gap"] == pytest.approx(-0.58)
    same = ask("overfitting", ending(2.36, 2.42), ending(1.78, 2.22))
    assert not same.causes
    assert "different distances" in same.findings[0].title
