"""check-the-arithmetic, another-machine: no log blames hardware."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from comparison.findings.answer import ask, laptop
from comparison.made import GPU, LAPTOP, curve, run
from lossgap.comparison import compare
from lossgap.comparison.rules import rules
from lossgap.runs.run import Run


def on(device: str, end: float = 1.9, *, name: str | None = None, **changes: Any) -> Run:
    made = laptop(end, device=device, dtype="float32", **changes)
    return replace(made, device=name)


def test_an_unexplained_gap_between_machines_asks_for_the_check() -> None:
    found = ask("check-the-arithmetic", on("cpu"), on("mps", 2.6)).remark
    assert found.command == "lossgap canary"
    assert found.evidence == "unknown"
    assert "cpu and mps" in found.text


@pytest.mark.parametrize(
    "test",
    [on("cpu", 2.6), on("mps", 1.901), on("mps", 2.6, dropout=0.2), on("mps", 2.6, last=500)],
    ids=["one machine", "no gap", "another recipe", "another length"],
)
def test_no_check_without_reason(test: Run) -> None:
    assert ask("check-the-arithmetic", on("cpu"), test).silent


def test_where_settings_are_missing_it_says_so() -> None:
    found = ask("check-the-arithmetic", on("cpu"), on("mps", 2.6, without=("n_layer",))).remark
    assert "not all are" in found.text


def test_another_recipe_does_not_rule_the_machine_out_and_names_the_replay() -> None:
    gpu = replace(run(curve(1.3, last=5000), config=GPU), device="RTX 4070 Ti")
    found = ask("another-machine", replace(laptop(), device="laptop CPU"), gpu)
    assert not found.ruled_out
    assert "what the hardware (laptop CPU and RTX 4070 Ti) does" in found.remark.text
    assert "n_layer" in found.remark.text
    assert found.remark.command.startswith("lossgap record ")


def test_one_machine_needs_no_replay() -> None:
    found = ask("another-machine", on("cpu"), on("cpu", 1.3, dropout=0.2))
    assert not found.remark.command
    assert not found.ruled_out


def test_no_gap_no_blame() -> None:
    found = ask("another-machine", on("cpu"), on("cuda", 1.902))
    assert found.silent
    assert "no gap beyond chance" in found.ruled_out[0].text


def test_the_machine_alone_differs_is_no_proof() -> None:
    found = ask("another-machine", on("cpu"), on("mps", 2.6)).remark
    assert "That is no proof" in found.text
    assert found.evidence == "unknown"


def test_unnamed_machines_are_asked_for() -> None:
    found = ask("another-machine", laptop(), laptop(2.6, without=("device",)))
    assert found.needs == ("test.device",)
    assert "supports blaming the hardware" in found.findings[0].text


@pytest.mark.parametrize("gap", [-0.5, -0.01, 0.0, 0.01, 0.5])
def test_no_rule_of_ours_blames_a_machine(gap: float) -> None:
    mine = [item for item in rules() if item.order in (6, 7, 8, 9, 10, 11)]
    found = compare(on("cpu", name="a CPU"), on("mps", 1.9 + gap, name="a Mac"), rules=mine)
    assert not found.causes
    assert not any(word in item.id for item in mine for word in ("hardware", "device", "kernel"))


def test_a_log_is_not_recorded_but_its_recipe() -> None:
    control = replace(on("cpu"), path=on("cpu").path.with_name("my run; rm.log"))
    found = ask("another-machine", control, on("mps", 2.6)).remark
    assert found.command.startswith("lossgap record shakespeare_char_cpu --iters=50")


assert LAPTOP["device"] == "cpu"
