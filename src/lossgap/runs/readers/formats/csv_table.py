"""Tables with a header: CSV, TSV, blanks; what the columns are is guessed from their names and shown.

    step,train_loss,val_loss      columns by name (`--columns loss=NAME` says otherwise)
    Wall time,Step,Value          TensorBoard's export of one curve
    Step,NAME - train/loss,...    W&B's export of one chart: a run per NAME
    lr_0.1,lr_0.01                one column per setting and nothing else: a run per column

A table without a header has columns `1`, `2`, ...
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from lossgap.runs.readers.base import LIKELY, NO, WEAK, Head, Number, Run, Source, number
from lossgap.runs.readers.columns import Traits
from lossgap.runs.readers.metric_names import clean_name, meaning
from lossgap.runs.readers.named_rows import NamedRows
from lossgap.runs.readers.setting_names import KNOWN, nanogpt_name, typed

DELIMITERS: Final = (",", ";", "\t", "|")
MAX_COLUMNS = 2000
_BLANKS = re.compile(r"[ \t]+")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?", re.A)
_RULE = re.compile(r"[\s|:+=-]+")
"""The line below the header of a table in Markdown."""
_RANGE = ("__MIN", "__MAX")


class Table:
    """The header of a table and how its lines are cut."""

    def __init__(self, names: list[str], delimiter: str, has_header: bool) -> None:
        self.names = names
        self.delimiter = delimiter
        self.has_header = has_header

    def cells(self, line: str) -> list[str] | None:
        """The cells of a line; None if its quotes are broken."""
        return cut(line, self.delimiter)


def cut(line: str, delimiter: str) -> list[str] | None:
    """The cells of one line, without blanks around them and without quotes; None if the quotes are broken."""
    if delimiter == "|" and line.lstrip().startswith("|"):  # a table in Markdown
        line = line.strip().strip("|")
    if delimiter == " ":
        return _BLANKS.split(line.strip())
    if '"' not in line:
        return [cell.strip() for cell in line.split(delimiter)]
    try:
        row = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True), [])
    except csv.Error:
        return None
    return [cell.strip() for cell in row]


def find_table(lines: Sequence[str]) -> Table | None:
    """The table that begins in `lines`: its first line that is not a comment decides."""
    rows = [line for line in lines if line.strip() and not line.lstrip().startswith("#")][:12]
    if not rows:
        return None
    counts = {delimiter: [len(cut(row, delimiter) or ()) for row in rows[:-1] or rows] for delimiter in DELIMITERS}
    best = max(DELIMITERS, key=lambda mark: (counts[mark][0] > 1, counts[mark].count(counts[mark][0]), counts[mark][0]))
    if counts[best][0] < 2:
        blanks = [len(cut(row, " ") or ()) for row in rows[:-1] or rows]
        if blanks[0] < 2 or any(count != blanks[0] for count in blanks):
            return None
        best = " "
    first = cut(rows[0], best)
    if first is None or not 2 <= len(first) <= MAX_COLUMNS:
        return None
    header = any(number(cell) is None and cell for cell in first)
    if not header:
        return Table([str(at) for at in range(1, len(first) + 1)], best, False)
    if not first[0] and len(first) > 1:
        first = ["index", *first[1:]]  # a pandas frame that was written with its index
    return Table(unique(first), best, True)


def unique(names: list[str]) -> list[str]:
    """Names of columns, none empty and none twice."""
    seen: dict[str, int] = {}
    found = []
    for at, name in enumerate(names, 1):
        name = clean_name(name) or f"column {at}"
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def numeric_rows(head: Head, table: Table) -> int:
    """How many lines of the head are rows of numbers of that table."""
    count = 0
    for line in head.lines[:40]:
        cells = table.cells(line)
        if cells and len(cells) == len(table.names):
            filled = [cell for cell in cells if cell]
            count += bool(filled) and sum(number(_plain(cell, table)) is not None for cell in filled) * 2 >= len(filled)
    return count


def _mostly(head: Head, table: Table) -> bool:
    """True if most lines are rows of numbers of the table."""
    lines = [line for line in head.lines[:40] if line.strip()]
    return numeric_rows(head, table) * 2 >= len(lines) - 1


def _plain(cell: str, table: Table) -> str:
    return cell.replace(",", ".") if table.delimiter != "," and _DECIMAL_COMMA.fullmatch(cell) else cell


def walk(source: Source, table: Table, rows: NamedRows) -> Iterator[tuple[int, dict[str, str]]]:
    """`(line, {name: cell})` of every row, empty cells left out; a header that comes again begins another run."""
    begun = not table.has_header
    for line, text in source.lines():
        if not text.strip() or text.lstrip().startswith("#") or _RULE.fullmatch(text):
            continue
        cells = table.cells(text)
        if cells is None or len(cells) > MAX_COLUMNS:
            rows.facts.damaged(line)
            continue
        if not begun or _is_header(cells, table):
            if begun:
                rows.heading(line, {}, f"line {line}")
            begun = True
            continue
        if len(cells) != len(table.names) and not (len(cells) == len(table.names) + 1 and not cells[-1]):
            rows.facts.damaged(line)
            continue
        if table.delimiter != "," and any(_plain(cell, table) is not cell for cell in cells):
            rows.facts.note("a comma in a number is a decimal point here (guessed)", line)
            cells = [_plain(cell, table) for cell in cells]
        yield line, {name: cell for name, cell in zip(table.names, cells, strict=False) if cell}


def _is_header(cells: list[str], table: Table) -> bool:
    return table.has_header and cells[-1] == table.names[-1] and unique(cells) == table.names


def collect(source: Source, table: Table, rows: NamedRows) -> None:
    """All rows of the table; a line without any number where there should be some is not understood."""
    for line, cells in walk(source, table, rows):
        values: dict[str, Number] = dict(cells)
        if not rows.add(line, values) and cells:
            rows.facts.not_understood(line)


class CsvReader:
    """Any table; weak, because every format of its own is better."""

    name = "csv"
    title = "table (CSV, TSV)"

    def score(self, head: Head) -> float:
        """WEAK for a table with rows of numbers, a bit more where its columns are known."""
        if head.folder or "\0" in head.text[:1024]:
            return NO
        table = find_table(head.lines[:40])
        if table is None or numeric_rows(head, table) < 1:
            return NO
        if not table.has_header:
            return WEAK / 2
        roles = {meaning(name).role for name in table.names} - {"other"}
        if head.suffix in (".csv", ".tsv"):
            return LIKELY - 0.1 if roles else WEAK + 0.1
        if not roles and (table.delimiter == " " or not _mostly(head, table)):
            return NO  # any text of equally many words, or with a table in it
        return WEAK + 0.1 if len(roles) >= 2 else WEAK / 2

    def read(self, source: Source) -> list[Run]:
        """The runs of the table. Raises SourceError."""
        table = find_table(_beginning(source))
        rows = NamedRows(source, self.name)
        if table is None:
            for line, text in source.lines():
                if text.strip():
                    rows.facts.not_understood(line)
            return rows.runs()
        charts = _charts(table.names)
        if charts:
            return _by_column(source, table, charts)
        columns = _settings(table.names) if not source.columns else {}
        if columns:
            return _by_setting(source, table, columns)
        rows.traits = _traits(table)
        collect(source, table, rows)
        return rows.runs()


def _beginning(source: Source) -> list[str]:
    found = []
    for _, text in source.lines():
        found.append(text)
        if len(found) >= 60:
            break
    return found


def _traits(table: Table) -> Traits:
    """Names that mean something in tables of a known make."""
    names = table.names
    if [name.lower() for name in names] == ["wall time", "step", "value"]:  # TensorBoard's export of one curve
        return Traits(roles={names[0]: "seconds", names[2]: "loss"})
    if not table.has_header and len(names) == 2:
        return Traits(roles={"1": "iter", "2": "loss"})
    epochs = "epoch" in {meaning(name).role for name in names}
    return Traits(
        loss="interval-mean" if epochs and "iter" not in {meaning(name).role for name in names} else "unknown"
    )


def _charts(names: list[str]) -> dict[str, dict[str, str]]:
    """W&B's export of a chart: {run: {metric: column}}; empty for any other table."""
    found: dict[str, dict[str, str]] = {}
    if not names or meaning(names[0]).role not in ("iter", "epoch", "tokens"):
        return {}
    for name in names[1:]:
        run, dash, metric = name.rpartition(" - ")
        if not dash or not run:
            return {}
        if not metric.endswith(_RANGE) and not metric.startswith("_"):
            found.setdefault(run, {})[metric] = name
    return found


def _by_column(source: Source, table: Table, charts: dict[str, dict[str, str]]) -> list[Run]:
    """One run per name in W&B's export."""
    counter = table.names[0]
    collected = {run: NamedRows(replace(source, columns={}), "csv") for run in charts}
    facts = next(iter(collected.values()))
    for line, cells in walk(source, table, facts):
        for run, columns in charts.items():
            values: dict[str, Number] = {metric: cells[column] for metric, column in columns.items() if column in cells}
            if values and counter in cells:
                collected[run].add(line, {counter: cells[counter], **values})
    return _numbered(collected)


def _settings(names: list[str]) -> dict[str, tuple[str, object]]:
    """Columns that are called after one setting and its values: {column: (setting, value)}."""
    found: dict[str, tuple[str, object]] = {}
    for name in names:
        match = re.fullmatch(r"(.*?[^\d.\s_=:-])[\s_=:-]+([0-9][0-9.eE+-]*)", name)
        if match is None or match[1].lower() not in KNOWN or number(match[2]) is None:
            return {}
        found[name] = (nanogpt_name(match[1].lower()), typed(match[2]))
    return found if len({setting for setting, _ in found.values()}) == 1 else {}


def _by_setting(source: Source, table: Table, columns: dict[str, tuple[str, object]]) -> list[Run]:
    """One run per column."""
    collected = {name: NamedRows(source, "csv", Traits(roles={name: "loss"})) for name in columns}
    facts = next(iter(collected.values()))
    for line, cells in walk(source, table, facts):
        for name, cell in cells.items():
            collected[name].add(line, {name: cell})
    for name, (setting, value) in columns.items():
        rows = collected[name]
        rows.heading(None, {setting: value}, f"name of the column {name}")
        rows.facts.note(f"each column is read as a run and its values as losses (guessed): this one is {name}")
    return _numbered(collected)


def _numbered(collected: Mapping[str, NamedRows]) -> list[Run]:
    runs: list[Run] = []
    for name, rows in collected.items():
        runs += [replace(run, name=clean_name(name)) for run in rows.runs()]
    return [replace(run, number=count) for count, run in enumerate(runs, 1)]


READER = CsvReader()
