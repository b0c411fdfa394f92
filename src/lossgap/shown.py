"""`Shown`: what every public result can do with itself, for scripts and notebooks.

    comparison.text()                # the answer: at most 24 lines
    comparison.text(full=True)       # everything
    comparison.html("page.html")     # one self-contained page
    comparison.png("chart.png")      # its chart
    comparison.plot()                # its chart, shown by a notebook
    comparison.json()                # the document of `--json`, as a dict

A notebook shows a small card, and the repr is one line. How a result is shown is decided above the room in which it is
made, so the renderer is looked up when it is needed and never imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

_RENDERER = "lossgap.report.show"


@dataclass(frozen=True)
class Picture:
    """A chart as a PNG, which a notebook shows."""

    png: bytes

    def _repr_png_(self) -> bytes:
        return self.png

    def __repr__(self) -> str:
        return f"<Picture: PNG of {len(self.png):,} bytes>"


class Shown:
    """The base of Comparison, Explanation, Replay and the other results. Dataclasses below it say `repr=False`."""

    def text(self, *, full: bool = False, width: int = 80) -> str:
        """The answer as text of at most 24 lines of `width` columns; with `full` everything, without that limit."""
        return str(_renderer().text((self,), full=full, width=width))

    def html(self, path: str | Path) -> None:
        """Write one self-contained page. Raises LossgapError `not-written` if the file cannot be."""
        _renderer().write_page((self,), Path(path))

    def png(self, path: str | Path) -> None:
        """Write the chart. Raises LossgapError `not-written`, `no-chart`, `chart-failed`."""
        _renderer().write_image((self,), Path(path))

    def plot(self) -> Picture:
        """The chart, as a notebook shows it. Raises LossgapError `no-chart`, `chart-failed`."""
        return Picture(_renderer().drawn((self,)))

    def json(self) -> dict[str, Any]:
        """The document of `--json`, as its schema in `lossgap/schemas` says: no NaN, unknown is null with its `why`."""
        document: dict[str, Any] = _renderer().document((self,))
        return document

    def _repr_html_(self) -> str:
        return str(_renderer().card(self))

    def __repr__(self) -> str:
        return str(_renderer().line(self))


def _renderer() -> Any:
    return import_module(_RENDERER)
