"""settings-not-applied, not-in-the-settings, weight-decay, optimizer, other-settings."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from scipy import stats

from comparison.findings.answer import ask, laptop
from comparison.made import LAPTOP, curve, run
from lossgap.comparison import compare
from lossgap.comparison.findings.effective import FALSE_ALARM, WHILE_CLOSING
from lossgap.runs.run import Run


def test_settings_that_differ_with_curves_that_do_not() -> None:
    found = ask("settings-not-applied", laptop(), laptop(dropout=0.2)).remark
    assert found.strength == "strong"
    assert found.numbers["settings"] == ["dropout"]
    assert "not applied" in found.text


def test_equal_settings_and_curves_are_one_run_and_a_decoy_is_none() -> None:
    assert "one run twice" in ask("settings-not-applied", laptop(), laptop(out_dir="x", eval_interval=5)).remark.text
    assert ask("settings-not-applied", laptop(), laptop(1.9001, dropout=0.2)).silent


def test_a_gap_that_no_setting_explains() -> None:
    found = ask("not-in-the-settings", laptop(1.9), laptop(1.3)).cause
    assert (found.strength, found.evidence) == ("strong", "inferred")
    assert "part between iterations" in found.text
    assert found.effect == pytest.approx(-0.6)


@pytest.mark.parametrize(
    "test",
    [laptop(1.88), laptop(1.3, dropout=0.2), laptop(1.3, last=5000), laptop(1.3, without=("n_layer",))],
    ids=["small gap", "a setting differs", "another length", "a setting is missing"],
)
def test_it_is_silent_where_something_else_may_explain_the_gap(test: object) -> None:
    assert ask("not-in-the-settings", laptop(1.9), test).silent  # type: ignore[arg-type]


def test_weight_decay_is_held_against_what_it_can_do() -> None:
    found = ask("weight-decay", laptop(), laptop(2.4, weight_decay=1.0)).cause
    assert float(str(found.numbers["exponent"])) == pytest.approx(0.9 * 1e-3 / 2 * 2000)
    assert found.size == pytest.approx(0.09)
    assert ask("weight-decay", laptop(), laptop(2.4)).silent
    assert ask("weight-decay", laptop(without=("weight_decay",)), laptop()).needs == ("control.weight_decay",)


def test_another_optimizer() -> None:
    found = ask("optimizer", laptop(beta2=0.99), laptop(2.4, beta2=0.9)).cause
    assert found.numbers["beta2"] == [0.99, 0.9]
    assert ask("optimizer", laptop(beta2=0.99), laptop(2.4, beta2=0.99)).silent
    assert ask("optimizer", laptop(), laptop(beta2=0.99)).needs == ("control.beta2",)


def test_settings_of_other_trainers_and_bookkeeping() -> None:
    made = [
        run(
            curve(end),
            config={"embed_lr": rate, "output_dir": folder, "run_name": folder, "logging_steps": 1 + end},
            format="jsonl",
        )
        for end, rate, folder in ((1.9, 0.05, "a"), (1.4, 0.04, "b"))
    ]
    found = ask("other-settings", *made).cause
    assert found.numbers == {"embed_lr": [0.05, 0.04]}
    assert ask("other-settings", made[0], made[0]).silent
    assert ask("other-settings", run(curve(1.9)), run(curve(1.4), config=LAPTOP | {"n_layer": 9})).silent


def test_another_number_of_decayed_parameters_at_one_shape_is_other_code() -> None:
    def made(decayed: int, end: float = 1.9, n_embd: int = 128) -> Run:
        return replace(laptop(end, n_embd=n_embd), parameters={"by_group": {"decayed": decayed, "not decayed": 1152}})

    assert ask("weight-decay", made(802_944), made(794_624, 2.4)).cause.title == "Other parameters are decayed"
    assert not ask("weight-decay", made(802_944), made(802_944, 2.4)).causes
    assert not ask("weight-decay", made(802_944), made(1_802_944, 2.4, n_embd=192)).causes


def test_an_architecture_without_a_rule_is_another_setting_and_no_mystery() -> None:
    pair = laptop(rotary=False), laptop(2.4, rotary=True)
    assert ask("other-settings", *pair).cause.strength == "likely"
    ids = [item.id for item in compare(*pair, sources=("a", "b")).causes]
    assert ids == ["other-settings"], "of unknown size, so it may make any gap"


def test_a_gap_that_closes_asks_for_more_than_one_that_stays() -> None:
    """A seed that leaves the first plateau late ends above, by a gap that was larger and closes."""
    config = LAPTOP | {"n_layer": 2, "n_embd": 40, "max_iters": 300, "lr_decay_iters": 300, "warmup_iters": 20}
    values = {at: 2.45 + 1.7 * math.exp(-at / 60) for at in range(0, 301, 25)}
    control = run(values, config=config)
    # Just beyond FALSE_ALARM and far from WHILE_CLOSING for a spread of few degrees of freedom.
    pair = compare(control, run({at: value + 0.0001 for at, value in values.items()}, config=config))
    error, df = pair.noise.bound, pair.noise.df
    assert error is not None
    by = 1.3 * error * float(stats.t.isf(FALSE_ALARM / 2, df))
    assert by < error * float(stats.t.isf(WHILE_CLOSING / 2, df))
    stays = {at: value + by * min(1.0, at / 100) for at, value in values.items()}
    closes = {at: value + (0.5 * by if 100 <= at <= 150 else 0.0) for at, value in stays.items()}
    assert ask("not-in-the-settings", control, run(stays, config=config)).cause
    assert ask("not-in-the-settings", control, run(closes, config=config)).silent
