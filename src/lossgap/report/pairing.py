"""Alternatives without a switch: the blocks of all choices as one list, what is the same in them said once."""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest

from lossgap.report.blocks import Alternatives, Block, Chart, Grid, GridColumn, Paragraphs

AT = "at"
"""The column that names the choice to which a row belongs."""


def paired(block: Alternatives) -> tuple[Block, ...]:
    """The blocks of a terminal: grids of equal columns as one, equal blocks once, others after their choice's label."""
    found: list[Block] = []
    labels = [choice.label for choice in block.choices]
    for group in zip_longest(
        *([item for item in choice.blocks if not isinstance(item, Chart)] for choice in block.choices)
    ):
        there = [(label, item) for label, item in zip(labels, group, strict=True) if item is not None]
        grids = [(label, item) for label, item in there if isinstance(item, Grid)]
        if len({_contents(item) for _, item in there}) == 1 and len(there) == len(labels):
            found.append(there[0][1])
        elif len(grids) == len(there) and len({item.columns for _, item in grids}) == 1:
            names = [choice.value for choice in block.choices]
            found.append(_one_grid([(names[labels.index(label)], item) for label, item in grids], block.both))
        else:
            for label, item in there:
                title = getattr(item, "title", None)
                if title is None:
                    found += [Paragraphs(lines=(f"{label}:",), look="dim"), item]
                else:
                    found.append(replace(item, title=f"{title}, {label}" if title else label))
    return tuple(found)


def _contents(block: Block) -> str:
    return repr(block)


def _one_grid(grids: list[tuple[str, Grid]], both: str) -> Grid:
    """One grid with a column `at` behind the first; a row that all grids have alike stands once."""
    first = grids[0][1]
    name, *others = first.columns
    rows = _rows([(at, grid.rows) for at, grid in grids], both)
    foot = _rows([(at, grid.foot) for at, grid in grids], both)
    marked = {(at, grid.rows[number][0]) for at, grid in grids for number in grid.strong}
    strong = {n for n, (of, row) in enumerate(rows) if (grids[0][0] if row[1] == both else row[1], of) in marked}
    return replace(
        first,
        columns=(name, GridColumn(name=AT), *others),
        rows=tuple(row for _, row in rows),
        foot=tuple(row for _, row in foot),
        strong=frozenset(strong),
        notes=tuple(dict.fromkeys(note for _, grid in grids for note in grid.notes)),
    )


def _rows(tables: list[tuple[str, tuple[tuple[str, ...], ...]]], both: str) -> list[tuple[str, tuple[str, ...]]]:
    """The rows of all tables, each behind its name: in the order in which names appear, those of one name together."""
    names = list(dict.fromkeys(row[0] for _, rows in tables for row in rows))
    found: list[tuple[str, tuple[str, ...]]] = []
    for name in names:
        own = [(at, row) for at, rows in tables for row in rows if row[0] == name]
        if len(own) == len(tables) and len({row for _, row in own}) == 1:
            found.append((name, (name, both, *own[0][1][1:])))
            continue
        found += [(name, ("" if number else name, at, *row[1:])) for number, (at, row) in enumerate(own)]
    return found
