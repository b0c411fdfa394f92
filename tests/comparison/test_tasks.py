"""Runs of different tasks are not compared; a language model in a plain CSV is."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from comparison.made import LAPTOP, PRINTED, curve, run
from lossgap.comparison import compare
from lossgap.runs.run import OTHER_COLUMNS, Run, Series

PLAIN = {name: replace(item, mode="unknown", unit="unknown") for name, item in PRINTED.items()}


def _csv(vals: dict[int, float], *, metrics: tuple[str, ...] = (), format: str = "csv") -> Run:
    made = run(vals, config={}, format=format, series=PLAIN)
    rows = [{"metric": name, "iter": at, "value": 0.9, "line": at} for name in metrics for at in vals]
    others = pl.DataFrame(rows, schema=OTHER_COLUMNS) if rows else made.others
    return replace(made, others=others)


GPT = run(curve(1.9), config=LAPTOP, series=PRINTED | {"evals.val_loss": Series(kind="eval-mean", unit="nats/token")})


@pytest.mark.parametrize(
    "other",
    [
        _csv({0: 0.08, 1: 0.05, 2: 0.04}),
        _csv({0: 2.3, 1: 0.9, 2: 0.6}, metrics=("val_accuracy",)),
        _csv({0: 2.3, 1: 0.9, 2: 0.6}, metrics=("acc",), format="keras"),
    ],
    ids=["losses near 0", "accuracy", "keras"],
)
def test_a_classifier_is_not_compared_with_a_language_model(other: Run) -> None:
    for pair in ((other, GPT), (GPT, other)):
        found = compare(*pair, sources=("a", "b"))
        assert found.verdict.word == "not-comparable"
        assert "different tasks" in found.verdict.reasons[0]
        assert "vocab_size" in found.verdict.settle


def test_a_language_model_in_a_csv_is_compared() -> None:
    assert compare(_csv({0: 4.2, 250: 2.5, 2000: 1.95}), GPT, sources=("a", "b")).verdict.word != "not-comparable"
    assert compare(_csv({0: 0.3, 1: 0.2}), _csv({0: 0.4, 1: 0.3}), sources=("a", "b")).verdict.word != "not-comparable"


def test_another_vocabulary_under_one_name_is_not_comparable() -> None:
    other = replace(GPT, corpus={"vocab_size": 39})
    for pair in ((other, GPT), (GPT, other), (other, replace(GPT, corpus={"vocab_size": 65}))):
        assert compare(*pair, sources=("a", "b")).verdict.word == "not-comparable"


def test_one_run_in_two_formats_is_one_run() -> None:
    values = {at: value + 0.00003 for at, value in curve(1.9).items()}
    exact = {name: replace(item, digits=None) for name, item in PRINTED.items()}
    printed = run(curve(1.9), config={})
    found = compare(run(values, config={}, series=exact, format="wandb"), printed, sources=("a", "b"))
    assert found.alignment.coincide
    assert found.verdict.word == "equivalent"
    apart = {at: value + 0.0002 for at, value in curve(1.9).items()}
    other = compare(run(apart, config={}, series=exact), printed, sources=("a", "b"))
    assert not other.alignment.coincide
