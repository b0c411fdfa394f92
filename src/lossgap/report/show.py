"""The one way from results to what people see: `show` for the command line, the other functions for `Shown`.

    show([comparison], json=False, html="page.html", png="", full=False, command="lossgap compare a.log b.log")

A result's class names the module that has its `view`, `document` and `image` (see blocks.py): `MODULES`.
"""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from lossgap.errors import LossgapError
from lossgap.language import translated
from lossgap.report import html as pages
from lossgap.report import printing, words
from lossgap.report.blocks import Headline, View
from lossgap.report.output import put
from lossgap.report.terminal import Terminal

Json = dict[str, Any]

MODULES = {
    "Bench": "lossgap.report.bench_view",
    "Canary": "lossgap.report.canary_view",
    "Comparison": "lossgap.report.comparison_view",
    "Explanation": "lossgap.report.explanation_view",
    "Forecast": "lossgap.report.forecast_view",
    "Found": "lossgap.report.search_view",
    "GateResult": "lossgap.report.gate_view",
    "Listing": "lossgap.report.runs_view",
    "Placement": "lossgap.report.placement_view",
    "Price": "lossgap.report.price_view",
    "Reading": "lossgap.report.read_view",
    "Recorded": "lossgap.report.recorded_view",
    "Replay": "lossgap.report.replay_view",
    "Run": "lossgap.report.read_view",
    "SearchPrice": "lossgap.report.search_price_view",
    "Tuned": "lossgap.report.tune_view",
}
"""The module of each class of results."""
PIPED = 80
"""Columns where the output is not a terminal: a pipe or a file has no width of its own."""


def show(
    results: Sequence[object],
    *,
    json: bool = False,
    html: str = "",
    png: str = "",
    full: bool = False,
    command: str = "",
    stderr: bool = False,
) -> None:
    """Print the answer, or one JSON document; write the page and the chart.

    Where the files are is said on the standard error, so that JSON stays alone on the standard output; with `stderr`
    the answer stands there as well. `command` made the results; the page names it. Raises LossgapError `not-written`,
    `no-chart`, `chart-failed`.
    """
    if json:
        print(jsonlib.dumps(document(results), allow_nan=False))
    else:
        stream = sys.stderr if stderr else sys.stdout
        console = Terminal(stderr=stderr, width=None if stream.isatty() else PIPED)
        printing.show(views(results), console, full=full)
    if html:
        write_page(results, Path(html), command=command)
        print(f"page: {html}", file=sys.stderr)
    if png:
        write_image(results, Path(png))
        print(f"chart: {png}", file=sys.stderr)


def views(results: Sequence[object]) -> tuple[View, ...]:
    """The view of each result."""
    if len(results) == 1:
        return (translated(_module(results[0]).view(results[0])),)
    return tuple(translated(_module(result).view(result, of=len(results))) for result in results)


def text(results: Sequence[object], *, full: bool = False, width: int = PIPED) -> str:
    """The answer as plain text."""
    return printing.text(views(results), full=full, width=width)


def document(results: Sequence[object]) -> Json:
    """The JSON document of one result, or of several of one class."""
    found: Json = _module(results[0]).document(*results)
    return found


def write_page(results: Sequence[object], path: Path, *, command: str = "") -> None:
    """Write the page of the results. Raises LossgapError `not-written`."""
    put(path, pages.render(views(results), command=command).encode())


def write_image(results: Sequence[object], path: Path) -> None:
    """Write the chart of the results. Raises LossgapError `not-written`, `no-chart`, `chart-failed`."""
    put(path, drawn(results))


def drawn(results: Sequence[object]) -> bytes:
    """The chart of the results as a PNG. Raises LossgapError `no-chart`, `chart-failed`."""
    module = _module(results[0])
    if not hasattr(module, "image"):
        raise LossgapError("no-chart", f"there is nothing to draw: {type(results[0]).__name__} has no chart")
    image: bytes = module.image(*results)
    return image


def card(result: object) -> str:
    """A small piece of HTML for a notebook: the answer without its charts and tables."""
    return pages.card(translated(_module(result).view(result)))


def line(result: object) -> str:
    """The answer in one line, for `repr`."""
    view: View = _module(result).view(result)
    said = next((f"{block.text} {block.then}" for block in view.first if isinstance(block, Headline)), view.title)
    return f"<{type(result).__name__}: {words.cut(said, 200)}>"


def _module(result: object) -> Any:
    """The module that shows a result: that of its class, or of a class it is derived from."""
    name = next((item.__name__ for item in type(result).__mro__ if item.__name__ in MODULES), "")
    assert name, f"{type(result).__name__} has no view"
    return import_module(MODULES[name])
