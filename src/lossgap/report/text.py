"""A `Comparison` for people: the table, the gap and its verdict, ranked causes, what was ruled out, what to do next.

Names, settings and log text come from strangers: they are shown as text, never read as markup, and control characters
are made visible.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lossgap.comparison.comparison import Comparison
from lossgap.comparison.metric import Metric
from lossgap.comparison.rules import Finding
from lossgap.report import group_rows, like_for_like, words
from lossgap.report.table import INFERRED, equal, lines
from lossgap.report.terminal import VERDICT_STYLES, command, heading, indented, joined, plain_table
from lossgap.runs.run import Run
from lossgap.strangers import visible


def show(comparisons: Sequence[Comparison], console: Console) -> None:
    """Print the answer; several comparisons one after the other."""
    for number, found in enumerate(comparisons):
        if number:
            console.print()
            console.rule(style="dim")
        _show(found, console)


def show_short(found: Comparison, console: Console) -> None:
    """Print the table, the gap with its verdict, and the titles of the causes."""
    console.print(_table(found))
    if any(INFERRED in cell for line in lines(found) for cell in (line.control, line.test)):
        console.print(joined((f"{INFERRED} inferred, not stated in the record", "dim")))
    console.print()
    _gap(found, console)
    for number, item in enumerate(found.causes, 1):
        console.print(joined((f"{number}. ", ""), (visible(item.title), "bold"), (f"  [{item.evidence}]", "dim")))
    console.print()


def _show(found: Comparison, console: Console) -> None:
    for side, facts in (("control", found.control), ("test", found.test)):
        run = facts.run
        console.print(
            joined((f"{side:<8}", "bold"), (visible(run.name), ""), (f"  {visible(words.origin(run))}", "dim"))
        )
        _inferred(run, console)
    console.print()
    console.print(_table(found))
    if any(INFERRED in cell for line in lines(found) for cell in (line.control, line.test)):
        console.print(joined((f"{INFERRED} inferred, not stated in the record", "dim")))
    same = equal(found)
    if same:
        console.print(joined(("Equal in both: ", "dim"), (visible(", ".join(same)), "dim")))
    console.print()
    _gap(found, console)
    _groups(found, console)
    _like_for_like(found, console)
    _findings(found, console)
    _ruled_out(found, console)
    _settings(found, console)
    _next(found, console)


def _inferred(run: Run, console: Console) -> None:
    for line in words.inferred(run):
        indented(console, line, 9, style="dim")


def _table(found: Comparison) -> Table:
    table = plain_table()
    table.add_column("metric", overflow="fold")
    table.add_column("control", justify="right", overflow="fold")
    table.add_column("test", justify="right", overflow="fold")
    table.add_column("why", overflow="fold", ratio=1)
    for line in lines(found):
        table.add_row(*(Text(visible(cell)) for cell in (line.metric, line.control, line.test, line.why)))
    return table


def _gap(found: Comparison, console: Console) -> None:
    metric, verdict, gap = found.alignment.metric, found.verdict, found.gap
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")

    def row(label: str, text: str, style: str = "") -> None:
        grid.add_row(label, Text(visible(text), style=style))

    if isinstance(metric, Metric) and gap is not None:
        row("gap", f"{gap:+.4f} {metric.unit} (test minus control), {words.chance(found)}")
    row("verdict", words.WORDS[verdict.word], VERDICT_STYLES[verdict.word])
    for reason in verdict.reasons:
        row("", words.sentence(reason))
    if isinstance(metric, Metric):
        for assumption in metric.assumptions:
            row("", f"Assumed: {assumption}.")
    label = "noise"
    for text in words.noise(found):
        row(label, text)
        label = ""
    console.print(grid)


def _groups(found: Comparison, console: Console) -> None:
    if found.groups is None:
        return
    heading(console, "groups of runs")
    table = plain_table()
    for name in group_rows.HEADER:
        table.add_column(name, overflow="fold", justify="left" if name == "at" else "right")
    for line in group_rows.lines(found.groups):
        table.add_row(*(Text(visible(cell)) for cell in line.cells))
    console.print(Padding(table, (0, 0, 0, 3)))
    for note in group_rows.notes(found.groups):
        indented(console, note, 3)


def _like_for_like(found: Comparison, console: Console) -> None:
    measured = found.reevaluation
    if measured is None:
        return
    heading(console, "like for like")
    indented(console, like_for_like.summary(measured), 3)
    for split in like_for_like.splits(measured):
        console.print()
        indented(console, split.title, 3)
        if split.cells:
            table = plain_table()
            for name in like_for_like.HEADER:
                table.add_column(name, overflow="fold", justify="left" if name in ("", "evidence") else "right")
            for cells in split.cells:
                table.add_row(*(Text(visible(cell)) for cell in cells))
            console.print(Padding(table, (0, 0, 0, 3)))
        for note in split.notes:
            indented(console, note, 3)


def _findings(found: Comparison, console: Console) -> None:
    if found.causes:
        heading(console, "causes, strongest first")
        for number, item in enumerate(found.causes, 1):
            _finding(console, item, f"{number}. ")
    elif found.verdict.is_gap:
        heading(console, "causes")
        indented(console, "None that these two records support.", 3)
    if found.remarks:
        heading(console, "remarks")
        for item in found.remarks:
            _finding(console, item, "-  ")


def _finding(console: Console, item: Finding, bullet: str) -> None:
    level = f"{item.strength}, {item.evidence}" if item.role == "cause" else item.evidence
    head = joined((bullet, ""), (visible(item.title), "bold"), (f"  [{level}]", "dim"))
    console.print(head)
    indented(console, item.text, 3)
    if item.settle:
        indented(console, f"To settle it: {item.settle}", 3)


def _ruled_out(found: Comparison, console: Console) -> None:
    if found.ruled_out:
        heading(console, "ruled out")
        for item in found.ruled_out:
            console.print(joined(("-  ", ""), (visible(item.title), "bold"), (f"  [{item.evidence}]", "dim")))
            indented(console, item.text, 3)


def _settings(found: Comparison, console: Console) -> None:
    settings = found.settings
    meaningful = settings.differ_in_meaning
    if meaningful:
        heading(console, "settings that differ")
        table = plain_table()
        for name in ("setting", "control", "test", "factor"):
            table.add_column(name, overflow="fold")
        for item in meaningful:
            cells = (item.name, words.value(item, "control"), words.value(item, "test"), item.factor or "")
            table.add_row(*(Text(visible(cell)) for cell in cells))
        console.print(Padding(table, (0, 0, 0, 3)))
    others = [item.name for item in settings.differ if not item.meaning]
    if others:
        indented(console, f"Also, without effect on the training: {', '.join(others)}.", 3)
    for side, items in (("control", settings.only_control), ("test", settings.only_test)):
        lone = [item for item in items if item.meaning]
        if lone:
            names = ", ".join(item.name for item in lone[:12])
            more = f" and {len(lone) - 12} more" if len(lone) > 12 else ""
            indented(console, f"Known of {side} only: {names}{more}.", 3)


def _next(found: Comparison, console: Console) -> None:
    if found.verdict.settle or found.next:
        heading(console, "next")
    if found.verdict.settle:
        indented(console, found.verdict.settle, 3)
    for step in found.next:
        indented(console, f"{words.sentence(step.why)}", 3)
        command(console, step.command)
