"""Runs that end otherwise than planned (killed, stopped, out of disk, diverged): what is left goes on exactly.

All of it happens to real processes; the moments are random.
"""

from __future__ import annotations

import errno
import os
import random
import re
import resource
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from lossgap.runs.run import read_run
from lossgap.training import checkpoint

from .small import Ended, arguments, bits, checkpoints, one_error, process, record, rows, same_run

Command = Callable[..., Ended]
SECONDS = 300
"""No process of these tests takes that long; one that does hangs."""
LENGTH = 400
"""Iterations of the runs that are killed."""


@pytest.fixture
def begun() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that must not outlive the test."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for running in processes:
        if running.poll() is None:
            running.kill()
        running.communicate()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the runs that were not interrupted."""
    return tmp_path_factory.mktemp("kept")


def uninterrupted(kept: Path, **settings: object) -> Path:
    """A run with these settings that nothing happened to."""
    name = "-".join(f"{name}={value}" for name, value in sorted(settings.items()))
    if not (kept / name).exists():
        ended = end(process(arguments(kept / name, **settings)))
        assert ended.code == 0, ended.err
    return kept / name


def end(running: subprocess.Popen[str]) -> Ended:
    """Wait for the process."""
    out, err = running.communicate(timeout=SECONDS)
    return Ended(running.returncode, out, err)


def n_rows(folder: Path) -> int:
    try:
        return (folder / "metrics.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def wait(running: subprocess.Popen[str], until: Callable[[], bool]) -> bool:
    """Wait until something holds; False if the process ended before."""
    limit = time.monotonic() + SECONDS
    while not until():
        if running.poll() is not None:
            return False
        assert time.monotonic() < limit, "the process hangs"
        time.sleep(0.0005)
    return True


# ---------------------------------------------------------------------------------------------
# SIGKILL


def kill_at_random(running: subprocess.Popen[str], folder: Path, draw: random.Random) -> bool:
    """Kill the process: while it starts, while it writes a file, or so many rows on; False if it ended before."""
    moment = draw.choice(["start", "write", "rows", "rows", "rows"])
    before = n_rows(folder)
    if moment == "start":
        # Up to the first rows: on a fast machine a whole training would fit into a fixed time.
        limit = time.monotonic() + draw.uniform(0, 6)
        wait(running, lambda: time.monotonic() > limit or n_rows(folder) != before)
    else:
        # A resume cuts rows first, so new ones are those after a change.
        wait(running, lambda: n_rows(folder) != before)
        target = n_rows(folder) + draw.randrange(10)
        wait(running, lambda: n_rows(folder) >= target)
        if moment == "write":
            wait(running, lambda: any(".tmp-" in name for name in os.listdir(folder)))
        else:
            time.sleep(draw.uniform(0, 0.03))
    if running.poll() is not None:
        return False
    os.kill(running.pid, signal.SIGKILL)
    return True


def killed_again_and_again(
    times: int, seed: int, whole: Path, begun: list[subprocess.Popen[str]], **settings: object
) -> None:
    """Assert that a run killed that often is bit-equal to `whole`, which has the same settings."""
    draw = random.Random(seed)
    folder = Path("run")
    again: list[str] = []
    torn, at = 0, []
    for _ in range(times):
        seconds = draw.choice([1e-9, 0.05, 1000.0])
        begun.append(process([*(again or arguments(folder, **settings)), f"--checkpoint_seconds={seconds}"]))
        if not kill_at_random(begun[-1], folder, draw):
            break
        _, err = begun[-1].communicate()
        assert "Traceback" not in err, err
        torn += any(".tmp-" in path.name for path in folder.glob("*"))
        newest = checkpoint.newest(folder) if folder.exists() else None  # raises if the newest one is not whole
        at.append(newest.iter_num if newest else 0)
        if (folder / "run.json").exists():
            assert read_run(folder).status == "interrupted"
            again = ["train", "--init_from=resume", f"--out_dir={folder}"]
        else:
            again = arguments(folder, init_from="resume", **settings)
    print(f"killed {len(at)} times, {torn} of them while a file was written; went on from iterations {at}")
    assert len(at) == times
    begun.append(process(again))
    ended = end(begun[-1])
    assert ended.code == 0, ended.err
    same_run(folder, whole)
    ours, theirs = record(folder), record(whole)
    assert ours["seams"] == []
    assert ours["status"] == "finished"
    assert ours["final"].keys() == theirs["final"].keys()  # type: ignore[attr-defined]  # JSON
    assert not list(folder.glob("*.tmp-*"))


def test_killed_runs_end_bit_equal(kept: Path, begun: list[subprocess.Popen[str]]) -> None:
    settings = {"max_iters": 60, "eval_interval": 3}
    killed_again_and_again(4, 1, uninterrupted(kept, **settings), begun, **settings)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "settings",
    [{"compile": False}, {"compile": True}, {"rng": "nanogpt"}, {"dropout_rng": "device"}],
    ids=["eager", "compiled", "nanogpt", "device dropout"],
)
def test_twenty_kills(settings: dict[str, object], kept: Path, begun: list[subprocess.Popen[str]]) -> None:
    settings = {"max_iters": LENGTH, "lr_decay_iters": LENGTH, "eval_interval": 3, **settings}
    killed_again_and_again(20, 20, uninterrupted(kept, **settings), begun, **settings)


# ---------------------------------------------------------------------------------------------
# Signals that can be caught


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_saves_and_says_how_to_go_on(
    number: signal.Signals, kept: Path, begun: list[subprocess.Popen[str]]
) -> None:
    whole = uninterrupted(kept, max_iters=60, eval_interval=3)
    folder = Path("my run")
    begun.append(process(arguments(folder, max_iters=60, eval_interval=3)))
    assert wait(begun[-1], lambda: n_rows(folder) >= 5)
    begun[-1].send_signal(number)
    ended = end(begun[-1])
    assert ended.code == 128 + number
    assert "Traceback" not in ended.err
    at = checkpoints(folder)["ckpt-last.pt"]
    assert at >= 3
    assert max(int(str(row["iter"])) for row in rows(folder) if row["kind"] == "iter") == at - 1
    assert record(folder)["status"] == "interrupted"
    said = re.search(rf"stopped by {number.name} before iteration {at}, saved; go on with: lossgap (.*)$", ended.err)
    assert said is not None, ended.err
    begun.append(process(shlex.split(said[1])))
    assert end(begun[-1]).code == 0
    same_run(folder, whole)
    assert record(folder)["seams"] == []


def test_a_second_interrupt_stops_at_once(begun: list[subprocess.Popen[str]]) -> None:
    folder = Path("run")
    begun.append(process(arguments(folder, gradient_accumulation_steps=3000)))  # an iteration of several seconds
    assert wait(begun[-1], lambda: n_rows(folder) >= 1)
    begun[-1].send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert begun[-1].poll() is None
    sent = time.monotonic()
    begun[-1].send_signal(signal.SIGINT)
    ended = end(begun[-1])
    assert ended.code == 130
    assert ended.err.splitlines()[-1] == "lossgap: interrupted"
    assert "Traceback" not in ended.err
    assert time.monotonic() - sent < 5
    assert (n_rows(folder), checkpoints(folder)) == (1, {})
    assert record(folder)["status"] == "interrupted"


def test_a_run_under_nohup_survives_the_logout(kept: Path, begun: list[subprocess.Popen[str]]) -> None:
    if shutil.which("nohup") is None:
        pytest.skip("no nohup here")
    whole = uninterrupted(kept, max_iters=60, eval_interval=3)
    folder = Path("run")
    begun.append(process(arguments(folder, max_iters=60, eval_interval=3), "nohup"))
    assert wait(begun[-1], lambda: n_rows(folder) >= 5)
    begun[-1].send_signal(signal.SIGHUP)
    ended = end(begun[-1])
    assert ended.code == 0, ended.err
    same_run(folder, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_while_compiling_stops_at_once(number: signal.Signals, begun: list[subprocess.Popen[str]]) -> None:
    """With an empty cache the first iteration compiles for seconds; waited for, it would be saved as iteration 1."""
    folder = Path("run")
    cache = f"TORCHINDUCTOR_CACHE_DIR={Path('cache').resolve()}"
    begun.append(process(arguments(folder, max_iters=60, compile=True), "env", cache))
    said = begun[-1].stderr
    assert said is not None
    while "compiling" not in (line := said.readline()):
        assert line, "it ended before it compiled"
    time.sleep(1)
    begun[-1].send_signal(number)
    ended = end(begun[-1])
    assert ended.code == 128 + number
    assert "Traceback" not in ended.err
    assert f"stopped by {number.name} before iteration 0, while compiling: nothing was trained yet" in ended.err
    assert record(folder)["status"] == "interrupted"
    assert checkpoints(folder) == {}


def test_a_signal_while_nothing_is_trained_yet(begun: list[subprocess.Popen[str]]) -> None:
    # The first iteration is finished and saved, however early the signal comes after the handlers are there.
    folder = Path("run")
    begun.append(process(arguments(folder, max_iters=60)))
    assert wait(begun[-1], lambda: (folder / "run.json").exists())
    begun[-1].send_signal(signal.SIGTERM)
    ended = end(begun[-1])
    assert ended.code == 143
    assert checkpoints(folder)["ckpt-last.pt"] >= 1


# ---------------------------------------------------------------------------------------------
# A full disk


def test_a_file_size_limit_leaves_the_last_good_checkpoint(
    kept: Path, begun: list[subprocess.Popen[str]], command: Command
) -> None:
    whole = uninterrupted(kept, max_iters=20)
    folder = Path("run")
    assert command(*arguments(folder, max_iters=7)).code == 0
    good = bits(folder / "ckpt-last.pt")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:  # the child takes the limit over; nothing is written here meanwhile
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
        begun.append(process(["train", f"--resume={folder}", "--max_iters=20"], ignore=(signal.SIGXFSZ,)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    line = one_error(end(begun[-1]), "checkpoint-unwritable")
    assert "File too large" in line
    assert record(folder)["status"] == "failed"
    assert not list(folder.glob("*.tmp-*"))
    assert bits(folder / "ckpt-last.pt") == good
    assert command("train", "--init_from=resume", f"--out_dir={folder}", "--max_iters=20").code == 0
    same_run(folder, whole)


def test_a_folder_that_goes_away_is_told_by_what_failed_first(kept: Path, begun: list[subprocess.Popen[str]]) -> None:
    whole = uninterrupted(kept, max_iters=60, eval_interval=3)
    folder = Path("run")
    begun.append(process(arguments(folder, max_iters=60, eval_interval=3)))
    assert wait(begun[-1], lambda: n_rows(folder) >= 5)
    folder.rename("moved")
    line = one_error(end(begun[-1]), "checkpoint-unwritable")  # run.json cannot be written either
    assert "No such file or directory" in line
    begun.append(process(["train", "--init_from=resume", "--out_dir=moved"]))
    assert end(begun[-1]).code == 0
    same_run("moved", whole)


def fill(path: Path) -> None:
    """Write a file until the disk is full."""
    try:
        with path.open("wb", buffering=0) as file:
            while file.write(bytes(512)) == 512:
                pass
    except OSError as error:
        assert error.errno == errno.ENOSPC  # noqa: PT017  # the loop has no other end


@pytest.fixture
def small_disk(here: Path) -> Iterator[Path]:
    """A file system of 800 KiB: room for two of the small checkpoints and not for three."""
    folder = here / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=800k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root on Linux")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_the_last_good_checkpoint(
    small_disk: Path, kept: Path, begun: list[subprocess.Popen[str]], command: Command
) -> None:
    whole = uninterrupted(kept, max_iters=20)
    folder = small_disk / "run"
    begun.append(process(arguments(folder)))
    line = one_error(end(begun[-1]), "checkpoint-unwritable")
    assert "No space left on device" in line
    assert checkpoint.find(folder).iter_num == 10
    shutil.copytree(folder, "elsewhere")
    assert command("train", "--init_from=resume", "--out_dir=elsewhere").code == 0
    same_run("elsewhere", whole)


def test_a_disk_full_to_the_last_byte(small_disk: Path, begun: list[subprocess.Popen[str]], command: Command) -> None:
    # Not even a row fits: still one line, and what stands there can be read and resumed.
    folder = small_disk / "run"
    assert command(*arguments(folder, max_iters=4)).code == 0
    fill(small_disk / "filler")
    ended = command("train", f"--resume={folder}", "--max_iters=9")
    slug = "run-record-unwritable" if "run-record-unwritable" in ended.err else "checkpoint-unwritable"
    assert "No space left on device" in one_error(ended, slug)
    shutil.copytree(folder, "elsewhere")
    ended = command("train", "--resume=elsewhere", "--max_iters=9")
    assert ended.code == 0, ended.err
    assert [row["iter"] for row in rows("elsewhere") if row["kind"] == "iter"] == list(range(10))


# ---------------------------------------------------------------------------------------------
# A loss that is no number


@pytest.mark.parametrize(
    "settings",
    [{}, {"eval_interval": 1}, {"checkpoint_seconds": 1e-9}, {"checkpoint_at": (9,)}, {"max_iters": 8}],
    ids=["by the next loss", "by an evaluation", "by a rolling checkpoint", "by a named one", "by the final one"],
)
def test_a_diverged_run_keeps_the_checkpoint_before(settings: dict[str, object], kept: Path, command: Command) -> None:
    whole = uninterrupted(kept, max_iters=20)
    assert command(*arguments("run", max_iters=7)).code == 0
    flags = {"max_iters": 20, "learning_rate": 1e30, "decay_lr": False, "grad_clip": 0, **settings}
    ended = command("train", "--resume=run", *(f"--{name}={value}" for name, value in flags.items()))
    line = one_error(ended, "loss-not-finite")
    assert re.search(r"iteration 9: .*nan.*, gradient norm (nan|[0-9.]+):", line), line
    assert ("val loss nan" in line) == ("eval_interval" in settings)
    assert record("run")["status"] == "failed"
    assert max(checkpoints("run").values()) == 8
    assert all(
        bool(tensor.isfinite().all()) for tensor in torch.load("run/ckpt-last.pt", weights_only=True)["model"].values()
    )
    assert command("train", "--resume=run", "--max_iters=20").code == 0
    same_run("run", whole)


def test_a_slow_divergence_leaves_finite_checkpoints(command: Command) -> None:
    flags = {"learning_rate": 1e6, "decay_lr": False, "grad_clip": 0, "max_iters": 3000, "eval_interval": 10}
    line = one_error(command(*arguments("run", **flags)), "loss-not-finite")
    found = re.search(r"iteration (\d+): .*, gradient norm \S+:", line)
    assert found is not None, line
    assert max(checkpoints("run").values(), default=0) <= int(found[1])
    assert all(checkpoint.is_whole(path) for path in Path("run").glob("ckpt*.pt"))


def test_a_run_that_diverges_at_once(command: Command) -> None:
    ended = command(*arguments("run", learning_rate=1e30, warmup_iters=0, grad_clip=0, decay_lr=False))
    assert "iteration 1: loss nan" in one_error(ended, "loss-not-finite")
    assert (record("run")["status"], checkpoints("run")) == ("failed", {})
    last = rows("run")[-1]
    assert (last["iter"], last["loss"], "loss is nan" in str(last["why"])) == (1, None, True)
