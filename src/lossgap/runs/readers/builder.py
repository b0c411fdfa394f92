"""`RunBuilder`: collects what a reader finds, row by row, and makes the `Run`."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl

from lossgap.runs.readers.origin import Source
from lossgap.runs.readers.printed import FORMATTED, Number, Tally, decimals, number, whole
from lossgap.runs.run import EVAL_COLUMNS, ITER_COLUMNS, OTHER_COLUMNS, Inferred, Note, Run, Series, Thinned


@dataclass(frozen=True)
class _Leg:
    """Where a resumed leg begins: its first iteration, and the rows before it."""

    at: int
    iters: int
    evals: int
    heading: bool
    """True if a heading said so."""


class RunBuilder:
    """Collects what a reader finds and makes the `Run`; see the top of `base`."""

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
        self.rows_elsewhere = False
        """True if a vectorised reader holds iteration rows of this run, for `build(iters=…)`."""
        self._legs: list[_Leg] = []
        self._digits: dict[str, int] = {}
        self._not_finite: dict[str, Tally] = {}
        self._again: dict[str, Tally] = {}

    @property
    def empty(self) -> bool:
        """True if it has no row at all."""
        return not (self.rows_elsewhere or self._iters["iter"] or self._evals["iter"] or self._others["iter"])

    def last(self, table: Literal["iters", "evals"], column: str) -> object | None:
        """The value of a column in the last row of a table."""
        rows = (self._iters if table == "iters" else self._evals)[column]
        return rows[-1] if rows else None

    def iter(self, line: int | None, iter: Number, **values: Number) -> None:
        """One row of an iteration; a row whose iteration is not an int is damaged."""
        self._row("iters", self._iters, ITER_COLUMNS, line, iter, values)

    def eval(
        self, line: int | None, iter: Number, *, kind: str = "eval", mode: str | None = None, **values: Number
    ) -> None:
        """One row of an evaluation."""
        if self._row("evals", self._evals, EVAL_COLUMNS, line, iter, values):
            self._evals["kind"][-1] = kind
            self._evals["mode"][-1] = mode

    def evals(
        self, mode: str, lines: list[int], iters: list[int], train: list[float], val: list[float], *, digits: int
    ) -> None:
        """Many rows of evaluations at once, all of them finite."""
        given: dict[str, list[object]] = {
            "iter": list(iters), "line": list(lines), "train_loss": list(train), "val_loss": list(val),
            "kind": ["eval"] * len(iters), "mode": [mode] * len(iters),
        }  # fmt: skip
        for name, column in self._evals.items():
            column.extend(given.get(name, [None] * len(iters)))
        for name in ("train_loss", "val_loss"):
            if iters:
                self.see_digits(f"evals.{name}", digits)

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

    def seam(self, at: int, top: int, line: int | None, changed: list[str], *, heading: bool = True) -> None:
        """The run was stopped after iteration `top` and goes on at `at`; later rows replace those they repeat."""
        self._legs.append(_Leg(at, len(self._iters["iter"]), len(self._evals["iter"]), heading))
        why = "resumed" if heading else "the iterations go back, without a heading"
        self.seams.append(
            {"iter": at, "from": None, "changed": changed, "why": why, "exact": None, "after": top, "line": line}
        )

    def absorb(self, heading: RunBuilder) -> None:
        """Take over what a heading said that began no new run."""
        for name, value in heading.config.items():
            self.say(name, value, heading.config_sources[name])
        for mine, theirs in ((self.parameters, heading.parameters), (self.corpus, heading.corpus)):
            mine.update(theirs)
        self.environment.update(heading.environment)
        self.tokens_per_iter = heading.tokens_per_iter or self.tokens_per_iter
        self.device = heading.device or self.device
        self.misread.join(heading.misread)
        self.broken.join(heading.broken)
        for text, tally in heading._again.items():
            self._again.setdefault(text, Tally()).join(tally)

    def digits(self, column: str) -> int | None:
        """Decimals of the column as printed so far."""
        return self._digits.get(column)

    def see_digits(self, column: str, digits: int) -> None:
        """A value of the column was printed with so many decimals."""
        # The fewest: a value that a person rounded is as coarse as that. Whole floats only drop their zeros.
        known = self._digits.get(column, digits)
        whole_floats = max(digits, known) > FORMATTED
        self._digits[column] = max(digits, known) if whole_floats else min(digits, known)

    def not_finite(self, column: str, lines: list[int], count: int) -> None:
        """`count` values of the column are nan or inf, the first at `lines`."""
        tally = self._not_finite.setdefault(column, Tally())
        for line in lines:
            tally.add(line, 0)
        tally.count += count

    def count_replaced(self, table: str, replaced: pl.DataFrame) -> None:
        """Write at each seam how many rows of the table the later legs replaced."""
        if not self._legs:
            return
        iters = np.sort(replaced["iter"].to_numpy())
        for leg, seam in zip(self._legs, self.seams[len(self.seams) - len(self._legs) :], strict=True):
            assert isinstance(seam, dict)
            seam[f"replaced_{table}"] = len(iters) - int(np.searchsorted(iters, leg.at))

    def describe(self, column: str, series: Series) -> None:
        """Record what the values of `iters.loss`, `evals.val_loss`, `others.NAME`, ... mean."""
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
            self.see_digits(column, digits)
        return value

    def build(
        self,
        *,
        iters: pl.DataFrame | None = None,
        thinned: Thinned | None = None,
        leg_rows: list[int] | None = None,
    ) -> Run:
        """The run; a vectorised reader gives the table of iterations (missing columns become null).

        It also gives the rows that each later leg has in it.
        """
        tables = {
            "iters": self._joined("iters") if iters is None else filled(iters, ITER_COLUMNS),
            "evals": self._joined("evals"),
        }
        self._forget_strays(leg_rows)
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
            series={column: item for column, item in series.items() if _has_values(tables, column)},
            inferred=self.inferred,
            not_understood=self.misread.understood(),
            damaged_lines=self.broken.count,
            notes=self._all_notes(),
            iters=tables["iters"],
            evals=tables["evals"],
            others=pl.DataFrame(self._others, schema=OTHER_COLUMNS),
            thinned=thinned,
        )

    def _forget_strays(self, leg_rows: list[int] | None) -> None:
        """A leg of one row without a heading is a line out of its place, and no resume."""
        if not self._legs:
            return
        ends = [
            *[(leg.iters, leg.evals) for leg in self._legs[1:]],
            (len(self._iters["iter"]), len(self._evals["iter"])),
        ]
        offset = len(self.seams) - len(self._legs)
        strays = []
        for at, (leg, (iters, evals)) in enumerate(zip(self._legs, ends, strict=True)):
            rows = iters - leg.iters if leg_rows is None else leg_rows[at]
            if rows + evals - leg.evals <= 1 and not leg.heading:
                strays.append(self.seams[offset + at])
        gone = {id(seam) for seam in strays}
        self.seams = [seam for seam in self.seams if id(seam) not in gone]
        for seam in strays:
            assert isinstance(seam, dict)
            self.note("a row stands out of its order; it is put in its place", seam["line"])

    def _joined(self, which: str) -> pl.DataFrame:
        """The table, in the order of iterations, without the rows that a later leg repeats."""
        rows, columns = (self._iters, ITER_COLUMNS) if which == "iters" else (self._evals, EVAL_COLUMNS)
        table = pl.DataFrame(rows, schema=columns) if rows["iter"] else pl.DataFrame(schema=columns)
        if not self._legs or table.is_empty():
            return table
        starts = [leg.iters if which == "iters" else leg.evals for leg in self._legs]
        kept, replaced = join_legs(table, starts)
        self.count_replaced(which, replaced)
        return kept

    def _all_notes(self) -> list[Note]:
        notes = list(self.notes)
        for column, tally in self._not_finite.items():
            notes.append(
                Note(text=f"{column}: {tally.count:,} values not finite, shown as null", lines=tuple(tally.lines))
            )
        if self.broken.count:
            notes.append(Note(text=f"{self.broken.count:,} damaged rows left out", lines=tuple(self.broken.lines)))
        for text, tally in self._again.items():
            times = f" ({tally.count:,} times)" if tally.count > 1 else ""
            notes.append(Note(text=text + times, lines=tuple(tally.lines)))
        return notes


def _has_values(tables: Mapping[str, pl.DataFrame], column: str) -> bool:
    table, _, name = column.partition(".")
    return table not in tables or tables[table][name].null_count() < tables[table].height


def join_legs(table: pl.DataFrame, starts: Sequence[int]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Legs of one run as they were run: the rows that count, by iteration, and those that a later leg replaced.

    `starts` are the rows of `table` at which the later legs begin. A later leg replaces the rows within its own range
    of iterations; rows beyond it stay, as nothing repeats them.
    """
    at = table["iter"].to_numpy()
    replaced = np.zeros(len(at), bool)
    later = Ranges()
    for low, high in reversed(list(zip([0, *starts], [*starts, len(at)], strict=True))):
        leg = at[low:high]
        if len(leg):
            replaced[low:high] = later.hold(leg)
            later.add(int(leg.min()), int(leg.max()))
    kept = table.filter(~replaced) if replaced.any() else table
    at = at[~replaced]
    return (kept if (at[1:] >= at[:-1]).all() else kept.sort("iter", maintain_order=True)), table.filter(replaced)


class Ranges:
    """Whole numbers as ranges that do not touch: thousands of legs are joined without comparing each with each."""

    def __init__(self) -> None:
        self.lows: list[int] = []
        self.highs: list[int] = []

    def add(self, low: int, high: int) -> None:
        """Put in `low` to `high`, both included."""
        first, last = bisect_left(self.highs, low), bisect_right(self.lows, high)
        if first < last:
            low, high = min(low, self.lows[first]), max(high, self.highs[last - 1])
        self.lows[first:last], self.highs[first:last] = [low], [high]

    def hold(self, numbers: np.ndarray) -> np.ndarray:
        """Which of `numbers` (N,) are in a range."""
        if len(numbers) < len(self.lows):  # then arrays of the ranges would cost more
            places = [bisect_right(self.lows, number) - 1 for number in numbers.tolist()]
            found = [place >= 0 and number <= self.highs[place] for place, number in zip(places, numbers, strict=True)]
            return np.array(found, bool)
        if not self.lows:
            return np.zeros(len(numbers), bool)
        place = np.searchsorted(np.array(self.lows), numbers, "right") - 1
        return (place >= 0) & (numbers <= np.array(self.highs)[place])


def filled(table: pl.DataFrame, columns: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    """`table` with all of `columns`, in their order and types, missing ones null."""
    if dict(table.schema) == columns:
        return table
    return table.select(
        (pl.col(name) if name in table.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in columns.items()
    )
