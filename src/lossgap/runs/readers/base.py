"""The seam of the readers: one log format is one `Reader`, and everything that reads one is here.

    class Reader(Protocol):
        name: str                                 # "nanogpt"; what --format takes
        title: str                                # "nanoGPT stdout"; what people see
        def score(self, head: Head) -> float      # NO, WEAK, LIKELY or SURE that this is its format
        def read(self, source: Source) -> list[Run]

How to write one (the module `myformat.py`):

1. `score` looks at `head` only: `head.name`, `head.suffix` (with the dot, lower case), `head.folder` and
   `head.entries` (relative paths of a folder, two levels), `head.data` (the first 64 KiB, raw),
   `head.text` and `head.lines` (the same, decoded: UTF-8, UTF-16, ANSI codes and carriage returns
   gone), `head.later` (lines from the middle and the end of the file). It never raises and opens nothing.
   The highest score wins, at equal scores the first in `detect.FORMATS`; generic readers (CSV, JSONL) answer WEAK.
2. `read` makes one `Run` per training in the source, in their order, each through a `RunBuilder`.
   It raises nothing but `SourceError`, whatever the bytes are. A source that holds nothing it understands
   gives runs without rows, or no run.
3. `READER = MyReader()` at the end of the module, and one line in `detect.FORMATS`.

A `Source` is a file, a folder or the standard input: `source.lines()` yields `(line number from 1, text)`
of any text file (decoded, lines of any length cut to 1 MiB); `source.text()` is a whole document (JSON, TOML)
with a limit; `source.open()` is the raw bytes; `source.path` for folders; `source.columns` is what `--columns` said.
Open nothing else but files below `source.path`, through `Source.at(child)`.

    builder = RunBuilder(source, "myformat")
    builder.describe("iters.loss", Series(kind="batch", split="train", mode="train", unit="nats/token"))
    builder.iter(line, 10, loss="2.3405", lr="6e-4", ms="39.1")     # keys: columns of ITER_COLUMNS
    builder.eval(line, 250, train_loss="2.4293", val_loss="2.4447")  # keys: columns of EVAL_COLUMNS
    builder.other(line, "accuracy", 250, "0.91")                     # metrics without a column
    builder.say("batch_size", 12, f"line {line}")                    # a setting that the log states
    builder.infer("n_layer", 6, "why", alternatives=(4,))            # one that was concluded
    builder.note("text", line); builder.not_understood(line); builder.damaged(line)
    runs.append(builder.build())

Give numbers as the text that was printed where there is one: the builder learns the decimals from it. nan and inf
become null, `why` of the row says so, and a note counts them with their lines. Leave healthy nan (a z-score
that is not there yet) out. Units: losses nats per token, `mfu` a fraction, `ms` milliseconds of the iteration,
`seconds` and `tokens` since the beginning. `parameters`, `corpus`, `environment`, `tokens_per_iter`, `peak`,
`seams`, `final`, `status`, `created`, `device` are attributes of the builder, to be set.
Setting names are nanoGPT's (`batch_size` sequences per micro-batch, `gradient_accumulation_steps` the total over
processes, `block_size`, `n_layer`, `max_iters`, `learning_rate`, `eval_iters`, `dtype`, ...); what has no such name
keeps its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import polars as pl

from lossgap.errors import LossgapError
from lossgap.runs.document import open_data, shown
from lossgap.runs.readers import text as decoding
from lossgap.runs.run import (
    EVAL_COLUMNS,
    ITER_COLUMNS,
    OTHER_COLUMNS,
    Inferred,
    Note,
    NotUnderstood,
    Run,
    Series,
    Thinned,
    no_evals,
    no_iters,
)

NO: Final = 0.0
"""Not this format."""
WEAK: Final = 0.2
"""It could be read so, if nothing else fits."""
LIKELY: Final = 0.6
"""It looks like it."""
SURE: Final = 0.9
"""It has lines or names that only this format has."""

HEAD_BYTES = 1 << 16
LATER_BYTES = 1 << 14
MAX_TEXT_BYTES = 64 << 20
"""A larger document (JSON, TOML) is refused: it must be held in memory as a whole."""
MAX_ENTRIES = 2000
SHOWN_LINES = 5
"""Line numbers that a note or a count keeps."""
MAX_ITER_ROWS = 2_000_000
"""Iteration rows that are kept as they are; more are thinned (`--max_iter_rows`)."""

Number = int | float | str | bytes | None


class SourceError(LossgapError):
    """A run that cannot be read: missing, unreadable, of no known format, without the run that was named."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """What detection may look at."""

    name: str
    suffix: str
    folder: bool = False
    entries: tuple[str, ...] = ()
    """Paths in a folder, relative, with `/`, files and folders, two levels, sorted."""
    data: bytes = b""
    text: str = ""
    later: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """The lines of `text`."""
        return self.text.split("\n")

    @property
    def sample(self) -> Iterator[str]:
        """Lines of the beginning, the middle and the end."""
        yield from self.lines
        yield from self.later


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a run is read from: a path, or bytes from the standard input."""

    path: Path
    name: str
    data: bytes | None = None
    """The bytes, if they came from the standard input or from a test."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """What the user says about columns: {role: column}, for formats whose columns are guessed."""
    max_iter_rows: int = MAX_ITER_ROWS

    def open(self) -> BinaryIO:
        """The raw bytes. Raises SourceError `source-unreadable`."""
        if self.data is not None:
            import io

            return io.BytesIO(self.data)
        try:
            return open_data(self.path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SourceError(
                "source-unreadable", f"cannot read {shown(self.path)}: {reason}; check the path and its permissions"
            ) from None

    def at(self, child: Path) -> Source:
        """The same for a file below the folder `path`."""
        return replace(self, path=child, name=child.name, data=None)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.data is None and self.path.is_dir()

    def head(self) -> Head:
        """What detection looks at. Raises SourceError `source-unreadable`."""
        suffix = self.path.suffix.lower()
        if self.is_folder:
            return Head(name=self.name, suffix=suffix, folder=True, entries=_entries(self.path))
        with self.open() as stream:
            try:
                data, later = _samples(stream)
            except OSError as error:
                raise self._unreadable(error) from None
        codec = decoding.encoding(data)
        return Head(
            name=self.name,
            suffix=suffix,
            data=data,
            text=decoding.clean(decoding.decode(data, codec)),
            later=tuple(line for block in later for line in decoding.clean(decoding.decode(block, codec)).split("\n")),
        )

    def lines(self) -> Iterator[tuple[int, str]]:
        """`(number, text)` of each line, from 1, in bounded memory; what a carriage return parts shares its number.

        Raises SourceError `source-unreadable`.
        """
        for block in self.blocks():
            yield from decoding.numbered(block)

    def blocks(self) -> Iterator[decoding.Block]:
        """The file as UTF-8 in blocks of whole lines, without ANSI codes. Raises SourceError `source-unreadable`."""
        with self.open() as stream:
            try:
                yield from decoding.blocks(stream)
            except OSError as error:
                raise self._unreadable(error) from None

    def text(self, limit: int = MAX_TEXT_BYTES) -> str:
        """The whole text. Raises SourceError `source-unreadable`, `source-too-large`."""
        with self.open() as stream:
            try:
                data = stream.read(limit + 1)
            except OSError as error:
                raise self._unreadable(error) from None
        if len(data) > limit:
            raise SourceError(
                "source-too-large", f"{shown(self.name)} is larger than {limit:,} bytes, which no such document is"
            )
        return decoding.decode(data, decoding.encoding(data[:HEAD_BYTES]))

    def _unreadable(self, error: OSError) -> SourceError:
        reason = error.strerror or type(error).__name__
        return SourceError("source-unreadable", f"cannot read {shown(self.name)}: {reason}; check the path")


def _samples(stream: BinaryIO) -> tuple[bytes, list[bytes]]:
    """The beginning, and blocks from the middle and the end where the file is larger."""
    data = stream.read(HEAD_BYTES)
    size = stream.seek(0, 2)
    later = []
    for start in (size // 2, size - LATER_BYTES):
        if start >= len(data):
            stream.seek(start - start % 4)  # a code unit of UTF-16 or UTF-32 is not parted
            later.append(stream.read(LATER_BYTES))
    return data, later


def _entries(folder: Path) -> tuple[str, ...]:
    """Files and folders below `folder`, two levels, at most `MAX_ENTRIES`."""
    found: list[str] = []
    for level in ("*", "*/*"):
        try:
            for path in folder.glob(level):
                if len(found) >= MAX_ENTRIES:
                    break
                found.append(path.relative_to(folder).as_posix())
        except OSError:  # a folder that may not be listed has no entries for us
            continue
    return tuple(sorted(found))


class Reader(Protocol):
    """One log format; see the top of this file."""

    name: str
    title: str

    def score(self, head: Head) -> float:
        """How sure it is that this is its format: NO, WEAK, LIKELY or SURE."""

    def read(self, source: Source) -> list[Run]:
        """The runs in the source, in order. Raises SourceError and nothing else."""


# ---------------------------------------------------------------------------------------------
# Numbers as printed

_NUMBER = re.compile(r"[+-]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?|[+-]?(?:nan|inf(?:inity)?)", re.I | re.A)
_FIXED = re.compile(r"[+-]?[\d,_]*\.(\d+)", re.A)
MAX_INT = 2**63 - 1


def number(value: Number) -> float | None:
    """A number from text (`1,234.5`, `nan`) or as it is, infinities and NaN kept; None for what is none."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        value = value.strip()
        if len(value) > 400 or not _NUMBER.fullmatch(value):
            return None
        return float(value.replace(",", "").replace("_", ""))
    if value is None or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def decimals(value: Number) -> int | None:
    """How many digits after the point a printed number has; None where that says nothing (`1e-5`, a float)."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return None
    found = _FIXED.fullmatch(value.strip())
    return len(found[1]) if found else None


def whole(value: Number) -> int | None:
    """An int of 64 bits from text or a number without fraction, else None."""
    found = number(value)
    if found is None or not math.isfinite(found) or found != int(found) or abs(found) > MAX_INT:
        return None
    if isinstance(value, int):
        return value
    return int(found)


# ---------------------------------------------------------------------------------------------


class Tally:
    """How many, and the first few line numbers."""

    def __init__(self) -> None:
        self.count = 0
        self.lines: list[int] = []

    def add(self, line: int | None, count: int = 1) -> None:
        """Count one more (or `count`), of which the first is at `line`."""
        self.count += count
        if line is not None and len(self.lines) < SHOWN_LINES and line not in self.lines:
            self.lines.append(line)

    def understood(self) -> NotUnderstood:
        """As the field of a Run."""
        return NotUnderstood(count=self.count, lines=tuple(self.lines))


class RunBuilder:
    """Collects what a reader finds and makes the `Run`; see the top of this file."""

    def __init__(self, source: Source, format: str, number: int = 1) -> None:
        self.source = source
        self.format = format
        self.number = number
        self.name = source.path.stem if source.path.suffix else source.name
        self.config: dict[str, object] = {}
        self.config_sources: dict[str, str] = {}
        self.environment: dict[str, object] = {}
        self.corpus: dict[str, object] = {}
        self.parameters: dict[str, object] = {}
        self.peak: dict[str, object] = {}
        self.tokens_per_iter: int | None = None
        self.seams: list[object] = []
        self.final: dict[str, object] | None = None
        self.status = "unknown"
        self.created: str | None = None
        self.device: str | None = None
        self.series: dict[str, Series] = {}
        self.inferred: list[Inferred] = []
        self.misread = Tally()
        self.broken = Tally()
        self.notes: list[Note] = []
        self._iters: dict[str, list[object]] = {name: [] for name in ITER_COLUMNS}
        self._evals: dict[str, list[object]] = {name: [] for name in EVAL_COLUMNS}
        self._others: dict[str, list[object]] = {name: [] for name in OTHER_COLUMNS}
        self._digits: dict[str, int] = {}
        self._not_finite: dict[str, Tally] = {}
        self._again: dict[str, Tally] = {}

    @property
    def empty(self) -> bool:
        """Whether it has no row at all."""
        return not (self._iters["iter"] or self._evals["iter"] or self._others["iter"])

    @property
    def last_iter(self) -> int | None:
        """The iteration of the last iteration row."""
        rows = self._iters["iter"]
        return rows[-1] if rows and isinstance(rows[-1], int) else None

    def iter(self, line: int | None, iter: Number, **values: Number) -> None:
        """One row of an iteration; a row whose iteration is no int is damaged."""
        self._row("iters", self._iters, ITER_COLUMNS, line, iter, values)

    def eval(self, line: int | None, iter: Number, *, kind: str = "eval", mode: str | None = None, **values: Number) -> None:
        """One row of an evaluation."""
        if self._row("evals", self._evals, EVAL_COLUMNS, line, iter, values):
            self._evals["kind"][-1] = kind
            self._evals["mode"][-1] = mode

    def other(self, line: int | None, metric: str, iter: Number, value: Number) -> None:
        """One value of a metric that has no column."""
        at, found = whole(iter), number(value)
        if at is None or found is None:
            self.damaged(line)
            return
        kept = self._finite(f"others.{metric}", value, found, line)
        for name, item in (("metric", metric), ("iter", at), ("value", kept), ("line", line)):
            self._others[name].append(item)

    def say(self, name: str, value: object, source: str) -> None:
        """A setting and where it is said; the last one that is said counts."""
        self.config[name] = value
        self.config_sources[name] = source

    def infer(self, name: str, value: object, why: str, alternatives: tuple[object, ...] = ()) -> None:
        """A value that was concluded."""
        self.inferred.append(Inferred(name=name, value=value, why=why, alternatives=alternatives))

    def note(self, text: str, line: int | None = None) -> None:
        """Something a person should know; the same text is counted once, with its first lines."""
        self._again.setdefault(text, Tally()).add(line)

    def not_understood(self, line: int | None) -> None:
        """Count a line that holds text which means nothing to the reader."""
        self.misread.add(line)

    def damaged(self, line: int | None) -> None:
        """Count a row that is not whole."""
        self.broken.add(line)

    def describe(self, column: str, series: Series) -> None:
        """What the values of `iters.loss`, `evals.val_loss`, `others.NAME`, ... mean."""
        self.series[column] = series

    def _row(
        self,
        table: str,
        rows: dict[str, list[object]],
        columns: Mapping[str, type[pl.DataType]],
        line: int | None,
        iter: Number,
        values: Mapping[str, Number],
    ) -> bool:
        at = whole(iter)
        found = {name: number(value) for name, value in values.items() if value is not None}
        if at is None or None in found.values():
            self.damaged(line)
            return False
        why = [f"{name} is {value}" for name, value in found.items() if value is not None and not math.isfinite(value)]
        cells: dict[str, object] = {"iter": at, "line": line, "why": "; ".join(why) or None}
        for name, value in found.items():
            assert name in columns, f"no column {name}"
            if value is not None:
                kept = self._finite(f"{table}.{name}", values[name], value, line)
                cells[name] = whole(values[name]) if columns[name] is pl.Int64 else kept
        for name, column in rows.items():
            column.append(cells.get(name))
        return True

    def _finite(self, column: str, printed: Number, value: float, line: int | None) -> float | None:
        if not math.isfinite(value):
            self._not_finite.setdefault(column, Tally()).add(line)
            return None
        digits = decimals(printed)
        if digits is not None:
            # The fewest: a value that a person rounded is as coarse as that.
            self._digits[column] = min(digits, self._digits.get(column, digits))
        return value

    def build(
        self,
        *,
        iters: pl.DataFrame | None = None,
        evals: pl.DataFrame | None = None,
        thinned: Thinned | None = None,
    ) -> Run:
        """The run; a vectorised reader gives whole tables (missing columns are filled with null)."""
        series = {
            column: replace(item, digits=self._digits.get(column, item.digits)) for column, item in self.series.items()
        }
        for column, digits in self._digits.items():
            if column.startswith("others.") or column in ("iters.loss", "evals.train_loss", "evals.val_loss"):
                series.setdefault(column, Series(digits=digits))
        return Run(
            path=self.source.path,
            name=self.name,
            format=self.format,
            number=self.number,
            config=self.config,
            config_sources=self.config_sources,
            environment=self.environment,
            corpus=self.corpus,
            parameters=self.parameters,
            peak=self.peak,
            tokens_per_iter=self.tokens_per_iter,
            seams=self.seams,
            final=self.final,
            status=self.status,
            created=self.created,
            device=self.device,
            series=series,
            inferred=self.inferred,
            not_understood=self.misread.understood(),
            damaged_lines=self.broken.count,
            notes=self._all_notes(),
            iters=_table(self._iters, ITER_COLUMNS, no_iters()) if iters is None else filled(iters, ITER_COLUMNS),
            evals=_table(self._evals, EVAL_COLUMNS, no_evals()) if evals is None else filled(evals, EVAL_COLUMNS),
            others=pl.DataFrame(self._others, schema=OTHER_COLUMNS),
            thinned=thinned,
        )

    def _all_notes(self) -> list[Note]:
        notes = list(self.notes)
        for column, tally in self._not_finite.items():
            notes.append(Note(text=f"{column}: {tally.count:,} values not finite, shown as null", lines=tuple(tally.lines)))
        if self.broken.count:
            notes.append(Note(text=f"{self.broken.count:,} damaged rows left out", lines=tuple(self.broken.lines)))
        for text, tally in self._again.items():
            times = f" ({tally.count:,} times)" if tally.count > 1 else ""
            notes.append(Note(text=text + times, lines=tuple(tally.lines)))
        return notes


def _table(rows: dict[str, list[object]], columns: dict[str, type[pl.DataType]], none: pl.DataFrame) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=columns) if rows["iter"] else none


def filled(table: pl.DataFrame, columns: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    """`table` with all of `columns`, in their order and types, missing ones null."""
    return table.select(
        (pl.col(name) if name in table.columns else pl.lit(None)).cast(kind).alias(name) for name, kind in columns.items()
    )
