"""Scaled-down experiments: the same two recipes, smaller."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossgap.attribution.explanation import Scale
from lossgap.attribution.factor import factors
from lossgap.attribution.scale import (
    LEAST_CONTEXT,
    LEAST_HEAD,
    LEAST_WINDOWS,
    STEPS,
    made,
    parse,
    scaled,
    with_corpus,
)
from lossgap.config import TrainConfig
from lossgap.errors import ConfigError
from lossgap.presets import preset


@st.composite
def configs(draw: st.DrawFn) -> TrainConfig:
    heads, most = draw(st.integers(1, 12)), draw(st.integers(0, 600_000))
    warmup = draw(st.integers(0, max(most // 2, 1)))
    return TrainConfig(
        dataset="text",
        n_head=heads,
        n_embd=heads * draw(st.integers(1, 128)),
        block_size=draw(st.integers(1, 2048)),
        batch_size=draw(st.integers(1, 500)),
        gradient_accumulation_steps=draw(st.integers(1, 64)),
        max_iters=most,
        warmup_iters=warmup,
        lr_decay_iters=draw(st.integers(warmup + 1, 2 * most + 2)),
    )


SCALES = st.builds(made, st.integers(1, 64), st.integers(1, 16))


@given(configs(), SCALES)
@settings(max_examples=200, deadline=None)
def test_a_scaled_config_is_a_config_and_no_larger(config: TrainConfig, scale: Scale) -> None:
    found = scaled(config, scale)
    for name in ("max_iters", "warmup_iters", "n_embd", "block_size", "tokens_per_iter"):
        assert getattr(found, name) <= getattr(config, name)
    assert (found.n_layer, found.n_head, found.learning_rate) == (config.n_layer, config.n_head, config.learning_rate)
    assert abs(found.max_iters - config.max_iters / scale.iterations) <= 1
    sequences, asked = (item.batch_size * item.gradient_accumulation_steps for item in (found, config))
    assert sequences == max(1, round(asked / scale.shape))
    head, least = config.n_embd // config.n_head, min(LEAST_HEAD, config.n_embd // config.n_head)
    assert found.n_embd // found.n_head == max(least, round(head / scale.shape))
    assert found.block_size == max(min(LEAST_CONTEXT, config.block_size), round(config.block_size / scale.shape))


@given(configs(), SCALES)
@settings(max_examples=100, deadline=None)
def test_horizons_keep_their_part_of_the_training(config: TrainConfig, scale: Scale) -> None:
    found = scaled(config, scale)
    for name in ("lr_decay_iters", "warmup_iters"):
        exact = getattr(config, name) * found.max_iters / max(config.max_iters, 1)
        # At least one iteration where there was one, and one more decay where it would end with the warm-up.
        assert abs(getattr(found, name) - exact) <= (2 if name == "lr_decay_iters" else 1)


@given(configs(), configs(), SCALES, st.integers(1, 10**9))
@settings(max_examples=200, deadline=None)
def test_the_train_split_is_cut_as_the_tokens_are(
    one: TrainConfig, other: TrainConfig, scale: Scale, train_tokens: int
) -> None:
    """The end that reads more passes over it as often as at the true scale, or less often where a window must fit."""
    found = with_corpus(scale, one, other, train_tokens)
    kept = found.train_tokens or train_tokens
    assert 0 < kept <= train_tokens
    assert found.rule.startswith(scale.rule)
    if scale.true:
        assert found == scale
        return
    longer = max(one, other, key=lambda end: end.tokens_per_iter * end.max_iters)
    small = scaled(longer, scale)
    window = LEAST_WINDOWS * (max(scaled(end, scale).block_size for end in (one, other)) + 1)
    exact = train_tokens * small.tokens_per_iter * small.max_iters / max(longer.tokens_per_iter * longer.max_iters, 1)
    assert kept == pytest.approx(min(train_tokens, max(exact, window)), abs=1.01)


def test_another_trainers_corpus_is_not_cut_and_that_is_said() -> None:
    ends = [TrainConfig.from_dict(preset(name)) for name in ("shakespeare_char_cpu", "shakespeare_char")]
    ours = with_corpus(made(8, 2), ends[0], ends[1], 1_003_854)
    assert 1_003_854 / ours.train_tokens == pytest.approx(8 * 2 * 2, rel=0.01)
    assert "keeps the passes" in ours.rule
    theirs = with_corpus(made(8, 2), ends[0], ends[1], None)
    assert theirs.train_tokens == 0
    assert "not cut" in theirs.rule


@given(configs())
def test_the_true_scale_changes_nothing(config: TrainConfig) -> None:
    assert scaled(config, Scale()) is config


@given(st.integers(2, 40), st.integers(1, 20), st.integers(1, 20), SCALES)
@settings(max_examples=200, deadline=None)
def test_two_trainings_in_proportion_stay_so(part: int, shorter: int, longer: int, scale: Scale) -> None:
    """Warm-ups that are the same part of two lengths do not become a factor by rounding."""
    ends = [
        TrainConfig(
            dataset="text", max_iters=times * 20 * part, lr_decay_iters=times * 20 * part, warmup_iters=times * 20
        )
        for times in (shorter, longer)
    ]
    plan = factors(*(scaled(end, scale) for end in ends))
    assert set(plan.names) <= {"length"}
    assert plan.settings(plan.names)["warmup_iters"] == scaled(ends[1], scale).warmup_iters


@given(st.integers(1, 240), SCALES)
def test_the_same_batch_in_other_micro_batches_stays_the_same(micro: int, scale: Scale) -> None:
    ends = [
        TrainConfig(dataset="text", batch_size=size, gradient_accumulation_steps=steps)
        for size, steps in ((micro, 5), (5 * micro, 1))
    ]
    assert factors(*(scaled(end, scale) for end in ends)).names == ()


def test_the_notes_own_pair_keeps_its_factors() -> None:
    """At the scale that a laptop bears, the two Shakespeare recipes differ in what they differ in at the true one."""
    ends = [TrainConfig.from_dict(preset(name)) for name in ("shakespeare_char_cpu", "shakespeare_char")]
    true = factors(*ends).names
    assert "schedule" in true, "a warm-up of 100 iterations is 5% of the one and 2% of the other"
    assert factors(*(scaled(end, made(8, 4)) for end in ends)).names == true


def test_steps_go_down_from_the_true_scale() -> None:
    assert STEPS[0] == (1, 1)
    # FLOPs of an arm go with iterations, context, batch, and twice with the channels.
    costs = [iterations * shape**4 for iterations, shape in STEPS]
    assert costs == sorted(costs)
    assert all(made(*step).true == (step == (1, 1)) for step in STEPS)


@pytest.mark.parametrize(
    ("text", "expected"), [("1", (1, 1)), ("8", (8, 1)), ("8:4", (8, 4)), ("1:4", (1, 4)), ("999999:1", (999999, 1))]
)
def test_scales_parse(text: str, expected: tuple[int, int]) -> None:
    found = parse(text)
    assert found is not None
    assert (found.iterations, found.shape) == expected
    assert found.true == (expected == (1, 1))
    assert found.true or ("signs are of this scale" in found.rule and str(expected[0]) in found.rule)


def test_auto_is_for_the_budget_to_decide() -> None:
    assert parse("auto") is None


@pytest.mark.parametrize(
    "text", ["", "0", "8:0", "-1", "1.5", "8:4:2", "8:", ":4", "x", "8 :4", "1000000", "\n8", "8\n", "٣", "9" * 5000]
)
def test_a_bad_scale_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert caught.value.slug == "bad-scale"
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
