"""An `Explanation` for people: what the gap is divided into, how sure that is, what is unknown, what would settle it.

`show_price` is what is shown before anything runs (`price_text`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lossgap.attribution.explanation import Division, Explanation
from lossgap.report import division as parts
from lossgap.report import experiment, words
from lossgap.report.division import Row
from lossgap.report.price_text import show_price
from lossgap.report.terminal import VERDICT_STYLES, command, heading, indented, joined, labelled, plain_table
from lossgap.strangers import visible

__all__ = ["show", "show_price"]

PAIRS = 6
"""Interactions that are shown; `--json` has all."""
INDENT = 3
WIDE = 96
"""Columns of a terminal on which the settings stand beside the numbers, and not below them."""
NUMBERS = ("contribution", "interaction", "95% interval", "value")
"""Columns on the right of which the numbers stand."""


def show(explanation: Explanation, console: Console) -> None:
    """Print the answer."""
    for side, name in (("control", explanation.control), ("test", explanation.test)):
        console.print(joined((f"{side:<8}", "bold"), (visible(name), "")))
    if not explanation.complete:
        seeds = experiment.several(len(explanation.design.seeds), "seed")
        console.print(
            Text(f"Stopped before its end: these numbers are of the {seeds} that ended.", style="bold yellow")
        )
    for line in experiment.scale_lines(explanation.scale):
        console.print(Text(visible(line), style="yellow"))
    console.print()
    _answer(explanation, console)
    _contributions(explanation, console)
    _gap(explanation, console)
    _interactions(explanation, console)
    _experiment(explanation, console)
    _next(explanation, console)


def _answer(explanation: Explanation, console: Console) -> None:
    rows = parts.answer(explanation, explanation.last)
    best = explanation.best
    if parts.alike(explanation):
        rows.append(("at best", "the same numbers"))
    else:
        whole = parts.amount(best.reported.value)
        divided = parts.amount(best.common.value, parts.mark(explanation))
        numbers = (
            [f"{divided} divided here"] if whole == parts.UNKNOWN else [f"{whole} reported", f"{divided} divided here"]
        )
        said = [f"{label} {text}" for label, text in parts.judged(explanation, best)]
        rows.append(("at best", "; ".join([", ".join(numbers), *said])))
    _put(console, labelled(rows), 0)


def _contributions(explanation: Explanation, console: Console) -> None:
    heading(console, "contributions", "95% intervals, simultaneous over the factors")
    beside = console.width >= WIDE
    names = ("factor", "at", "contribution", "95% interval", "verdict", *(("control -> test",) if beside else ()))
    table = _table(names)
    found = _paired(explanation, parts.contribution_rows)
    settings = [(pair[0][1].name, pair[0][1].settings or pair[0][1].note) for pair in found]
    for pair, (_, text) in zip(found, settings, strict=True):
        table.add_row(*_numbers(pair), _verdicts(pair), *([_text(text)] if beside else []))
    totals = _paired(explanation, lambda *about: [parts.total(*about)])
    for pair in totals:
        table.add_row(*_numbers(pair), _lines(row.note for _, row in pair), style="bold")
    _put(console, table)
    _no_interval(console, [row for pair in found for _, row in pair if row.verdict])
    for division in (explanation.last, explanation.best):
        for line in parts.checks(division):
            indented(console, line, INDENT, style="bold red")
    if not beside:
        heading(console, "factors", "control -> test")
        _put(console, labelled(settings))


def _gap(explanation: Explanation, console: Console) -> None:
    heading(console, "gap and remainder", "the remainder is what no factor took")
    table = _table(("", "at", "value", "95% interval", "why"))
    for pair in _paired(explanation, parts.gap_rows):
        why = [": ".join(filter(None, (row.settings, row.note))) for _, row in pair]
        if len(set(why)) == 1:
            table.add_row(*_numbers(pair), _text(why[0]))
            continue
        for place, reason in enumerate(why):  # a row each: a reason may take several lines
            name, *numbers = _numbers(pair[place : place + 1])
            table.add_row(name if place == 0 else _text(""), *numbers, _text(reason))
    _put(console, table)


def _interactions(explanation: Explanation, console: Console) -> None:
    found = _paired(explanation, parts.interaction_rows)
    if not found:
        return
    heading(console, "interactions", "beside the sum and not added: the contributions hold them already")
    table = _table(("factors", "at", "interaction", "95% interval"))
    for pair in found[:PAIRS]:
        table.add_row(*_numbers(pair))
    _put(console, table)
    _no_interval(console, [row for pair in found for _, row in pair])
    if len(found) > PAIRS:
        indented(console, f"and {len(found) - PAIRS} weaker ones; --json has them all", INDENT, style="dim")


def _no_interval(console: Console, rows: Sequence[Row]) -> None:
    for reason in parts.reasons(rows):
        indented(console, f"No interval: {reason}.", INDENT, style="dim")


def _experiment(explanation: Explanation, console: Console) -> None:
    console.print()
    console.rule(Text("experiment", style="bold"), align="left", style="dim")
    _put(console, labelled(experiment.fact_lines(explanation)), 0)
    failed = experiment.failure_lines(explanation)
    if failed:
        heading(console, "failed arms", "their seeds were replaced")
        for line in failed:
            indented(console, f"-  {line}", INDENT)


def _next(explanation: Explanation, console: Console) -> None:
    steps, open_ones = explanation.next, experiment.open_words(explanation)
    if not steps and not open_ones:
        return
    heading(console, "next")
    if open_ones:
        indented(console, open_ones, INDENT)
    for step in steps:
        indented(console, words.sentence(step.why), INDENT)
        command(console, step.command)


# ---------------------------------------------------------------------------------------------


def _table(names: Sequence[str]) -> Table:
    table = plain_table()
    for place, name in enumerate(names):
        number = name in NUMBERS
        table.add_column(
            name,
            justify="right" if number else "left",
            overflow="fold",
            no_wrap=number or name in ("at", "verdict"),
            ratio=1 if place == len(names) - 1 and name in ("why", "control -> test") else None,
        )
    return table


Pair = list[tuple[str, Row]]
"""A row at last and at best, or one row of both."""


def _paired(explanation: Explanation, rows: Callable[[Explanation, Division], list[Row]]) -> list[Pair]:
    """The rows of both alignments by their names; those whose numbers are the same in both once."""
    best = {row.name: row for row in rows(explanation, explanation.best)}
    found: list[Pair] = []
    for row in rows(explanation, explanation.last):
        other = best.get(row.name)
        if other is None:
            found.append([("last", row)])
        elif (other.value, other.interval, other.verdict) == (row.value, row.interval, row.verdict):
            found.append([("both", row)])
        else:
            found.append([("last", row), ("best", other)])
    return found


def _numbers(pair: Pair) -> tuple[Text, ...]:
    """Name, alignments, values, intervals."""
    columns = zip(*((at, row.value, row.interval) for at, row in pair), strict=True)
    return (_text(pair[0][1].name), *map(_lines, columns))


def _verdicts(pair: Pair) -> Text:
    words = [Text(row.verdict or "", style=VERDICT_STYLES.get(row.verdict or "", "")) for _, row in pair]
    return Text("\n").join(words)


def _lines(texts: Iterable[str]) -> Text:
    return Text("\n".join(visible(text) for text in texts))


def _text(text: str) -> Text:
    return Text(visible(text))


def _put(console: Console, table: Table, by: int = INDENT) -> None:
    console.print(Padding(table, (0, 0, 0, by)))
