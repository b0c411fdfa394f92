"""Worker processes of this machine: what they give, what is lost with one of them, and that none is left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest

from lossgap.attribution import local, measure
from lossgap.attribution.arm import arm_folder
from lossgap.attribution.local import LocalExecutor, work
from lossgap.evaluation import losses

from .small_arms import alive, in_the_middle, small_arm, trainer, wait_until, workers, write_text

LONG = 100_000
"""Iterations of an arm that ends by being ended."""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text") / "text.txt")


@pytest.fixture
def two(tmp_path: Path) -> Iterator[LocalExecutor]:
    """Two workers, and nobody left afterwards."""
    with LocalExecutor(tmp_path, 2) as executor:
        yield executor
        before = workers()
    assert alive(before) == []


def test_workers_give_what_one_process_gives_and_live_on(two: LocalExecutor, text: Path, tmp_path: Path) -> None:
    arms = [small_arm(text, seed) for seed in (1, 2, 3)]
    ended = list(two.run(arms))
    assert sorted(done.arm.key for done in ended) == sorted(arm.key for arm in arms)
    first = {process.pid for process in workers()}
    assert len(first) == 2
    for done in ended:
        here = work(done.arm.to_dict(), str(tmp_path / "here")).result
        assert here is not None
        assert done.result is not None
        assert measure.stored(done.arm.key, tmp_path) == done.result
        assert replace(done.result, seconds=0, run="") == replace(here, seconds=0, run="")
    # The same arm for both workers at once: one trains it, the other waits and takes its result, seconds and all.
    shared = small_arm(text, 4)
    one, other = two.run([shared, shared])
    assert one.result is not None
    assert one.result == other.result
    # Neither numbers that leave the numbers, nor an arm's result, cost a worker.
    assert [done.failure for done in two.run([small_arm(text, learning_rate=1e9)])] == ["not-finite"]
    assert {process.pid for process in workers()} == first
    assert not (tmp_path / "arms" / small_arm(text, learning_rate=1e9).key).exists()


def test_a_killed_worker_costs_its_arm_and_no_other(two: LocalExecutor, text: Path, tmp_path: Path) -> None:
    lost, whole = small_arm(text, max_iters=LONG), small_arm(text, 2, max_iters=LONG)
    rest = [small_arm(text, seed) for seed in (3, 4)]
    ended = two.run([lost, whole, *rest])
    assert isinstance(ended, Generator)

    def kill() -> None:
        folder, process = in_the_middle(tmp_path, besides=[arm_folder(whole.key, tmp_path)])
        assert folder == arm_folder(lost.key, tmp_path)
        process.kill()

    killer = Thread(target=kill)
    killer.start()
    first = [next(ended) for _ in range(3)]
    killer.join()
    assert [(done.arm, done.failure) for done in first] == [(lost, "killed"), (rest[0], None), (rest[1], None)]
    # A worker that is killed while it has nothing to do is replaced, too.
    still = trainer(arm_folder(whole.key, tmp_path))
    assert still is not None, "the other worker trains on"
    ended.close()
    wait_until(lambda: not still.is_running(), "the end of an arm whose round was closed")
    (idle,) = workers()
    idle.kill()
    idle.wait(10)
    time.sleep(0.2)
    assert [done.failure for done in two.run([small_arm(text, 5)])] == [None]


def test_what_goes_wrong_in_a_worker_is_told_and_the_next_arm_gets_a_fresh_one(text: Path, tmp_path: Path) -> None:
    huge = small_arm(text, batch_size=1 << 44)
    broken = replace(small_arm(text, 2), config={"dataset": str(text), "n_layer": "two"})
    with LocalExecutor(tmp_path, 1) as executor:
        (done,) = executor.run([huge])
        assert done.failure == "out-of-memory"
        assert "it would be killed" in done.why
        assert workers() == []
        (done,) = executor.run([broken])
        assert done.failure == "failed"
        assert "n_layer" in done.why
        (done,) = executor.run([small_arm(text, 3)])
        assert done.failure is None
        (worker,) = workers()
        os.kill(worker.pid, signal.SIGINT)  # as a terminal's Ctrl-C would not: the worker has left its group
        assert os.getpgid(worker.pid) != os.getpgid(0)
    assert alive([worker]) == []


class BrokenError(Exception):
    """A fault of our own."""


@pytest.mark.parametrize(
    ("error", "failure", "why"),
    [
        (MemoryError(), "out-of-memory", "no memory left"),
        (MemoryError("Unable to allocate"), "out-of-memory", "Unable to allocate"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB\nmore"), "out-of-memory",
         "CUDA out of memory. Tried to allocate 2 GiB"),
        (RuntimeError("CUDA error: device-side assert"), "failed", "RuntimeError: CUDA error: device-side assert"),
        (OSError(28, "No space left on device"), "failed", "OSError: [Errno 28] No space left on device"),
        (BrokenError("two\nlines"), "failed", "'BrokenError: two\\nlines'"),
    ],
    ids=["memory", "memory-said", "cuda-memory", "cuda", "disk", "fault"],
)  # fmt: skip
@pytest.mark.parametrize("where", ["_corpus", "_train", "_measured"])
def test_every_kind_of_error_is_one_line_of_the_arm(
    error: Exception, failure: str, why: str, where: str, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*given: object) -> None:
        raise error

    for name in ("_corpus", "_train", "_measured"):
        monkeypatch.setattr(measure, name, failing if name == where else lambda *given: None)
    done = work(small_arm(text).to_dict(), str(tmp_path))
    assert (done.failure, done.why, done.result) == (failure, why, None)


def test_a_result_that_is_no_number_is_told_and_not_kept(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "score_alike", lambda *given: SimpleNamespace(mean=float("inf")))
    done = work(small_arm(text).to_dict(), str(tmp_path))
    assert done.failure == "not-finite"
    assert measure.stored(done.arm.key, tmp_path) is None


def test_another_corpus_or_other_code_than_the_experiments_is_told(text: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_bytes(text.read_bytes())
    arm = small_arm(own)
    own.write_text(own.read_text()[:-10] + "brotherly\n")
    done = work(arm.to_dict(), str(tmp_path))
    assert done.failure == "failed"
    assert f"dataset={own} has other tokens here than where the experiment began" in done.why
    own.unlink()
    done = work(arm.to_dict(), str(tmp_path))
    assert done.failure == "failed"
    assert done.why.startswith("no corpus dataset=")
    done = work(replace(small_arm(text), code="other").to_dict(), str(tmp_path))
    assert done.failure == "failed"
    assert "are not those that the experiment began with" in done.why
    assert not (tmp_path / "arms").exists()


def test_an_arm_of_which_only_the_checkpoints_are_left_to_remove_is_whole(text: Path, tmp_path: Path) -> None:
    """Killed between the result and the removal of the checkpoints, or before: nothing is lost, nothing is doubled."""
    arm = small_arm(text)
    folder = arm_folder(arm.key, tmp_path)
    seen: list[str] = []
    with pytest.MonkeyPatch.context() as patch:

        def kept(result: object, root: Path) -> None:
            seen.extend(path.name for path in folder.glob("ckpt*.pt"))
            raise KeyboardInterrupt

        patch.setattr(measure, "keep", kept)
        with pytest.raises(KeyboardInterrupt):
            measure.run_arm(arm, tmp_path)
    assert {"ckpt-best.pt", "ckpt-final.pt"} <= set(seen)
    (folder / "result.json.tmp-1").write_text('{"result": {"key": ')
    lines = (folder / "metrics.jsonl").read_bytes()
    result = measure.run_arm(arm, tmp_path)
    assert (folder / "metrics.jsonl").read_bytes() == lines, "it was not trained again"
    assert measure.stored(arm.key, tmp_path) == result
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "metrics.jsonl", "result.json", "run.json"]


@pytest.mark.parametrize("damage", ["run.json", "ckpt-final.pt", "ckpt-best.pt", "all"])
def test_a_damaged_folder_costs_the_arms_time_and_not_the_arm(damage: str, text: Path, tmp_path: Path) -> None:
    arm = small_arm(text)
    folder = arm_folder(arm.key, tmp_path)
    whole = measure.run_arm(arm, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "keep", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            measure.run_arm(arm, tmp_path)
    for name in ("run.json", "ckpt-final.pt", "ckpt-best.pt") if damage == "all" else (damage,):
        (folder / name).write_bytes((folder / name).read_bytes()[:100])
    again = measure.run_arm(arm, tmp_path)
    assert replace(again, seconds=0, run="") == replace(whole, seconds=0, run="")


def test_a_worker_leaves_the_group_of_the_terminal_before_ctrl_c_can_reach_it() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with local._interrupts_held():
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
        with pytest.raises(ZeroDivisionError), local._interrupts_held():
            _ = 1 / 0
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
