from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from comparison.made import GPU, LAPTOP, curve, run
from lossgap import schedule
from lossgap.comparison.fact import Fact, Known, Unknown, derive, first_known
from lossgap.comparison.facts import Facts
from lossgap.config import TrainConfig
from lossgap.gpt import GPT, GPTConfig
from lossgap.runs.run import Inferred
from lossgap.schedule import nanogpt_rate


def test_the_two_recipes_of_the_note_have_their_known_sizes() -> None:
    laptop, gpu = Facts.of(run(curve(1.88))), Facts.of(run(curve(1.7, last=5000), config=GPU))
    assert (laptop.n_params.value, gpu.n_params.value) == (795_904, 10_646_784)
    assert (laptop.tokens_per_iter.value, gpu.tokens_per_iter.value) == (768, 16_384)
    assert laptop.flops_at(2000).value == pytest.approx(7.94e12, rel=1e-3)
    assert gpu.flops_at(5000).value == pytest.approx(5.81e15, rel=1e-3)
    assert gpu.passes_at(5000).value == pytest.approx(81.6, abs=0.05)
    assert (laptop.eval_tokens.value, gpu.eval_tokens.value) == (15_360, 3_276_800)
    assert laptop.expected_initial_loss.value == pytest.approx(math.log(65))


@pytest.mark.parametrize("bias", [False, True])
def test_parameters_are_counted_as_the_model_counts_them(bias: bool) -> None:
    shape: dict[str, object] = {"n_layer": 3, "n_head": 2, "n_embd": 16, "block_size": 8}
    with torch.device("meta"):
        model = GPT(GPTConfig(vocab_size=65, dropout=0.0, bias=bias, n_layer=3, n_head=2, n_embd=16, block_size=8))
    facts = Facts.of(run({}, config=LAPTOP | shape | {"bias": bias}))
    assert facts.n_params.value == model.num_params()
    assert facts.flops_per_token.value == model.flops_per_token()


@pytest.mark.parametrize(
    ("name", "printed", "used"),
    [
        ("total", 795_904 + 64 * 128, 795_904),
        ("total", 795_904, 795_904),
        ("total", 1_400_000, 1_400_000),
        ("total", 500_000, 500_000),
        ("nanogpt_count", 1_400_000, 1_400_000),
        ("nanogpt_count", 800_000, 795_904),
    ],
)
def test_a_printed_count_of_other_blocks_wins_over_the_formula(name: str, printed: int, used: int) -> None:
    parameters: dict[str, object] = {name: printed}
    if name == "nanogpt_count":
        parameters["rounded_to"] = 10_000
    assert Facts.of(run(curve(1.88), config=LAPTOP | {"vocab_size": 65}, parameters=parameters)).n_params.value == used


def test_unknown_names_the_settings_it_lacks() -> None:
    facts = Facts.of(run(curve(1.9), config={"batch_size": 12, "block_size": 64}))
    batch = facts.batch
    assert isinstance(batch, Unknown)
    assert batch.needs == ("gradient_accumulation_steps",)
    assert isinstance(facts.n_params, Unknown)
    assert {"n_layer", "n_embd"} <= set(facts.n_params.needs)
    # What needs two unknown things names both.
    assert set(facts.flops_per_iter.needs) >= {"n_layer", "gradient_accumulation_steps"}


def test_printed_tokens_per_iteration_win_over_the_settings() -> None:
    facts = Facts.of(run(curve(1.9), config=LAPTOP | {"gradient_accumulation_steps": 40}, tokens_per_iter=768))
    assert facts.batch.value == 12
    assert facts.tokens_per_iter == Known(768, "stated", "tokens per iteration in the record")


def test_what_follows_from_an_inferred_setting_is_inferred() -> None:
    config = {name: value for name, value in LAPTOP.items() if name != "batch_size"}
    inferred = [Inferred(name="batch_size", value=12, why="the recipe")]
    facts = Facts.of(run(curve(1.9), config=config, inferred=inferred))
    batch = facts.batch
    assert isinstance(batch, Known)
    assert batch.evidence == "inferred"
    assert "the recipe" in batch.how
    block = facts.block_size
    assert isinstance(block, Known)
    assert block.evidence == "stated"


def test_tokens_that_the_reader_inferred_are_not_stated() -> None:
    inferred = [Inferred(name="tokens_per_iter", value=768, why="a product")]
    facts = Facts.of(run(curve(1.9), config={"block_size": 64}, inferred=inferred, tokens_per_iter=768))
    assert facts.tokens_per_iter == Known(768, "inferred", "a product")


def test_nanogpt_ignores_dtype_on_a_cpu_and_not_on_cuda() -> None:
    assert Facts.of(run({}, config=LAPTOP)).dtype.value == "float32"
    assert Facts.of(run({}, config=GPU)).dtype.value == "float16"
    # Of another trainer nobody knows that.
    assert Facts.of(run({}, config=LAPTOP, format="jsonl")).dtype.value == "float16"


@pytest.mark.parametrize("value", ["12", 0, -3, 1.5, float("nan"), True, None, [12]])
def test_a_setting_of_the_wrong_kind_is_unknown(value: object) -> None:
    facts = Facts.of(run({}, config=LAPTOP | {"batch_size": value}))
    assert isinstance(facts.batch, Unknown)
    assert facts.batch.needs == ("batch_size",)


def test_learning_rate_and_how_far_it_has_decayed() -> None:
    facts = Facts.of(run(curve(1.9)))
    assert facts.lr_at(2000).value == pytest.approx(1e-4)
    assert facts.decayed_at(2000).value == pytest.approx(1.0)
    assert facts.decayed_at(1050).value == pytest.approx(0.5)
    assert facts.decayed_at(10).value == 0.0
    assert facts.phase_at(500).value == pytest.approx(0.25)
    constant = Facts.of(run(curve(1.9), config=LAPTOP | {"decay_lr": False}))
    assert constant.lr_at(1234).value == 1e-3
    assert isinstance(constant.phase_at(1234), Unknown)


@given(st.integers(0, 3000), st.integers(0, 500), st.integers(501, 4000))
def test_the_schedule_is_that_of_the_trainer(at: int, warmup: int, horizon: int) -> None:
    config = TrainConfig(warmup_iters=warmup, lr_decay_iters=horizon, learning_rate=1e-3, min_lr=1e-4)
    ours = nanogpt_rate(at, learning_rate=1e-3, min_lr=1e-4, warmup_iters=warmup, lr_decay_iters=horizon, decay_lr=True)
    assert ours == schedule.learning_rate(config, at)


def test_seconds_leave_evaluation_and_compilation_out() -> None:
    losses = dict.fromkeys(range(101), 2.0)
    made = run({0: 4.2, 50: 2.5, 100: 2.0}, losses=losses, ms=10.0)
    slow = made.iters.with_columns(
        ms=made.iters["iter"].is_in([0, 50, 100]).replace_strict({True: 5000.0, False: 10.0})
    )
    facts = Facts.of(run({0: 4.2, 50: 2.5, 100: 2.0}, losses=losses, iters=slow))
    assert facts.seconds_at(100).value == pytest.approx(1.0)
    assert isinstance(Facts.of(run({0: 4.2})).seconds_at(0), Unknown)


def test_seconds_with_a_log_interval_count_the_iterations_between() -> None:
    losses = dict.fromkeys(range(0, 101, 10), 2.0)
    assert Facts.of(run({}, losses=losses, ms=20.0)).seconds_at(100).value == pytest.approx(2.0)


def test_a_resumed_leg_replaces_the_rows_it_repeats() -> None:
    made = run({0: 4.2, 250: 2.5, 500: 2.2})
    again = run({250: 2.6, 750: 2.0})
    both = made.evals.vstack(again.evals)
    val = Facts.of(run({}, evals=both)).val
    assert val is not None
    assert val.iters.tolist() == [0, 250, 500, 750]
    assert val.values.tolist() == [4.2, 2.6, 2.2, 2.0]
    assert val.superseded == 1


def test_derive_gathers_what_is_missing_and_the_weakest_evidence() -> None:
    def total(*values: int) -> int:
        return sum(values)

    a: Fact[int] = Known(1, "stated", "a")
    b: Fact[int] = Known(2, "inferred", "guessed b")
    c: Fact[int] = Unknown("no c", ("c",))
    assert derive("sum", total, a, a) == Known(2, "computed", "sum")
    assert derive("sum", total, a, b) == Known(3, "inferred", "sum (guessed b)")
    assert derive("sum", total, a, c, c) == Unknown("no c", ("c",))
    assert first_known(c, b, a) is b
