"""The runs below a directory, each in one line, without loading their tables."""

from __future__ import annotations

import dataclasses
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import polars as pl

from lossgap.errors import RunFolderError
from lossgap.runs import rows
from lossgap.runs.run_json import METRICS_FILE, RUN_FILE, metrics_unreadable, open_data, read_run_json
from lossgap.runs.status import true_status
from lossgap.runs.values import as_float, as_int, as_mapping, as_text
from lossgap.shown import Shown
from lossgap.strangers import shown

MAX_LEVELS = 3
_LAST_LINES = 8
"""So many damaged lines at the end may hide the last iteration."""


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One run of a listing; what is unknown is None."""

    path: Path
    name: str
    status: str = "unknown"
    iter: int | None = None
    """The last iteration in the record."""
    max_iters: int | None = None
    last_val_loss: float | None = None
    best_val_loss: float | None = None
    best_iter: int | None = None
    parameters: int | None = None
    """nanoGPT's count: without position embeddings."""
    device: str | None = None
    created: str | None = None
    seconds_left: float | None = None
    """Seconds left to a running one, at the pace of its record so far; None if it does not run or has no known pace."""
    problem: str | None = None
    """Why this folder or run could not be read, in one line."""


SCHEMA = {
    "path": pl.String,
    "name": pl.String,
    "status": pl.String,
    "iter": pl.Int64,
    "max_iters": pl.Int64,
    "last_val_loss": pl.Float64,
    "best_val_loss": pl.Float64,
    "best_iter": pl.Int64,
    "parameters": pl.Int64,
    "device": pl.String,
    "created": pl.String,
    "seconds_left": pl.Float64,
    "problem": pl.String,
}
"""The columns of `Listing.to_polars`."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Listing(Shown):
    """The runs below a directory."""

    directory: Path
    runs: tuple[RunSummary, ...]

    def to_polars(self) -> pl.DataFrame:
        """One row for each run, with the fields of `RunSummary`; `path` is text."""
        rows = [dataclasses.asdict(run) | {"path": str(run.path)} for run in self.runs]
        return pl.DataFrame(rows, schema=SCHEMA)


def listing(directory: Path | str) -> Listing:
    """`list_runs` as a result that can be shown. Raises RunFolderError (runs-dir-missing)."""
    return Listing(directory=Path(directory), runs=tuple(list_runs(directory)))


def list_runs(directory: Path | str) -> list[RunSummary]:
    """The runs in `directory` and up to 3 levels below it, in the order of their paths.

    Each folder counts once, however many links lead to it. A run or folder that cannot be read is in
    the list with its `problem`. Raises RunFolderError (runs-dir-missing).
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise RunFolderError(
            "runs-dir-missing", f"{shown(directory)} is not a directory: name one that holds run folders"
        )
    found = []
    for folder, problem in _folders(directory):
        if problem is not None:
            found.append(RunSummary(path=folder, name=folder.name, problem=problem))
        elif os.path.lexists(folder / RUN_FILE):
            found.append(summarise(folder))
    return sorted(found, key=lambda summary: summary.path)


def _folders(directory: Path) -> Iterator[tuple[Path, str | None]]:
    """Folders level by level, real ones before links, each with the reason why it cannot be entered."""
    seen: set[tuple[int, int]] = set()
    waiting = deque([(directory, 0)])
    while waiting:
        folder, level = waiting.popleft()
        try:
            about = folder.stat()
            if (about.st_dev, about.st_ino) in seen:
                continue
            seen.add((about.st_dev, about.st_ino))
            below = []
            if level < MAX_LEVELS:
                with os.scandir(folder) as entries:
                    below = sorted((entry.is_symlink(), entry.name) for entry in entries if _is_folder(entry))
        except OSError as error:
            yield folder, f"cannot read {shown(folder)}: {error.strerror or type(error).__name__}"
            continue
        yield folder, None
        waiting.extend((folder / name, level + 1) for _, name in below)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=True)
    except OSError:  # a link to itself
        return False


def summarise(folder: Path) -> RunSummary:
    """One run folder in one line; never raises for what is in it."""
    try:
        document = read_run_json(folder)
        progress = _progress(folder / METRICS_FILE)
    except RunFolderError as error:
        return RunSummary(path=folder, name=folder.resolve().name, problem=str(error))
    config, effective = as_mapping(document.get("config")), as_mapping(document.get("effective"))
    parameters = as_mapping(document.get("parameters"))
    limit = as_int(effective.get("max_iters"))
    limit = as_int(config.get("max_iters")) if limit is None else limit
    status = true_status(folder, document.get("status"))
    best = progress.best
    return RunSummary(
        path=folder,
        name=as_text(document.get("name")) or folder.resolve().name,
        status=status,
        iter=progress.iter,
        max_iters=limit,
        last_val_loss=progress.last,
        best_val_loss=None if best is None else best[0],
        best_iter=None if best is None else best[1],
        parameters=as_int(parameters.get("nanogpt_count")),
        device=as_text(effective.get("device")) or as_text(config.get("device")),
        created=as_text(document.get("created")),
        seconds_left=progress.seconds_left(limit) if status == "running" else None,
    )


@dataclass(frozen=True, kw_only=True)
class _Progress:
    """How far a record is."""

    iter: int | None = None
    last: float | None = None
    best: tuple[float, int] | None = None
    """The lowest val loss and its iteration."""
    seconds: float | None = None
    """From iteration 0 to `iter`, without evaluations."""

    def seconds_left(self, limit: int | None) -> float | None:
        """To iteration `limit` at the pace so far; None if that is not known."""
        if not self.iter or limit is None or self.seconds is None:
            return None
        return max(0, limit - self.iter) * self.seconds / self.iter


def _progress(path: Path) -> _Progress:
    """Last iteration, last and best val_loss, pace; decodes only the lines it needs."""
    last: float | None = None
    best: tuple[float, int] | None = None
    tail: deque[bytes] = deque(maxlen=_LAST_LINES)
    try:
        with open_data(path) as stream:
            for line in rows.walk(stream):
                tail.append(line)
                row = rows.decode(line) if b'"eval"' in line else None
                value = as_float(row.get("val_loss")) if row is not None and row["kind"] == "eval" else None
                if row is not None and value is not None:
                    last = value
                    if best is None or value < best[0]:
                        best = value, cast("int", row["iter"])
    except FileNotFoundError:
        return _Progress()
    except OSError as error:
        raise metrics_unreadable(path, error) from error
    known = [row for row in map(rows.decode, reversed(tail)) if row is not None and row["kind"] in rows.KINDS]
    pace = next((row for row in known if row["kind"] == "iter" and as_float(row.get("seconds")) is not None), {})
    return _Progress(
        iter=cast("int", known[0]["iter"]) if known else None,
        last=last,
        best=best,
        seconds=as_float(pace.get("seconds")),
    )
