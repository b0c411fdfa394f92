"""W&B: a run's folder, the folder `wandb/` with several, or a `run-ID.wandb` file.

    run-ID.wandb               the records: every logged row
    files/output.log           what the program printed; read with its own format if that is known
    files/wandb-summary.json   the last value of each metric: with nothing else this is all, and a note says so
    files/config.yaml          settings
    files/wandb-metadata.json  the hardware
`_step` counts calls of `log`; a counter of the program's own (`iter`, `global_step`) goes before it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from lossgap.runs.readers.base import LIKELY, NO, SURE, Head, Run, Source, SourceError
from lossgap.runs.readers.columns import Traits
from lossgap.runs.readers.formats.jsonl import numbers, parse, plain_json
from lossgap.runs.readers.formats.lightning import read_yaml
from lossgap.runs.readers.named_rows import NamedRows
from lossgap.runs.readers.stores import protobuf
from lossgap.runs.readers.stores.protobuf import WireError
from lossgap.runs.readers.stores.wandb_records import (
    CONFIG,
    ENVIRONMENT,
    EXIT,
    HISTORY,
    IDENT,
    RUN,
    SUMMARY,
    chunks,
    history_step,
    inner,
    items,
)
from lossgap.strangers import shown

MAX_RUNS: Final = 200
MAX_JSON: Final = 16 << 20
_FOLDER: Final = re.compile(r"(?:offline-)?run-\d{8}_\d{6}-\w+")
_FILES: Final = ("files/wandb-summary.json", "files/config.yaml", "files/output.log", "files/wandb-metadata.json")
_TRAITS: Final = Traits(
    roles={"_runtime": "seconds", "_timestamp": "other", "train/train_loss": "other"},
    kinds={"train/train_loss": "run-mean"},
)
_HIDDEN: Final = {"_timestamp", "_wandb"}


class WandbReader:
    """W&B run folders and their records."""

    name = "wandb"
    title = "W&B run folder"

    def score(self, head: Head) -> float:
        """SURE for the records' first bytes, or the files of a run's folder."""
        if not head.folder:
            return SURE if head.data.startswith(IDENT) else NO
        entries = set(head.entries)
        if any(entry.endswith(".wandb") for entry in entries) or len(entries & set(_FILES)) >= 2:
            return SURE
        if any(_FOLDER.fullmatch(entry) for entry in entries):
            return SURE - 0.1
        return LIKELY if _FILES[0] in entries else NO

    def read(self, source: Source) -> list[Run]:
        """The run of the folder or file, or the runs of a folder of folders. Raises SourceError."""
        if not source.is_folder:
            return [_read_records(source, source)]
        if _is_run(source.path):
            return _read_folder(source)
        runs: list[Run] = []
        for folder in _folders(source.path):
            runs += _read_folder(source.at(folder))
        return [replace(run, number=number) for number, run in enumerate(runs, 1)]


def _is_run(folder: Path) -> bool:
    return (folder / "files").is_dir() or any(True for _ in folder.glob("*.wandb"))


def _folders(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink() and _is_run(path))
    return found[:MAX_RUNS]


def _read_folder(source: Source) -> list[Run]:
    """One run's folder: its records, else the log that it kept, else its summary."""
    records = sorted(path for path in source.path.glob("*.wandb") if path.is_file())
    if records:
        run = _read_records(source.at(records[0]), source)
        if run.iters.height or run.evals.height or run.others.height:
            return [_with_files(run, source)]
    return _read_log(source) or [_with_files(_read_summary(source), source)]


def _read_records(file: Source, source: Source) -> Run:
    """The rows in the records."""
    rows = NamedRows(source, WandbReader.name, _TRAITS)
    facts: dict[str, object] = {}
    count = 0
    with file.open() as stream:
        try:
            for count, data in enumerate(chunks(stream), 1):
                if data is None:
                    rows.facts.damaged(count)
                    continue
                try:
                    _record(rows, count, data, facts)
                except (WireError, ValueError):
                    rows.facts.damaged(count)
        except OSError as error:
            raise SourceError(
                "source-unreadable",
                f"cannot read {shown(file.name)}: {error.strerror or type(error).__name__}; check the path",
            ) from None
    rows.facts.note("line numbers are those of the records in the .wandb file, from 1")
    run = rows.runs()[0]
    name, exit_code = facts.get("name"), facts.get("exit")
    if isinstance(exit_code, int):
        run = replace(run, status="finished" if exit_code == 0 else "failed")
    if isinstance(facts.get("device"), str):
        run = replace(run, device=str(facts["device"]))
    return replace(run, name=name if isinstance(name, str) and name else run.name, number=1)


def _record(rows: NamedRows, count: int, data: bytes, facts: dict[str, object]) -> None:
    """One record. Raises WireError."""
    for kind, _, value in protobuf.fields(data):
        if not isinstance(value, bytes):
            continue
        if kind == HISTORY:
            values = numbers({name: item for name, item in items(value, 1).items() if name not in _HIDDEN})
            step = history_step(value)
            if step is not None:
                values.setdefault("_step", step)
            if not rows.add(count, values):
                rows.facts.not_understood(count)
        elif kind == CONFIG:
            _settings(rows, items(value, 1), count)
        elif kind == RUN:
            facts["name"] = protobuf.text(inner(value, 8)) or protobuf.text(inner(value, 1))
            _settings(rows, items(inner(value, 4), 1), count)
        elif kind == EXIT:
            facts["exit"] = next((code for at, _, code in protobuf.fields(value) if at == 1), 0)
        elif kind == ENVIRONMENT and (device := protobuf.text(inner(value, 18))):
            facts["device"] = device
        elif kind == SUMMARY:
            continue  # the last values, which the history has


def _settings(rows: NamedRows, found: Mapping[str, object], count: int) -> None:
    settings = plain_json({name: item for name, item in found.items() if not name.startswith("_wandb")})
    if isinstance(settings, dict) and settings:
        rows.heading(count, settings, f"record {count}")


def _read_log(source: Source) -> list[Run]:
    """`files/output.log` in a format that is known to log rows; no run in any other format."""
    from lossgap.runs.readers.detect import detect

    path = source.path / "files" / "output.log"
    if not path.is_file():
        return []
    log = replace(source.at(path), columns={})
    try:
        reader = detect(log)
        # A table or JSON lines among the output need not be a log of the training.
        runs = reader.read(log) if reader.name not in ("csv", "jsonl", "keras", WandbReader.name) else []
    except SourceError:
        return []
    if not any(run.iters.height or run.evals.height for run in runs):
        return []
    return [
        _with_files(replace(run, path=source.path, name=_name(source)), source, f"read from {path.name}")
        for run in runs
    ]


def _name(source: Source) -> str:
    return source.path.name


def _read_summary(source: Source) -> Run:
    """The last value of each metric, as one row."""
    rows = NamedRows(source, WandbReader.name, replace(_TRAITS, beside="no"))
    document = _json(source, "wandb-summary.json")
    values = numbers({name: value for name, value in document.items() if name not in _HIDDEN})
    if values:
        rows.add(1, values)
        rows.facts.note(
            "summary only: the last value of each metric; the rows are in the .wandb file, which is missing"
        )
    return rows.runs()[0]


def _json(source: Source, name: str) -> dict[str, object]:
    path = source.path / "files" / name
    try:
        found = parse(source.at(path).text(MAX_JSON)) if path.is_file() else None
    except SourceError:
        return {}
    return found if isinstance(found, dict) else {}


def _with_files(run: Run, source: Source, note: str = "") -> Run:
    """The run with the settings and the hardware that the files beside it name, where it does not name them."""
    rows = NamedRows(replace(source, columns={}), WandbReader.name)
    written = read_yaml(source, source.path / "files" / "config.yaml")
    plain = {name: item["value"] for name, item in written.items() if isinstance(item, dict) and "value" in item}
    rows.heading(None, {name: item for name, item in plain.items() if name != "_wandb"}, "files/config.yaml")
    if note:
        rows.facts.note(note)
    added = rows.runs()[0]
    device = run.device or _device(_json(source, "wandb-metadata.json")) or _device(_environment(plain.get("_wandb")))
    return replace(
        run,
        config={**added.config, **run.config},
        config_sources={**added.config_sources, **run.config_sources},
        notes=[*run.notes, *added.notes],
        device=device,
    )


def _environment(said: object) -> dict[str, object]:
    """Return the environment that newer versions write into config.yaml under `_wandb.value.e.ID`."""
    found = said.get("e") if isinstance(said, dict) else None
    first = next((item for item in found.values() if isinstance(item, dict)), None) if isinstance(found, dict) else None
    return first or {}


def _device(metadata: Mapping[str, object]) -> str | None:
    gpu = metadata.get("gpu")
    if not isinstance(gpu, str) or not gpu.isprintable():
        return None
    return gpu[:100]


READER = WandbReader()
