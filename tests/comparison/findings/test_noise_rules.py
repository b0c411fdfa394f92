"""evaluation-noise, chance, only-rounding."""

from __future__ import annotations

import pytest

from comparison.findings.answer import ask, laptop
from comparison.made import GPU, LAPTOP, curve, run


def test_the_noisier_evaluation_is_named_with_its_tokens() -> None:
    found = ask("evaluation-noise", laptop(1.9), laptop(1.7, eval_iters=500)).remark
    assert "The control's is the noisier" in found.text
    assert "20 x 12 x 64 = 15,360 tokens" in found.text
    assert float(str(found.numbers["control_error"])) == pytest.approx(5 * float(str(found.numbers["test_error"])))
    assert "does not make this gap" in found.text


def test_an_evaluation_that_reads_val_many_times_says_so() -> None:
    found = ask("evaluation-noise", laptop(1.9), run(curve(1.7, last=5000), config=GPU)).remark
    assert "3,276,800 tokens, each val token about 29 times" in found.text


def test_a_gap_that_the_windows_alone_can_make() -> None:
    found = ask("evaluation-noise", laptop(1.9), laptop(1.91)).remark
    assert "could make this gap" in found.text
    assert found.settle


def test_equally_noisy_evaluations_and_a_large_gap_need_no_word() -> None:
    assert ask("evaluation-noise", laptop(1.9), laptop(1.7)).silent


def test_what_the_noise_of_an_evaluation_lacks() -> None:
    bare = run({0: 4.17, 2000: 1.9}, config={"batch_size": 12})
    assert ask("evaluation-noise", bare, laptop()).needs == ("control.eval_iters", "control.block_size")


def test_chance_is_ruled_out_by_a_large_gap_only() -> None:
    far = ask("chance", laptop(1.9), laptop(1.2))
    assert far.silent
    assert far.ruled_out[0].numbers["gap"] == pytest.approx(-0.7)
    near = ask("chance", laptop(1.9), laptop(1.905)).remark
    assert "Chance alone can make this gap" in near.text


def test_only_the_seeds_differ() -> None:
    pair = (laptop(1.9, also={"seed": 1}), laptop(1.905, also={"seed": 2}))
    assert "differ in the seed alone (1 and 2)" in ask("chance", *pair).remark.text
    other = (pair[0], laptop(1.905, also={"seed": 2}, dropout=0.1))
    assert "seed alone" not in ask("chance", *other).remark.text


@pytest.mark.parametrize(("gap", "fires"), [(0.0, True), (0.0001, True), (-0.0001, True), (0.0002, False)])
def test_a_gap_of_one_printed_unit_is_rounding(gap: float, fires: bool) -> None:
    found = ask("only-rounding", laptop(1.9), run({0: 4.17, 2000: 1.9 + gap}))
    assert found.silent is not fires
    assert not found.causes


def test_equal_values_at_other_iterations_are_no_rounding() -> None:
    assert ask("only-rounding", laptop(1.9), laptop(1.9, last=5000)).silent


def test_values_of_full_precision_are_not_rounded() -> None:
    exact = run({0: 4.17, 2000: 1.9}, config=LAPTOP, series={})
    assert ask("only-rounding", exact, exact).silent
