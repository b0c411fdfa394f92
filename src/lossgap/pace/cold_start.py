"""`cold_run`: one training as a user starts it, a process of its own, timed by the lines that it prints.

    found = cold_run(ours(config, iters=200, out_dir=folder), folder)
    found.wall, found.start_up, found.update, found.evaluation

nanoGPT and lossgap print the same lines, so both are timed alike: the start-up ends with the last line before the first
evaluation, an evaluation is from the line before it to its own, an update is from one line of an iteration to the next.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lossgap.config import NANOGPT_FIELDS, TrainConfig
from lossgap.errors import LossgapError
from lossgap.strangers import one_line
from lossgap.training.numerics import Numerics

ITER = re.compile(r"iter (\d{1,12}): loss")
STEP = re.compile(r"step (\d{1,12}): train loss [^,]{1,32}, val loss ([\d.]{1,16})")
SETTLED = 10
"""Iterations before the first whose time counts."""
NOT_THEIRS = frozenset(
    (
        *("out_dir", "backend", "wandb_log", "wandb_project", "wandb_run_name", "init_from", "eval_only"),
        *("device", "dtype", "compile", "max_iters", "always_save_checkpoint"),
    )
)
"""nanoGPT's settings that are said apart, or left at their defaults."""


@dataclass(frozen=True, kw_only=True)
class ColdRun:
    """Seconds of one training, and the last val loss that it printed (nats per token)."""

    wall: float
    """From the start of the process to its end."""
    start_up: float
    update: float
    """Median over the iterations after the tenth that contain no evaluation."""
    evaluation: float
    """Median over its evaluations."""
    val_loss: float | None


def cold_run(command: Sequence[str], folder: Path, threads: int) -> ColdRun:
    """Run a training and time it. Raises LossgapError `bench-run-failed` with its last line."""
    env = os.environ | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    lines: list[tuple[float, str]] = []
    with subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append((time.perf_counter() - start, line[:500].rstrip("\n")))
    wall = time.perf_counter() - start
    if process.returncode:
        said = one_line(lines[-1][1]) if lines else "it printed nothing"
        raise LossgapError("bench-run-failed", f"{one_line(' '.join(command[:4]))} ... ended with an error: {said}")
    return timed(lines, wall)


def timed(lines: Sequence[tuple[float, str]], wall: float) -> ColdRun:
    """The times of a training from its lines, each with the seconds at which it came."""
    updates: list[float] = []
    evaluations: list[float] = []
    start_up, val_loss = 0.0, None
    before: tuple[int, float] | None = None
    last = 0.0
    for at, line in lines:
        step, iteration = STEP.match(line), ITER.match(line)
        if step:
            if not evaluations:
                start_up = last
            evaluations.append(at - last)
            val_loss, before = float(step.group(2)), None
        elif iteration:
            number = int(iteration.group(1))
            if before is not None and number > max(before[0], SETTLED):
                updates.append((at - before[1]) / (number - before[0]))
            before = number, at
        elif before is not None:
            before = None  # a checkpoint is written
        last = at
    if not updates or not evaluations:
        raise LossgapError(
            "bench-run-failed", "a training printed no evaluation or too few iterations; take more --iters"
        )
    return ColdRun(
        wall=wall,
        start_up=start_up,
        update=statistics.median(updates),
        evaluation=statistics.median(evaluations),
        val_loss=val_loss,
    )


def flags(values: Mapping[str, object]) -> list[str]:
    """`--name=value` for each, as both command lines take them."""
    return [
        f"--{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}" for name, value in values.items()
    ]


def ours(config: TrainConfig, iters: int, out_dir: Path) -> list[str]:
    """The command that trains `config` for so many iterations."""
    stated = {
        name: value
        for name, value in config.to_dict().items()
        if value != getattr(TrainConfig, name) and not isinstance(value, list)
    }
    stated |= {"out_dir": str(out_dir), "overwrite": True, "max_iters": iters}
    return [sys.executable, "-m", "lossgap", "train", *flags(stated)]


def nanogpts(config: TrainConfig, numerics: Numerics, iters: int, out_dir: Path) -> list[str]:
    """The command that trains the same recipe with nanoGPT's `train.py` in its checkout."""
    stated = {name: getattr(config, name) for name in NANOGPT_FIELDS if name not in NOT_THEIRS}
    stated |= {"out_dir": str(out_dir), "max_iters": iters, "always_save_checkpoint": config.always_save_checkpoint}
    stated |= {"device": numerics.device, "dtype": numerics.dtype, "compile": numerics.compile}
    return [sys.executable, "train.py", *flags(stated)]
