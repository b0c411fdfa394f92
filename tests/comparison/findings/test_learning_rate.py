"""learning-rate, learning-rate-horizon, warm-up, resumed-with-another-horizon."""

from __future__ import annotations

from dataclasses import replace

import pytest

from comparison.findings.answer import ask, laptop, rates
from comparison.made import LAPTOP, curve, run
from lossgap.config import TrainConfig
from lossgap.runs.run import Run
from lossgap.schedule import learning_rate


def _logged(end: float = 1.9, config: dict[str, object] | None = None, last: int = 2000, **changes: float) -> Run:
    """A run whose rows hold the rates of nanoGPT's schedule with `changes`; its settings are `config`."""
    schedule = {"learning_rate": 1e-3, "min_lr": 1e-4, "warmup_iters": 100, "lr_decay_iters": 2000} | changes
    made = TrainConfig.from_dict(schedule)
    rows = {at: learning_rate(made, at) for at in range(0, last + 1, 20)}
    return rates(run(curve(end, last=last), config=config or {}), rows)


@pytest.mark.parametrize(("end", "said"), [(2.7, "too high"), (1.3, "too low")])
def test_another_peak_is_the_cause_whichever_run_is_higher(end: float, said: str) -> None:
    found = ask("learning-rate", laptop(), laptop(end, learning_rate=1e-2)).cause
    assert (found.strength, found.evidence) == ("strong", "computed")
    assert found.numbers["ratio"] == pytest.approx(10)
    assert said in found.text
    assert found.effect is None
    assert found.size is not None
    assert "sign of its effect is not known" in found.text


def test_logged_peaks_do_where_the_setting_is_missing() -> None:
    assert ask("learning-rate", _logged(), _logged(2.4, learning_rate=1e-2)).cause.numbers["test"] == pytest.approx(
        1e-2
    )


def test_equal_settings_with_other_logged_peaks_are_a_fault() -> None:
    test = _logged(2.4, LAPTOP, learning_rate=1e-2)
    assert "otherwise than set" in ask("learning-rate", _logged(1.9, LAPTOP), test).cause.text


def test_a_record_that_begins_after_its_peak_is_no_fault() -> None:
    late = _logged(2.4, LAPTOP)
    late = replace(late, iters=late.iters.filter(late.iters["iter"] >= 1000))
    assert ask("learning-rate", _logged(1.9, LAPTOP), late).silent


def test_equal_rates_are_ruled_out_and_unknown_ones_named() -> None:
    assert ask("learning-rate", laptop(), laptop(1.5)).silent
    assert ask("learning-rate", _logged(1.9, LAPTOP), _logged(1.5, LAPTOP)).silent
    assert ask("learning-rate", laptop(without=("learning_rate",)), laptop(1.5)).needs == ("control.learning_rate",)


def test_another_lowest_rate_is_a_small_cause() -> None:
    found = ask("learning-rate", laptop(), laptop(1.8, min_lr=1e-5)).cause
    assert found.strength == "possible"
    assert found.size == pytest.approx(0.05 * 9e-5 / 1e-3)
    assert "22 times that" in found.text


def test_another_horizon_with_how_far_each_decay_is() -> None:
    found = ask("learning-rate-horizon", laptop(), laptop(2.1, lr_decay_iters=20_000)).cause
    assert found.strength == "strong"
    assert found.numbers["control_decayed"] == 1
    assert float(str(found.numbers["test_decayed"])) < 0.05
    assert "--lr_decay_iters=2000" in found.command or "shakespeare_char_cpu" in found.command


def test_no_decay_at_all() -> None:
    found = ask("learning-rate-horizon", laptop(), laptop(2.4, decay_lr=False)).cause
    assert "constant" in found.text
    assert found.numbers["test_decayed"] == 0
    assert ask("learning-rate-horizon", laptop(decay_lr=False), laptop(2.4, decay_lr=False)).silent


def test_a_run_that_was_stopped_early_is_no_short_run() -> None:
    long = {"max_iters": 5000, "lr_decay_iters": 5000}
    found = ask("learning-rate-horizon", laptop(1.6, last=5000, also=long), laptop(2.0, last=2000, also=long)).cause
    assert "stopped early" in found.text


def test_two_lengths_each_with_its_own_horizon_are_ruled_out() -> None:
    longer = laptop(1.5, last=5000, max_iters=5000, lr_decay_iters=5000)
    answer = ask("learning-rate-horizon", laptop(), longer)
    assert answer.silent
    assert "own run" in answer.ruled_out[0].text


def test_logged_rates_show_another_horizon_where_no_setting_does() -> None:
    found = ask("learning-rate-horizon", _logged(), _logged(2.4, lr_decay_iters=20_000)).cause
    assert found.numbers["control_of_peak"] == pytest.approx(0.1, abs=0.01)
    assert ask("learning-rate-horizon", _logged(), _logged(2.4)).silent
    fault = ask("learning-rate-horizon", _logged(1.9, LAPTOP), _logged(2.4, LAPTOP, lr_decay_iters=20_000)).cause
    assert fault.strength == "strong"
    assert "ran otherwise" in fault.text


def test_an_unknown_horizon_is_named() -> None:
    assert ask("learning-rate-horizon", laptop(without=("lr_decay_iters",)), laptop()).needs == (
        "control.lr_decay_iters",
    )


def test_another_warm_up() -> None:
    found = ask("warm-up", laptop(), laptop(2.0, warmup_iters=1500)).cause
    assert found.strength == "strong"
    assert found.size is not None
    assert ask("warm-up", laptop(), laptop(2.4)).silent
    assert ask("warm-up", laptop(without=("warmup_iters",)), laptop()).needs == ("control.warmup_iters",)


def test_logged_rates_show_the_warm_up() -> None:
    assert ask("warm-up", _logged(), _logged(2.4, warmup_iters=1000)).cause.numbers["test"] == 1000
    assert ask("warm-up", _logged(), _logged(2.4)).silent


def test_a_run_inside_its_warm_up_is_told() -> None:
    answer = ask("warm-up", laptop(warmup_iters=5000), laptop(2.4, warmup_iters=5000))
    assert len(answer.findings) == 2
    assert "never reached its peak" in " ".join(answer.findings[0].text.split())


def _seam(*settings: str) -> Run:
    changed = [{"setting": name, "before": 2000, "after": 5000} for name in settings]
    return replace(laptop(1.6), seams=[{"iter": 2000, "from": "ckpt.pt", "changed": changed}])


def test_a_resume_with_another_horizon() -> None:
    found = ask("resumed-with-another-horizon", laptop(), _seam("lr_decay_iters")).cause
    assert found.numbers == {"run": "test", "iteration": 2000}
    assert "lr_decay_iters from 2000 to 5000" in found.text
    assert ask("resumed-with-another-horizon", laptop(), _seam("max_iters")).silent
    assert ask("resumed-with-another-horizon", laptop(), replace(laptop(), seams=["junk", {"changed": [3]}])).silent


def test_decays_whose_rows_stand_elsewhere_are_held_against_each_other() -> None:
    """A constant rate against one that decays, whose rows the other log does not print."""
    flat = rates(run(curve(1.9), config={}), dict.fromkeys(range(0, 2001, 200), 0.001))
    schedule = TrainConfig.from_dict({"learning_rate": 1e-3, "min_lr": 1e-4, "warmup_iters": 0, "lr_decay_iters": 2000})
    falls = {at: learning_rate(schedule, at) for at in range(50, 2001, 200)}
    found = ask("learning-rate-horizon", flat, rates(run(curve(2.4), config={}), falls))
    assert not found.ruled_out
    assert found.cause.numbers["control_of_peak"] == pytest.approx(1.0)


def test_a_log_that_ends_early_does_not_rule_another_decay_out() -> None:
    short = _logged(last=1000)
    found = ask("learning-rate-horizon", short, _logged(2.4))
    assert not found.ruled_out


def test_rows_that_the_other_log_leaves_out_are_no_other_schedule() -> None:
    """The warm-up ends between two rows of one log: interpolated there, its rate is below the other's peak."""
    settings: dict[str, object] = {**LAPTOP, "warmup_iters": 20, "max_iters": 300, "lr_decay_iters": 300}
    made = TrainConfig.from_dict({**settings, "n_layer": 4})
    dense, sparse = ({at: learning_rate(made, at) for at in range(0, 301, by)} for by in (1, 3))
    ends = [
        rates(run(curve(1.9 + more, last=300), config=settings), rows) for more, rows in ((0, dense), (0.3, sparse))
    ]
    assert ask("learning-rate-horizon", ends[0], ends[1]).silent
    other = {at: rate if at < 150 else 0.5 * rate for at, rate in sparse.items()}
    fault = rates(run(curve(2.2, last=300), config=settings), other)
    assert ask("learning-rate-horizon", ends[0], fault).cause.numbers["first_apart"] == 150


def test_a_horizon_is_worth_the_updates_that_it_loses_against_the_decay_that_it_leaves_out() -> None:
    """A horizon of half the length trains the other half at min_lr; a longer one gains rate and loses the decay."""
    short = ask("learning-rate-horizon", laptop(), laptop(2.3, lr_decay_iters=1000)).cause
    longer = ask("learning-rate-horizon", laptop(), laptop(2.3, lr_decay_iters=20_000)).cause
    assert short.size is not None
    assert longer.size is not None
    assert short.size > max(0.1, longer.size)
