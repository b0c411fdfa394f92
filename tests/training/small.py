"""Small trainings for the tests of this folder: how they are started, and what they left behind."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import lossgap

TIMES = ("seconds", "ms", "mfu")
"""What a row says of the clock: the only part of the record in which two equal runs differ."""

SETTINGS: Mapping[str, object] = {
    "device": "cpu",
    "compile": False,
    "threads": 2,
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 32,
    "block_size": 32,
    "batch_size": 4,
    "gradient_accumulation_steps": 2,
    "dropout": 0.2,
    "learning_rate": 1e-2,
    "warmup_iters": 3,
    "lr_decay_iters": 20,
    "max_iters": 20,
    "eval_interval": 5,
    "eval_iters": 2,
}
"""With dropout, accumulation and two threads: what makes an exact resume hard."""


@dataclass(frozen=True)
class Ended:
    """A command that came to its end: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def one_error(ended: Ended, slug: str) -> str:
    """Assert that a command ended with exit code 1 and told it in one line; that line."""
    lines = [line for line in ended.err.splitlines() if line.startswith("lossgap: error:")]
    assert (ended.code, len(lines)) == (1, 1), ended.err
    assert lines[0].endswith(f"[{slug}]"), lines[0]
    assert "Traceback" not in ended.err
    return lines[0]


def contents(folder: Path | str) -> dict[str, str]:
    """The hash of every file in a folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path(folder).iterdir())}


def write_corpus(path: Path) -> Path:
    """A text of about 15,500 characters, 22 of them different."""
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
    path.write_text("\n".join(" ".join(draw.choices(words, k=8)) for _ in range(400)), encoding="utf-8")
    return path


def arguments(out_dir: str | Path, **settings: object) -> list[str]:
    """`lossgap`'s arguments for a small training on the text `text.txt` in the current folder."""
    values = {"dataset": "text.txt", "out_dir": out_dir, **SETTINGS, **settings}
    return ["train", *(f"--{name}={value}" for name, value in values.items())]


def process(argv: list[str], *prefix: str, ignore: tuple[signal.Signals, ...] = ()) -> subprocess.Popen[str]:
    """A `lossgap` command in a process of its own, under the command `prefix`, with these signals ignored."""

    def dispose() -> None:  # what the test runner ignores is not what the command should ignore
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_IGN if number in ignore else signal.SIG_DFL)

    return subprocess.Popen(
        [*prefix, sys.executable, "-m", "lossgap", *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(lossgap.__file__).parents[1])},
        preexec_fn=dispose,
    )


def rows(folder: Path | str) -> list[dict[str, object]]:
    """The lines of metrics.jsonl, times aside."""
    lines = (Path(folder) / "metrics.jsonl").read_text(encoding="ascii").splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in TIMES} for line in lines]


def record(folder: Path | str) -> dict[str, object]:
    """The document in run.json."""
    document = json.loads((Path(folder) / "run.json").read_text(encoding="ascii"))
    assert isinstance(document, dict)
    return document


def checkpoints(folder: Path | str) -> dict[str, int]:
    """Each checkpoint's iteration, by file name."""
    found = {}
    for path in Path(folder).glob("ckpt*.pt"):
        found[path.name] = int(torch.load(path, map_location="cpu", weights_only=True)["iter_num"])
    return found


def bits(path: Path | str) -> dict[str, object]:
    """Weights, moments and counters of a checkpoint as bytes by name, read with torch alone."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    found: dict[str, object] = {}

    def visit(name: str, value: object) -> None:
        if isinstance(value, Tensor):
            found[name] = (str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key, item in value.items():
                visit(f"{name}/{key}", item)
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                visit(f"{name}/{index}", item)
        else:
            found[name] = value

    for part in ("model", "optimizer", "iter_num", "best_val_loss"):
        visit(part, content[part])
    return found


def same_run(first: Path | str, second: Path | str) -> None:
    """Assert that two finished runs have equal final bits and equal records, times aside."""
    assert bits(Path(first) / "ckpt-final.pt") == bits(Path(second) / "ckpt-final.pt")
    assert rows(first) == rows(second)
