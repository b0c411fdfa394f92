"""Forecasts of curves whose law is known, and of curves that have none."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import jsonschema
import numpy as np
import polars as pl
import pytest
from comparison.made import LAPTOP, run, table
from hypothesis import given, settings
from hypothesis import strategies as st

import lossgap
from lossgap import schemas
from lossgap.cli.main import main
from lossgap.errors import ConfigError
from lossgap.forecasting.annealing_law import law, place
from lossgap.forecasting.forecast import Forecast, forecast
from lossgap.forecasting.prior import Group, SeenRun, learn, shipped
from lossgap.forecasting.rate_curve import RateCurve, constant, sampled
from lossgap.report.show import document, text
from lossgap.runs.run import ITER_COLUMNS, Run
from lossgap.schedule import nanogpt_rate

THETA = np.array([1.3, -0.5, 0.45, -1.6, 2.0, 1.1, 0.42, 0.0])
AT = tuple(range(0, 2001, 100))


def rates(horizon: int, until: int = 6000) -> RateCurve:
    def rate(at: float) -> float:
        fields = {"learning_rate": 1e-3, "min_lr": 1e-4, "warmup_iters": 100, "decay_lr": True}
        return nanogpt_rate(at, lr_decay_iters=horizon, **fields)  # type: ignore[arg-type]

    return sampled(rate, until, (100.0, float(horizon)))


def losses(horizon: int, at: tuple[int, ...] = AT, noise: float = 0.0, seed: int = 0) -> dict[int, float]:
    """The losses of the law under nanogpt's schedule."""
    chance = np.random.default_rng(seed)
    found = law(THETA, place(np.array(at, dtype=float) + 1, rates(horizon), 0.0))
    return {i: float(value + chance.normal(0, noise)) for i, value in zip(at, np.minimum(found, 4.17), strict=True)}


def made(values: Mapping[int, float], horizon: int = 5000, **config: object) -> Run:
    return run(values, config=LAPTOP | {"max_iters": 5000, "lr_decay_iters": horizon} | config)


@pytest.mark.parametrize(("horizon", "until"), [(5000, 2000), (5000, 2500), (3000, 1500)])
def test_a_run_that_follows_the_law_is_forecast(horizon: int, until: int) -> None:
    seen = losses(horizon, tuple(range(0, until + 1, 100)), noise=0.002)
    truth = law(THETA, place(np.array([horizon + 1.0]), rates(horizon), 0.0))[0]
    found = forecast([made(seen, horizon)], iters=horizon).val
    assert found.low is not None
    assert found.high is not None
    assert found.loss is not None
    assert found.low <= truth <= found.high
    assert abs(found.loss - truth) < abs(list(seen.values())[-1] - truth) / 2, "no better than the last value"
    assert found.back_tests


def test_a_resume_with_another_horizon_is_forecast_under_it() -> None:
    values = losses(5000, noise=0.002)
    found = forecast([made(values)], iters=3000, horizon=3000)
    resumed = rates(5000).followed_by(rates(3000), 2000)
    truth = law(THETA, place(np.array([3000.0]), resumed, 0.0))[0]
    assert found.val.low is not None
    assert found.val.high is not None
    assert found.val.low <= truth <= found.val.high
    assert found.schedule == "resumed at 2,000 with a decay over 3,000"
    fresh = forecast([made(values)], iters=3000, horizon=3000, fresh=True)
    assert fresh.schedule.startswith("a new run")
    assert fresh.val.loss != found.val.loss != forecast([made(values)], iters=3000).val.loss


@given(at=st.integers(100, 2000), noise=st.floats(0, 0.02))
@settings(max_examples=15, deadline=None)
def test_where_the_run_is_its_own_value_is_given(at: int, noise: float) -> None:
    values = losses(5000, noise=noise, seed=at)
    found = forecast([made(values)], iters=at).val
    assert found.measured
    assert found.loss == pytest.approx(float(np.interp(at, list(values), list(values.values()))), abs=1e-9)


@pytest.mark.long
@given(scale=st.sampled_from([0.5, 1 / math.log(2), 3.0]))
@settings(max_examples=2, deadline=None)
def test_a_forecast_has_the_unit_of_its_losses(scale: float) -> None:
    values = losses(5000, noise=0.003)
    one = forecast([made(values)], iters=4000).val
    other = forecast([made({at: value * scale for at, value in values.items()})], iters=4000).val
    assert one.loss is not None
    assert other.loss is not None
    assert one.high is not None
    assert other.high is not None
    assert other.loss == pytest.approx(one.loss * scale, rel=2e-3)
    assert other.high == pytest.approx(one.high * scale, rel=4e-3)


@pytest.mark.long
@given(order=st.permutations(AT))
@settings(max_examples=2, deadline=None)
def test_the_order_of_the_rows_does_not_matter(order: list[int]) -> None:
    values = losses(5000, noise=0.003)
    shuffled = forecast([made({at: values[at] for at in order})], iters=4000).val.loss
    assert shuffled == pytest.approx(forecast([made(values)], iters=4000).val.loss, abs=1e-9)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (dict.fromkeys(AT, 4.17), "does not change"),
        ({at: 4.17 + 0.001 * math.sin(at) for at in AT}, "does not change"),
        ({0: 4.17, 1000: 2.2, 2000: 1.9}, "points"),
        ({at: 1.9 + at / 1000 for at in AT}, "has risen"),
        ({}, "no such loss"),
    ],
)
def test_what_cannot_be_forecast_says_why(values: dict[int, float], why: str) -> None:
    found = forecast([made(values)], iters=4000)
    assert found.val.loss is None
    assert why in found.val.why
    assert "Cannot forecast from" in text([found])
    document([found])


def test_a_diverged_training_is_not_forecast() -> None:
    rows = [
        {"iter": at, "loss": loss if at < 1500 else 3.9} for at, loss in losses(5000, tuple(range(0, 2001, 20))).items()
    ]
    found = forecast([run({}, config=LAPTOP, iters=table(ITER_COLUMNS, rows))], iters=4000)
    assert "diverged" in found.train.why


def test_far_beyond_what_was_seen_is_refused() -> None:
    assert "times" in forecast([made(losses(5000, noise=0.002))], iters=445_000).val.why


def test_a_horizon_of_rates_that_nobody_logged_widens_the_interval() -> None:
    values = losses(5000, noise=0.002)
    known = forecast([made(values)], iters=3000)
    bare = forecast([run(values, config={})], iters=3000)
    assert known.rates_known
    assert not bare.rates_known
    assert bare.notes
    assert "no learning rates" in bare.notes[0]
    assert bare.val.high is not None
    assert bare.val.low is not None
    assert known.val.high is not None
    assert known.val.low is not None
    assert bare.val.high - bare.val.low > known.val.high - known.val.low


def test_repeated_data_turns_the_val_loss_up() -> None:
    """Tiny Shakespeare read 80 times: the penalty is found before the minimum is left far behind."""
    theta = THETA.copy()
    theta[-1] = 0.008
    config = {"batch_size": 64, "block_size": 256}
    per_iter = 64 * 256 / 1_003_854
    at = np.arange(250.0, 2001.0, 250.0)
    values = {int(i): float(v) for i, v in zip(at, law(theta, place(at + 1.0, rates(5000), per_iter)), strict=True)}
    found = forecast([made(values, **config)], iters=5000)
    end = law(theta, place(np.array([5001.0]), rates(5000), per_iter))[0]
    assert found.val.low is not None
    assert found.val.high is not None
    assert found.val.low <= end <= found.val.high
    assert found.val.lowest is not None
    assert found.val.lowest.iter < 4000
    assert any("passes" in note for note in found.notes)
    assert found.passes == pytest.approx(5000 * per_iter)


def test_when_a_loss_is_reached() -> None:
    seen = made(losses(5000, noise=0.002))
    early = forecast([seen], iters=5000, target=2.5).val.reaching
    assert early is not None
    assert early.expected is not None
    assert early.expected <= 2000
    later = forecast([seen], iters=5000, target=1.6).val.reaching
    assert later is not None
    assert later.expected is not None
    assert later.earliest is not None
    assert 2000 < later.earliest <= later.expected
    never = forecast([seen], iters=5000, target=0.5)
    assert never.val.reaching is not None
    assert never.val.reaching.expected is None
    assert "not within reach" in text([never])


def test_seeds_together_are_surer_than_one() -> None:
    runs = [made(losses(5000, noise=0.03, seed=seed)) for seed in range(4)]
    one, all_of_them = forecast(runs[:1], iters=5000), forecast(runs, iters=5000)
    assert all_of_them.runs == 4
    assert all_of_them.val.high is not None
    assert all_of_them.val.low is not None
    assert one.val.high is not None
    assert one.val.low is not None
    assert all_of_them.val.high - all_of_them.val.low < one.val.high - one.val.low


@pytest.mark.long
def test_the_intervals_hold_what_they_say() -> None:
    """Nine in ten, of curves of the law with parameters drawn around those that are known."""
    chance = np.random.default_rng(5)
    prior = shipped()["any run"].scaled(1.9)
    held = 0
    count = 12
    for _ in range(count):
        theta = prior.mean + chance.normal(0, 0.5, 8) * prior.sd
        theta[0] = 1.3 + chance.normal(0, 0.1)
        at = np.arange(100.0, 2001.0, 100.0)
        curve = law(theta, place(at + 1.0, rates(5000), 7.7e-4))
        values = dict(zip(at.astype(int).tolist(), (curve + chance.normal(0, 0.01, len(at))).tolist(), strict=True))
        found = forecast([made({0: 4.17} | values)], iters=5000).val
        truth = law(theta, place(np.array([5001.0]), rates(5000), 7.7e-4))[0]
        if found.low is not None and found.high is not None:
            held += found.low <= truth <= found.high
        else:
            count -= 1
    assert held >= 0.75 * count


def test_a_prior_is_read_off_a_line_over_size() -> None:
    def group(size: float, shift: float) -> Group:
        at = np.arange(100.0, 5001.0, 100.0)
        theta = THETA + shift * np.array([1, 0, 0, 0, 0, 0, 0, 0])
        seen = SeenRun(iters=at, losses=law(theta, place(at, rates(5000), 0.0)), rates=rates(5000))
        return Group(runs=(seen,), size=size, theta=theta)

    prior = learn([group(1e6, 0.0), group(4e6, -0.2)], 2e6, shipped()["any run"].scaled(2.0))
    assert prior.mean[0] == pytest.approx(THETA[0] - 0.1)


@given(st.lists(st.floats(1e-5, 1e-2), min_size=2, max_size=20), st.floats(0, 3000))
def test_the_area_under_the_rate_is_its_integral(values: list[float], at: float) -> None:
    curve = RateCurve(np.linspace(0, 2000, len(values)), np.array(values))
    fine = np.linspace(0, at, 4001)
    whole = np.trapezoid(np.interp(fine, curve.iters, curve.rates), fine) / curve.peak
    assert curve.area(np.array([at]))[0] == pytest.approx(whole, rel=2e-2, abs=1e-3 * max(at, 1))


def test_a_fall_of_the_rate_lowers_the_loss_at_an_equal_area() -> None:
    stepped = RateCurve(np.array([0.0, 1000.0, 1000.001, 3000.0]), np.array([1.0, 1.0, 0.1, 0.1]))
    at = np.array([2000.0])
    level = law(THETA, place(stepped.area(at), constant(5000), 0.0))[0]
    fallen = law(THETA, place(at, stepped, 0.0))[0]
    assert level - math.exp(THETA[3]) < fallen < level


def test_without_falls_the_law_is_a_power_law() -> None:
    at = np.array([500.0, 1000.0, 4000.0])
    flat = law(THETA, place(at, constant(5000), 0.0))
    assert flat == pytest.approx(THETA[0] + np.exp(THETA[1]) * (at / 1000) ** -THETA[2])


def test_the_answer_fits_the_screen_and_its_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "a.log"
    steps = losses(5000, noise=0.003)
    log.write_text(
        "\n".join(f"step {at}: train loss {loss - 0.05:.4f}, val loss {loss:.4f}" for at, loss in steps.items())
    )
    words = ["forecast", str(log), "--iters=5000", "--config=shakespeare_char_cpu", "--set=lr_decay_iters=5000"]
    assert main([*words, "--target=1.7"]) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) <= 24
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert main([*words, "--json", f"--html={tmp_path / 'a.html'}", f"--png={tmp_path / 'a.png'}"]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(schemas.load("forecast")).validate(found)
    assert found["val"]["loss"] == pytest.approx(lossgap.forecast(log, iters=5000).val.loss, abs=0.5)
    assert (tmp_path / "a.html").stat().st_size > 10_000 < (tmp_path / "a.png").stat().st_size
    assert main(["forecast", "--iters=5000"]) == 1
    assert main(["forecast", str(log)]) == 1


@pytest.mark.parametrize("values", [dict.fromkeys(AT, 4.17), losses(5000)])
def test_every_answer_is_a_valid_document(values: dict[int, float]) -> None:
    for found in (forecast([made(values)], iters=4000, target=1.8), forecast([made(values)], iters=700)):
        assert isinstance(found, Forecast)
        body = json.loads(json.dumps(document([found]), allow_nan=False))
        jsonschema.Draft202012Validator(schemas.load("forecast")).validate(body)


def test_no_run_and_no_iteration_are_refused() -> None:
    with pytest.raises(ConfigError, match="no run"):
        forecast([], iters=5000)
    with pytest.raises(ConfigError, match="max_iters"):
        forecast([run(losses(5000), config={})])
    with pytest.raises(ConfigError, match="at least"):
        forecast([made(losses(5000))], iters=0)


def test_a_log_without_evaluations_is_forecast_from_its_iterations() -> None:
    rows = [{"iter": at, "loss": loss} for at, loss in losses(5000, tuple(range(0, 2001, 5)), noise=0.05).items()]
    iters: pl.DataFrame = table(ITER_COLUMNS, rows)
    found = forecast([run({}, config=LAPTOP | {"lr_decay_iters": 5000}, iters=iters)], iters=5000)
    assert found.val.why
    assert found.main.name == "train_loss"
    assert found.train.loss is not None
