"""Real arms of a second or less on a text of 8 kB, and the processes that train them."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from lossgap.attribution import measure
from lossgap.attribution.arm import Arm, Measurement
from lossgap.attribution.executor import Done, Executor
from lossgap.attribution.local import work
from lossgap.config import TrainConfig
from lossgap.corpus import open_corpus

SECONDS = 240.0
"""Nothing here takes that long, on a busy machine neither; what does hangs."""
RECIPE: dict[str, object] = {
    "n_layer": 1,
    "n_head": 2,
    "n_embd": 16,
    "block_size": 8,
    "batch_size": 4,
    "gradient_accumulation_steps": 1,
    "max_iters": 20,
    "lr_decay_iters": 20,
    "warmup_iters": 2,
    "learning_rate": 1e-2,
    "min_lr": 1e-3,
    "dropout": 0.1,
    "compile": False,
}


def write_text(path: Path) -> Path:
    """About 8,000 characters."""
    draw = random.Random(0)
    words = [
        "king",
        "shall",
        "not",
        "war",
        "with",
        "his",
        "own",
        "brother",
        "and",
        "yet",
        "would",
        "speak",
        "of",
        "love",
    ]
    path.write_text("\n".join(" ".join(draw.choices(words, k=8)) for _ in range(210)), encoding="utf-8")
    return path


def small_arm(text: Path, seed: int = 1, *, threads: int = 1, **settings: object) -> Arm:
    """An arm of our trainer, as an experiment makes it."""
    config = TrainConfig.from_dict({**RECIPE, "dataset": str(text), **settings})
    measurement = Measurement(context=8, evaluations=4)
    return measure.our_arm(config.to_dict(), seed, measurement, open_corpus(str(text)), "cpu", threads)


class HereExecutor(Executor):
    """One arm after the other in this process: what every other executor's numbers must equal."""

    def __init__(self, root: Path, at_once: int) -> None:
        self.root = root
        self.at_once = 1

    def __enter__(self) -> HereExecutor:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def run(self, arms: Sequence[Arm]) -> Iterator[Done]:
        for arm in arms:
            yield work(arm.to_dict(), str(self.root))


def wait_until(holds: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
    """Wait; a failure says what for."""
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit, f"waited {seconds:g} s, and still not: {what}"
        time.sleep(0.01)


def trainer(arm: Path) -> psutil.Process | None:
    """The process that trains in the folder of an arm; None if nobody does."""
    try:
        process = psutil.Process(int((arm / ".lock.pid").read_text()))
    except (OSError, ValueError, psutil.Error):
        return None
    return process if process.is_running() and process.status() != psutil.STATUS_ZOMBIE else None


def in_the_middle(root: Path, rows: int = 2, *, besides: Sequence[Path] = ()) -> tuple[Path, psutil.Process]:
    """Wait for an arm that has trained for some rows of its record; its folder and its process."""
    found: list[tuple[Path, psutil.Process]] = []

    def one() -> bool:
        for arm in (root / "arms").glob("*"):
            if arm in besides or (arm / measure.RESULT).exists():
                continue
            process = trainer(arm)
            try:
                if process is not None and (arm / "metrics.jsonl").read_bytes().count(b"\n") >= rows:
                    found.append((arm, process))
                    return True
            except OSError:
                continue
        return False

    wait_until(one, "an arm in training")
    return found[0]


def family(pid: int | None = None) -> list[psutil.Process]:
    """All processes below this one, or below another."""
    return psutil.Process(pid or os.getpid()).children(recursive=True)


def alive(processes: Sequence[psutil.Process]) -> list[str]:
    """Those that still run, with their commands."""
    found = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {' '.join(process.cmdline())[:150]}")
        except psutil.Error:
            continue
    return found


def workers(pid: int | None = None) -> list[psutil.Process]:
    """The worker processes of a local executor below a process."""
    found = []
    for process in family(pid):
        try:
            if "spawn_main" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found
