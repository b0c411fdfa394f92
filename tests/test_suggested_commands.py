"""Commands that lossgap suggests can be copied and run: each parses, trains the log's model, and overwrites no run.

With LOSSGAP_REAL_LOGS set to a folder, the logs below it are compared as well.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from comparison.made import GPU, LAPTOP, curve, run
from gallery import stored
from report.explained import explanation
from report.replayed import CASES

import lossgap
from lossgap import suggestion
from lossgap.cli.meant import MEANT, meant
from lossgap.comparison import compare
from lossgap.comparison.comparison import Comparison, NextStep
from lossgap.config import TrainConfig
from lossgap.config_file import resolve_arguments, train_config
from lossgap.errors import LossgapError
from lossgap.report import read_view, runs_view
from lossgap.report.blocks import Suggestion, View
from lossgap.runs.reading import Reading

MODEL = ("n_layer", "n_embd", "block_size")
PLACEHOLDER = re.compile(r"RUN_OR_CONFIG|CHECKPOINT|\bRUN\b|\bFILE\b|=\?|\.\.\.")
MOST_REAL = 60
"""Real logs that are compared, each with the next."""


def words_of(command: str) -> tuple[str, list[str]]:
    """The verb and its words; the command is quoted, has no gap in it, and is taken by its own options."""
    assert not PLACEHOLDER.search(command), command
    program, verb, *words = shlex.split(command)
    assert program == "lossgap"
    assert shlex.join([program, verb, *words]) == command
    suggestion.check(verb, words)
    return verb, words


def trained(words: list[str]) -> TrainConfig:
    return train_config(resolve_arguments(words))


def check_steps(found: Comparison, *, on_disk: bool) -> int:
    """Check every step of a comparison. Returns how many are commands."""
    facts = (found.control, found.test)
    for step in found.next:
        assert step.command or step.why
        if not step.command:
            continue
        verb, words = words_of(step.command)
        if verb == "train":
            check_training(found, trained(words))
        elif verb in ("compare", "explain"):
            named = [word for word in words if not word.startswith("--")]
            assert named == [found.control_source, found.test_source]
            assert not on_disk or all(Path(name).exists() for name in named)
        elif verb == "record":
            assert all(item.is_nanogpt or item.is_own for item in facts)
    return sum(bool(step.command) for step in found.next)


def check_training(found: Comparison, config: TrainConfig) -> None:
    """The training is of one of the two models, apart from what its own advice changes, and in a folder of its own."""
    sides = (found.control, found.test)
    assert any(item.is_nanogpt or item.is_own for item in sides)
    for name in MODEL:
        said = [item.setting(name).value for item in sides if item.setting(name).known]
        assert getattr(config, name) in said, name
    paths = {Path(item.run.path).resolve() for item in sides}
    assert Path(config.out_dir).resolve() not in paths


def suggested(view: View) -> Iterator[str]:
    """The commands of a view's first blocks."""
    yield from (block.command for block in view.first if isinstance(block, Suggestion) and block.command)


# ---------------------------------------------------------------------------------------------
# compare


@pytest.mark.parametrize("form", ["folder", "stdout", "stripped"])
def test_comparisons_of_the_gallery(form: stored.Form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = list(stored.load().values())
    kept = runs[:: max(1, len(runs) // 8)][:8]
    names = [str(stored.write(item, Path(f"it's run {number}"), form)) for number, item in enumerate(kept)]
    commands = 0
    for control, test in itertools.pairwise(names):
        commands += check_steps(lossgap.compare(control, test), on_disk=True)
    assert commands or form == "stripped"


def test_comparisons_of_foreign_logs_have_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The advice is for the user's own trainer: ours has not made the run, and does not know its model."""
    monkeypatch.chdir(tmp_path)
    for name, batch, end in (("a b.csv", 8, 3.2), ("c.csv", 32, 2.9)):
        rows = [f"{step},{end + 4 / (1 + step / 50):.4f},{batch * 1024}" for step in range(0, 1001, 50)]
        Path(name).write_text("\n".join(["step,val_loss,tokens_per_step", *rows]) + "\n", encoding="utf-8")
    found = lossgap.compare("a b.csv", "c.csv")
    check_steps(found, on_disk=True)
    assert not [step for step in found.next if step.command.startswith("lossgap train")]


def test_a_longer_run_that_exists_is_not_trained_again() -> None:
    short = run(curve(1.8857), config=LAPTOP, name="short")
    longer = run({**curve(1.8857), 5000: 1.6801}, config=LAPTOP | {"max_iters": 5000, "lr_decay_iters": 5000})
    found = compare(short, longer, sources=("short", "long"))
    check_steps(found, on_disk=False)
    assert "Nothing to train" in found.next[0].why
    assert not any("--max_iters=5000" in step.command for step in found.next)


def test_two_recipes_far_apart_are_divided_by_an_experiment() -> None:
    found = compare(run(curve(1.89), config=LAPTOP), run(curve(1.70), config=GPU), sources=("a", "b c"))
    assert found.next[0].command == "lossgap explain a 'b c' --budget=1h --scale=auto"
    assert check_steps(found, on_disk=False)


def test_a_suggested_training_takes_no_folder_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each folder of the first answer is made, and the second answer names others; a dangling link counts, too."""
    monkeypatch.chdir(tmp_path)
    pair = run(curve(1.89), config=LAPTOP), run(curve(1.70), config=LAPTOP | {"dropout": 0.2, "batch_size": 24})

    def folders() -> list[str]:
        commands = [step.command for step in compare(*pair, sources=("a", "b")).next]
        return [trained(shlex.split(item)[2:]).out_dir for item in commands if item.startswith("lossgap train ")]

    taken = folders()
    assert taken
    for number, name in enumerate(taken):
        if number % 2:
            Path(name).mkdir()
        else:
            Path(name).symlink_to("nowhere")
    again = folders()
    assert len(again) == len(taken)
    assert not set(taken) & set(again)


def test_what_people_type_is_answered_with_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for there in range(3):
        for word in MEANT:
            said = meant(word)
            assert "FOLDER" not in said
            assert not PLACEHOLDER.search(said)
            assert not there or "no run" not in said
            if said.startswith("write "):
                words_of(said.removeprefix("write "))
            else:
                assert there < 2
        stored.write(next(iter(stored.load().values())), Path(f"my run {there}"), "folder")
    assert meant("version") == "write lossgap --version"
    assert meant("nonsense") == ""


def test_a_training_has_its_price() -> None:
    found = compare(run(curve(1.89), config=LAPTOP), run(curve(1.70), config=GPU), sources=("a", "b"))
    assert all(step.price for step in found.next if step.command.startswith("lossgap train"))


@pytest.mark.long
@pytest.mark.skipif("LOSSGAP_REAL_LOGS" not in os.environ, reason="LOSSGAP_REAL_LOGS names no folder")
def test_comparisons_of_real_logs() -> None:
    paths = sorted(path for path in Path(os.environ["LOSSGAP_REAL_LOGS"]).rglob("*.log") if path.is_file())
    compared = 0
    for control, test in itertools.pairwise(paths[:: max(1, len(paths) // MOST_REAL)]):
        try:
            found = lossgap.compare(control, test)
        except LossgapError:
            continue
        check_steps(found, on_disk=True)
        compared += 1
    assert compared


# ---------------------------------------------------------------------------------------------
# The other verbs


def steps_of_others() -> Iterator[NextStep]:
    yield from explanation(2, complete=False).next
    yield from explanation(2, complete=False, command="").next
    for replay in CASES.values():
        yield from replay.next


def test_steps_of_explain_and_replay() -> None:
    steps = list(steps_of_others())
    assert sum(bool(step.command) for step in steps) > 2
    for step in steps:
        if step.command and not step.command.startswith("lossgap record"):
            words_of(step.command)


def test_views_of_read_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [words_of(item)[0] for item in suggested(runs_view.view(lossgap.list_runs()))] == ["train"]
    item = next(iter(stored.load().values()))
    for number in range(2):
        stored.write(item, Path(f"out {number}"), "folder")
    for command in suggested(runs_view.view(lossgap.list_runs())):
        words_of(command)
    one = lossgap.load_run(stored.write(item, Path("a log.txt"), "stdout"))
    reading = Reading(source="a log.txt", runs=(one, one))
    assert [words_of(command)[0] for command in suggested(read_view.view(reading))] == ["compare"]


@pytest.mark.long
def test_a_suggested_training_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = compare(run(curve(1.89), config=LAPTOP), run(curve(1.70), config=LAPTOP | {"dropout": 0.2}))
    command = next(step.command for step in found.next if step.command.startswith("lossgap train"))
    verb, words = words_of(command)
    tiny = ["--max_iters=2", "--eval_iters=1", "--eval_interval=2", "--device=cpu", "--compile=False"]
    from lossgap.cli.main import main

    assert main([verb, *words, *tiny]) == 0
    assert (Path(trained(words).out_dir) / "run.json").exists()
