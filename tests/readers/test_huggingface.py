"""Hugging Face's Trainer: its state and what it prints."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lossgap.runs.readers.base import NO, Source
from lossgap.runs.readers.formats.huggingface import READER

from .hostile import damaged, losses, metric, notes, read, source, survives, vals

STATE = {
    "epoch": 2.0,
    "global_step": 20,
    "max_steps": 20,
    "num_input_tokens_seen": 20480,
    "train_batch_size": 8,
    "logging_steps": 10,
    "log_history": [
        {"epoch": 1.0, "grad_norm": 4.25, "learning_rate": 2.5e-05, "loss": 2.1409, "step": 10},
        {"epoch": 1.0, "eval_loss": 1.96, "eval_accuracy": 0.5, "eval_runtime": 7.2, "step": 10},
        {"epoch": 1.0, "predict_loss": 1.9},
        {"epoch": 2.0, "grad_norm": 4.0, "learning_rate": 0.0, "loss": 1.8, "step": 20},
        {"epoch": 2.0, "step": 20, "total_flos": 1e15, "train_loss": 1.97, "train_runtime": 99.5},
    ],
}


def test_the_state_of_a_finished_run() -> None:
    given = source(json.dumps(STATE), "trainer_state.json")
    assert READER.score(given.head()) > 0.8
    (run,) = read(READER, json.dumps(STATE), "trainer_state.json")
    assert losses(run) == [(10, 2.1409), (20, 1.8)]
    assert vals(run) == [(10, 1.96)]
    assert run.iters["lr"].to_list() == [2.5e-05, 0.0]
    assert run.series["iters.loss"].kind == "interval-mean"
    assert metric(run, "predict_loss") == [(10, 1.9)]
    assert metric(run, "eval_accuracy") == [(10, 0.5)]
    assert run.config == {"max_iters": 20, "batch_size": 8, "log_interval": 10}
    assert run.status == "finished"
    assert run.inferred[0].value == 1024
    assert run.iters["line"].to_list() == [1, 4]


def test_the_mean_over_the_run_is_no_loss_of_its_end() -> None:
    (run,) = read(READER, json.dumps(STATE))
    assert metric(run, "train_loss") == [(20, 1.97)]
    assert run.series["others.train_loss"].kind == "run-mean"
    assert "mean over the whole run" in notes(run)
    (short,) = read(READER, json.dumps(STATE | {"log_history": STATE["log_history"][-1:]}))  # type: ignore[index]  # a list
    assert losses(short) == []


def test_numbers_as_text_are_numbers() -> None:
    history = [{"loss": "2.25", "learning_rate": "5e-05", "epoch": "0.5", "step": "10"}]
    (run,) = read(READER, json.dumps({"log_history": history}))
    assert losses(run) == [(10, 2.25)]
    assert run.iters["lr"].to_list() == [5e-05]


def test_several_evaluation_sets_are_not_mixed() -> None:
    history = [{"step": 0, "eval_a_loss": 5.5, "epoch": 0}, {"step": 0, "eval_b_loss": 8.25, "epoch": 0}]
    text = json.dumps({"log_history": history})
    (run,) = read(READER, text)
    assert vals(run) == []
    assert metric(run, "eval_a_loss") == [(0, 5.5)]
    assert "--columns val_loss=eval_a_loss" in notes(run)
    (told,) = read(READER, text, columns={"val_loss": "eval_b_loss"})
    assert vals(told) == [(0, 8.25)]
    (one,) = read(READER, json.dumps({"log_history": history[:1]}))
    assert vals(one) == [(0, 5.5)]
    assert "guessed" in notes(one)


def test_an_empty_history_and_bare_nan() -> None:
    (run,) = read(READER, json.dumps(STATE | {"log_history": []}))
    assert run.iters.is_empty()
    assert "log_history is empty" in notes(run)
    (run,) = read(READER, json.dumps({"log_history": [{"step": 1, "loss": float("nan")}, "x", None]}))
    assert run.iters["why"].to_list() == ["loss is nan"]
    assert run.damaged_lines == 2


def test_a_folder_is_read_by_its_last_checkpoint(tmp_path: Path) -> None:
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        text = json.dumps({"log_history": [{"step": step, "loss": 2.0}]})
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(text)
    given = Source(path=tmp_path, name=tmp_path.name)
    assert READER.score(given.head()) > 0.5
    (run,) = READER.read(given)
    assert losses(run) == [(10, 2.0)]


PRINTED = (
    "***** Running training *****\n"
    "  0%|          | 0/20 [00:00<?, ?it/s]\r 50%|#####     | 10/20 [00:05<00:05,  2it/s]"
    "{'loss': 2.1409, 'grad_norm': 4.25, 'learning_rate': 2.5e-05, 'epoch': 1.0}\n"
    " 50%|#####     | 10/20 [00:05<00:05,  2it/s]\r100%|####| 4/4 [00:01<00:00, 4it/s]\n"
    "{'eval_loss': '1.96', 'eval_runtime': '7.2', 'epoch': '1'}\n"
    "100%|##########| 20/20 [00:10<00:00,  2it/s]\n"
    "{'loss': np.float64(1.8), 'grad_norm': nan, 'learning_rate': 0.0, 'epoch': 2.0}\n"
    "{'train_runtime': 99.5, 'train_loss': 1.97, 'epoch': 2.0}\n"
)


def test_printed_dicts_stand_at_the_step_of_the_progress_bar() -> None:
    assert READER.score(source(PRINTED).head()) > 0.8
    (run,) = read(READER, PRINTED)
    assert losses(run) == [(10, 2.1409), (20, 1.8)]
    assert vals(run) == [(10, 1.96)]
    assert metric(run, "train_loss") == [(20, 1.97)]
    assert run.not_understood.lines == (1,)
    assert "progress bar" in notes(run)


def test_the_bar_of_something_before_the_training_is_not_its_bar() -> None:
    (run,) = read(READER, "Map: 100%|####| 99/99 [00:01<00:00, 9 examples/s]\n" + PRINTED)
    assert losses(run) == [(10, 2.1409), (20, 1.8)]


def test_printed_dicts_without_a_bar_are_counted() -> None:
    text = "{'loss': 2.5, 'epoch': 0.1}\n{'eval_loss': 2.25, 'epoch': 0.1}\n{'loss': 2.25, 'epoch': 0.2}\n"
    (run,) = read(READER, text)
    assert losses(run) == [(1, 2.5), (2, 2.25)]
    assert vals(run) == [(1, 2.25)]
    assert "iter counts the entries" in notes(run)


def test_a_dict_is_never_evaluated() -> None:
    bomb = "{'loss': __import__('os').system('touch /nonexistent/x'), 'epoch': 1}\n"
    (run,) = read(READER, bomb + "{'loss': 2.5, 'epoch': " + "(" * 10_000 + "}\n{'loss': 2.0, 'epoch': 1}\n")
    assert losses(run) == [(1, 2.0)]
    assert run.damaged_lines == 2


def test_what_is_not_of_the_trainer() -> None:
    assert READER.score(source('{\'a\': 1}\n{"step": 1, "loss": 2}\n').head()) == NO
    assert read(READER, "{" * 100_000)[0].iters.is_empty()


@given(damaged(PRINTED.encode()) | damaged(json.dumps(STATE).encode()) | st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    survives(READER, source(data, "trainer_state.json"))
