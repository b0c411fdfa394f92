"""The pytest fixture `loss_gate`: a training's loss as a test, against a stored baseline.

    def test_training_is_not_worse(loss_gate):
        loss_gate("out/seed-1", "out/seed-2", baseline="baseline.json")

It fails the test on `fail`, and on `needs more` skips it with the number of runs that would decide; with
`undecided="fail"` it fails, with `undecided="pass"` it goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from lossgap.gating.judge import GateResult

Undecided = Literal["skip", "fail", "pass"]


@pytest.fixture
def loss_gate() -> Callable[..., GateResult]:
    """A function `(*runs, baseline=..., margin=None, strict=False, undecided="skip") -> GateResult`."""

    def check(
        *runs: str | Path,
        baseline: str | Path,
        margin: float | None = None,
        strict: bool = False,
        undecided: Undecided = "skip",
    ) -> GateResult:
        from lossgap import api
        from lossgap.report.gate_view import advice, text

        result = api.gate(*runs, baseline=baseline, margin=margin, strict=strict)
        if result.verdict == "fail" or (result.verdict == "needs more" and undecided == "fail"):
            pytest.fail(text(result), pytrace=False)
        if result.verdict == "needs more" and undecided == "skip":
            pytest.skip(advice(result))
        return result

    return check
