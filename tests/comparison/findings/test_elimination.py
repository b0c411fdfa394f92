"""A setting that differs alone explains no more than its rule's size allows; what is left is asked for elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from comparison.findings.answer import laptop
from lossgap.comparison import compare
from lossgap.comparison.comparison import Comparison
from lossgap.runs.run import Run

TRIVIAL = (
    pytest.param({"warmup_iters": 101}, id="warm-up"),
    pytest.param({"min_lr": 1.1e-4}, id="min_lr"),
    pytest.param({"beta2": 0.9901}, id="beta2"),
    pytest.param({"weight_decay": 0.101}, id="weight decay"),
    pytest.param({"lr_decay_iters": 2001}, id="horizon"),
    pytest.param({"dropout": 0.001}, id="dropout"),
    pytest.param({"learning_rate": 1.03e-3}, id="rate"),
    pytest.param({"warmup_iters": 101, "min_lr": 1.1e-4, "beta2": 0.9901}, id="three"),
)


def _pair(changes: dict[str, object], *, end: float = 2.58) -> Comparison:
    """Two logs on a CPU and on MPS, 0.68 apart unless `end` says otherwise."""
    control = replace(laptop(beta2=0.99, dtype="float32"), device="laptop CPU")
    test = replace(laptop(end, also={"beta2": 0.99, "device": "mps", "dtype": "float32"} | changes), device="Mac")
    return compare(control, test, sources=("a.log", "b.log"))


@pytest.mark.parametrize("changes", TRIVIAL)
def test_a_trivial_difference_does_not_explain_a_large_gap(changes: dict[str, object]) -> None:
    found = _pair(changes)
    assert found.causes[0].id == "not-in-the-settings"
    assert found.causes[0].strength == "strong"
    assert len(found.causes) == 1
    assert any("far too small" in item.text for item in found.remarks)
    assert any(item.id == "check-the-arithmetic" and item.command == "lossgap canary" for item in found.remarks)
    assert not any(item.id == "another-machine" for item in found.ruled_out)
    assert all(name in found.causes[0].text for name in changes)


def test_without_any_difference_the_answer_is_the_same() -> None:
    found = _pair({})
    assert [item.id for item in found.causes] == ["not-in-the-settings"]
    assert any(item.id == "check-the-arithmetic" for item in found.remarks)


@pytest.mark.parametrize(
    ("changes", "id", "strength"),
    [
        ({"dropout": 0.5}, "dropout", "strong"),
        # At ten times the rate seeds lie so far apart that this gap is inside the noise.
        ({"learning_rate": 1e-2}, "learning-rate", "likely"),
        ({"n_embd": 32}, "capacity", "strong"),
        ({"batch_size": 2}, "batch", "strong"),
    ],
)
def test_a_difference_of_that_size_does(changes: dict[str, object], id: str, strength: str) -> None:
    found = _pair(changes, end=2.2)
    assert found.causes[0].id == id
    assert found.causes[0].strength == strength
    assert not any(item.id in ("not-in-the-settings", "check-the-arithmetic") for item in found.findings)


def test_a_sizeless_sign_is_said() -> None:
    text = _pair({"dropout": 0.5}, end=2.2).causes[0].text
    assert "the sign of its effect is not known in advance" in text


def test_a_difference_inside_the_margin_has_no_cause() -> None:
    control: Run = laptop(1.9, n_layer=12, n_embd=768)
    assert not compare(control, laptop(1.8993, n_layer=12, n_embd=768, warmup_iters=200), sources=("a", "b")).causes
    assert compare(control, laptop(1.75, n_layer=12, n_embd=768, warmup_iters=1000), sources=("a", "b")).causes
