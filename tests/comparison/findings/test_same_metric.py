"""not-the-same-metric, averaging, constant-factor, evaluation-context, evaluation-mode, loss-meaning, initial-loss."""

from __future__ import annotations

import math
from dataclasses import replace

import polars as pl
import pytest

from comparison.findings.answer import ask, laptop
from comparison.made import LAPTOP, curve, run
from lossgap.runs.run import Run, Series


def test_a_val_loss_against_a_train_loss() -> None:
    only_iterations = run({}, losses={at: 3.0 - at / 1000 for at in range(0, 2001, 100)})
    found = ask("not-the-same-metric", laptop(1.9), only_iterations).cause
    assert (found.strength, found.evidence) == ("strong", "computed")
    assert found.numbers == {"control": 1.9, "test": 1.0}
    assert "val split" in found.text
    assert found.settle


def test_the_same_metric_says_nothing_and_no_loss_is_only_a_remark() -> None:
    assert ask("not-the-same-metric", laptop(), laptop(1.5)).silent
    assert "no loss to compare" in ask("not-the-same-metric", run({}), laptop()).remark.text


def test_converted_units_are_a_remark_with_the_factors() -> None:
    characters = laptop(vocab_size=65)
    words = run(curve(4.9, start=10.8), config=LAPTOP | {"dataset": "shakespeare", "vocab_size": 50257})
    found = ask("not-the-same-metric", characters, words).remark
    assert found.numbers["control_factor"] == 1
    assert found.numbers["test_factor"] == pytest.approx(36_059 / 111_540)


def _printed(kind: str, end: float = 2.0, format: str = "jsonl") -> Run:
    series = {"iters.loss": Series(kind=kind, split="train", mode="train", unit="nats/token")}  # type: ignore[arg-type]
    losses = {at: end + (4.17 - end) * (1 - at / 2000) ** 3 for at in range(0, 2001, 10)}
    return run({}, config={}, losses=losses, series=series, format=format)


def test_a_moving_average_lies_above_the_moment() -> None:
    found = ask("averaging", _printed("batch"), _printed("moving-average", 2.5)).cause
    assert found.effect is not None
    assert found.effect > 0
    assert not ask("averaging", _printed("batch", 2.5), _printed("moving-average", 2.0)).causes, "it cannot lie below"
    assert ask("averaging", _printed("batch"), _printed("batch", 2.5)).silent
    assert ask("averaging", _printed("moving-average"), _printed("moving-average", 2.5)).silent


def _times(factor: float, wobble: float = 0.0) -> Run:
    values = {at: value * factor * (1 + wobble * (-1) ** n) for n, (at, value) in enumerate(curve(1.9).items())}
    return run(values, config={})


@pytest.mark.parametrize(("factor", "said"), [(8.0, "summed"), (1 / math.log(2), "bits"), (0.25, "summed")])
def test_a_constant_factor_is_a_unit_or_a_sum(factor: float, said: str) -> None:
    found = ask("constant-factor", _times(1.0), _times(factor, 0.01)).cause
    assert found.strength == "strong"
    assert found.numbers["ratio"] == pytest.approx(factor, rel=0.02)
    assert said in found.text


@pytest.mark.parametrize("test", [_times(1.0, 0.01), _times(1.1), _times(2.0, 0.1), run(curve(2.9), config={})])
def test_other_curves_are_no_multiples(test: Run) -> None:
    assert ask("constant-factor", _times(1.0), test).silent


def test_two_plateaus_are_no_multiples() -> None:
    flat = [run(dict.fromkeys(range(0, 2001, 250), value), config={}) for value in (2.0, 4.0)]
    assert ask("constant-factor", *flat).silent


def _evaluated_at(context: int, end: float = 1.9) -> Run:
    made = laptop(end)
    return replace(made, evals=made.evals.with_columns(context=pl.lit(context, dtype=pl.Int64)))


def test_another_context_of_the_evaluation_is_a_cause() -> None:
    found = ask("evaluation-context", _evaluated_at(64), _evaluated_at(32, 2.3)).cause
    assert found.effect == pytest.approx(0.05 * math.log(2))
    assert ask("evaluation-context", _evaluated_at(64), _evaluated_at(64, 2.3)).silent


def test_where_the_training_context_differs_too_it_is_a_remark() -> None:
    assert "measurement" in ask("evaluation-context", laptop(), laptop(1.5, block_size=256)).remark.text


def test_an_unknown_evaluation_context_is_named() -> None:
    assert ask("evaluation-context", laptop(without=("block_size",)), laptop()).needs == ("control.block_size",)


def test_exact_against_sampled_is_a_remark() -> None:
    exact = laptop(1.5)
    exact = replace(exact, evals=exact.evals.with_columns(mode=pl.lit("exact")))
    assert ask("evaluation-mode", laptop(), exact).remark.role == "remark"
    assert ask("evaluation-mode", laptop(), laptop(1.5)).silent
    assert ask("evaluation-mode", run(curve(1.9), config={}, format="csv"), exact).silent


def test_a_loss_of_unknown_meaning_is_said() -> None:
    csv = run(curve(1.5), config={}, format="csv", series={})
    assert ask("loss-meaning", laptop(), csv).remark.evidence == "unknown"
    assert ask("loss-meaning", csv, csv).silent


def _starts(start: float, format: str = "nanogpt", end: float = 1.9, **changes: object) -> Run:
    return run(curve(end, start=start), config=LAPTOP | {"vocab_size": 65} | changes, format=format)


def test_runs_that_begin_apart_have_other_weights_data_or_loss() -> None:
    found = ask("initial-loss", _starts(4.2), _starts(2.9, end=1.5)).causes[0]
    assert found.strength == "likely"
    assert "targets" in found.text
    assert "Nothing is trained there" in found.text


@pytest.mark.parametrize("start", [4.16, 4.2, 4.23])
def test_seeds_begin_close_together(start: float) -> None:
    answer = ask("initial-loss", _starts(4.2), _starts(start))
    assert answer.silent
    assert answer.ruled_out


def test_a_wider_model_begins_higher_and_that_is_no_cause() -> None:
    # ln 65 + 768 x 0.0002 = 4.328; the laptop's model 4.200
    assert ask("initial-loss", _starts(4.2), _starts(4.33, n_embd=768)).silent
    assert ask("initial-loss", _starts(4.2), _starts(4.79, n_embd=3072)).silent


def test_a_start_somewhat_apart_is_possibly_other_weights() -> None:
    assert ask("initial-loss", _starts(4.2), _starts(3.85, end=1.5)).causes[0].strength == "possible"


def test_a_pretrained_start_and_a_wrong_start_are_remarks() -> None:
    tuned = ask("initial-loss", _starts(4.2), _starts(2.0, init_from="gpt2"))
    assert not tuned.causes
    assert "starts from gpt2" in tuned.remark.text
    both = ask("initial-loss", _starts(6.0), _starts(6.0))
    assert not both.causes
    assert len(both.findings) == 2


def test_a_format_that_counts_epochs_has_no_iteration_0() -> None:
    assert ask("initial-loss", _starts(4.2, "keras"), _starts(2.9, "keras")).silent


def test_a_log_that_begins_later_says_nothing() -> None:
    later = run({at: value for at, value in curve(1.9).items() if at > 0})
    assert ask("initial-loss", laptop(), later).silent
