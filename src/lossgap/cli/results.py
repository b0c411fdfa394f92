"""A result of a command, shown as its flags ask: on the terminal, as JSON, as a page, as a chart."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from lossgap.errors import LossgapError
from lossgap.options import AnswerFlags, PageFlags
from lossgap.strangers import shown


def say(line: str) -> None:
    """Say what takes its time, on standard error."""
    print(f"lossgap: {line}", file=sys.stderr, flush=True)


def command_line(command: str, argv: Sequence[str]) -> str:
    """The command as it was typed, for the page to name."""
    return shlex.join(["lossgap", command, *argv])


def check_places(flags: PageFlags) -> None:
    """The folders of the files that were asked for are there: before the work, not after. Raises `not-written`."""
    for path in (flags.html, flags.png):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            what = "it is a folder" if path.is_dir() else f"there is no folder {shown(path.parent)}"
            raise LossgapError("not-written", f"{shown(path)} could not be written: {what}; give another path")


def show_results(results: Sequence[object], flags: AnswerFlags, command: str) -> None:
    """Print the answer or its JSON document, and write its page and chart. Raises LossgapError as `report.show`."""
    from lossgap.report.show import show

    html, png = (flags.html, flags.png) if isinstance(flags, PageFlags) else (None, None)
    show(
        results,
        json=flags.json,
        html=str(html or ""),
        png=str(png or ""),
        full=flags.full,
        command=command,
    )
