"""What every answer on a terminal is made of. Strangers' text is shown as text, unprintable characters made visible."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lossgap.report.words import visible

VERDICT_STYLES = {
    "different": "bold red",
    "equivalent": "bold green",
    "inconclusive": "bold yellow",
    "not-comparable": "bold",
}


def heading(console: Console, text: str, dim: str = "") -> None:
    """A blank line and a heading; `dim` stands behind it."""
    console.print()
    console.print(joined((visible(text), "bold"), (f"  {visible(dim)}" if dim else "", "dim")))


def indented(console: Console, text: str, by: int, style: str = "") -> None:
    """A paragraph."""
    console.print(Padding(Text(visible(text), style=style), (0, 0, 0, by)))


def joined(*parts: tuple[str, str]) -> Text:
    """Texts, each with its style. They must be visible already."""
    return Text.assemble(*parts)


def command(console: Console, text: str) -> None:
    """A command, on one line however long: it is copied."""
    console.print(Text("   $ " + visible(text), style="cyan"), soft_wrap=True)


def plain_table() -> Table:
    """A table without lines."""
    return Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))


def labelled(rows: Iterable[tuple[str, str]]) -> Table:
    """Texts behind their labels."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, text in rows:
        grid.add_row(Text(visible(label)), Text(visible(text)))
    return grid
