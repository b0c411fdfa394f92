"""TensorBoard event files, read without TensorBoard: a file, or a folder whose event files are one run each folder.

Event (tensorflow/core/util/event.proto): wall_time = 1, step = 2, file_version = 3, summary = 5, session_log = 7.
Summary.Value: tag = 1, simple_value = 2, tensor = 8, metadata = 9. Values are 32-bit floats, shown in full.
Several event files of one folder are one run: where steps overlap, the newest file counts, and a start with
`purge_step` takes back what it says. The sibling folders `train` and `validation` (Keras) are one run too.
Hyperparameters of the `hparams` plugin and of a `hparams.yaml` beside the files are settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from pathlib import Path
from typing import Final

from lossgap.runs.readers.base import NO, SURE, Head, Number, Run, Source, SourceError
from lossgap.runs.readers.columns import Traits
from lossgap.runs.readers.formats.lightning import HPARAMS, read_yaml
from lossgap.runs.readers.metric_names import Role, clean_name
from lossgap.runs.readers.named_rows import NamedRows
from lossgap.runs.readers.stores import protobuf
from lossgap.runs.readers.stores.protobuf import WireError
from lossgap.runs.readers.stores.tfrecord import masked_crc, records
from lossgap.runs.run import Kind
from lossgap.strangers import shown

MARK: Final = "tfevents"
MAX_FILES: Final = 500
MAX_POINTS: Final = 5_000_000
POINTER: Final = b"version https://git-lfs"
_SPLITS: Final = {
    "train": "train",
    "training": "train",
    "validation": "val",
    "val": "val",
    "eval": "val",
    "test": "test",
}
_ROLES: Final[dict[str, Role]] = {
    "step": "iter",
    "_runtime": "seconds",
    "epoch_loss": "loss",
    "train/epoch_loss": "loss",
    "val/epoch_loss": "val_loss",
    "train/train_loss": "other",
    "epoch": "other",
}
_KINDS: Final[dict[str, Kind]] = {"train/train_loss": "run-mean"}
_START: Final = 1
_TIME: Final = re.compile(r"tfevents\.(\d{1,15})")
_DT_FLOAT, _DT_DOUBLE, _DT_INT32, _DT_INT64 = 1, 2, 3, 9


@dataclass
class _Events:
    """The points of one run, by tag."""

    points: dict[str, list[tuple[int, float, float, int]]] = field(default_factory=dict)
    """tag -> (step, value, wall time, record)"""
    hparams: dict[str, object] = field(default_factory=dict)
    damaged: list[int] = field(default_factory=list)
    start: float | None = None
    count: int = 0
    record: int = 0
    purged: int = 0
    overlaps: list[tuple[str, int]] = field(default_factory=list)


class TensorboardReader:
    """TensorBoard event files."""

    name = "tensorboard"
    title = "TensorBoard event files"

    def score(self, head: Head) -> float:
        """SURE for the frame of a first record, a git-LFS pointer of that name, or a folder with event files."""
        if head.folder:
            return SURE - 0.2 if any(MARK in entry.rsplit("/", 1)[-1] for entry in head.entries) else NO
        if MARK in head.name and (head.data.startswith(POINTER) or not head.data):
            return SURE
        data = head.data
        if len(data) < 12 or masked_crc(data[:8]) != int.from_bytes(data[8:12], "little"):
            return SURE - 0.1 if MARK in head.name else NO
        return SURE

    def read(self, source: Source) -> list[Run]:
        """One run per folder with event files, or that of the file. Raises SourceError."""
        if not source.is_folder:
            return [_run(source, [("", [source])], 1)]
        groups = _groups(source)
        runs = [_run(source.at(folder), parts, number) for number, (folder, parts) in enumerate(groups, 1)]
        if len(runs) > 1:
            runs = [run for run in runs if run.iters.height or run.evals.height or run.others.height] or runs[:1]
            runs = [replaced(run, number=number) for number, run in enumerate(runs, 1)]
        return runs


def _groups(source: Source) -> list[tuple[Path, list[tuple[str, list[Source]]]]]:
    """[(folder, [(prefix, event files oldest first)])]; `train` and `validation` in one folder are its parts."""
    folders: dict[Path, list[Path]] = {}
    for count, path in enumerate(sorted(source.path.rglob(f"*{MARK}*"))):
        if count >= MAX_FILES:
            break
        if path.is_file() and _is_events(source.at(path)):
            folders.setdefault(path.parent, []).append(path)
    found: dict[Path, list[tuple[str, list[Source]]]] = {}
    for folder, paths in folders.items():
        split = _SPLITS.get(folder.name.lower())
        siblings = {_SPLITS.get(other.name.lower()) for other in folders if other.parent == folder.parent}
        part = split is not None and folder != source.path and len(siblings - {None}) > 1
        files = [source.at(path) for path in sorted(paths, key=lambda path: (_time(path.name), path.name))]
        found.setdefault(folder.parent if part else folder, []).append((split if part and split else "", files))
    return list(found.items())


def _is_events(source: Source) -> bool:
    """True if a file with an event file's name is one: by the frame of its first record, damaged or not."""
    try:
        with source.open() as stream:
            start = stream.read(64)
    except (SourceError, OSError):
        return True  # reading it will say why not
    return not source.name.endswith(".json") or not start.lstrip().startswith(b"{")


def _time(name: str) -> int:
    found = _TIME.search(name)
    return int(found[1]) if found else 0


def _run(source: Source, parts: list[tuple[str, list[Source]]], number: int) -> Run:
    rows = NamedRows(source, TensorboardReader.name, Traits(roles=_ROLES, kinds=_KINDS))
    rows.facts.number = number
    table: dict[int, dict[str, tuple[float, float, int]]] = {}
    settings: dict[str, object] = {}
    start: float | None = None
    for prefix, files in parts:
        events = _Events()
        for file in files:
            _read_file(file, events, rows)
        settings |= events.hparams
        start = events.start if start is None or (events.start is not None and events.start < start) else start
        _tell(rows, events, files)
        for tag, points in events.points.items():
            name = f"{prefix}/{tag}" if prefix else tag
            for step, value, wall, record in points:
                table.setdefault(step, {})[name] = (value, wall, record)
    folder = source.path if source.is_folder else source.path.parent
    if source.data is None and (beside := read_yaml(source, folder / HPARAMS)):
        rows.heading(None, beside, HPARAMS)
    if settings:
        rows.heading(None, settings, "hparams in the event file")
    if any("hp_metric" in cells for cells in table.values()):
        rows.traits = replaced(rows.traits, loss="batch")  # Lightning's logger writes values of single batches
    for step in sorted(table):
        cells = table[step]
        values: dict[str, Number] = {"step": step}
        values.update({name: value for name, (value, _, _) in cells.items()})
        if start is not None and not rows.source.columns.get("seconds"):
            values["_runtime"] = max(wall for _, wall, _ in cells.values()) - start
        rows.add(min(record for _, _, record in cells.values()), values)
    runs = rows.runs()
    return replaced(runs[0], number=number)


def _tell(rows: NamedRows, events: _Events, files: list[Source]) -> None:
    """Notes on what was damaged, taken back or written twice."""
    for record in events.damaged:
        rows.facts.damaged(record)
    if events.purged:
        rows.facts.note(f"{events.purged:,} points were taken back by a later start (purge_step)")
    if events.overlaps:
        tags = ", ".join(sorted({clean_name(tag) for tag, _ in events.overlaps})[:5])
        count = sum(lost for _, lost in events.overlaps)
        rows.facts.note(f"event files overlap: the newest counts, {count:,} older points left out ({tags})")
    if len(files) > 1:
        rows.facts.note(f"{len(files)} event files of one folder are read as one run")
    if events.points:
        rows.facts.note("line numbers are those of the records, from 1; seconds since the first, evaluations included")


def _read_file(source: Source, events: _Events, rows: NamedRows) -> None:
    """Add the events of one file; those of earlier files from its first step on are replaced, tag by tag."""
    before = {tag: len(points) for tag, points in events.points.items()}
    with source.open() as stream:
        try:
            start = stream.read(len(POINTER))
            if start == POINTER:
                rows.facts.note(
                    f"{shown(source.name)} is a git-LFS pointer and no event file: fetch the file itself (git lfs pull)"
                )
                rows.facts.not_understood(1)
                return
            stream.seek(0)
            for data in records(stream):
                events.record += 1
                if data is None:
                    events.damaged.append(events.record)
                    continue
                try:
                    _event(data, events, before)
                except (WireError, ValueError):
                    events.damaged.append(events.record)
                if events.count >= MAX_POINTS:
                    rows.facts.note(f"more than {MAX_POINTS:,} points; the rest is left out")
                    break
        except OSError as error:
            raise SourceError(
                "source-unreadable",
                f"cannot read {shown(source.name)}: {error.strerror or type(error).__name__}; check the path",
            ) from None
    for tag, old in before.items():
        newer = events.points[tag][old:]
        if not newer:
            continue
        first = min(step for step, _, _, _ in newer)
        kept = [point for point in events.points[tag][:old] if point[0] < first]
        if len(kept) < old:
            events.overlaps.append((tag, old - len(kept)))
        events.points[tag] = kept + newer


def _event(data: bytes, events: _Events, before: dict[str, int]) -> None:
    """One event. Raises WireError."""
    wall, step, summary, start = 0.0, 0, None, False
    for number, wire, value in protobuf.fields(data):
        if number == 1 and wire == protobuf.FIXED64 and isinstance(value, bytes):
            wall = protobuf.double(value)
        elif number == 2 and isinstance(value, int):
            step = protobuf.signed(value)
        elif number == 5 and isinstance(value, bytes):
            summary = value
        elif number == 7 and isinstance(value, bytes):
            start = any(field == (1, protobuf.VARINT, _START) for field in protobuf.fields(value))
    if events.start is None and 0.0 < wall < 1e11:
        events.start = wall
    if start and step > 0:
        _purge(events, step, before)
    if summary is None:
        return
    for number, _, value in protobuf.fields(summary):
        if number == 1 and isinstance(value, bytes):
            _value(value, step, wall, events)


def _purge(events: _Events, step: int, before: dict[str, int]) -> None:
    """A writer that starts at `step` takes back what was written from there on."""
    for tag, points in events.points.items():
        kept = [point for point in points if point[0] < step]
        events.purged += len(points) - len(kept)
        before[tag] = min(before.get(tag, 0), sum(point[0] < step for point in points[: before.get(tag, 0)]))
        events.points[tag] = kept


def _value(data: bytes, step: int, wall: float, events: _Events) -> None:
    """One value of a summary: a scalar, or the hyperparameters."""
    tag, found, metadata = "", None, b""
    for number, wire, value in protobuf.fields(data):
        if number == 1:
            tag = protobuf.text(value)
        elif number == 2 and wire == protobuf.FIXED32 and isinstance(value, bytes):
            found = protobuf.single(value)
        elif number == 8 and isinstance(value, bytes):
            found = _tensor(value)
        elif number == 9 and isinstance(value, bytes):
            metadata = value
    if metadata and tag.startswith("_hparams_/"):
        events.hparams |= dict(_hparams(metadata))
    if tag and found is not None:
        events.points.setdefault(tag, []).append((step, found, wall, events.record))
        events.count += 1


def _tensor(data: bytes) -> float | None:
    """The one number of a TensorProto: dtype 1, shape 2, content 4, float 5, double 6, int 7, int64 10."""
    kind, content, plain, is_single = 0, b"", None, True
    for number, wire, value in protobuf.fields(data):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 2 and isinstance(value, bytes):
            is_single = _is_single(value)
        elif number == 4 and isinstance(value, bytes):
            content = value
        elif number == 5 and isinstance(value, bytes) and len(value) == 4:
            plain = protobuf.single(value)
        elif number == 6 and isinstance(value, bytes) and len(value) == 8:
            plain = protobuf.double(value)
        elif number in (7, 10):
            numbers = [value] if wire == protobuf.VARINT else list(_packed(value))
            plain = float(protobuf.signed(numbers[0])) if len(numbers) == 1 and isinstance(numbers[0], int) else None
    if not is_single:
        return None
    if kind == _DT_FLOAT and len(content) == 4:
        return protobuf.single(content)
    if kind == _DT_DOUBLE and len(content) == 8:
        return protobuf.double(content)
    if kind in (_DT_INT32, _DT_INT64) and len(content) in (4, 8):
        return float(int.from_bytes(content, "little", signed=True))
    return plain if kind in (_DT_FLOAT, _DT_DOUBLE, _DT_INT32, _DT_INT64) else None


def _is_single(shape: bytes) -> bool:
    """True for the shape of one number: dim = 2 {size = 1}, each size 1. Sizes are never multiplied: a file of some
    kB may name thousands of 64-bit ones."""
    for number, _, value in protobuf.fields(shape):
        if number == 2 and isinstance(value, bytes):
            size = next((size for at, _, size in protobuf.fields(value) if at == 1 and isinstance(size, int)), 0)
            if size != 1:
                return False
    return True


def _packed(value: int | bytes) -> Iterator[int]:
    """The varints of a packed field that holds one number."""
    if isinstance(value, bytes) and value:
        # A packed field has no keys; one in front makes it a message of one varint.
        yield from (item for _, _, item in protobuf.fields(b"\x08" + value) if isinstance(item, int))


def _hparams(metadata: bytes) -> Iterator[tuple[str, object]]:
    """`(name, value)` of the hparams plugin: metadata.plugin_data = 1 {name = 1, content = 2},
    content.session_start_info = 3 {hparams = 1 {key = 1, value = 2}}."""
    for content in _inner(_inner_of(metadata, 1), 2):
        for info in _inner(content, 3):
            for entry in _inner(info, 1):
                parts = {number: value for number, _, value in protobuf.fields(entry)}
                value = parts.get(2)
                if isinstance(value, bytes):
                    yield protobuf.text(parts.get(1, b"")), _json_value(value)


def _inner(message: bytes, wanted: int) -> Iterator[bytes]:
    for number, _, value in protobuf.fields(message):
        if number == wanted and isinstance(value, bytes):
            yield value


def _inner_of(message: bytes, wanted: int) -> bytes:
    return next(_inner(message, wanted), b"")


def _json_value(message: bytes) -> object:
    """google.protobuf.Value: null = 1, number = 2, string = 3, bool = 4."""
    for number, wire, value in protobuf.fields(message):
        if number == 2 and wire == protobuf.FIXED64 and isinstance(value, bytes):
            found = protobuf.double(value)
            return int(found) if found == found and abs(found) < 1e15 and found == int(found) else found
        if number == 3:
            return protobuf.text(value)
        if number == 4:
            return bool(value)
    return None


READER = TensorboardReader()
