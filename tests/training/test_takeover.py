"""What a resume does not take on the word of a checkpoint: trackers, files, and a corpus that has changed since."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lossgap.training import checkpoint

from .small import Ended, one_error, record, same_run

Command = Callable[..., Ended]


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """What a stranger may do to a checkpoint: the digest is a hash and no signature."""
    state = torch.load(path, weights_only=True)
    change(state)
    checkpoint.write(path.parent, [path.name], state)


def newest(folder: str) -> Path:
    return checkpoint.find(Path(folder)).path


def resumed(*more: str) -> tuple[str, ...]:
    return ("train", "--init_from=resume", "--out_dir=run", "--max_iters=4", *more)


def test_a_corpus_that_changed_stops_a_resume(train: Command, command: Command, here: Path) -> None:
    assert train("run", max_iters=2).code == 0
    text = here / "text.txt"
    before = text.read_text("utf-8")
    text.write_text(before[:-40] + before[-40:][::-1], "utf-8")
    line = one_error(command(*resumed()), "corpus-changed")
    assert "--dataset=" in line
    ended = command(*resumed("--dataset=text.txt"))
    assert ended.code == 0, ended.err
    assert "changed from here on: the tokens of text.txt" in ended.out + ended.err
    seams = record("run")["seams"]
    assert isinstance(seams, list)
    assert any(change["setting"] == "corpus" for change in seams[-1]["changed"])


def test_a_corpus_that_is_restored_goes_on_bit_for_bit(train: Command, command: Command, here: Path) -> None:
    assert train("whole").code == train("run", max_iters=12).code == 0
    text = here / "text.txt"
    before = text.read_bytes()
    text.write_bytes(before + before[-4:])
    one_error(command("train", "--resume=run", "--max_iters=20"), "corpus-changed")
    text.write_bytes(before)
    assert command("train", "--resume=run", "--max_iters=20").code == 0
    same_run("run", "whole")


def test_a_strangers_checkpoint_switches_no_tracker_on(
    train: Command, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train("run", max_iters=2).code == 0

    def poison(state: dict[str, Any]) -> None:
        state["lossgap"]["config"] |= {"wandb_log": True, "mlflow_log": True, "wandb_project": "attacker/\x1b[2J"}

    for path in Path("run").glob("ckpt*.pt"):
        edit(path, poison)
    opened: list[str] = []
    monkeypatch.setattr("lossgap.training.trackers._extra", lambda module, *_: opened.append(module))
    ended = command(*resumed())
    assert ended.code == 0, ended.err
    assert not opened
    assert "--wandb_log=True" in ended.out + ended.err
    assert "\x1b" not in ended.out + ended.err
    config = record("run")["config"]
    assert isinstance(config, dict)
    assert (config["wandb_log"], config["mlflow_log"], config["wandb_project"]) == (False, False, "owt")


@pytest.mark.parametrize("ours", [True, False], ids=["our own", "nanoGPT's"])
def test_a_strangers_checkpoint_opens_no_file(ours: bool, train: Command, command: Command, here: Path) -> None:
    assert train("run", max_iters=2).code == 0
    secret = here / "secret.txt"
    secret.write_bytes((here / "text.txt").read_bytes())

    def poison(state: dict[str, Any]) -> None:
        if ours:
            state["lossgap"]["config"]["dataset"] = str(secret)
            state["lossgap"]["corpus"] = {}
        else:
            state["lossgap"] = {}
            state["config"]["dataset"] = str(secret)

    for path in Path("run").glob("ckpt*.pt"):
        edit(path, poison)
        if not ours:
            state = torch.load(path, weights_only=True)
            del state["lossgap"]
            torch.save(state, path)
    line = one_error(command(*resumed()), "dataset-not-named")
    assert "--dataset=PATH" in line
    assert command(*resumed(f"--dataset={secret}", "--compile=False")).code == 0


def test_a_record_without_a_checkpoint_switches_no_tracker_on(train: Command, command: Command) -> None:
    assert train("run", max_iters=2).code == 0
    for path in Path("run").glob("ckpt*.pt"):
        path.unlink()
    document = json.loads(Path("run", "run.json").read_text("utf-8"))
    document["config"] |= {"wandb_log": True, "wandb_project": "attacker"}
    Path("run", "run.json").write_text(json.dumps(document), "utf-8")
    ended = command(*resumed())
    assert ended.code == 0, ended.err
    assert "--wandb_log=True" in ended.out + ended.err
