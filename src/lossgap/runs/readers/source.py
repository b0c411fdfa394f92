"""`load_run`: a Run from whatever names one.

    a run folder · a checkpoint · a log of any known format (`PATH#2` its second run) · a figures file ·
    a config file (.py) · a preset · `-` for the standard input

What the source does not say can be given: `config` (a config file, a preset or a mapping) fills gaps, `set`
(`{"block_size": 64}` or `["block_size=64"]`) wins over everything, `device` names the hardware. What follows
from it all is inferred last.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from lossgap.config import TrainConfig
from lossgap.config_file import read_config_file
from lossgap.errors import ConfigError, warn
from lossgap.presets import PRESETS, preset
from lossgap.runs.readers import detect
from lossgap.runs.readers.base import Source, SourceError, whole
from lossgap.runs.readers.inference import infer
from lossgap.runs.readers.origin import MAX_ITER_ROWS
from lossgap.runs.readers.statements import plain
from lossgap.runs.run import OTHER_COLUMNS, Run
from lossgap.settings import did_you_mean, read_text, settings_of
from lossgap.strangers import one_line, shown

CHECKPOINT_SUFFIXES = (".pt", ".pth", ".ckpt")
STDIN_LIMIT = 4 << 30
GENERIC = ("jsonl", "csv")
"""Readers of any text of their form: what they find no number in is no log."""
Given = str | Path | Mapping[str, object]


def load_run(
    spec: str | Path,
    *,
    format: str | None = None,
    config: Given | None = None,
    set: Mapping[str, object] | Sequence[str] | None = None,
    device: str | None = None,
    columns: Mapping[str, str] | None = None,
    max_iter_rows: int = MAX_ITER_ROWS,
) -> Run:
    """The run that `spec` names; of a log with several runs the one after `#`, else the first, with a warning.

    Raises SourceError (`no-such-run`, `source-unreadable`, `format-not-recognised`, `unknown-format`, `no-such-number`,
    and what the readers raise), ConfigError for `config` and `set`, CheckpointError for a checkpoint.
    """
    runs, number = _load(spec, format, columns or {}, max_iter_rows)
    if number is None and len(runs) > 1:
        listed = ", ".join(f"#{run.number} {_span(run)}" for run in runs[:5])
        more = f" and {len(runs) - 5} more" if len(runs) > 5 else ""
        warn(
            "several-runs",
            f"{shown(str(spec))} holds {len(runs)} runs ({listed}{more}); taking #1: append #2 for another",
        )
    run = next((run for run in runs if run.number == (number or 1)), None)
    if run is None:
        raise SourceError(
            "no-such-number",
            f"{shown(str(spec))}: it holds {len(runs)} run{'s' * (len(runs) != 1)}, not one number {number}",
        )
    return complete(run, config=config, set=set, device=device)


def load_runs(
    spec: str | Path,
    *,
    format: str | None = None,
    config: Given | None = None,
    set: Mapping[str, object] | Sequence[str] | None = None,
    device: str | None = None,
    columns: Mapping[str, str] | None = None,
    max_iter_rows: int = MAX_ITER_ROWS,
) -> list[Run]:
    """All runs that `spec` names, or the one after `#`; raises as `load_run` does."""
    runs, number = _load(spec, format, columns or {}, max_iter_rows)
    if number is not None:
        runs = [load_run(spec, format=format, columns=columns, max_iter_rows=max_iter_rows)]
    return [complete(run, config=config, set=set, device=device) for run in runs]


def _span(run: Run) -> str:
    return "without rows" if run.span is None else f"iterations {run.span[0]} to {run.span[1]}"


def _load(
    spec: str | Path, format: str | None, columns: Mapping[str, str], max_iter_rows: int
) -> tuple[list[Run], int | None]:
    """The runs and the number after `#`."""
    text = str(spec)
    if text == "-":
        return _read(
            Source(path=Path("-"), name="-", data=_stdin(), columns=columns, max_iter_rows=max_iter_rows), format
        ), None
    path, number = _parted(text)
    if path is None:
        if text in PRESETS:
            return [_settings_run(text, "preset", preset(text), dict.fromkeys(preset(text), f"preset {text}"))], None
        raise _missing(text)
    if format is None and path.suffix == ".py":
        file = read_config_file(path)
        sources = {name: f"{one_line(str(path))} line {line}" for name, line in file.lines.items()}
        return [
            _settings_run(path, "config", {name: plain(value) for name, value in file.values.items()}, sources)
        ], number
    source = Source(path=path, name=path.name or text, columns=columns, max_iter_rows=max_iter_rows)
    if format is None and _is_checkpoint(source):
        return [_checkpoint(path)], number
    return _read(source, format), number


def _parted(text: str) -> tuple[Path | None, int | None]:
    """A path that exists, and the number after its `#`; a file whose own name ends so comes first."""
    if "\0" in text or not text:
        return None, None
    try:
        if Path(text).exists():
            return Path(text), None
        found = re.fullmatch(r"(.+)#(\d{1,6})", text, re.S)
        if found and Path(found[1]).exists():
            return Path(found[1]), int(found[2])
    except OSError:  # a name that is too long
        pass
    return None, None


def _missing(text: str) -> SourceError:
    if not text:
        return SourceError("no-such-run", "the RUN is empty: give a file, a run folder (this one is .) or a preset")
    advice = did_you_mean(text, PRESETS)
    path = Path(text.partition("#")[0])
    try:
        near = sorted(item.name for item in path.parent.iterdir()) if path.parent.is_dir() else []
    except (OSError, ValueError):
        near = []
    advice = advice or did_you_mean(path.name, near) or "give a file, a run folder, a preset, or - for standard input"
    return SourceError("no-such-run", f"{one_line(text)}: there is no such file, folder or preset; {advice}")


def _stdin() -> bytes:
    data = sys.stdin.buffer.read(STDIN_LIMIT + 1)
    if len(data) > STDIN_LIMIT:
        raise SourceError("source-too-large", f"more than {STDIN_LIMIT:,} bytes on standard input; give the file")
    return data


def _read(source: Source, format: str | None) -> list[Run]:
    reader = detect.reader(format) if format else detect.detect(source)
    if format and source.is_folder and not reader.score(source.head()):
        raise SourceError("not-this-format", f"{shown(source.name)} is a folder without what --format={format} reads")
    runs = reader.read(source)
    if not format and reader.name in GENERIC and not any(_holds(run) for run in runs):
        raise SourceError(
            "format-not-recognised",
            f"{shown(source.name)}: it looks like {reader.title}, but nothing in it is a number of a training; name "
            "what to read with --format and --columns",
        )
    if not runs:
        raise SourceError(
            "no-rows",
            f"{shown(source.name)}: read as {reader.title}, it holds no row and no setting; name another --format",
        )
    return runs


def _holds(run: Run) -> bool:
    """True if there is a loss, or more than one row of anything."""
    losses = run.iters["loss"].count() + run.evals.height
    return bool(losses or run.iters.height > 1 or run.others["iter"].n_unique() > 1 or run.config)


def _settings_run(path: str | Path, format: str, config: Mapping[str, object], sources: Mapping[str, str]) -> Run:
    """A run that is only settings."""
    return Run(path=Path(path), name=Path(path).stem, format=format, config=dict(config), config_sources=dict(sources))


def _is_checkpoint(source: Source) -> bool:
    if source.is_folder:
        entries = source.head().entries
        return "run.json" not in entries and "ckpt.pt" in entries
    if source.path.suffix.lower() not in CHECKPOINT_SUFFIXES:
        return False
    with source.open() as stream:
        return stream.read(4) in (b"PK\x03\x04", b"\x80\x02\x8a\n")


def _checkpoint(path: Path) -> Run:
    """Settings, iteration and best val loss of a checkpoint; the one kind of source for which torch is loaded."""
    from lossgap.training import checkpoint

    found = checkpoint.find(path)
    source = f"checkpoint {one_line(found.path.name)}"
    config = {
        name: plain(value)
        for name, value in found.config.items()
        if value is None or isinstance(value, str | int | float | tuple | list)
    }
    config |= {name: value for name, value in found.model_args.items() if name != "vocab_size"}
    best = {"metric": ["best_val_loss"], "iter": [found.iter_num], "value": [found.best_val_loss], "line": [None]}
    kept = found.best_val_loss < 1e8  # nanoGPT's 1e9 before the first evaluation
    vocab = found.model_args.get("vocab_size")
    return Run(
        path=path,
        name=path.stem,
        format="checkpoint",
        config=config,
        config_sources=dict.fromkeys(config, source),
        corpus={"vocab_size": vocab} if vocab else {},
        environment={"iter": found.iter_num},
        others=pl.DataFrame(best if kept else None, schema=OTHER_COLUMNS),
    )


# ---------------------------------------------------------------------------------------------
# What the user gives


def complete(
    run: Run,
    *,
    config: Given | None = None,
    set: Mapping[str, object] | Sequence[str] | None = None,
    device: str | None = None,
) -> Run:
    """The run with what the user knows of it, and what follows from all."""
    merged, sources = dict(run.config), dict(run.config_sources)
    if config is not None:
        for name, value, source in _given(config):
            if name not in merged:
                merged[name], sources[name] = value, source
    effective = dict(run.effective)
    for name, value in _set(set or {}):
        if name in merged and merged[name] != value:
            warn(
                "set-over-log",
                f"--set {name}={one_line(str(value))}: {one_line(run.name)} says {one_line(str(merged[name]))} "
                f"({sources.get(name, 'its record')}); the given value is taken",
            )
        merged[name], sources[name] = value, "--set"
        effective.pop(name, None)
    return infer(replace(run, config=merged, config_sources=sources, effective=effective, device=device or run.device))


def _given(config: Given) -> list[tuple[str, object, str]]:
    """(name, value, source) of a config file, a preset or a mapping."""
    if isinstance(config, Mapping):
        return [(str(name), plain(value), "config") for name, value in config.items()]
    if Path(config).exists():
        file = read_config_file(config)
        return [
            (name, plain(value), f"{one_line(str(config))} line {file.lines[name]}")
            for name, value in file.values.items()
        ]
    return [(name, value, f"preset {config}") for name, value in preset(str(config)).items()]


def _set(given: Mapping[str, object] | Sequence[str]) -> list[tuple[str, object]]:
    """Settings by name, texts read as flags are. Raises ConfigError `unknown-setting` and those of `read_text`."""
    known = settings_of(TrainConfig)
    found: list[tuple[str, object]] = []
    for name, value in _pairs(given):
        if name not in known and name not in ("vocab_size", "tokens_per_iter"):
            advice = did_you_mean(name, known) or "`lossgap train --help` lists them all"
            raise ConfigError("unknown-setting", f"--set {one_line(name)}: there is no such setting; {advice}")
        if not isinstance(value, str):
            found.append((name, plain(value)))
        elif name in known:
            found.append((name, plain(read_text(known[name], value, f"--set {name}"))))
        else:
            found.append((name, whole(value)))
    return found


def _pairs(given: Mapping[str, object] | Sequence[str]) -> list[tuple[str, object]]:
    if isinstance(given, Mapping):
        return list(given.items())
    pairs: list[tuple[str, object]] = []
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError("missing-value", f"--set {one_line(text)}: write name=value")
        pairs.append((name.strip().lstrip("-").replace("-", "_"), value))
    return pairs
