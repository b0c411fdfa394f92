"""first-divergence and the shape of a parting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from comparison.findings.answer import Answer, ask
from comparison.findings.losses import Losses, batches, falling, printed
from comparison.made import LAPTOP
from lossgap.runs.run import Run, Series

COUNT = 400
HARD = batches(COUNT)
BARE = {name: value for name, value in LAPTOP.items() if name not in ("learning_rate", "warmup_iters")}


def _ask(
    control: Losses, test: Losses, *, end: float = 2.3, config: dict[str, object] = BARE, every: int = 1
) -> Answer:
    return ask(
        "first-divergence",
        printed(control, config=config, every=every),
        printed(test, end=end, config=config, every=every),
    )


def _shape(found: Answer) -> object:
    return found.findings[0].numbers["shape"]


BASE = falling(COUNT) + HARD
LATER = np.arange(COUNT)


def test_after_one_update_on_the_same_batches_is_a_cause() -> None:
    test = BASE + np.where(LATER >= 1, 0.4, 0.0)
    found = _ask(BASE, test)
    assert _shape(found) == "after one update"
    assert found.cause.title == "The updates differ"
    assert "test.learning_rate" in found.needs
    assert found.cause.effect == pytest.approx(0.4)


def test_after_one_update_on_other_batches_is_none() -> None:
    other = falling(COUNT) + batches(COUNT, 2)
    other[0] = BASE[0]
    found = _ask(BASE, other)
    assert _shape(found) == "after one update"
    assert "those after it are others" in found.remark.text


def test_a_sudden_parting_names_its_iteration() -> None:
    test = BASE + np.where(LATER >= 250, 0.3, 0.0)
    found = _ask(BASE, test)
    assert (found.cause.numbers["equal"], found.cause.numbers["apart"]) == (249, 250)
    assert "the batches went on the same" in found.cause.text
    sparse = _ask(BASE[::10], test[::10], every=10)
    assert "between iterations 240 and 250" in sparse.findings[0].text


def test_a_gradual_parting_is_rounding_or_a_rate() -> None:
    test = BASE + np.where(LATER > 50, 1e-4 * np.exp((LATER - 50) / 60), 0.0)
    found = _ask(BASE, test)
    assert _shape(found) == "gradual"
    assert "rounding that the training amplifies" in found.remark.text


def test_learning_rates_that_part_are_named() -> None:
    test = BASE + np.where(LATER > 150, 2e-4 * (LATER - 150), 0.0)
    pair = printed(BASE, config=LAPTOP), printed(test, config=LAPTOP | {"lr_decay_iters": 400})
    found = ask("first-divergence", *pair).remark
    assert "the learning rates part there (learning rate" in found.text


def test_apart_at_the_start() -> None:
    assert "initial weights" in _ask(BASE, BASE + 0.3).remark.text
    assert "forward pass differs slightly" in _ask(BASE, BASE + 0.01).remark.text
    assert (
        "do not show where"
        in _ask(BASE, falling(COUNT) + HARD[0] + batches(COUNT, 9) * (LATER > 0) + 0.004).remark.text
    )


def test_equal_curves_and_curves_without_a_start_have_no_shape() -> None:
    assert _ask(BASE, BASE).silent
    assert _ask(BASE[:4], BASE[:4] + 1).silent or _shape(_ask(BASE[:4], BASE[:4] + 1)) is not None

    def late(made: Run) -> Run:
        return replace(made, iters=made.iters.tail(COUNT - 50), evals=made.evals.clear())

    assert ask("first-divergence", late(printed(BASE)), late(printed(BASE + 0.3))).silent


def test_losses_of_other_kinds_are_not_compared() -> None:
    average = Series(kind="moving-average", split="train", mode="train", unit="nats/token", digits=4)
    test = printed(BASE + 0.3)
    test = replace(test, series=dict(test.series) | {"iters.loss": average}, evals=test.evals.clear())
    assert ask("first-divergence", printed(BASE), test).silent


def test_no_cause_without_a_lasting_gap_in_that_direction() -> None:
    gone = BASE + np.where((LATER >= 1) & (LATER < 50), 0.4, 0.0)
    assert not _ask(BASE, gone).causes
    assert not _ask(BASE, BASE + np.where(LATER >= 1, 0.4, 0.0), end=1.5).causes
    assert not _ask(BASE, BASE + np.where(LATER >= 1, 0.4, 0.0), end=1.9).causes


@pytest.mark.parametrize("seed", range(10))
def test_another_seed_is_no_cause(seed: int) -> None:
    other = falling(COUNT, start=4.17 + 0.01 * seed) + batches(COUNT, 20 + seed)
    assert not _ask(BASE, other, end=1.9 + 0.01 * seed).causes


def test_no_cause_where_the_batches_are_not_known() -> None:
    few = BASE[:45]
    assert not _ask(few, few + np.where(LATER[:45] >= 1, 0.4, 0.0)).causes
