"""Text out of what holds it: the outputs of a notebook's cells, the words of an HTML page, with the standard library.

A table becomes lines with bars between the cells. Nothing is run and nothing is loaded.
"""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Final

from lossgap.runs.readers.metric_names import word_set

MAX_DEPTH: Final = 60
_PARTS: Final = word_set("p div br li tr pre h1 h2 h3 h4 h5 h6 table ul ol section article blockquote code")
_SILENT: Final = frozenset(("script", "style", "head", "title"))


def is_notebook(text: str) -> bool:
    """True if a document that begins so is a Jupyter notebook."""
    start = text[:4096].lstrip()
    return start.startswith("{") and ('"cells"' in text or '"nbformat"' in text or '"worksheets"' in text)


def is_html(text: str) -> bool:
    """True if a document that begins so is a page."""
    start = text[:400].lstrip().lower()
    return start.startswith(("<!doctype html", "<html", "<table", "<body", "<div"))


def notebook_text(text: str) -> str | None:
    """The text that the cells of a notebook printed, in their order; None for a document that is none."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    sheets = document.get("worksheets")
    cells = document.get("cells")
    if cells is None and isinstance(sheets, list) and sheets and isinstance(sheets[0], dict):
        cells = sheets[0].get("cells")
    if not isinstance(cells, list):
        return None
    found: list[str] = []
    for cell in cells:
        outputs = cell.get("outputs") if isinstance(cell, dict) else None
        for output in outputs if isinstance(outputs, list) else ():
            if isinstance(output, dict):
                found.append(_output(output))
    return "\n".join(part for part in found if part)


def _output(output: dict[str, object]) -> str:
    """The text of one output: what was printed, else the page that was shown, else its plain text."""
    printed = _joined(output.get("text"))
    data = output.get("data")
    if printed or not isinstance(data, dict):
        return printed
    page = _joined(data.get("text/html"))
    return html_text(page) if "<table" in page or "<td" in page else _joined(data.get("text/plain"))


def _joined(value: object) -> str:
    """A text, or a list of lines."""
    if isinstance(value, str):
        return value
    return "".join(item for item in value if isinstance(item, str)) if isinstance(value, list) else ""


class _Words(HTMLParser):
    """Collects the text of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.out: list[str] = []
        self.silent = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        """A part of the page begins a line, a cell is parted by a bar."""
        if tag in _SILENT:
            self.silent += 1
        elif tag in ("td", "th"):
            self.out.append(" | ")
        elif tag in _PARTS:
            self.out.append("\n")

    def handle_endtag(self, tag: str) -> None:
        """The end of a part ends its line."""
        if tag in _SILENT:
            self.silent = max(0, self.silent - 1)
        elif tag in _PARTS and tag != "code":
            self.out.append("\n")

    def handle_data(self, data: str) -> None:
        """Text as it is."""
        if not self.silent:
            self.out.append(data if data.strip() or "\n" not in data else " ")


def html_text(text: str) -> str:
    """The words of a page; what a parser cannot read is left out."""
    parser = _Words()
    try:
        parser.feed(text)
        parser.close()
    except (ValueError, AssertionError, RecursionError):  # broken declarations
        pass
    return "".join(parser.out)
