"""Logs of strangers that were once read wrongly; each sample is written by hand in the form of the real one."""

from __future__ import annotations

import json

from lossgap.runs.readers.detect import detect
from lossgap.runs.run import Run

from .hostile import losses, source, vals


def read(text: str, name: str = "log.jsonl") -> Run:
    given = source(text, name)
    (run,) = detect(given).read(given)
    return run


def lines(*rows: dict[str, object]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def test_json_lines_with_a_few_rows_of_the_trainers_names_are_json_lines() -> None:
    rows: list[dict[str, object]] = [{"step": at, "loss": 4 - at / 100, "lr": 1e-3} for at in range(1, 100)]
    rows.insert(50, {"step": 50, "train_loss": 3.6, "val_loss": 3.75, "epoch": 1})
    run = read(lines(*rows))
    assert run.format == "jsonl"
    assert len(losses(run)) == 99
    assert vals(run) == [(50, 3.75)]
    assert run.not_understood.count == 0


def test_a_step_with_its_total_counts() -> None:
    run = read(
        lines(*({"loss": 3 - at / 9, "epoch": at / 9, "global_step/max_steps": f"{at}/9"} for at in range(1, 10)))
    )
    assert [at for at, _ in losses(run)] == list(range(1, 10))
    assert not run.seams


def test_histories_in_one_document() -> None:
    array = json.dumps([{"_step": at, "train/loss": 3 - at / 9, "_runtime": at} for at in range(9)])
    assert losses(read(array, "history.json"))[-1][0] == 8
    columns = json.dumps({"loss": [3.0, 2.0, 1.5], "val_loss": [3.25, 2.5, 2.25], "lr": [0.1, 0.1, 0.01]}, indent=1)
    run = read(columns, "history.json")
    assert [loss for _, loss in losses(run)] == [3.0, 2.0, 1.5]
    assert vals(run)[-1] == (3, 2.25)


def test_last_values_of_hugging_face() -> None:
    document = {"epoch": 3.0, "eval_loss": 1.25, "perplexity": 3.49, "train_loss": 2.5, "train_runtime": 100.0}
    run = read(json.dumps(document, indent=4), "all_results.json")
    assert run.format == "huggingface"
    assert vals(run) == [(3, 1.25)]
    assert not losses(run)


def test_a_rate_in_a_fork_of_nanogpt() -> None:
    before = "".join(f"iter {at}: loss {4 - at / 100:.4f}, lr 0.0006, time 9.50ms, mfu 1.00%\n" for at in range(9))
    after = "".join(f"iter {at}: loss {4 - at / 100:.4f}, time 9.50ms, mfu 1.00%, lr 0.0006\n" for at in range(9))
    for text in (before, after):
        run = read(text, "a.log")
        assert run.format == "nanogpt"
        assert run.iters["lr"].to_list() == [0.0006] * 9


def test_older_lines_of_litgpt() -> None:
    run = read(
        "".join(f"iter {at}: loss train (curr): {4 - at / 10:.4f}, val: n/a, time: 90.1ms\n" for at in range(9)), "a"
    )
    assert losses(run)[-1] == (8, 3.2)


def test_torchtitan_in_markdown() -> None:
    row = "> step: {0:2d}  loss: {1:.4f}  memory: 66.91GiB(37.51%)  tps: 10,050  mfu: 13.99%\n"
    run = read("# A run\n\n" + "".join(row.format(at, 8 - at / 10) for at in range(1, 9)), "README.md")
    assert run.format == "torchtitan"
    assert losses(run)[-1] == (8, 7.2)


def test_dicts_in_the_middle_of_other_output() -> None:
    rows = "".join(
        f"{{'loss': {2 - at / 100:.4f}, 'grad_norm': 1.5, 'learning_rate': 1e-05, 'epoch': {at / 50}}}\n"
        f"  {at * 2}%|#  | {at}/50 [00:01<00:10,  1.1it/s]\nsaw a batch\n"
        for at in range(1, 51)
    )
    head = "[2024-01-01 00:00:00,000] [INFO] [axolotl.train.main] loading\n" * 1500
    run = read(head + rows + "{'eval_loss': 1.75, 'eval_runtime': 3.5, 'epoch': 1.0}\n", "a.log")
    assert run.format == "huggingface"
    assert vals(run)[-1][1] == 1.75
    assert len(losses(run)) == 50
