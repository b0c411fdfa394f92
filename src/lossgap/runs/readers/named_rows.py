"""Rows of named values (a CSV line, a JSON object, an event) put into the columns of runs.

    rows = NamedRows(source, "jsonl", traits)
    rows.heading(line, {"batch_size": 12}, "line 1")     # settings, before the rows they are of
    rows.add(line, {"step": "10", "loss": "2.34"})       # values as printed
    return rows.runs()

All rows are collected first, value by value in arrays, because what a column is may only show at the end: then
`metric_names` gives each name a role, of several names with one role one is taken, rows of one iteration become one,
and an iteration that goes back begins another run or, if it does not go back to the beginning, a resumed leg.
Every choice that was made is a note of the run, and `--columns` (`source.columns`) decides otherwise.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lossgap.runs.readers.base import Number, RunBuilder, Source, SourceError, number, whole
from lossgap.runs.readers.columns import Column, Plan, Planner, Traits
from lossgap.runs.readers.legs import MAX_RUNS
from lossgap.runs.readers.metric_names import ASKED, EVAL_ROLES, ITER_ROLES, Role, clean_name, meaning
from lossgap.runs.readers.setting_names import say_all
from lossgap.runs.readers.thinning import thin
from lossgap.runs.run import Run
from lossgap.settings import did_you_mean
from lossgap.strangers import one_line

_DIGITS = frozenset("0123456789")
MAX_NAMES = 2000
MAX_VALUES = 20_000_000
"""Values that are collected; what comes after them is left out, with a note."""


@dataclass
class _PendingRow:
    """The rows of one iteration."""

    at: int
    line: int | None
    cells: dict[Role, float] = field(default_factory=dict)
    lines: dict[str, int | None] = field(default_factory=dict)
    others: list[tuple[int | None, str, float]] = field(default_factory=list)

    def takes(self, at: int, cells: Mapping[Role, float]) -> bool:
        """True if a row of iteration `at` is more of the same; the same values again are."""
        return at == self.at and all(
            role not in self.cells or role == "seconds" or _same(self.cells[role], value)
            for role, value in cells.items()
        )


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


class NamedRows:
    """Collects rows and makes the runs; see the top of this file."""

    def __init__(self, source: Source, format: str, traits: Traits | None = None) -> None:
        self.source = source
        self.format = format
        self.traits = traits or Traits()
        self.facts = RunBuilder(source, format)
        """The facts about the whole file, and what is not understood or damaged in it; they go to the first run."""
        self.columns: dict[str, Column] = {}
        self.lines = array("q")
        self.values = 0
        self._headings: list[tuple[int, int | None, Mapping[str, object], str]] = []
        for role in source.columns:
            if role not in ASKED:
                advice = did_you_mean(role, ASKED) or f"the words are {', '.join(ASKED)}"
                raise SourceError("columns-role", f"--columns {one_line(role)}=...: no such column of a run; {advice}")

    def heading(self, line: int | None, settings: Mapping[str, object], where: str) -> None:
        """Settings of what begins here."""
        self._headings.append((len(self.lines), line, settings, where))

    def add(self, line: int | None, values: Mapping[str, Number]) -> bool:
        """One row; values that are not numbers are left out. False if it held no number."""
        if self.values >= MAX_VALUES:
            self.facts.note(f"more than {MAX_VALUES:,} values; the rest of the file is left out")
            return True
        row, before = len(self.lines), self.values
        parsed: list[tuple[str, Number, float]] = []
        for name, printed in values.items():
            value = _number(printed)
            if value is not None:
                parsed.append((name, printed, value))
            elif meaning(name).role == "iter":
                self.facts.damaged(line)  # its iteration cannot be one
                return True
        for name, printed, value in parsed:
            column = self.columns.get(name)
            if column is None:
                if len(self.columns) >= MAX_NAMES:
                    self.facts.note(f"more than {MAX_NAMES:,} metrics; further ones are left out", line)
                    continue
                column = self.columns[name] = Column(name)
            column.add(row, value, printed)
            self.values += 1
        if self.values == before:
            return False
        self.lines.append(-1 if line is None else line)
        return True

    def runs(self) -> list[Run]:
        """The runs, in the order of the rows. Raises SourceError `columns-missing`."""
        planner = Planner(self.columns, self.traits, self.source.columns, self.source.name)
        plan = planner.plan()
        builders = _Walk(self, plan).builders()
        kept = [builder for builder in builders if not builder.empty or builder.config] or builders[:1]
        kept[0].absorb(self.facts)
        for count, builder in enumerate(kept, 1):
            builder.number = count
            for text in plan.notes:
                builder.note(text)
            _describe(builder, plan, planner)
        return [thin(builder.build(), self.source.max_iter_rows) for builder in kept]


def _describe(builder: RunBuilder, plan: Plan, planner: Planner) -> None:
    for role, column in plan.columns.items():
        table = "evals" if role in EVAL_ROLES else "iters"
        name = EVAL_ROLES.get(role, role)
        if role in ("loss", "eval_train_loss", "val_loss", "val_bpb"):
            builder.describe(f"{table}.{name}", planner.series(column, role))
    for column in plan.others:
        said = planner.meaning(column.name)
        if said.loss or said.bits or said.perplexity:
            builder.describe(f"others.{clean_name(column.name)}", planner.series(column, "other"))


class _Walk:
    """Goes through the rows in order and puts them into builders."""

    def __init__(self, rows: NamedRows, plan: Plan) -> None:
        self.rows = rows
        self.plan = plan
        self.done: list[RunBuilder] = []
        self.current = RunBuilder(rows.source, rows.format)
        self.first: int | None = None
        self.last: dict[str, int] = {}
        self.pending: _PendingRow | None = None
        self.waiting: list[tuple[Mapping[str, object], str]] = []

    def builders(self) -> list[RunBuilder]:
        """The runs, in the order of the rows."""
        headings = iter(self.rows._headings)
        heading = next(headings, None)
        for row, line, at, cells, others in self._merged():
            if len(self.done) >= MAX_RUNS:
                self.done[-1].note(f"more than {MAX_RUNS:,} runs; the rest of the file is left out", line)
                return self.done
            while heading is not None and heading[0] <= row:
                self._flush()
                self.waiting.append((heading[2], heading[3]))
                heading = next(headings, None)
            if at is None:
                self.current.damaged(line)
                continue
            if self.pending is None or not self.pending.takes(at, cells):
                self._flush()
                self.pending = _PendingRow(at, line)
            for role, value in cells.items():
                self.pending.cells.setdefault(role, value)
                table = "evals" if role in EVAL_ROLES else "iters"
                if table not in self.pending.lines or role in ("loss", "val_loss"):
                    self.pending.lines[table] = line
            self.pending.others += [(line, name, value) for name, value in others]
        self._flush()
        while heading is not None:
            self.waiting.append((heading[2], heading[3]))
            heading = next(headings, None)
        self._say()
        return [*self.done, self.current]

    def _merged(self) -> Iterator[tuple[int, int | None, int | None, dict[Role, float], list[tuple[str, float]]]]:
        """`(row, line, iteration, cells, others)` of every row."""
        plan = self.plan
        heads = {role: _Head(column) for role, column in plan.columns.items()}
        rest = [(clean_name(column.name), _Head(column)) for column in plan.others if column.name != "_step"]
        epoch_name = clean_name(plan.columns["epoch"].name) if "epoch" in plan.columns else ""
        start = math.nan
        last: int | None = None
        for row, line in enumerate(self.rows.lines):
            cells = {role: value for role, head in heads.items() if (value := head.take(row)) is not None}
            others = [(name, value) for name, head in rest if (value := head.take(row)) is not None]
            step, epoch = cells.pop("iter", None), cells.pop("epoch", None)
            if epoch is not None and "iter" in plan.columns:
                others.append((epoch_name, epoch))
            at = self._at(row, step, epoch, last)
            last = at if at is not None else last
            for role, factor in plan.scales.items():
                if role in cells:
                    cells[role] = cells[role] * factor if factor != 0.01 else cells[role] / 100
            if cells.get("mfu", 0.0) < 0.0:
                del cells["mfu"]
            if "seconds" in cells:  # a clock, not a stop-watch, shows the seconds since 1970
                start = cells["seconds"] if math.isnan(start) else start
                if start > 1e8:
                    cells["seconds"] -= start
            yield row, None if line < 0 else line, at, cells, others

    def _at(self, row: int, step: float | None, epoch: float | None, last: int | None) -> int | None:
        """The iteration of a row; None if the row's own is not valid."""
        plan = self.plan
        if "iter" not in plan.columns:
            if "epoch" not in plan.columns:
                return row + 1
            if epoch is None:
                return last if last is not None else 0
            return whole(epoch)
        if step is None:
            return last if last is not None else 0
        at = whole(step)
        if at is not None and plan.stride is not None:
            base = last // plan.stride if last is not None else 0
            index = base if epoch is None or not math.isfinite(epoch) else int(epoch) - plan.first_epoch
            at += index * plan.stride
        return at

    def _flush(self) -> None:
        """Write the rows of the pending iteration, into the run that they belong to."""
        pending, self.pending = self.pending, None
        if pending is None:
            return
        at, cells = pending.at, pending.cells
        tables = [
            table
            for table, roles in (("iters", ("loss",)), ("evals", tuple(EVAL_ROLES)))
            if any(role in cells for role in roles)
        ]
        if not {"loss", *EVAL_ROLES} & set(self.plan.columns):
            tables = ["others"]
        self._enter(at, pending.line, tables)
        for table in tables:
            self.last[table] = at
        if tables:
            self.first = at if self.first is None else min(self.first, at)
        iters = {role: cells[role] for role in ITER_ROLES if role in cells}
        evals = {EVAL_ROLES[role]: cells[role] for role in EVAL_ROLES if role in cells}
        if set(iters) - {"seconds"} or (iters and "loss" not in self.plan.columns):
            self.current.iter(pending.lines.get("iters", pending.line), at, **iters)
        if evals:
            self.current.eval(pending.lines.get("evals", pending.line), at, kind="eval", mode=None, **evals)
        for line, name, value in pending.others:
            self.current.other(line, name, at, value)

    def _enter(self, at: int, line: int | None, tables: list[str]) -> None:
        """Another run begins where the iteration goes back to the first one, another leg where it goes back less."""
        back = self.first is not None and any(at < self.last.get(table, at) for table in tables)
        if self.waiting and self.first is not None and tables and at <= self.first:
            back = True
        if back and self.first is not None:
            if at <= self.first:
                self.done.append(self.current)
                self.current = RunBuilder(self.rows.source, self.rows.format)
                self.first = None
            else:
                self.current.seam(at, max(self.last.values()), line, [], heading=bool(self.waiting))
            self.last = {}
        if tables or self.first is None:
            self._say()

    def _say(self) -> None:
        for settings, where in self.waiting:
            say_all(self.current, settings, where)
        self.waiting = []


def _number(printed: Number) -> float | None:
    """The same as `number`, faster for what most values are."""
    if isinstance(printed, str) and printed[:1] in _DIGITS and len(printed) <= 40 and printed.isascii():
        try:
            return float(printed)
        except ValueError:  # such as 1,234
            return number(printed)
    return number(printed)


class _Head:
    """Reads the values of a column as the rows go by."""

    def __init__(self, column: Column) -> None:
        self.rows, self.values, self.at = column.rows, column.values, 0

    def take(self, row: int) -> float | None:
        """The value in `row`, which is asked for in order."""
        if self.at < len(self.rows) and self.rows[self.at] == row:
            self.at += 1
            return self.values[self.at - 1]
        return None
