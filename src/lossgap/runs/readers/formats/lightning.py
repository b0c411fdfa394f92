"""Lightning's `metrics.csv` (also litgpt's), with `hparams.yaml` beside it.

A row per call of the logger: values of steps, of epochs and of validations stand on rows of their own, with empty
cells between. `NAME_step` is the value of one batch, `NAME_epoch` the mean over the epoch. `step` counts optimizer
updates from 0 (the row is written after the update `step`); litgpt writes micro-batches there.
The hyperparameters are data: a Python tag in them is never followed.
"""

from __future__ import annotations

from pathlib import Path

from lossgap.runs.readers.base import LIKELY, NO, SURE, Head, Run, Source, SourceError
from lossgap.runs.readers.columns import Traits
from lossgap.runs.readers.formats.csv_table import Table, collect, find_table
from lossgap.runs.readers.named_rows import NamedRows
from lossgap.runs.readers.stores.yaml_subset import parse_yaml

METRICS = "metrics.csv"
HPARAMS = "hparams.yaml"
MAX_HPARAMS = 4 << 20


class LightningReader:
    """Lightning's CSVLogger."""

    name = "lightning"
    title = "Lightning metrics.csv"

    def score(self, head: Head) -> float:
        """SURE for `_step`/`_epoch` columns or sparse rows with both counters, LIKELY for a folder with the file."""
        if head.folder:
            return LIKELY + 0.05 if METRICS in head.entries else NO
        table = find_table(head.lines[:40])
        if table is None or not table.has_header or table.delimiter != "," or "step" not in table.names:
            return NO
        names = set(table.names)
        litgpt = {"iter", "iter_time", "total_tokens"} <= names
        if "epoch" not in names and not litgpt:
            return NO
        parted = any(name.endswith(("_step", "_epoch")) for name in names)
        sparse = any("" in (table.cells(line) or ()) for line in head.lines[1:40] if line.strip())
        if parted or sparse or litgpt:
            return SURE - 0.05
        return LIKELY if head.name.endswith(METRICS) else NO

    def read(self, source: Source) -> list[Run]:
        """The run of the file; with `hparams.yaml` beside it, its settings. Raises SourceError."""
        if source.is_folder:
            source = source.at(source.path / METRICS)
        table = find_table([text for _, text in zip(range(60), (text for _, text in source.lines()), strict=False)])
        rows = NamedRows(source, self.name)
        if table is None:
            return rows.runs()
        rows.traits = _traits(table)
        add_hparams(rows, source)
        collect(source, table, rows)
        return rows.runs()


def _traits(table: Table) -> Traits:
    if {"iter", "iter_time", "total_tokens"} <= set(table.names):
        return Traits(
            loss="micro-batch",
            unit="nats/token",
            roles={"iter": "iter", "iter_time": "ms", "total_tokens": "tokens"},
            scales={"iter_time": 1000.0},
            counts="micro-batches of one process, not updates (litgpt)",
        )
    return Traits(loss="batch", beside="no")


def add_hparams(rows: NamedRows, source: Source) -> None:
    """Say the settings of the `hparams.yaml` beside the source; a missing or unreadable one has none."""
    name = source.path.name
    beside = name[: -len(METRICS)] + HPARAMS if name.endswith(METRICS) else HPARAMS
    if source.data is not None:
        return
    settings = read_yaml(source, source.path.with_name(beside))
    if settings:
        rows.heading(None, settings, beside)


def read_yaml(source: Source, path: Path) -> dict[str, object]:
    """The mapping in a YAML file; empty if there is none or it cannot be read."""
    try:
        return parse_yaml(source.at(path).text(MAX_HPARAMS)) if path.is_file() else {}
    except (SourceError, OSError, ValueError):
        return {}


READER = LightningReader()
