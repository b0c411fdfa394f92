"""resume-seam, repeated-batches, missing-rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from comparison.findings.answer import Answer, ask
from comparison.findings.losses import batches, falling, printed
from comparison.made import LAPTOP
from lossgap.runs.run import Run

COUNT, AT = 600, 300
SEAM: dict[str, object] = {"iter": AT, "from": AT, "changed": [], "why": "", "line": 5}


def _resumed(
    step: float = 0.0, back: float | None = 30, *, end: float = 2.0, seed: int = 3, seam: dict[str, object] = SEAM,
    **fields: object,
) -> Run:  # fmt: skip
    """A run resumed at `AT`, whose loss steps up by `step` there and decays with `back` iterations (None: never)."""
    values = falling(COUNT) + batches(COUNT, seed)
    later = np.arange(COUNT - AT)
    values[AT:] += step * (np.exp(-later / back) if back is not None else 1.0)
    return printed(values, end=end, seams=[seam], **fields)  # type: ignore[arg-type]


def _plain(end: float = 1.9) -> Run:
    return printed(falling(COUNT) + batches(COUNT, 1), end=end)


def _ask(test: Run, control: Run | None = None) -> Answer:
    return ask("resume-seam", control or _plain(1.4), test)


def test_a_step_that_stays_is_a_cause_of_a_higher_loss() -> None:
    found = _ask(_resumed(0.5, None)).cause
    assert found.numbers["iteration"] == AT
    assert float(str(found.numbers["step"])) == pytest.approx(0.5, abs=0.1)
    assert "never came down again" in found.text


def test_a_step_that_goes_away_is_no_cause() -> None:
    found = _ask(_resumed(0.6)).remark
    assert "was down again after" in found.text
    assert 20 < int(str(found.numbers["recovered"])) < 200


def test_harm_to_the_better_run_explains_nothing() -> None:
    assert not _ask(_resumed(0.5, None, end=1.0)).causes


@pytest.mark.parametrize("seed", range(8))
def test_a_seam_without_a_step_is_ruled_out(seed: int) -> None:
    found = _ask(_resumed(seed=seed))
    assert found.silent
    assert "did not step up" in found.ruled_out[0].text


def test_our_own_exact_seam_is_ruled_out_by_the_record() -> None:
    assert "bit by bit" in _ask(_resumed(seam=SEAM | {"exact": True})).ruled_out[0].text


def test_without_losses_around_it_nobody_knows() -> None:
    made = _resumed()
    found = _ask(replace(made, iters=made.iters.clear(), evals=made.evals.tail(1)))
    assert "No losses around it tell" in found.remark.text


def test_another_learning_rate_at_the_seam() -> None:
    rates = [1e-3] * AT + [2e-4] * (COUNT - AT)
    found = _ask(_resumed(rates=rates)).cause
    assert (found.numbers["rate_before"], found.numbers["rate_after"]) == (1e-3, 2e-4)
    said = SEAM | {"changed": [{"setting": "learning_rate", "before": 1e-3, "after": 2e-4}]}
    assert not _ask(_resumed(rates=rates, seam=said)).causes
    assert _ask(_resumed(rates=[1e-3] * COUNT)).silent


def test_damaged_seams_do_no_harm() -> None:
    assert _ask(replace(_plain(), seams=["x", {}, {"iter": None}, {"iter": 3, "changed": 7}, None])) is not None


# ---------------------------------------------------------------------------------------------


def _repeated(*, same: bool, at: int = AT, format: str = "nanogpt", config: dict[str, object] = LAPTOP) -> Run:
    hard = batches(COUNT, 5)
    if same:
        hard[at:] = hard[: COUNT - at]
    seam = SEAM | {"iter": at}
    return printed(falling(COUNT) + hard, end=1.8, seams=[seam], format=format, config=config)


def test_nanogpt_reads_the_first_batches_again() -> None:
    found = ask("repeated-batches", _plain(), _repeated(same=True)).remark
    assert "read the batches of iterations 0 to 298 again" in found.text
    assert "nanoGPT#467" in found.text
    assert float(str(found.numbers["correlation"])) > 0.9
    assert float(str(found.numbers["share"])) == pytest.approx(0.5, abs=0.01)


def test_losses_that_do_not_repeat_rule_it_out() -> None:
    found = ask("repeated-batches", _plain(), _repeated(same=False))
    assert found.silent
    assert "did not read the same batches again" in found.ruled_out[0].text


def test_other_trainers_only_by_their_losses() -> None:
    assert ask("repeated-batches", _plain(), _repeated(same=True, format="llmc")).remark.evidence == "inferred"
    assert ask("repeated-batches", _plain(), _repeated(same=False, format="llmc")).silent
    assert ask("repeated-batches", _plain(), _plain()).silent


def test_it_lowers_a_train_loss() -> None:
    def without_val(made: Run) -> Run:
        return replace(made, evals=made.evals.clear())

    better = _repeated(same=True)
    lower = better.iters.with_columns(
        pl.when(pl.col("iter") >= AT).then(pl.col("loss") - 0.6).otherwise(pl.col("loss"))
    )
    found = ask("repeated-batches", without_val(_plain()), without_val(replace(better, iters=lower)))
    assert "lowers a train loss" in found.cause.text
    assert not ask("repeated-batches", _plain(), replace(better, iters=lower)).causes


def test_a_record_of_the_resumed_leg_alone() -> None:
    made = printed(falling(COUNT) + batches(COUNT), config=LAPTOP | {"init_from": "resume"})
    later = made.iters.filter(pl.col("iter") >= AT)
    found = ask("repeated-batches", _plain(), replace(made, iters=later))
    assert "resumed at iteration 300" in found.remark.text


# ---------------------------------------------------------------------------------------------


def test_rows_that_are_missing() -> None:
    made = _plain()
    cut = replace(made, iters=made.iters.filter(~pl.col("iter").is_between(100, 399)))
    found = ask("missing-rows", made, cut).remark
    assert (found.numbers["from"], found.numbers["to"]) == (99, 400)
    assert ask("missing-rows", made, made).silent
    sparse = replace(made, iters=made.iters.filter(pl.col("iter") % 10 == 0))
    assert ask("missing-rows", made, sparse).silent
    few = replace(made, iters=made.iters.filter(pl.col("iter") % 60 == 0))
    assert ask("missing-rows", made, few).silent
