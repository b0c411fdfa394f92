"""From two configs to factors, and the config of every combination of their levels."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lossgap.attribution.factor import BATCH, HORIZONS, ROUNDING, SEED_STEP, Coordinates, FactorPlan, factors
from lossgap.attribution.pricing import some_arms
from lossgap.config import FACTORS, TrainConfig, describe
from lossgap.errors import ConfigError

BASE: Mapping[str, object] = {
    "dataset": "text",
    "compile": False,
    "n_head": 2,
    "n_embd": 16,
    "gradient_accumulation_steps": 1,
}
SEARCHED = tuple(item.name for item in describe() if item.factor and item.name not in (*ROUNDING, "dataset", "device"))
COORDINATES: st.SearchStrategy[Coordinates] = st.sampled_from(["iterations", "tokens"])


@st.composite
def configs(draw: st.DrawFn) -> TrainConfig:
    """A small training of any shape and schedule."""
    most = draw(st.integers(1, 5000))
    values = {
        "n_layer": draw(st.integers(1, 3)),
        "n_embd": draw(st.sampled_from([16, 32])),
        "bias": draw(st.booleans()),
        "block_size": draw(st.sampled_from([8, 64, 100])),
        "batch_size": draw(st.integers(1, 20)),
        "gradient_accumulation_steps": draw(st.sampled_from([1, 1, 2, 5])),
        "dropout": draw(st.sampled_from([0.0, 0.2])),
        "weight_decay": draw(st.sampled_from([0.1, 0.0])),
        "learning_rate": draw(st.sampled_from([1e-3, 3e-3])),
        "min_lr": draw(st.sampled_from([1e-4, 3e-4])),
        "beta2": draw(st.sampled_from([0.95, 0.99])),
        "grad_clip": draw(st.sampled_from([1.0, 0.0])),
        "decay_lr": draw(st.sampled_from([True, True, False])),
        "max_iters": most,
        "warmup_iters": draw(st.sampled_from([0, 5, 100, most // 10])),
        "lr_decay_iters": draw(st.sampled_from([most, 600, most // 2 + 1])),
        "dtype": draw(st.sampled_from(["float32", "bfloat16"])),
        "seed": draw(st.sampled_from([1337, 1, 42])),
    }
    assume(values["warmup_iters"] != values["lr_decay_iters"])
    return TrainConfig.from_dict({**BASE, **values})


def training(config: Mapping[str, object]) -> dict[str, object]:
    """The settings that decide a training, as one number each: micro-batches make one batch, schedules that do not
    decay have no horizons."""
    found = {name: config[name] for name in SEARCHED}
    found["batch"] = int(str(found.pop("batch_size"))) * int(str(found.pop("gradient_accumulation_steps")))
    if not found["decay_lr"]:
        for name in (*HORIZONS, "min_lr"):
            del found[name]
    return found


@given(configs(), configs(), COORDINATES)
@settings(max_examples=200, deadline=None)
def test_the_ends_are_the_two_configs(control: TrainConfig, test: TrainConfig, coordinates: Coordinates) -> None:
    plan = factors(control, test, coordinates=coordinates)
    assert plan.settings(()) == {**control.to_dict(), "seed": TrainConfig.seed}
    whole = plan.settings(plan.names)
    assert training(whole) == training(test.to_dict())
    assert whole["seed"] == TrainConfig.seed


@given(configs(), configs(), COORDINATES)
@settings(max_examples=100, deadline=None)
def test_every_mixture_is_a_config_whose_settings_are_of_one_end_or_the_other(
    control: TrainConfig, test: TrainConfig, coordinates: Coordinates
) -> None:
    plan = factors(control, test, coordinates=coordinates)
    owner = {name: item.name for item in plan.factors for name in item.settings}
    for switched in some_arms(plan.names)[:40]:
        found = plan.settings(switched)
        for name in set(SEARCHED) - {"max_iters", *HORIZONS}:
            end = test if owner.get(name) in switched else control
            assert found[name] == getattr(end, name)


@given(configs(), configs(), COORDINATES)
@settings(max_examples=100, deadline=None)
def test_every_mixture_carries_its_horizons_along(
    control: TrainConfig, test: TrainConfig, coordinates: Coordinates
) -> None:
    plan = factors(control, test, coordinates=coordinates)
    owner = {name: item.name for item in plan.factors for name in item.settings}
    for switched in some_arms(plan.names)[:40]:
        found = TrainConfig.from_dict(plan.settings(switched))
        for name in HORIZONS:
            end = test if owner.get(name, owner.get("max_iters")) in switched else control
            expected = getattr(end, name) * found.max_iters / end.max_iters
            # Half an iteration by rounding, and one more where the cosine would divide by zero.
            assert abs(getattr(found, name) - expected) <= (1.5 if name == "lr_decay_iters" else 0.5)


@given(configs(), configs())
@settings(max_examples=100, deadline=None)
def test_at_equal_tokens_every_mixture_has_the_tokens_of_its_length(control: TrainConfig, test: TrainConfig) -> None:
    plan = factors(control, test, coordinates="tokens")
    for switched in some_arms(plan.names)[:40]:
        found = TrainConfig.from_dict(plan.settings(switched))
        end = test if "length" in switched else control
        wanted = end.max_iters * end.tokens_per_iter
        assert abs(found.max_iters * found.tokens_per_iter - wanted) <= max(found.tokens_per_iter / 2, 0) or (
            found.max_iters == 1
        )


@given(configs(), configs(), COORDINATES)
@settings(max_examples=60, deadline=None)
def test_the_other_way_round_the_factors_are_the_same(
    control: TrainConfig, test: TrainConfig, coordinates: Coordinates
) -> None:
    there, back = factors(control, test, coordinates=coordinates), factors(test, control, coordinates=coordinates)
    assert there.names == back.names
    for one, other in zip(there.factors, back.factors, strict=True):
        assert dict(one.settings) == {name: levels[::-1] for name, levels in other.settings.items()}


@given(configs(), COORDINATES)
@settings(max_examples=40, deadline=None)
def test_a_config_and_itself_differ_in_nothing(config: TrainConfig, coordinates: Coordinates) -> None:
    assert factors(config, config, coordinates=coordinates).factors == ()


def make(control: Mapping[str, object], test: Mapping[str, object], **options: object) -> FactorPlan:
    ends = [TrainConfig.from_dict({**BASE, **side}) for side in (control, test)]
    return factors(*ends, **options)  # type: ignore[arg-type]  # a test names the options it means


LAPTOP = {"batch_size": 12, "block_size": 64, "max_iters": 2000, "lr_decay_iters": 2000, "warmup_iters": 100}
GPU = {"batch_size": 64, "block_size": 256, "max_iters": 5000, "lr_decay_iters": 5000, "warmup_iters": 100}


def test_equal_warm_ups_of_two_lengths_are_two_schedules() -> None:
    """nanoGPT's two Shakespeare recipes: 100 iterations are 5% of the one and 2% of the other."""
    plan = make(LAPTOP, GPU)
    assert plan.names == ("context", "batch", "length", "schedule")
    assert dict(plan.factors[-1].settings) == {"warmup_iters": ("100 of 2000", "100 of 5000")}
    assert plan.settings({"length"})["warmup_iters"] == 250
    assert plan.settings({"length", "schedule"})["warmup_iters"] == 100
    assert plan.settings({"schedule"})["warmup_iters"] == 40
    assert plan.settings({"length"})["lr_decay_iters"] == 5000


def test_horizons_in_proportion_are_no_factor() -> None:
    plan = make(LAPTOP, {**GPU, "warmup_iters": 250})
    assert plan.names == ("context", "batch", "length")
    assert plan.settings(plan.names)["warmup_iters"] == 250


def test_horizons_in_proportion_up_to_rounding_come_with_the_length() -> None:
    """5% of 333 iterations is 17 of them or 16; the end is the test's own all the same."""
    control = {"max_iters": 1000, "lr_decay_iters": 1000, "warmup_iters": 50}
    plan = make(control, {"max_iters": 333, "lr_decay_iters": 333, "warmup_iters": 16})
    assert plan.names == ("length",)
    assert plan.settings({"length"})["warmup_iters"] == 16
    other = make(control, {"max_iters": 333, "lr_decay_iters": 333, "warmup_iters": 14})
    assert other.names == ("length", "schedule")


def test_at_equal_tokens_a_larger_batch_trains_fewer_iterations() -> None:
    control = {"batch_size": 10, "block_size": 64, "max_iters": 1000, "lr_decay_iters": 1000, "warmup_iters": 100}
    plan = make(control, {**control, "batch_size": 40}, coordinates="tokens")
    assert plan.names == ("batch", "length")
    arm = plan.settings({"batch"})
    assert (arm["max_iters"], arm["lr_decay_iters"], arm["warmup_iters"]) == (250, 250, 25)
    assert plan.settings({"length"})["max_iters"] == 4000
    assert plan.settings({"length", "batch"})["max_iters"] == 1000


def test_equal_tokens_in_other_iterations_are_no_length() -> None:
    control = {"batch_size": 10, "max_iters": 1000, "lr_decay_iters": 1000, "warmup_iters": 100}
    test = {"batch_size": 40, "max_iters": 250, "lr_decay_iters": 250, "warmup_iters": 25}
    assert make(control, test, coordinates="tokens").names == ("batch",)
    assert make(control, test).names == ("batch", "length")


def test_micro_batches_of_the_same_batch_are_no_factor() -> None:
    plan = make({"batch_size": 12}, {"batch_size": 3, "gradient_accumulation_steps": 4, "n_layer": 2})
    assert plan.names == ("capacity",)
    assert {name: plan.settings(plan.names)[name] for name in BATCH} == {
        "batch_size": 12,
        "gradient_accumulation_steps": 1,
    }


def test_a_rate_without_decay_has_no_horizons() -> None:
    control = {"decay_lr": False, "max_iters": 100, "lr_decay_iters": 100, "warmup_iters": 10, "min_lr": 1e-4}
    test = {"decay_lr": False, "max_iters": 100, "lr_decay_iters": 50, "warmup_iters": 0, "min_lr": 0.0}
    assert make(control, test).names == ()
    assert make(control, {**test, "decay_lr": True}).names == ("schedule",)


def test_a_horizon_of_no_iterations_does_not_divide_by_zero() -> None:
    """A decay over 1 of 2000 iterations rounds to 0 in a training of 100."""
    control = {"max_iters": 2000, "lr_decay_iters": 1, "warmup_iters": 0}
    plan = make(control, {"max_iters": 100, "lr_decay_iters": 100, "warmup_iters": 0})
    arm = plan.settings({"length"})
    assert (arm["warmup_iters"], arm["lr_decay_iters"]) == (0, 1)


# ---------------------------------------------------------------------------------------------
# Regrouping


def test_regrouping_takes_settings_out_of_their_factors() -> None:
    test = {"dropout": 0.2, "weight_decay": 0.0, "learning_rate": 3e-3}
    assert make({}, test).names == ("schedule", "regularisation")
    plan = make({}, test, regroup={"noise": ["dropout"], "rest": ["weight_decay", "learning_rate"]})
    assert plan.names == ("noise", "rest")
    assert plan.settings({"noise"}) == TrainConfig.from_dict({**BASE, "dropout": 0.2}).to_dict()
    assert set(plan.factors[1].settings) == {"weight_decay", "learning_rate"}


def test_a_horizon_can_be_a_factor_of_its_own() -> None:
    plan = make(LAPTOP, GPU, regroup={"warm-up": ["warmup_iters"]})
    assert plan.names == ("context", "batch", "length", "warm-up")
    assert plan.settings({"warm-up"})["warmup_iters"] == 40


def test_what_only_measures_is_a_factor_on_request() -> None:
    test = {"eval_interval": 50, "log_interval": 7}
    assert make({}, test).names == ()
    plan = make({}, test, regroup={"watching": ["eval_interval", "log_interval"]})
    assert plan.names == ("watching",)
    assert plan.settings({"watching"})["log_interval"] == 7


@pytest.mark.parametrize("seeds", [({}, {}), ({"seed": 5}, {"seed": 5}), ({"seed": 5}, {"seed": 99})])
def test_a_seed_can_pose_as_a_factor_and_is_another_repetition(
    seeds: tuple[dict[str, object], dict[str, object]],
) -> None:
    """Two configs with other seeds do not differ: a seed is a repetition. On request it is the same step for all."""
    assert make(*seeds).names == ()
    plan = make(*seeds, regroup={"luck": ["seed"]})
    first, second = TrainConfig.seed, TrainConfig.seed + SEED_STEP
    assert plan.names == ("luck",)
    assert dict(plan.factors[0].settings) == {"seed": (first, second)}
    assert plan.settings(())["seed"] == first
    assert plan.settings({"luck"}) == {**plan.settings(()), "seed": second}


def test_kernels_are_switched_on_request_only() -> None:
    test = {"compile": True, "attention": "fused", "dtype": "bfloat16"}
    plan = make({}, test)
    assert plan.names == ("numerics",)
    assert set(plan.factors[0].settings) == {"dtype"}
    assert [(item.name, set(item.settings)) for item in plan.not_switched] == [("numerics", {"compile", "attention"})]
    assert plan.settings({"numerics"})["compile"] is False
    asked = make({}, test, regroup={"kernels": ["compile", "attention"]})
    assert asked.names == ("numerics", "kernels")
    assert asked.not_switched == ()


def test_what_cannot_be_switched_here_keeps_every_reason() -> None:
    test = {"device": "cuda", "dtype": "bfloat16", "tf32": True, "compile": True, "n_layer": 2}
    plan = make({}, test, fixed={"device": "one machine", "dtype": "one machine", "tf32": "the same chip"})
    assert plan.names == ("capacity",)
    held = {item.name: item for item in plan.not_switched}
    assert set(held) == {"device", "numerics"}
    assert set(held["numerics"].settings) == {"dtype", "tf32", "compile"}
    assert all(part in held["numerics"].why for part in ("one machine", "the same chip", "on request"))
    assert plan.settings(plan.names)["device"] == "auto"


def test_factors_come_in_the_order_of_the_tables_then_as_they_were_asked_for() -> None:
    test = {"n_layer": 3, "beta2": 0.99, "dropout": 0.1, "batch_size": 3, "min_lr": 0.0, "bias": True}
    plan = make({}, test, regroup={"zeta": ["bias"], "alpha": ["min_lr"]})
    assert plan.names == ("capacity", "batch", "regularisation", "optimizer", "zeta", "alpha")
    assert set(plan.names) - {"zeta", "alpha"} <= set(FACTORS)


@pytest.mark.parametrize(
    ("regroup", "said"),
    [
        ({"x": ["dropuot"]}, "dropout"),
        ({"x": ["dropout"], "y": ["dropout"]}, "two factors"),
        ({"1x": ["dropout"]}, "a letter"),
        ({"": ["dropout"]}, "a letter"),
        ({"a\nb": ["dropout"]}, "a letter"),
        ({"x" * 41: ["dropout"]}, "40 at most"),
        ({"x": ["\x1b[31m" + "y" * 5000]}, "there is no setting"),
        ({"x": []}, "name its settings"),
        ({"capacity": []}, "name its settings"),
    ],
)
def test_a_bad_factor_is_refused_in_one_line(regroup: dict[str, list[str]], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make({}, {"dropout": 0.1}, regroup=regroup)
    assert caught.value.slug == "bad-factor"
    assert said in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
