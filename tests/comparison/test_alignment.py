from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comparison.made import GPU, LAPTOP, PRINTED, curve, run, table
from lossgap.comparison.alignment import align
from lossgap.comparison.curve import blocks
from lossgap.comparison.facts import Facts
from lossgap.comparison.metric import Metric, NoMetric, metric
from lossgap.comparison.scales import Name
from lossgap.runs.run import EVAL_COLUMNS, Series

NAMES: tuple[Name, ...] = ("iterations", "tokens", "passes", "flops", "phase")


def _facts(vals: dict[int, float], **fields: object) -> Facts:
    return Facts.of(run(vals, **fields))  # type: ignore[arg-type]


def test_last_and_best_are_separate_rows() -> None:
    overfit = {0: 4.2, 1000: 1.6, 2000: 1.5, 5000: 1.7}
    found = align(_facts(curve(1.88)), _facts(overfit))
    assert found.gap("last") == pytest.approx(-0.18)
    assert found.gap("best") == pytest.approx(1.5 - 1.88)
    best = found.row("best").test
    assert best is not None
    assert best.iter == 2000


def test_equal_places_of_recipes_with_another_batch() -> None:
    control = _facts({0: 4.0, 1000: 3.0, 2000: 2.0})
    test = _facts({0: 4.0, 500: 2.5, 1000: 1.5}, config=LAPTOP | {"batch_size": 36})
    found = align(control, test)
    at = {name: found.row(name) for name in ("iterations", "tokens", "passes", "flops")}
    # Equal iterations: both logged 1000.
    assert (at["iterations"].at, at["iterations"].gap, at["iterations"].interpolated) == (1000, -1.5, False)
    # The control's end is 1,536,000 tokens; the test is there at 666.67, between 500 and 1000.
    assert at["tokens"].at == 1_536_000
    assert at["tokens"].interpolated
    assert at["tokens"].gap == pytest.approx(2.5 - (2000 / 3 - 500) / 500 - 2.0)
    assert at["passes"].gap == pytest.approx(at["tokens"].gap)
    assert at["flops"].gap == pytest.approx(at["tokens"].gap)


def test_another_model_meets_at_other_flops_and_another_horizon_at_another_phase() -> None:
    control = _facts({0: 4.0, 1000: 3.0, 2000: 2.0})
    test = _facts({0: 4.0, 1000: 2.9, 2000: 1.9}, config=LAPTOP | {"n_layer": 8, "lr_decay_iters": 1000})
    found = align(control, test)
    flops, phase = found.row("flops"), found.row("phase")
    per_iter = control.flops_per_iter.value, test.flops_per_iter.value
    assert per_iter[0] is not None
    assert per_iter[1] is not None
    assert flops.at == pytest.approx(2000 * per_iter[0])
    assert flops.test is not None
    assert flops.test.iter == pytest.approx(2000 * per_iter[0] / per_iter[1])
    assert phase.at == 1.0
    assert phase.gap == pytest.approx(2.9 - 2.0)


def test_a_row_that_cannot_be_filled_says_what_is_missing() -> None:
    bare = _facts(curve(1.9), config={})
    found = align(_facts(curve(1.88)), bare)
    assert found.row("iterations").gap == pytest.approx(0.02)
    tokens = found.row("tokens")
    assert tokens.gap is None
    assert "test.block_size" in tokens.needs
    assert tokens.why.startswith("test: ")


def test_runs_without_a_common_range_are_not_extrapolated() -> None:
    found = align(_facts({0: 4.0, 1000: 2.0}), _facts({5000: 1.7}))
    row = found.row("iterations")
    assert row.gap is None
    assert row.apart
    assert "5,000" in row.why
    assert "1,000" in row.why


iterations = st.lists(st.integers(0, 10_000), min_size=1, max_size=12, unique=True).map(sorted)


@st.composite
def falling(draw: st.DrawFn) -> dict[int, float]:
    at = draw(iterations)
    drops = draw(st.lists(st.floats(0, 0.5), min_size=len(at), max_size=len(at)))
    return {i: round(9.0 - total, 6) for i, total in zip(at, np.cumsum(drops).tolist(), strict=True)}


@given(falling(), falling(), st.sampled_from([12, 24, 36, 7]))
def test_a_value_is_logged_or_between_its_logged_neighbours(
    first: dict[int, float], second: dict[int, float], batch: int
) -> None:
    control, test = _facts(dict(first)), _facts(dict(second), config=LAPTOP | {"batch_size": batch})
    found = align(control, test)
    for name in NAMES:
        row = found.row(name)
        for logged, value in ((first, row.control), (second, row.test)):
            if value is None:
                assert row.why
                continue
            at = list(logged)
            assert at[0] <= value.iter <= at[-1]
            if not value.interpolated:
                assert logged[round(value.iter)] == value.value
                assert value.iter in logged
            else:
                left = max(i for i in at if i <= value.iter)
                right = min(i for i in at if i >= value.iter)
                assert min(logged[left], logged[right]) - 1e-9 <= value.value <= max(logged[left], logged[right]) + 1e-9
        # The place is the end of one of the runs, so at least one value is a logged one.
        if row.control is not None and row.test is not None:
            assert not (row.control.interpolated and row.test.interpolated)


@given(falling())
def test_a_run_is_nowhere_apart_from_itself(vals: dict[int, float]) -> None:
    found = align(_facts(dict(vals)), _facts(dict(vals)))
    for row in found.rows:
        if row.by != "seconds":
            assert row.gap == 0
            assert not row.interpolated
    assert found.common is not None
    assert (found.common.gaps == 0).all()


def test_coincide_needs_three_common_evaluations_beyond_the_first() -> None:
    few, many = {0: 4.0, 1: 3.0, 2: 2.0}, {0: 4.0, 1: 3.0, 2: 2.0, 3: 1.9}
    assert not align(_facts(dict(few)), _facts(dict(few))).coincide
    assert align(_facts(dict(many)), _facts(dict(many))).coincide
    assert not align(_facts(dict(many)), _facts(many | {3: 1.8999})).coincide


# ---------------------------------------------------------------------------------------------
# The metric


def test_a_side_without_any_loss_is_told_as_that() -> None:
    found = metric(Facts.of(run(curve(1.9))), Facts.of(run({})))
    assert isinstance(found, NoMetric)
    assert found.why == "test has no losses in the record"


def test_a_val_loss_is_not_held_against_a_train_loss() -> None:
    without = run({}, losses={0: 4.0, 1: 3.0})
    found = align(_facts(curve(1.9)), Facts.of(without))
    assert isinstance(found.metric, NoMetric)
    assert "val loss" in found.metric.why
    assert found.gap("last") is None
    assert all(row.why for row in found.rows)


def test_dropout_in_one_val_loss_makes_it_not_comparable() -> None:
    dropped = PRINTED | {"evals.val_loss": Series(kind="eval-mean", split="val", mode="train", unit="nats/token")}
    found = metric(_facts(curve(1.9)), _facts(curve(2.1), series=dropped))
    assert isinstance(found, NoMetric)
    assert "dropout" in found.why


def test_logs_without_evaluation_are_compared_in_block_means() -> None:
    losses = {at: 4.0 - at / 1000 for at in range(1000)}
    found = align(
        Facts.of(run({}, losses=losses)), Facts.of(run({}, losses={at: v + 0.25 for at, v in losses.items()}))
    )
    assert isinstance(found.metric, Metric)
    assert (found.metric.name, found.metric.mode) == ("train_loss", "train")
    assert found.gap("last") == pytest.approx(0.25)
    assert len(found.metric.control) == 100


def test_the_train_loss_of_both_is_compared_where_only_one_evaluates() -> None:
    losses = {at: 4.0 - at / 100 for at in range(50)}
    found = align(_facts({0: 4.2, 49: 3.3}, losses=losses), Facts.of(run({}, losses=losses)))
    assert isinstance(found.metric, Metric)
    assert found.metric.name == "train_loss"
    assert found.gap("last") == 0


def test_bits_per_byte_of_other_texts_are_not_comparable() -> None:
    rows = table(EVAL_COLUMNS, [{"kind": "eval", "iter": 100, "val_bpb": 1.0, "line": 1}])

    def bits(vocab: int, **config: object) -> Facts:
        return Facts.of(run({}, evals=rows, format="nanochat", config=config, corpus={"vocab_size": vocab}))

    assert isinstance(metric(bits(65_536), bits(50_257)), NoMetric)
    assert isinstance(metric(bits(65_536, dataset="a"), bits(50_257, dataset="b")), NoMetric)
    same = metric(bits(65_536, dataset="a"), bits(50_257, dataset="a"))
    assert isinstance(same, Metric)
    assert same.unit == "nats/byte"


def test_two_tokenizers_are_compared_per_byte_where_both_logs_have_it() -> None:
    rows = table(EVAL_COLUMNS, [{"kind": "eval", "iter": 100, "val_loss": 2.0, "val_bpb": 1.0, "line": 1}])

    def both(vocab: int) -> Facts:
        config = {"dataset": "a", "vocab_size": vocab}
        return Facts.of(run({}, evals=rows, format="modded-nanogpt", config=config))

    found = metric(both(4096), both(8192))
    assert isinstance(found, Metric)
    assert found.unit == "nats/byte"
    assert found.control.last.value == pytest.approx(math.log(2))
    tokens = metric(both(4096), both(4096))
    assert isinstance(tokens, Metric)
    assert tokens.unit == "nats/token"


def test_block_means_leave_the_first_rows_out() -> None:
    made = Facts.of(run({}, losses={at: float(at) for at in range(25)})).train
    assert made is not None
    found = blocks(made, 10)
    assert found.iters.tolist() == list(range(2, 25, 2))
    assert found.values.tolist() == [at - 0.5 for at in range(2, 25, 2)]


def test_other_tokenizers_of_one_text_are_compared_per_byte() -> None:
    bpe = GPU | {"dataset": "shakespeare"}
    found = align(_facts(curve(1.5)), _facts(curve(4.8), config=bpe))
    assert isinstance(found.metric, Metric)
    assert found.metric.unit == "nats/byte"
    assert found.gap("last") == pytest.approx(4.8 * 36_059 / 111_540 - 1.5)


def test_other_tokenizers_of_other_texts_are_not_comparable() -> None:
    other = LAPTOP | {"dataset": "openwebtext"}
    found = metric(_facts(curve(1.5)), _facts(curve(3.2), config=other))
    assert isinstance(found, NoMetric)
    assert "65" in found.why
    assert "50,304" in found.why


def test_bits_per_byte_meet_nats_per_token() -> None:
    rows = table(EVAL_COLUMNS, [{"kind": "eval", "iter": 100, "val_bpb": 2.0, "line": 1}])
    bits = Facts.of(run({}, evals=rows, format="nanochat", config={"dataset": "shakespeare_char"}))
    found = align(_facts({100: 1.5}), bits)
    assert isinstance(found.metric, Metric)
    assert found.metric.unit == "nats/byte"
    assert found.gap("last") == pytest.approx(2 * math.log(2) - 1.5)


def test_an_unknown_vocabulary_is_an_assumption_that_is_said() -> None:
    found = metric(_facts(curve(1.5)), _facts(curve(1.4), config={}))
    assert isinstance(found, Metric)
    assert "test" in found.assumptions[0]


def test_exact_final_losses_are_taken_where_both_have_them() -> None:
    def own(final: float, sampled: float) -> Facts:
        rows = [
            {"kind": "eval", "iter": 2000, "mode": "sampled", "val_loss": sampled, "val_se": 0.01},
            {"kind": "final", "iter": 2001, "mode": "exact", "val_loss": final, "val_se": 0.0},
        ]
        return Facts.of(run({}, evals=table(EVAL_COLUMNS, rows), format="lossgap"))

    found = align(own(1.88, 1.90), own(1.86, 1.91))
    assert found.row("last").exact
    assert found.gap("last") == pytest.approx(-0.02)
    assert found.gap("best") == pytest.approx(0.01)
    assert align(own(1.88, 1.9), _facts({2000: 1.95})).gap("last") == pytest.approx(0.05)
