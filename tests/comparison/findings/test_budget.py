"""batch, work-per-iteration, length."""

from __future__ import annotations

import random
from dataclasses import replace

import polars as pl
import pytest

from comparison.findings.answer import ask, laptop
from comparison.made import LAPTOP, curve, run
from lossgap.runs.run import Run

SAME_UPDATE = {"batch_size": 3, "gradient_accumulation_steps": 4}


def test_a_batch_40_times_as_large_is_the_cause_and_the_default_is_named() -> None:
    found = ask("batch", laptop(), laptop(1.5, gradient_accumulation_steps=40)).cause
    assert (found.strength, found.evidence) == ("strong", "computed")
    assert found.numbers["ratio"] == 40
    assert found.numbers["control_tokens"] == 768
    assert "40 is nanoGPT's default" in found.text
    assert found.effect is not None
    assert found.effect < 0
    assert found.command.startswith("lossgap train shakespeare_char_cpu --out_dir=out-")


def test_a_larger_batch_beside_another_difference_is_expected_to_end_lower() -> None:
    lower = ask("batch", laptop(), laptop(1.5, gradient_accumulation_steps=4, weight_decay=0.2))
    assert lower.cause.effect is not None
    assert lower.cause.effect < 0
    assert not ask("batch", laptop(), laptop(2.4, gradient_accumulation_steps=4, weight_decay=0.2)).causes


def test_the_printed_tokens_per_iteration_win_over_settings() -> None:
    control, test = laptop(), replace(laptop(1.5), tokens_per_iter=768 * 8)
    assert ask("batch", control, test).cause.numbers["ratio"] == 8


def test_a_micro_batch_with_more_accumulation_is_the_same_update() -> None:
    answer = ask("batch", laptop(), laptop(1.5, also=SAME_UPDATE))
    assert answer.silent
    assert "same update" in answer.ruled_out[0].text


def test_an_unknown_batch_is_named() -> None:
    answer = ask("batch", laptop(without=("batch_size",)), laptop(1.5))
    assert not answer.causes
    assert answer.needs == ("control.batch_size",)


def _noisy(end: float, sd: float, *, seed: int, config: dict[str, object], every: int = 10) -> Run:
    draw = random.Random(seed)
    values = curve(end)
    losses = {at: end + (4.17 - end) * (1 - at / 2000) ** 3 + draw.gauss(0, sd) for at in range(0, 2001, every)}
    return run(values, config=config, losses=losses)


@pytest.mark.parametrize("seed", range(5))
def test_the_scatter_of_iterations_shows_a_batch_that_no_setting_says(seed: int) -> None:
    control = _noisy(2.0, 0.08, seed=seed, config={})
    found = ask("batch", control, _noisy(1.7, 0.04, seed=seed + 100, config={})).cause
    assert found.evidence == "inferred"
    assert 2.5 < float(str(found.numbers["implied_ratio"])) < 6.5


@pytest.mark.parametrize("seed", range(20))
def test_an_equal_scatter_shows_nothing(seed: int) -> None:
    control = _noisy(2.0, 0.08, seed=seed, config={})
    assert not ask("batch", control, _noisy(1.7, 0.08, seed=seed + 100, config={})).causes


@pytest.mark.parametrize("seed", range(40))
def test_few_losses_do_not_show_a_small_difference(seed: int) -> None:
    control = _noisy(2.0, 0.08, seed=seed, config={}, every=40)
    assert not ask("batch", control, _noisy(1.7, 0.08, seed=seed + 100, config={}, every=40)).causes


def test_a_scatter_at_another_loss_level_shows_nothing() -> None:
    control = _noisy(2.0, 0.08, seed=1, config={})
    assert not ask("batch", control, _noisy(3.2, 0.16, seed=2, config={})).causes


def test_equal_settings_with_another_scatter_are_a_fault() -> None:
    found = ask("batch", _noisy(2.0, 0.08, seed=1, config=LAPTOP), _noisy(1.7, 0.04, seed=2, config=LAPTOP)).cause
    assert found.strength == "strong"
    assert "cannot both have run so" in found.text


def _timed(end: float, mfu: float, ms: float, format: str = "nanogpt") -> Run:
    made = run(curve(end), config={}, losses=dict.fromkeys(range(0, 2000, 10), 3.0), ms=ms, format=format)
    return replace(made, iters=made.iters.with_columns(mfu=pl.lit(mfu)))


def test_mfu_and_time_show_more_work_where_the_config_is_missing() -> None:
    found = ask("work-per-iteration", _timed(2.0, 0.10, 35.0), _timed(1.5, 0.1667, 894.0)).cause
    assert found.evidence == "inferred"
    assert float(str(found.numbers["ratio"])) == pytest.approx(0.1667 * 894 / (0.10 * 35))


@pytest.mark.parametrize(
    ("test", "why"),
    [
        (_timed(1.5, 0.05, 70.0), "twice the time at half the MFU is the same work"),
        (_timed(2.4, 0.0001, 900.0), "0.01% has too few digits"),
        (_timed(1.5, 0.1667, 894.0, format="lossgap"), "our MFU is of another peak"),
    ],
)
def test_equal_work_or_unknown_work_is_no_cause(test: Run, why: str) -> None:
    assert ask("work-per-iteration", _timed(2.0, 0.10, 35.0), test).silent, why


def test_a_longer_run_is_the_cause_where_the_gap_is_gone_at_equal_iterations() -> None:
    values = curve(1.5, last=5000)
    shorter = run({at: value for at, value in values.items() if at <= 2000}, config=LAPTOP)
    longer = run(values, config=LAPTOP)
    found = ask("length", shorter, longer).cause
    assert (found.strength, found.evidence) == ("strong", "computed")
    assert found.numbers["gap_at_equal_iterations"] == 0
    assert found.effect == pytest.approx(1.5 - values[2000])
    # The curves alone say so: no setting is needed.
    stripped = [replace(made, config={}) for made in (shorter, longer)]
    assert ask("length", *stripped).cause.strength == "strong"
    # The other way round the sign turns, and who was stopped is said.
    turned = ask(
        "length",
        run(values, config=LAPTOP | {"max_iters": 5000}),
        run(dict(list(values.items())[:9]), config=LAPTOP | {"max_iters": 5000}),
    )
    assert turned.cause.effect == pytest.approx(values[2000] - 1.5)
    assert "The test was asked for 5,000 and ends at 2,000" in turned.cause.text


def test_a_longer_run_with_two_single_figures_has_an_inferred_effect() -> None:
    found = ask("length", run({2000: 1.89}, config={}), run({5000: 1.6}, config={})).cause
    assert found.evidence == "inferred"
    assert found.effect is not None
    assert found.effect < 0


def test_a_longer_run_that_got_worse_is_no_cause_of_being_lower() -> None:
    # The control rose after iteration 2,000: the shorter test is lower because it stopped.
    values = curve(1.5) | {3000: 1.6, 4000: 1.7, 5000: 1.8}
    found = ask("length", run(values, config=LAPTOP), run(curve(1.5), config=LAPTOP)).cause
    assert found.effect == pytest.approx(-0.3)
    assert "rose by 0.3000" in found.text


def test_equal_lengths_are_ruled_out_within_an_evaluation_interval() -> None:
    assert ask("length", laptop(), laptop(1.5)).silent
    almost = run({**curve(1.5), 1990: 1.5, 2000: None}, config=LAPTOP)
    assert ask("length", laptop(), almost).silent


def test_without_losses_the_settings_are_asked_and_named() -> None:
    empty = run({}, config={})
    assert ask("length", empty, empty).needs == ("control.max_iters", "test.max_iters")
    assert "5,000" in ask("length", run({}), run({}, config=LAPTOP | {"max_iters": 5000})).cause.text
