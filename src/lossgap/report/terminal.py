"""Parts of every answer on a terminal. Strangers' text is shown as text, unprintable characters made visible."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO, TextIO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from lossgap.strangers import LAYOUT, unguarded, visible

VERDICT_STYLES = {
    "different": "bold red",
    "equivalent": "bold green",
    "inconclusive": "bold yellow",
    "not-comparable": "bold",
}


class Terminal(Console):
    """The console of every command: text is neither markup nor an escape sequence, whoever wrote it.

    `width` is for output that is not a terminal; None leaves it to rich.
    """

    def __init__(
        self, *, width: int | None = None, file: IO[str] | None = None, stderr: bool = False, record: bool = False
    ) -> None:
        super().__init__(
            width=width, file=file, stderr=stderr, record=record, markup=False, highlight=False, emoji=False
        )

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Each piece of text made visible; what rich itself says to the terminal (a cursor that moves) stays."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else visible(segment.text, LAYOUT)
            yield segment if text is segment.text else Segment(text, segment.style)

    @property
    def file(self) -> IO[str]:
        """The stream below the guard, since colours are escape sequences."""
        return unguarded(cast(TextIO, super().file))

    @file.setter
    def file(self, stream: IO[str]) -> None:
        """Write to `stream` from now on."""
        self._file = stream


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
