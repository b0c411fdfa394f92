"""JSON lines."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from lossgap.runs.readers.base import NO
from lossgap.runs.readers.formats.jsonl import READER

from .hostile import damaged, losses, metric, notes, read, source, survives, vals


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_rows_with_their_lines_and_exact_numbers() -> None:
    text = '{"step": 1, "loss": 9.599447250366211, "gradient_norm": 29.25}\n\n'
    text += '{"step": 2, "loss": 7.5, "gradient_norm": 12.0}\n'
    (run,) = read(READER, text)
    assert losses(run) == [(1, 9.599447250366211), (2, 7.5)]
    assert run.iters["grad_norm"].to_list() == [29.25, 12.0]
    assert run.iters["line"].to_list() == [1, 3]


def test_bare_nan_is_null_with_its_reason() -> None:
    (run,) = read(READER, '{"step": 1, "loss": NaN}\n{"step": 2, "loss": -Infinity}\n{"step": 3, "loss": 2.0}\n')
    assert run.iters["loss"].to_list() == [None, None, 2.0]
    assert run.iters["why"].to_list() == ["loss is nan", "loss is -inf", None]


def test_restarts_appended_are_runs_and_a_config_line_belongs_to_what_follows() -> None:
    text = lines(
        {"config": {"lr": 6e-4, "model": {"n_layer": 4}}},
        {"step": 1, "loss": 4.0},
        {"step": 2, "loss": 3.0},
        {"config": {"lr": 1e-3, "model": {"n_layer": 4}}},
        {"step": 1, "loss": 4.5},
        {"step": 2, "loss": 3.5},
    )
    runs = read(READER, text)
    assert [losses(run) for run in runs] == [[(1, 4.0), (2, 3.0)], [(1, 4.5), (2, 3.5)]]
    assert [run.config for run in runs] == [
        {"learning_rate": 6e-4, "n_layer": 4},
        {"learning_rate": 1e-3, "n_layer": 4},
    ]
    assert runs[1].config_sources["learning_rate"] == "line 4 (lr)"


def test_a_resume_further_back_is_one_run_with_a_seam() -> None:
    steps = [0, 10, 20, 30, 20, 30, 40]
    (run,) = read(READER, lines(*({"step": step, "loss": 4.0 - at / 10} for at, step in enumerate(steps))))
    assert losses(run) == [(0, 4.0), (10, 3.9), (20, 3.6), (30, 3.5), (40, 3.4)]
    assert isinstance(run.seams[0], dict)
    assert run.seams[0]["iter"] == 20


def test_nested_names_and_wrappers() -> None:
    row = {"step": 5, "metrics": {"train": {"loss": 2.5, "acc": 0.5}, "val": {"loss": 2.75}}, "note": "x"}
    (run,) = read(READER, lines(row))
    assert vals(run) == [(5, 2.75)]
    assert run.evals["train_loss"].to_list() == [2.5]
    assert metric(run, "train/acc") == [(5, 0.5)]


def test_a_text_says_of_which_split_the_loss_is() -> None:
    (run,) = read(
        READER,
        lines(
            {"mode": "train", "step": 10, "loss": 2.5, "lr": 1e-3},
            {"mode": "val", "step": 10, "loss": 2.75, "acc": 0.5},
        ),
    )
    assert (losses(run), vals(run)) == ([(10, 2.5)], [(10, 2.75)])
    assert run.iters["lr"].to_list() == [1e-3]
    assert metric(run, "val/acc") == [(10, 0.5)]


def test_one_value_per_line() -> None:
    (run,) = read(
        READER,
        lines({"metric": "train_loss", "value": 2.5, "step": 1}, {"metric": "train_loss", "value": 2.25, "step": 2}),
    )
    assert losses(run) == [(1, 2.5), (2, 2.25)]


def test_settings_without_a_name_for_them() -> None:
    (run,) = read(READER, lines({"batch_size": 12, "lr": 1e-3, "d_model": 64}, {"step": 1, "loss": 2.5}))
    assert run.config == {"batch_size": 12, "learning_rate": 1e-3, "n_embd": 64}


def test_bits_per_byte_and_perplexity_are_no_losses() -> None:
    (run,) = read(READER, lines({"step": 1, "val_bpb": 1.25, "val_ppl": 9.5, "loss": 2.5}))
    assert run.evals["val_bpb"].to_list() == [1.25]
    assert run.series["evals.val_bpb"].unit == "bits/byte"
    assert vals(run) == []
    assert metric(run, "val_ppl") == [(1, 9.5)]
    assert "exp(loss)" in notes(run)


def test_tokens_are_a_count_only_if_they_rise() -> None:
    (run,) = read(READER, lines(*({"step": at, "loss": 2.0, "tokens": at * 512} for at in range(4))))
    assert run.iters["tokens"].to_list() == [0, 512, 1024, 1536]
    (run,) = read(READER, lines(*({"step": at, "loss": 2.0, "tokens": 512 - at} for at in range(4))))
    assert run.iters["tokens"].to_list() == [None] * 4
    assert metric(run, "tokens")[1] == (1, 511.0)


def test_text_numbers_count_where_the_name_is_known() -> None:
    (run,) = read(READER, lines({"step": "3", "loss": "2.5", "host": "12"}))
    assert losses(run) == [(3, 2.5)]
    assert run.others.is_empty()


def test_damaged_lines_cost_themselves() -> None:
    text = '{"step": 1, "loss": 2.5}\n{"step": 2, "lo\nhello\n[1, 2]\n'
    text += '{"step": 3.5, "loss": 2}\n{"step": 4, "loss": 2.25}\n'
    (run,) = read(READER, text)
    assert losses(run) == [(1, 2.5), (4, 2.25)]
    assert run.damaged_lines == 2
    assert run.not_understood.count == 2
    assert run.not_understood.lines == (3, 4)


def test_hostile_lines() -> None:
    deep = '{"a": ' * 100_000 + "1" + "}" * 100_000
    surrogate, long = '{"step": 1, "loss": 2.5, "\\ud800": 1}', '{"step": 1' + "0" * 5000 + ', "loss": 2}'
    (run,) = read(READER, "\n".join((deep, surrogate, long)))
    assert losses(run) == [(1, 2.5)]
    assert run.damaged_lines == 2
    (run,) = read(READER, lines(*({f"m{at}": 1.0, "step": at} for at in range(3000))))
    assert "more than 2,000 metrics" in notes(run)


def test_what_is_not_json_lines() -> None:
    assert READER.score(source("step 1 loss 2\n").head()) == NO
    assert READER.score(source('{\n "a": 1\n}\n').head()) == NO


SAMPLE = lines(
    {"config": {"lr": 1}}, {"step": 1, "loss": 2.5, "mfu": 0.2}, {"split": "val", "step": 2, "loss": 2.25}
).encode()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["step", "loss", "val", "config", "value", "metric", "epoch", "mfu"]), inner)
    ),
    max_leaves=8,
)


@given(damaged(SAMPLE) | st.binary(max_size=200) | st.lists(VALUES, max_size=6).map(lambda rows: lines(*rows).encode()))
def test_any_bytes(data: bytes) -> None:
    survives(READER, source(data))
