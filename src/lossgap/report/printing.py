"""Views printed: the answer in at most 24 lines, and with `full` everything.

    show([view], Terminal(), full=False)
    text([view], width=80)

The blocks of `first` stand behind their titles in a narrow column. What does not fit is cut in the order of `_ROOMS`:
rows of grids, blank lines, claims. Strangers' text is shown as text, unprintable characters made visible.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleRenderable, Group
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from lossgap.report.blocks import (
    Alternatives,
    Block,
    Chart,
    Claims,
    Fold,
    Grid,
    Headline,
    Judgement,
    Labelled,
    Paragraphs,
    Suggestion,
    View,
)
from lossgap.report.command_lines import command_lines
from lossgap.report.pairing import paired
from lossgap.report.terminal import VERDICT_STYLES, Terminal, joined, labelled, plain_table
from lossgap.strangers import visible

LOOKS = {"plain": "", "dim": "dim", "warning": "yellow"}
LINES = 24
"""Lines of the answer without `full`: a terminal's screen."""
LABELS = 9
"""Columns of the titles left of the blocks of an answer."""
INDENT = 3
SHORT = 14
"""Columns of text that is not broken in a whole answer."""
LEAST = 8
"""Columns that a cell of text has at least."""


@dataclass(frozen=True)
class _Room:
    """What an answer may take: rows of each grid, claims, blank lines between blocks."""

    rows: int
    claims: int
    gaps: bool


_ROOMS = (
    *(_Room(rows, 3, gaps=True) for rows in (12, 10, 8, 7, 6, 5, 4)),
    *(_Room(rows, 3, gaps=False) for rows in (6, 5, 4, 3, 2)),
    *(_Room(rows, claims, gaps=False) for rows, claims in ((2, 2), (1, 2), (1, 1), (0, 1), (0, 0))),
)
"""From the most to the least; the first that fits is taken."""
_WHOLE = _Room(10**6, 10**6, gaps=True)
"""With `full`."""


def show(views: Sequence[View], console: Console, *, full: bool = False) -> None:
    """Print the answers, several one after the other; without `full` each in its share of `LINES`."""
    lines = max(8, LINES // len(views))
    for number, view in enumerate(views):
        if number:
            console.print(Rule(style="dim"))
        if full:
            console.print(Group(*_first(view, _WHOLE, console.width), *_rest(view)))
        else:
            console.print(_fitting(view, console.width, lines, last=number == len(views) - 1))


def text(views: Sequence[View], *, full: bool = False, width: int = 80) -> str:
    """The answers as plain text."""
    stream = io.StringIO()
    show(views, Terminal(file=stream, width=width), full=full)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


# ---------------------------------------------------------------------------------------------
# The answer


def _fitting(view: View, width: int, lines: int, *, last: bool) -> ConsoleRenderable:
    """The answer with as much as fits into `lines`."""
    end = [Text(_more(view), style="dim", overflow="ellipsis", no_wrap=True)] if last and view.rest else []
    answer = Group()
    for room in _ROOMS:
        answer = Group(*_first(view, room, width), *([Text("")] if end and room.gaps else []), *end)
        if _height(answer, width) <= lines:
            break
    return answer


def _height(item: ConsoleRenderable, width: int) -> int:
    console = Terminal(file=io.StringIO(), width=width)
    return len(console.render_lines(item, pad=False))


def _more(view: View) -> str:
    titles = [block.title.lower() for block in view.rest if isinstance(block, Fold)]
    return f"--full shows {', '.join(titles)}" if titles else "--full shows everything"


def _first(view: View, room: _Room, width: int) -> list[ConsoleRenderable]:
    """The blocks of the answer, each behind its title."""
    found: list[ConsoleRenderable] = []
    blocks = _flat(view.first, whole=room.rows >= _WHOLE.rows)
    labelled_ones = any(_title(block) for block in blocks)
    for block in blocks:
        body = _compact(block, room, width - LABELS * labelled_ones)
        if body is None:
            continue
        if found and room.gaps:
            found.append(Text(""))
        found.append(_behind(_title(block), body) if labelled_ones and not isinstance(block, Headline) else body)
    return found


def _flat(blocks: Iterable[Block], *, whole: bool = True) -> list[Block]:
    """Blocks that a terminal can show: alternatives paired, of which a short answer has the first; no charts."""
    found: list[Block] = []
    for block in blocks:
        if isinstance(block, Alternatives):
            found += _flat(paired(block) if whole else block.choices[0].blocks, whole=whole)
        elif not isinstance(block, Chart):
            found.append(block)
    return found


def _title(block: Block) -> str:
    return getattr(block, "title", "")


def _behind(title: str, body: ConsoleRenderable) -> ConsoleRenderable:
    grid = Table.grid()
    grid.add_column(width=LABELS, style="bold", no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_row(Text(visible(title)), body)
    return grid


def _compact(block: Block, room: _Room, width: int) -> ConsoleRenderable | None:
    """A block of the answer; None where there is no room for it."""
    if room is _WHOLE:
        # Without a column of prose nothing can give way but whole columns: half a name cannot be copied.
        narrow = isinstance(block, Grid) and not any(column.prose for column in block.columns)
        return _body(block, width if narrow else None)
    if isinstance(block, Claims):
        return _brief_claims(block, room.claims)
    if isinstance(block, Grid):
        most = min(room.rows, len(block.rows) if block.most is None else block.most)
        return _grid(block, most, width) if most else None
    return _body(block, width)


def _brief_claims(block: Claims, most: int) -> ConsoleRenderable | None:
    """One line for each claim: what it says, and at its right the evidence level."""
    if not block.items:
        return Text(visible(block.empty)) if block.empty else None
    if not most:
        return None
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(no_wrap=True, style="dim")
    for number, item in enumerate(block.items[:most], 1):
        said = visible(item.brief or item.title)
        grid.add_row(Text(f"{number}. {said}" if block.ordered else said), f"[{item.level}]" if item.level else "")
    parts: list[ConsoleRenderable] = [grid]
    if len(block.items) > most:
        parts.append(Text(f"and {len(block.items) - most} more", style="dim"))
    parts += [Text(visible(line), style="dim") for line in block.notes]
    return Group(*parts)


# ---------------------------------------------------------------------------------------------
# The rest


def _rest(view: View) -> list[ConsoleRenderable]:
    return [part for block in _flat(view.rest) for part in _section(block)]


def _section(block: Block) -> list[ConsoleRenderable]:
    """A block under its title."""
    parts: list[ConsoleRenderable] = []
    if _title(block):
        parts += [Text(""), Text(visible(_title(block)), style="bold")]
    if isinstance(block, Fold):
        for inner in _flat(block.blocks):
            parts += _section(inner) if _title(inner) else [Padding(_body(inner, None), (0, 0, 0, INDENT))]
        return parts
    return [*parts, Padding(_body(block, None), (0, 0, 0, INDENT))]


def _body(block: Block, width: int | None) -> ConsoleRenderable:
    """A whole block without its title; a grid drops columns until it fits `width`, where one is given."""
    match block:
        case Headline():
            return Text(visible(block.text), style="bold")
        case Judgement():
            style = VERDICT_STYLES.get(block.word, "bold")
            return Group(Text(visible(block.text), style=style), *(Text(visible(line)) for line in block.lines))
        case Paragraphs():
            mark = "-  " if block.bullets else ""
            return Group(*(_hanging(mark, line, LOOKS[block.look]) for line in block.lines))
        case Labelled():
            return labelled(block.rows)
        case Grid():
            return _grid(block, len(block.rows), width)
        case Claims():
            return _claims(block)
        case Suggestion():
            return _suggestion(block, width)
        case _:
            raise AssertionError(f"{type(block).__name__} has no form of its own on a terminal")


def _hanging(mark: str, words: str, style: str = "") -> ConsoleRenderable:
    """A paragraph whose further lines stand below its first word."""
    if not mark:
        return Text(visible(words), style=style)
    grid = Table.grid()
    grid.add_column(width=len(mark), no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_row(mark, Text(visible(words), style=style))
    return grid


def _claims(block: Claims) -> ConsoleRenderable:
    if not block.items:
        return Text(visible(block.empty))
    parts: list[ConsoleRenderable] = []
    for number, item in enumerate(block.items, 1):
        head = joined((visible(item.title), "bold"), (f"  [{item.level}]" if item.level else "", "dim"))
        said = [Text(visible(line)) for line in (item.text, item.settle and f"To settle it: {item.settle}") if line]
        grid = Table.grid()
        grid.add_column(width=INDENT, no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_row(f"{number}. " if block.ordered else "-  ", Group(head, *said))
        parts.append(grid)
    return Group(*parts, *(Text(visible(line), style="dim") for line in block.notes))


def _suggestion(block: Suggestion, width: int | None) -> ConsoleRenderable:
    parts: list[ConsoleRenderable] = [Text(visible(block.why))] if block.why else []
    if block.command:
        lines = command_lines(visible(block.command), width)
        parts.append(Text("\n".join(lines), style="cyan", no_wrap=True, overflow="ignore"))
    if block.price:
        parts.append(Text(visible(block.price), style="dim"))
    return Group(*parts)


def _grid(block: Grid, most: int, width: int | None) -> ConsoleRenderable:
    kept = _columns(block, most, width)
    limits = {} if width is None else _limits(block, most, kept, width)
    table = plain_table()
    for place in kept:
        column = block.columns[place]
        table.add_column(
            Text(visible(column.name)),
            justify="right" if column.number else "left",
            overflow="fold" if width is None else "ellipsis",
            no_wrap=width is not None or column.number,
            min_width=_least(block, most, place) if width is None else None,
            max_width=limits.get(place),
            ratio=1 if column.prose and width is None else None,
        )
    strong = dict.fromkeys(block.strong, "bold")
    for number, row in enumerate(block.rows[:most]):
        table.add_row(*(Text(visible(row[place])) for place in kept), style=strong.get(number, ""))
    for row in block.foot:
        table.add_row(*(Text(visible(row[place])) for place in kept), style="bold")
    left_out = block.rows[most:]
    more = block.more.format(count=len(left_out), names=", ".join(row[0] for row in left_out))
    below = [*([more] if left_out else []), *block.notes]
    return Group(
        table, *(Text(visible(line), style="dim", no_wrap=line is more, overflow="ellipsis") for line in below)
    )


def _limits(block: Grid, most: int, kept: Sequence[int], width: int) -> dict[int, int]:
    """How wide the columns of text may be: half a number would be another number, so they give way, widest first."""
    widths = {place: _widest(block, most, place) for place in kept}
    texts = [place for place in kept if not block.columns[place].number]
    while texts and sum(widths.values()) + 2 * len(kept) > width:
        widest = max(texts, key=lambda place: widths[place])
        if widths[widest] <= LEAST:
            break
        widths[widest] -= 1
    return {place: widths[place] for place in texts}


def _least(block: Grid, most: int, place: int) -> int | None:
    """How wide a column stays in a whole answer: numbers and short words are not broken, long text may be."""
    column = block.columns[place]
    widest = _widest(block, most, place)
    return None if column.prose else widest if column.number else min(widest, SHORT)


def _widest(block: Grid, most: int, place: int) -> int:
    """Characters of the widest cell of a column among the rows that are shown."""
    rows = (*block.rows[:most], *block.foot)
    return max(len(visible(block.columns[place].name)), *(len(visible(row[place])) for row in rows), 1)


def _columns(block: Grid, most: int, width: int | None) -> list[int]:
    """The places of the columns that are shown: all, or as many as leave every row its line."""
    kept = list(range(len(block.columns)))
    table = [tuple(column.name for column in block.columns), *block.rows[:most]]
    widths = [max(len(visible(row[place])) for row in table) for place in kept]
    while width is not None and sum(widths[place] + 2 for place in kept) > width:
        worst = max(kept, key=lambda place: block.columns[place].drop)
        if not block.columns[worst].drop:
            break
        kept.remove(worst)
    return kept
