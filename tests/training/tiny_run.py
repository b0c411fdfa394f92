"""A training of seconds for the tests: a small text, a tiny model, and the real command line around them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lossgap
from lossgap.config import TrainConfig
from lossgap.gpt import GPT, gpt_config
from lossgap.training.draws import CounterDraws
from lossgap.training.numerics import Numerics, resolve

from .small import write_corpus

SETTINGS: dict[str, object] = {
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 16,
    "block_size": 16,
    "batch_size": 4,
    "gradient_accumulation_steps": 1,
    "dropout": 0.0,
    "max_iters": 3,
    "eval_interval": 1000,
    "eval_iters": 2,
    "learning_rate": 1e-2,
    "warmup_iters": 2,
    "lr_decay_iters": 50,
    "min_lr": 1e-3,
    "compile": False,
    "device": "cpu",
    "threads": 1,
}
SECONDS = 240
"""No process of these tests needs that long; one that does hangs."""


def write_text(folder: Path) -> Path:
    """The corpus of these tests in `folder`."""
    return write_corpus(folder / "text.txt")


def config(**settings: object) -> TrainConfig:
    return TrainConfig.from_dict({**SETTINGS, **settings})


def numerics(settings: TrainConfig, before: Mapping[str, object] | None = None) -> Numerics:
    return resolve(settings, "cpu", 1, before or {})[0]


def model(settings: TrainConfig, vocab_size: int = 22) -> GPT:
    return CounterDraws(settings.seed, keyed_dropout=True).new_model(gpt_config(settings, vocab_size))


def flags(text: Path, **settings: object) -> list[str]:
    """Arguments of `lossgap train` for the tiny training with these settings."""
    return [f"--{name}={value}" for name, value in {**SETTINGS, "dataset": text, **settings}.items()]


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """Variables of a child process: this checkout, one thread, a cache of its own, nothing of torchrun's."""
    ours = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "COLUMNS", "LOSSGAP_SILENCE")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    source = str(Path(lossgap.__file__).parents[1])
    path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**kept, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "LOSSGAP_CACHE": str(folder / "cache"), **variables}


def train(
    folder: Path, *arguments: str, code: int = 0, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`lossgap train ARGUMENTS` in `folder`; it must exit with `code`."""
    done = subprocess.run(
        [sys.executable, "-m", "lossgap", "train", *arguments],
        cwd=folder,
        env=environment(folder, **(variables or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
    )
    assert done.returncode == code, f"exit code {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}"
    return done


def said(standard_error: str) -> list[str]:
    """The lines of lossgap's own on standard error, among those of torchrun."""
    return [line for line in standard_error.splitlines() if line.startswith("lossgap: ")]


def rows(run: Path, kind: str) -> list[dict[str, Any]]:
    """The whole rows of one kind in a run folder's record so far."""
    path = run / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [row for line in lines if line.endswith("\n") and (row := json.loads(line))["kind"] == kind]


def document(run: Path) -> dict[str, Any]:
    """What `run.json` holds."""
    loaded: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return loaded
