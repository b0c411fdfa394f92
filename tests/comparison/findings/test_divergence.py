"""not-finite, float16-overflow, diverged, loss-spike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from comparison.findings.answer import ask, laptop
from comparison.findings.losses import batches, falling, printed
from comparison.made import LAPTOP, curve, run
from lossgap.runs.run import Run

COUNT = 200
CUDA = LAPTOP | {"device": "cuda", "dtype": "float16"}


def _nan(first: int = 120, last: int = COUNT, *, end: float = 2.2, **options: object) -> Run:
    values = falling(COUNT) + batches(COUNT)
    why = dict.fromkeys(range(first, last), "loss is nan")
    return printed(values, end=end, why=why, **options)  # type: ignore[arg-type]


def _plain(end: float = 1.9, **options: object) -> Run:
    return printed(falling(COUNT) + batches(COUNT), end=end, **options)  # type: ignore[arg-type]


def test_a_loss_that_stays_nan_is_the_cause() -> None:
    found = ask("not-finite", _plain(), _nan()).cause
    assert (found.strength, found.numbers["iteration"], found.numbers["line"]) == ("strong", 120, 130)
    assert found.effect == pytest.approx(0.3)


def test_a_loss_that_was_nan_once_is_a_remark() -> None:
    assert "a number again after it" in ask("not-finite", _plain(), _nan(last=121)).remark.text


def test_nan_in_the_better_run_explains_nothing() -> None:
    assert not ask("not-finite", _plain(1.9), _nan(end=1.5)).causes


@pytest.mark.parametrize("why", ["grad_norm is nan", "ms is inf", "val_bpb is nan", "aux_loss is nan", None])
def test_healthy_nans_are_none(why: str | None) -> None:
    made = _plain()
    marked = made.iters.with_columns(pl.lit(why, dtype=pl.String).alias("why"))
    assert ask("not-finite", _plain(), replace(made, iters=marked)).silent


def test_an_evaluation_that_is_nan() -> None:
    made = run({0: 4.1, 250: 3.0, 500: None, 750: None})
    evals = made.evals.with_columns(pl.when(pl.col("val_loss").is_null()).then(pl.lit("val_loss is nan")).alias("why"))
    assert ask("not-finite", laptop(1.9), replace(made, evals=evals)).cause.numbers["count"] == 2


def test_float16_that_overflows() -> None:
    found = ask("float16-overflow", _plain(), _nan(config=CUDA)).cause
    assert found.strength == "likely"
    assert "65,504" in found.text
    faster = [100.0] * 120 + [93.0] * (COUNT - 120)
    sure = ask("float16-overflow", _plain(), _nan(config=CUDA, ms=faster)).cause
    assert sure.strength == "strong"
    assert "7% faster" in sure.text


def test_float16_is_seen_in_the_times_where_the_record_does_not_say_it() -> None:
    bare = {name: value for name, value in CUDA.items() if name != "dtype"}
    faster = [100.0] * 120 + [93.0] * (COUNT - 120)
    assert "does not say" in ask("float16-overflow", _plain(), _nan(config=bare, ms=faster)).cause.text
    assert ask("float16-overflow", _plain(), _nan(config=bare)).needs == ("test.dtype",)
    assert ask("float16-overflow", _plain(), _nan(config=bare, ms=[100.0] * COUNT)).needs == ("test.dtype",)


def test_other_precisions_do_not_overflow() -> None:
    assert ask("float16-overflow", _plain(), _nan(config=CUDA | {"dtype": "bfloat16"})).silent
    # nanoGPT ignores float16 on a CPU.
    assert ask("float16-overflow", _plain(), _nan(config=LAPTOP | {"dtype": "float16"})).silent
    assert ask("float16-overflow", _plain(), _plain(config=CUDA)).silent


# ---------------------------------------------------------------------------------------------


def _train(values: list[float]) -> Run:
    made = run({250 * index: 2.0 for index in range(len(values))})
    return replace(made, evals=made.evals.with_columns(pl.Series("train_loss", values)))


def test_a_training_loss_that_rises_and_stays() -> None:
    high = run({0: 4.17, 250: 2.5, 500: 2.2, 750: 3.4, 1000: 3.5, 1250: 3.5})
    found = ask("diverged", laptop(1.9), high).cause
    assert found.strength == "strong"
    assert found.effect == pytest.approx(1.3)
    assert found.numbers["iteration"] == 500


def test_overfitting_and_one_bad_evaluation_are_no_divergence() -> None:
    overfit = _train([4.1, 2.5, 2.0, 1.5, 1.0, 0.6])
    assert ask("diverged", laptop(1.9), overfit).silent
    assert ask("diverged", laptop(1.9), _train([4.1, 2.5, 2.0, 1.9, 1.8, 2.6])).silent
    assert ask("diverged", laptop(1.9), _train([4.1, 2.5, 2.0, 1.9, 2.6, 1.8])).silent


@pytest.mark.parametrize("rise", [0.0, 0.2, 0.6])
def test_divergence_from_printed_losses(rise: float) -> None:
    values = falling(COUNT) + batches(COUNT)
    values[120:] += np.linspace(0, rise + 0.1, COUNT - 120)
    made = printed(values, end=3.0)
    bare = replace(made, evals=made.evals.with_columns(pl.lit(None, dtype=pl.Float64).alias("train_loss")))
    assert bool(ask("diverged", _plain(), bare).causes) is (rise == 0.6)


# ---------------------------------------------------------------------------------------------


def test_spikes_are_counted_and_the_highest_is_told() -> None:
    values = falling(COUNT) + batches(COUNT)
    values[[80, 81, 150]] += [1.0, 2.0, 0.9]
    found = ask("loss-spike", _plain(), printed(values)).remark
    assert (found.numbers["count"], found.numbers["iteration"]) == (2, 81)
    assert "the curve came back" in found.text


def test_a_spike_behind_which_the_loss_stays_up() -> None:
    values = falling(COUNT) + batches(COUNT)
    values[150] += 3.0
    values[151:] += 0.5
    found = ask("loss-spike", _plain(), printed(values)).remark
    assert "the losses behind it lie at" in found.text


@pytest.mark.parametrize("seed", range(20))
def test_scatter_is_no_spike(seed: int) -> None:
    assert ask("loss-spike", _plain(), printed(falling(COUNT) + batches(COUNT, seed, 0.3))).silent


def test_a_curve_is_not_needed() -> None:
    assert ask("loss-spike", run(curve(1.9)), run(curve(1.8))).silent
