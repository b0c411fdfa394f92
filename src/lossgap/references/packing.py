"""Run folders of one recipe into the file of its reference curve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from lossgap.config import TrainConfig
from lossgap.references.curve_file import SCHEMA
from lossgap.references.trainings import Training
from lossgap.runs.run import Run, read_run
from lossgap.runs.run_json import RUN_FILE, write_json
from lossgap.runs.values import as_float, as_int
from lossgap.settings import settings_of

STRETCH = 50
"""Updates whose losses are averaged into one value."""
DIGITS = 5


def pack(item: Training, runs: Path, folder: Path, commit: str) -> Path | None:
    """Write `NAME.json` from the finished seeds of a recipe; None where none is finished, and then nothing is written.

    `commit` is named where a run's record does not name its own.
    """
    found = [(seed, runs / item.folder(seed)) for seed in item.seeds]
    finished = [(seed, run) for seed, at in found if (at / RUN_FILE).exists() and _done(run := read_run(at))]
    if not finished:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{item.name}.json"
    write_json(path, document(item, finished, commit))
    return path


def _done(run: Run) -> bool:
    return run.status == "finished" and run.final is not None and as_float(run.final.get("val_loss")) is not None


def document(item: Training, runs: list[tuple[int, Run]], commit: str) -> dict[str, object]:
    """The document `lossgap.reference/1` of these runs, which are one for each seed."""
    run = runs[0][1]
    known = {name: value for name, value in settings_of(TrainConfig).items() if value.meaning}
    environment = run.environment
    return {
        "schema": SCHEMA,
        "name": item.name,
        "about": item.about,
        "settings": {name: run.config[name] for name in known if name in run.config and name != "seed"},
        "resumed_at": _resumed_at(run),
        "corpus": {
            name: run.corpus.get(name) for name in ("name", "sha256", "train_tokens", "val_tokens", "vocab_size")
        },
        "made": {
            "machine": f"{environment.get('cpu') or environment.get('gpu')}, {environment.get('architecture')}",
            "torch": str(environment.get("torch")),
            "commit": str(environment.get("git_commit") or commit),
            "date": (max(each.created or "" for _, each in runs))[:10],
            "command": f"make reference RECIPE={item.name}",
        },
        "seeds": [_seed(seed, each) for seed, each in runs],
    }


def _resumed_at(run: Run) -> int | None:
    seams = [as_int(seam.get("iter")) for seam in run.seams if isinstance(seam, dict) and seam.get("changed")]
    return next((at for at in reversed(seams) if at is not None), None)


def _seed(seed: int, run: Run) -> dict[str, object]:
    evals = run.evals.filter((pl.col("kind") == "eval") & pl.col("val_loss").is_not_null())
    at, loss = run.iters["iter"].to_numpy(), run.iters["loss"].to_numpy().astype(float)
    blocks = at // STRETCH
    whole = [block for block in np.unique(blocks) if np.count_nonzero(blocks == block) == STRETCH]
    final = run.final or {}
    return {
        "seed": seed,
        "iters": evals["iter"].to_list(),
        "train": _rounded(evals["train_loss"]),
        "val": _rounded(evals["val_loss"]),
        "val_se": _rounded(evals["val_se"]),
        "batch_iters": [float(at[blocks == block].mean()) for block in whole],
        "batch_loss": [round(float(np.nanmean(loss[blocks == block])), DIGITS) for block in whole],
        "final": {
            "iter": as_int(final.get("iter")),
            "train": as_float(final.get("train_loss")),
            "val": as_float(final.get("val_loss")),
        },
    }


def _rounded(column: pl.Series) -> list[float | None]:
    return [None if value is None else round(float(value), DIGITS) for value in column.to_list()]
