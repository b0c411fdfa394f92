"""Views printed: the answer in at most 24 lines, and with `full` everything.

    show([view], Terminal(), full=False)
    text([view], width=80)

The blocks of `first` stand behind their titles in a narrow column. What does not fit is cut in the order of `_ROOMS`:
rows of grids, blank lines, claims. Strangers' text is shown as text, unprintable characters made visible.
"""

from __future__ import annotations

import io
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleRenderable, Group
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from lossgap.language import between, say
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
from lossgap.report.wide_text import broken, columns, cut_wide, is_wide, padded
from lossgap.report.words import cut
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
PROSE = 24
"""Columns that prose in a table needs."""
MOST = 2
"""Lines of what a suggestion would settle, in an answer."""


@dataclass(frozen=True)
class _Room:
    """The room that an answer may take: rows of each grid, claims, blank lines between blocks."""

    rows: int
    claims: int
    gaps: bool


_ROOMS = (
    *(_Room(rows, 3, gaps=True) for rows in (12, 10, 8, 7, 6, 5, 4)),
    *(_Room(rows, 3, gaps=False) for rows in (8, 7, 6, 5, 4, 3, 2)),
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
            parts = Group(*_first(view, _WHOLE, console.width), *_rest(view, console.width))
        else:
            parts = Group(_fitting(view, console.width, lines, last=number == len(views) - 1))
        console.print(parts, crop=False)


def text(views: Sequence[View], *, full: bool = False, width: int = 80) -> str:
    """The answers as plain text."""
    stream = io.StringIO()
    show(views, Terminal(file=stream, width=width), full=full)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


# ---------------------------------------------------------------------------------------------
# The answer


def _fitting(view: View, width: int, lines: int, *, last: bool) -> ConsoleRenderable:
    """The answer with as much as fits into `lines`."""
    end = [Text(_more(view, width), style="dim", overflow="ellipsis", no_wrap=True)] if last and view.rest else []

    def answer(room: _Room) -> ConsoleRenderable:
        return Group(*_first(view, room, width), *([Text("")] if end and room.gaps else []), *end)

    # A smaller room never takes more lines, so the largest that fits is found by halving.
    place = bisect_left(_ROOMS, True, key=lambda room: _height(answer(room), width) <= lines)
    return answer(_ROOMS[min(place, len(_ROOMS) - 1)])


def _height(item: ConsoleRenderable, width: int) -> int:
    console = Terminal(file=io.StringIO(), width=width)
    return len(console.render_lines(item, pad=False))


def _more(view: View, width: int) -> str:
    """A line on what `--full` shows beyond this, with as many titles as fit."""
    titles = [block.title.lower() for block in view.rest if isinstance(block, Fold)]
    for count in range(len(titles), 0, -1):
        said = f"--full shows {', '.join(titles[:count])}{', and more' if count < len(titles) else ''}"
        if len(said) <= width:
            return say(said)
    return say("--full shows more")


def _first(view: View, room: _Room, width: int) -> list[ConsoleRenderable]:
    """The blocks of the answer, each behind its title."""
    found: list[ConsoleRenderable] = []
    blocks = _flat(view.first, whole=room is _WHOLE)
    labels = LABELS if any(map(_title, blocks)) else 0
    for block in blocks:
        body = _compact(block, room, width - labels)
        if body is None:
            continue
        if found and room.gaps:
            found.append(Text(""))
        found.append(_behind(_title(block), body) if labels and not isinstance(block, Headline) else body)
        if isinstance(block, Suggestion):
            found += _command(block, width, 2)
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
        if isinstance(block, Grid) and not any(column.prose for column in block.columns):
            return _grid(block, len(block.rows), width)
        return _body(block, width)
    if isinstance(block, Claims):
        return _brief_claims(block, room.claims, width)
    if isinstance(block, Grid):
        most = min(room.rows, len(block.rows) if block.most is None else block.most)
        return _grid(block, most, width) if most else None
    if isinstance(block, Suggestion):
        said = [
            Text(broken(cut_wide(cut(line, MOST * width), MOST * width - 4), width))
            for line in (block.why, block.price)
            if line
        ]
        return Group(*said) if said or block.command else None
    return _body(block, width)


def _command(block: Suggestion, width: int, by: int) -> list[ConsoleRenderable]:
    """The command on lines of its own, near the left end: it is long, and it is copied whole."""
    if not block.command:
        return []
    lines = command_lines(visible(block.command), width - by)
    return [Text("\n".join(" " * by + line for line in lines), style="cyan", no_wrap=True, overflow="ignore")]


def _brief_claims(block: Claims, most: int, width: int) -> ConsoleRenderable | None:
    """One line for each claim: what it says, and at its right the evidence level."""
    if not block.items:
        return Text(visible(block.empty)) if block.empty else None
    if not most:
        return None
    levels = [f" [{visible(item.level)}]" if item.level else "" for item in block.items[:most]]
    said = [f"{number}. " * block.ordered + (item.brief or item.title) for number, item in enumerate(block.items, 1)]
    said = [
        cut_wide(cut(text, width - len(level)), width - columns(level))
        for text, level in zip(said, levels, strict=False)
    ]
    column = max(map(columns, said))
    parts: list[ConsoleRenderable] = [
        joined((padded(text, column), ""), (level, "dim")) for text, level in zip(said, levels, strict=True)
    ]
    if len(block.items) > most:
        parts.append(Text(say(f"and {len(block.items) - most} more"), style="dim"))
    parts += [Text(visible(line), style="dim") for line in block.notes]
    return Group(*parts)


# ---------------------------------------------------------------------------------------------
# The rest


def _rest(view: View, width: int) -> list[ConsoleRenderable]:
    return [part for block in _flat(view.rest) for part in _section(block, width)]


def _section(block: Block, width: int) -> list[ConsoleRenderable]:
    """A block under its title."""
    parts: list[ConsoleRenderable] = []
    if _title(block) and not isinstance(block, Suggestion):
        parts += [Text(""), Text(visible(_title(block)), style="bold")]
    if isinstance(block, Fold):
        return [*parts, *(part for inner in _flat(block.blocks) for part in _section(inner, width))]
    parts.append(Padding(_body(block, width - INDENT), (0, 0, 0, INDENT)))
    return [*parts, *_command(block, width, INDENT)] if isinstance(block, Suggestion) else parts


def _body(block: Block, width: int) -> ConsoleRenderable:
    """A whole block without its title, on lines of `width` columns."""
    match block:
        case Headline():
            then = f"{between()}{visible(block.then)}" if block.then else ""
            whole = joined((visible(block.text), "bold"), (then, ""))
            return Text(broken(whole.plain, width)) if is_wide(whole.plain) else whole
        case Judgement():
            style = VERDICT_STYLES.get(block.word, "bold")
            number = f": {block.number} {block.unit}" if block.number else ""
            return Group(
                joined((visible(block.text), style), (visible(number), "")),
                *(Text(broken(visible(line), width)) for line in block.lines),
            )
        case Paragraphs():
            mark = "-  " if block.bullets else ""
            return Group(*(_hanging(mark, line, LOOKS[block.look]) for line in block.lines))
        case Labelled():
            return labelled(block.rows)
        case Grid():
            return _whole_grid(block, width)
        case Claims():
            return _claims(block)
        case Suggestion():
            return Group(*(Text(visible(line)) for line in (block.why, block.price) if line))
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


def _grid(block: Grid, most: int, width: int) -> ConsoleRenderable:
    """`most` rows of a grid, a line each: columns are left out and cells cut until they fit `width`."""
    kept = _columns(block, most, width)
    limits = _limits(block, most, kept, width)
    table = _table(block, kept, most)
    for place, column in zip(kept, table.columns, strict=True):
        column.no_wrap, column.overflow, column.min_width = True, "ellipsis", None
        column.max_width = limits.get(place)
    left_out = block.rows[most:]
    more = block.more.format(count=len(left_out), names=", ".join(row[0] for row in left_out))
    below = [*([more] if left_out else []), *block.notes]
    if below and sum(len(visible(line)) + 2 for line in below) <= width:
        below = ["; ".join(below)]
    return Group(
        table, *(Text(visible(line), style="dim", no_wrap=line is more, overflow="ellipsis") for line in below)
    )


def _whole_grid(block: Grid, width: int) -> ConsoleRenderable:
    """All rows and columns; where prose has no room beside the others, it stands below its row."""
    places = range(len(block.columns))
    prose = [place for place in places if block.columns[place].prose]
    others = [place for place in places if place not in prose]
    room = width - sum(_widths(block, len(block.rows))[place] + 2 for place in others)
    notes = [Text(visible(line), style="dim") for line in block.notes]
    if not prose or room >= PROSE:
        return Group(_table(block, list(places), len(block.rows)), *notes)
    first, *numbers = (_widths(block, len(block.rows))[place] for place in others)
    widths = [max(min(first, width - sum(numbers) - 2 * len(numbers)), 8), *numbers]
    parts: list[ConsoleRenderable] = [_row(block, others, widths, [block.columns[place].name for place in others])]
    for row in (*block.rows, *block.foot):
        parts.append(_row(block, others, widths, [row[place] for place in others]))
        parts += [Padding(Text(visible(row[place]), style="dim"), (0, 0, 0, INDENT)) for place in prose if row[place]]
    return Group(*parts, *notes)


def _row(block: Grid, places: list[int], widths: list[int], cells: list[str]) -> ConsoleRenderable:
    """One row with columns of fixed widths."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    for place, width in zip(places, widths, strict=True):
        grid.add_column(width=width, justify="right" if block.columns[place].number else "left", overflow="fold")
    grid.add_row(*(Text(visible(cell)) for cell in cells))
    return grid


def _table(block: Grid, kept: list[int], most: int) -> Table:
    """`most` rows of the columns `kept`, and the foot; numbers and short words are not broken, long text may be."""
    table, widths = plain_table(), _widths(block, most)
    for place in kept:
        column = block.columns[place]
        side = "right" if column.number else "left"
        table.add_column(
            Text(visible(column.name)),
            justify=side,  # type: ignore[arg-type]  # one of two words
            overflow="fold",
            no_wrap=column.number,
            min_width=None if column.prose else widths[place] if column.number else min(widths[place], SHORT),
            ratio=1 if column.prose else None,
        )
    strong = dict.fromkeys(block.strong, "bold")
    for number, row in enumerate(block.rows[:most]):
        table.add_row(*(Text(visible(row[place])) for place in kept), style=strong.get(number, ""))
    for row in block.foot:
        table.add_row(*(Text(visible(row[place])) for place in kept), style="bold")
    return table


def _widths(block: Grid, most: int) -> list[int]:
    """The width of each column that breaks no cell."""
    table = [tuple(column.name for column in block.columns), *block.rows[:most], *block.foot]
    return [max(columns(visible(row[place])) for row in table) for place in range(len(block.columns))]


def _limits(block: Grid, most: int, kept: list[int], width: int) -> dict[int, int]:
    """How wide the columns of text may be: half a number would be another number, so they give way, widest first."""
    natural = _widths(block, most)
    widths = {place: natural[place] for place in kept}
    texts = [place for place in kept if not block.columns[place].number]
    while texts and sum(widths.values()) + 2 * len(kept) > width:
        widest = max(texts, key=lambda place: widths[place])
        if widths[widest] <= LEAST:
            break
        widths[widest] -= 1
    return {place: widths[place] for place in texts}


def _columns(block: Grid, most: int, width: int) -> list[int]:
    """The places of the columns that are shown: all, or as many as leave every row its line."""
    kept = list(range(len(block.columns)))
    widths = _widths(block, most)
    while sum(widths[place] + 2 for place in kept) > width:
        worst = max(kept, key=lambda place: block.columns[place].drop)
        if not block.columns[worst].drop:
            break
        kept.remove(worst)
    return kept
