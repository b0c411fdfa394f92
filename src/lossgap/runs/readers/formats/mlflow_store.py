"""MLflow: the plain-file store (a run, an experiment or `mlruns`), and `mlflow.db`, without MLflow.

    metrics/NAME   one line per value: timestamp in milliseconds, value, step     (NAME may have folders)
    params/NAME    one value as text
    meta.yaml      run_name, status (1 running, 3 finished, 4 failed, 5 killed), start_time
    mlflow.db      tables runs, metrics, params, experiments (and tags)
The database is opened read-only and immutable: nothing is written, not even a lock. Rows that are still in a
write-ahead log beside it are not seen, and a note says so.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import quote

from lossgap.runs.readers.base import LIKELY, NO, SURE, Head, Number, Run, Source, SourceError, number, whole
from lossgap.runs.readers.columns import Traits
from lossgap.runs.readers.formats.lightning import read_yaml
from lossgap.runs.readers.metric_names import Role, clean_name
from lossgap.runs.readers.named_rows import NamedRows
from lossgap.runs.readers.setting_names import typed
from lossgap.strangers import shown

SQLITE: Final = b"SQLite format 3\0"
DATABASE: Final = "mlflow.db"
MAX_RUNS: Final = 1000
MAX_FILES: Final = 5000
MAX_DEPTH: Final = 6
MAX_PARAM: Final = 1 << 16
MAX_POINTS: Final = 5_000_000
MAX_SECONDS: Final = 120.0
"""A query that takes longer is stopped: a database may be made to be slow."""
_STATUS: Final = {
    "1": "running",
    "3": "finished",
    "4": "failed",
    "5": "interrupted",
    "RUNNING": "running",
    "FINISHED": "finished",
    "FAILED": "failed",
    "KILLED": "interrupted",
}
_ROLES: Final[dict[str, Role]] = {"step": "iter", "_runtime": "seconds"}


@dataclass
class _Stored:
    """One run as it is stored."""

    id: str
    name: str = ""
    status: str = "unknown"
    start: float | None = None
    points: list[tuple[int, float, str, Number, int | None]] = field(default_factory=list)
    """(step, timestamp in ms, metric, value, line)"""
    params: dict[str, object] = field(default_factory=dict)
    deleted: bool = False
    damaged: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class MlflowReader:
    """MLflow's stores."""

    name = "mlflow"
    title = "MLflow store"

    def score(self, head: Head) -> float:
        """SURE for a store's files; a database by its name or the names of its tables."""
        if not head.folder:
            known = b"latest_metrics" in head.data or head.name.endswith(DATABASE)
            return (SURE if known else NO) if head.data.startswith(SQLITE) else NO
        entries = head.entries
        if "meta.yaml" in entries and ("metrics" in entries or "params" in entries):
            return SURE
        if any(entry.endswith("/meta.yaml") for entry in entries):
            return SURE - 0.05
        if DATABASE in entries:
            return SURE - 0.15
        return LIKELY if "mlruns" in entries else NO

    def read(self, source: Source) -> list[Run]:
        """The runs of the store, by their start. Raises SourceError."""
        if not source.is_folder:
            stored = _database(source)
        elif (source.path / "meta.yaml").is_file() and (source.path / "metrics").is_dir():
            stored = [_stored(source, source.path)]
        else:
            stored = [_stored(source, folder) for folder in _run_folders(source.path)]
            stored = [run for run in stored if not run.deleted]
            if not stored and (source.path / DATABASE).is_file():
                stored = _database(source.at(source.path / DATABASE))
        stored.sort(key=lambda run: (run.start is None, run.start or 0.0, run.id))
        return [replace(_build(source, run), number=at) for at, run in enumerate(stored, 1)]


def _run_folders(root: Path) -> list[Path]:
    """Folders of runs below an experiment, `mlruns`, or what holds it."""
    found: list[Path] = []
    for level in ("*/meta.yaml", "*/*/meta.yaml", "mlruns/*/*/meta.yaml"):
        for path in sorted(root.glob(level)):
            folder = path.parent
            if len(found) < MAX_RUNS and ((folder / "metrics").is_dir() or (folder / "params").is_dir()):
                found.append(folder)
    return list(dict.fromkeys(found))


def _files(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Regular files below a folder; links are not followed."""
    try:
        children = sorted(folder.iterdir())
    except OSError:
        return
    for path in children:
        if path.is_symlink():
            continue
        if path.is_dir():
            if depth < MAX_DEPTH:
                yield from _files(path, depth + 1)
        elif path.is_file():
            yield path


def _stored(source: Source, folder: Path) -> _Stored:
    """A run of the plain-file store. Raises SourceError."""
    meta = read_yaml(source, folder / "meta.yaml")
    start = meta.get("start_time")
    run = _Stored(
        id=str(meta.get("run_id") or folder.name),
        name=str(meta.get("run_name") or ""),
        status=_STATUS.get(str(meta.get("status")), "unknown"),
        start=float(start) if isinstance(start, (int, float)) else None,
        deleted=meta.get("lifecycle_stage") == "deleted",
    )
    for count, path in enumerate(_files(folder / "metrics")):
        if count >= MAX_FILES or len(run.points) >= MAX_POINTS:
            run.notes.append("more metrics than are read; the rest is left out")
            break
        name = path.relative_to(folder / "metrics").as_posix()
        for line, text in source.at(path).lines():
            parts = text.split()
            if not parts:
                continue
            step = whole(parts[2]) if len(parts) > 2 else 0
            moment = number(parts[0])
            if step is None or moment is None or len(parts) < 2 or number(parts[1]) is None:
                run.damaged.append(line)
                continue
            run.points.append((step, moment, name, parts[1], line))
    for count, path in enumerate(_files(folder / "params")):
        if count >= MAX_FILES:
            break
        with contextlib.suppress(SourceError, OSError), source.at(path).open() as stream:
            text = stream.read(MAX_PARAM).decode("utf-8", "replace")
            run.params[path.relative_to(folder / "params").as_posix()] = typed(text)
    return run


def _database(source: Source) -> list[_Stored]:
    """The runs of the database. Raises SourceError `source-unreadable`."""
    limit = time.monotonic() + MAX_SECONDS
    try:
        with contextlib.closing(_connect(source)) as connection:
            connection.set_progress_handler(lambda: time.monotonic() > limit, 100_000)
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.text_factory = lambda data: data.decode("utf-8", "replace")
            return _query(source, connection)
    except (sqlite3.Error, OSError, ValueError, MemoryError) as error:
        raise SourceError(
            "source-unreadable",
            f"{shown(source.name)} cannot be read as a database of MLflow: {str(error)[:200]}; check the file",
        ) from None


def _connect(source: Source) -> sqlite3.Connection:
    if source.data is None:
        return sqlite3.connect(f"file:{quote(str(source.path.resolve()))}?mode=ro&immutable=1", uri=True)
    connection = sqlite3.connect(":memory:")
    connection.deserialize(source.data)
    return connection


def _query(source: Source, connection: sqlite3.Connection) -> list[_Stored]:
    tables = {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"runs", "metrics"} <= tables:
        raise ValueError("it has no tables runs and metrics")
    found: dict[str, _Stored] = {}
    query = "SELECT run_uuid, name, status, start_time FROM runs WHERE lifecycle_stage IS NOT 'deleted' LIMIT ?"
    for key, name, status, start in connection.execute(query, (MAX_RUNS,)):
        found[str(key)] = _Stored(
            id=str(key),
            name=str(name or ""),
            status=_STATUS.get(str(status), "unknown"),
            start=float(start) if isinstance(start, (int, float)) else None,
        )
    query = "SELECT run_uuid, key, value, timestamp, step, is_nan FROM metrics LIMIT ?"
    for key, name, value, moment, step, is_nan in connection.execute(query, (MAX_POINTS,)):
        run, at = found.get(str(key)), step if isinstance(step, int) else None
        if run is None:
            continue
        if at is None or not isinstance(value, (int, float)) or not isinstance(moment, (int, float)):
            run.damaged.append(0)
            continue
        run.points.append((at, float(moment), str(name), float("nan") if is_nan else value, None))
    if "params" in tables:
        for key, name, value in connection.execute("SELECT run_uuid, key, value FROM params LIMIT ?", (MAX_POINTS,)):
            if str(key) in found:
                found[str(key)].params[str(name)] = typed(str(value))
    log = source.path.with_name(source.path.name + "-wal")
    if source.data is None and log.is_file() and log.stat().st_size:
        for run in found.values():
            run.notes.append(f"{log.name} holds rows that are not in the database yet and are not read")
    return list(found.values())


def _build(source: Source, stored: _Stored) -> Run:
    points = stored.points
    rows = NamedRows(source, MlflowReader.name, Traits(roles=_ROLES, beside="step"))
    for text in stored.notes:
        rows.facts.note(text)
    for bad in stored.damaged:
        rows.facts.damaged(bad or None)
    if stored.params:
        rows.heading(None, stored.params, "params")
    if (
        len(points) > 1
        and not any(step for step, *_ in points)
        and len({name for _, _, name, _, _ in points}) < len(points)
    ):
        rows.facts.note("every step is 0: iter counts the values of a metric by their time, from 0")
        points = _by_time(points)
    begin = stored.start if stored.start is not None else min((moment for _, moment, *_ in points), default=0.0)
    for step, moment, name, value, line in sorted(points, key=lambda point: (point[0], point[1])):
        rows.add(line, {"step": step, "_runtime": (moment - begin) / 1000.0, name: value})
    run = rows.runs()[0]
    return replace(run, name=clean_name(stored.name) or clean_name(stored.id), status=stored.status)


def _by_time(
    points: list[tuple[int, float, str, Number, int | None]],
) -> list[tuple[int, float, str, Number, int | None]]:
    """Points without steps, numbered by their time, metric by metric."""
    counts: dict[str, int] = {}
    found = []
    for _, moment, name, value, line in sorted(points, key=lambda point: point[1]):
        found.append((counts.setdefault(name, 0), moment, name, value, line))
        counts[name] += 1
    return found


READER = MlflowReader()
