"""Experiments that are killed or stopped in the middle, in whole or in part: the same result, and nothing done twice.

All of it happens to real processes. Seconds are whatever they are; nothing here depends on the speed of the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from lossgap.attribution import measure

from . import killed_experiment
from .killed_experiment import ARMS
from .small_arms import HereExecutor, alive, family, in_the_middle, wait_until, workers, write_text

SCRIPT = Path(killed_experiment.__file__)
ITERATIONS = 200
Files = dict[str, tuple[int, int, bytes]]
"""Of each arm that is complete: inode, time of its last change, content of its result."""


@dataclass
class Experiment:
    """One experiment's command, which can be started again and again in one root."""

    text: Path
    root: Path
    iterations: int
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, executor: str, *rate: str) -> subprocess.Popen[str]:
        """Start the command in a process group of its own, with signals as a terminal leaves them."""

        def dispose() -> None:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)

        arguments = [str(self.text), str(self.root), executor, str(self.iterations), *rate]
        self.running.append(
            subprocess.Popen(
                [sys.executable, str(SCRIPT), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                preexec_fn=dispose,
            )
        )
        return self.running[-1]

    def result(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        """What the command printed, all of it, when it had ended by itself."""
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        assert "Traceback" not in err, err
        assert len(out.splitlines()) == 1, out
        found = json.loads(out)
        assert isinstance(found, dict)
        return found

    def complete(self) -> Files:
        """The arms that have a whole result."""
        found = {}
        for folder in (self.root / "arms").glob("*"):
            if measure.stored(folder.name, self.root) is not None:
                path = folder / measure.RESULT
                found[folder.name] = (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        return found

    def untorn(self) -> None:
        """Assert that no file was left half written, and that nothing but the arms' records is left of them."""
        for path in self.root.rglob("*"):
            assert ".tmp-" not in path.name
            if path.suffix == ".json" and path.parent != self.root:
                json.loads(path.read_bytes())
        for folder in (self.root / "arms").glob("*"):
            names = {path.name for path in folder.iterdir()}
            assert names == {".lock", "metrics.jsonl", "result.json", "run.json"}
            rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_bytes().splitlines()]
            evaluated = [row["iter"] for row in rows if row.get("kind") == "eval"]
            assert evaluated == sorted(set(evaluated)), "an arm that went on recorded an evaluation twice"


@dataclass
class Undisturbed:
    """The experiment as it is when nothing happens to it, and the plan that was made for it."""

    text: Path
    root: Path
    outcome: dict[str, Any]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Trained in this process, one arm after the other, in another root."""
    folder = tmp_path_factory.mktemp("undisturbed")
    text = write_text(folder / "text.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(killed_experiment, "executors", lambda name: HereExecutor)
        found = killed_experiment.prepared(text, folder / "root", "here", ITERATIONS).run(lambda ended: None)
    assert found.budget.spent_runs == ARMS
    outcome = json.loads(json.dumps(killed_experiment.outcome(found)))
    assert len(outcome["arms"]) == ARMS
    assert outcome["complete"] is True
    return Undisturbed(text, folder / "root", outcome)


@pytest.fixture
def experiment(undisturbed: Undisturbed, tmp_path: Path) -> Iterator[Experiment]:
    """The same experiment in a root of its own; none of its processes outlives the test."""
    root = tmp_path / "root"
    shutil.copytree(undisturbed.root / "plans", root / "plans")  # so that nothing need be timed again
    made = Experiment(undisturbed.text, root, ITERATIONS)
    yield made
    for process in made.running:
        left = family(process.pid) if process.poll() is None else []
        process.kill()
        for each in left:
            with contextlib.suppress(psutil.Error):
                each.kill()
        process.communicate()


def until_complete(experiment: Experiment, arms: int, process: subprocess.Popen[str]) -> None:
    """Wait until so many arms are complete."""
    wait_until(lambda: len(experiment.complete()) >= arms or process.poll() is not None, f"{arms} complete arms")
    assert process.poll() is None, process.communicate()


def gone(processes: list[psutil.Process]) -> None:
    """Assert that all of them end by themselves. Ray's agents notice after a minute that their raylet is no more."""
    wait_until(lambda: alive(processes) == [], f"the end of {alive(processes)}", 180)


def untouched(before: Files, after: Files) -> None:
    """Assert that no arm that was complete before was written again."""
    assert {key: after.get(key) for key in before} == before


def kill_main(experiment: Experiment, executor: str, complete: int) -> Files:
    """Start the command, kill its process when so many arms are complete and one is in the middle; what is complete."""
    process = experiment.start(executor)
    until_complete(experiment, complete, process)
    in_the_middle(experiment.root)
    everybody = family(process.pid)
    assert everybody
    process.kill()
    process.communicate()
    gone(everybody)
    found = experiment.complete()
    assert complete <= len(found) < ARMS
    return found


# ---------------------------------------------------------------------------------------------
# SIGKILL


def test_a_killed_experiment_goes_on_and_survives_the_loss_of_a_worker(
    experiment: Experiment, undisturbed: Undisturbed
) -> None:
    """The main process is killed; the same command is started again, and loses a worker in the middle of an arm."""
    before = kill_main(experiment, "local", 3)
    process = experiment.start("local")
    until_complete(experiment, len(before) + 1, process)
    _, worker = in_the_middle(experiment.root)
    assert worker in family(process.pid)
    worker.kill()
    everybody = family(process.pid)
    found = experiment.result(process)
    gone(everybody)
    assert found["outcome"] == undisturbed.outcome
    [told] = found["told"]
    assert told.endswith(": killed: its worker process was ended from outside, or memory ran out; trying again")
    after = experiment.complete()
    untouched(before, after)
    assert (found["spent"] + len(before), found["cached"], len(after)) == (ARMS, len(before), ARMS)
    experiment.untorn()


@pytest.mark.slow
@pytest.mark.parametrize("complete", [0, 1, 5, 8, 10])
def test_main_killed(complete: int, experiment: Experiment, undisturbed: Undisturbed) -> None:
    before = kill_main(experiment, "local", complete)
    found = experiment.result(experiment.start("local"))
    assert found["outcome"] == undisturbed.outcome
    after = experiment.complete()
    untouched(before, after)
    assert (found["spent"] + len(before), len(after), found["told"]) == (ARMS, ARMS, [])
    experiment.untorn()


@pytest.mark.slow
def test_main_killed_again_and_again(experiment: Experiment, undisturbed: Undisturbed) -> None:
    before: Files = {}
    for _ in range(4):
        now = kill_main(experiment, "local", len(before) + 1)
        untouched(before, now)
        before = now
    found = experiment.result(experiment.start("local"))
    assert found["outcome"] == undisturbed.outcome
    untouched(before, experiment.complete())
    assert found["spent"] + len(before) == ARMS
    experiment.untorn()


@pytest.mark.slow
def test_several_local_workers_killed(experiment: Experiment, undisturbed: Undisturbed) -> None:
    process = experiment.start("local")
    lost: list[Path] = []
    before: Files = {}
    for _ in range(3):
        until_complete(experiment, len(before) + 1, process)
        before = experiment.complete()
        folder, worker = in_the_middle(experiment.root, besides=lost)
        lost.append(folder)
        worker.kill()
    everybody = family(process.pid)
    found = experiment.result(process)
    gone(everybody)
    assert found["outcome"] == undisturbed.outcome
    assert len(found["told"]) == 3
    assert all(": killed: " in line and line.endswith("; trying again") for line in found["told"])
    untouched(before, experiment.complete())
    assert (found["spent"], len(experiment.complete())) == (ARMS, ARMS)
    experiment.untorn()


@pytest.mark.slow
def test_a_ray_worker_killed(experiment: Experiment, undisturbed: Undisturbed) -> None:
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    process = experiment.start("ray")
    until_complete(experiment, 2, process)
    _, worker = in_the_middle(experiment.root)
    assert worker in family(process.pid)
    worker.kill()
    before = experiment.complete()
    everybody = family(process.pid)
    found = experiment.result(process)
    gone(everybody)
    assert found["outcome"] == undisturbed.outcome
    assert found["told"] == [], "Ray starts the task again"
    untouched(before, experiment.complete())
    assert (found["spent"], len(experiment.complete())) == (ARMS, ARMS)
    experiment.untorn()


@pytest.mark.slow
def test_main_killed_with_ray_and_continued_without(experiment: Experiment, undisturbed: Undisturbed) -> None:
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    before = kill_main(experiment, "ray", 4)
    found = experiment.result(experiment.start("local"))
    assert found["outcome"] == undisturbed.outcome
    untouched(before, experiment.complete())
    assert found["spent"] + len(before) == ARMS
    experiment.untorn()


@pytest.mark.slow
def test_main_killed_in_somebody_elses_cluster(
    experiment: Experiment, undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # a new cluster asks for one, and only `auto` sends it by itself
    with cluster() as (address, members):
        process = experiment.start(address)
        until_complete(experiment, 3, process)
        _, worker = in_the_middle(experiment.root)
        assert worker in members()
        process.kill()
        process.communicate()
        gone([worker])
        before = experiment.complete()
        found = experiment.result(experiment.start(address))
        assert any("raylet" in command for command in alive(members())), "the cluster lives on"
    assert found["outcome"] == undisturbed.outcome
    untouched(before, experiment.complete())
    assert found["spent"] + len(before) == ARMS
    experiment.untorn()


@contextlib.contextmanager
def cluster() -> Iterator[tuple[str, Callable[[], list[psutil.Process]]]]:
    """A cluster of one machine with 2 CPUs: its address, and its processes."""
    script = SCRIPT.with_name("ray_cluster.py")
    running = subprocess.Popen(
        [sys.executable, str(script), "2", "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert running.stdin is not None
    assert running.stdout is not None
    try:
        yield running.stdout.readline().strip(), lambda: family(running.pid)
    finally:
        running.stdin.close()
        running.wait(60)
        running.stdout.close()


# ---------------------------------------------------------------------------------------------
# Ctrl-C


def stopped(experiment: Experiment, executor: str, undisturbed: Undisturbed) -> None:
    """Ctrl-C when the first seed is complete and the third is not: its result, and then the rest."""
    process = experiment.start(executor)
    until_complete(experiment, 5, process)
    everybody = family(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    found = experiment.result(process)
    gone(everybody)
    assert found["outcome"]["complete"] is False
    assert found["outcome"]["seeds"] in ([1], [1, 2])
    # Every arm of a single factorial has a seed of its own: the rounds are what is complete, not the seeds of arms.
    assert found["outcome"]["arms"]
    assert all(arm in undisturbed.outcome["arms"] for arm in found["outcome"]["arms"])
    assert (found["outcome"]["failed"], found["outcome"]["replaced"], found["told"]) == ([], [], [])
    before = experiment.complete()
    found = experiment.result(experiment.start(executor))
    assert found["outcome"] == undisturbed.outcome
    untouched(before, experiment.complete())
    assert found["spent"] + len(before) == ARMS
    experiment.untorn()


def test_ctrl_c_gives_the_seeds_that_are_complete(experiment: Experiment, undisturbed: Undisturbed) -> None:
    stopped(experiment, "local", undisturbed)


@pytest.mark.slow
def test_ctrl_c_with_ray_gives_the_seeds_that_are_complete(experiment: Experiment, undisturbed: Undisturbed) -> None:
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    stopped(experiment, "ray", undisturbed)


def test_ctrl_c_while_workers_start_leaves_nothing_and_says_nothing(experiment: Experiment) -> None:
    """A worker that is still loading is in the group that Ctrl-C reaches; it must not die of it with a traceback."""
    process = experiment.start("local")
    wait_until(lambda: len(workers(process.pid)) == 2 or process.poll() is not None, "two workers")
    everybody = family(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    assert experiment.result(process) == {"stopped": True}
    gone(everybody)


# ---------------------------------------------------------------------------------------------
# Arms that cannot be trained, results that were changed


def test_a_level_that_never_trains_ends_the_experiment_with_one_line(
    experiment: Experiment, undisturbed: Undisturbed
) -> None:
    found = experiment.result(experiment.start("local", "1e9"))
    assert found["slug"] == "arms-fail"
    assert "\n" not in found["line"]
    assert found["line"].startswith("3 seeds failed, the last with these factors switched: ")
    assert "schedule; not-finite: iteration 1: loss nan" in found["line"]
    assert all(": not-finite: " in line for line in found["told"])
    again = [line for line in found["told"] if line.endswith("; trying again")]
    assert 3 <= len(again) <= 6, "no seed beyond the three was begun"
    assert 3 <= len(found["told"]) - len(again) <= 6


def test_a_result_that_was_tampered_with_is_trained_again(
    experiment: Experiment, undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(undisturbed.root / "arms", experiment.root / "arms")
    before = experiment.complete()
    victim = sorted(before)[5]
    path = experiment.root / "arms" / victim / measure.RESULT
    content = json.loads(path.read_text())
    content["result"]["val_loss"] -= 0.25
    path.write_text(json.dumps(content))
    del before[victim]
    assert experiment.complete().keys() == before.keys()
    monkeypatch.setattr(killed_experiment, "executors", lambda name: HereExecutor)
    ready = killed_experiment.prepared(experiment.text, experiment.root, "here", ITERATIONS)
    assert ready.price.cached == ARMS - 1
    found = ready.run(lambda ended: None)
    assert found.budget.spent_runs == 1
    assert json.loads(json.dumps(killed_experiment.outcome(found))) == undisturbed.outcome
    untouched(before, experiment.complete())
    assert len(experiment.complete()) == ARMS
