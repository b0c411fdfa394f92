"""A result of a command, shown as its flags ask: on the terminal, as JSON, as a page, as a chart."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lossgap.errors import LossgapError
from lossgap.options import Drawn, Shown
from lossgap.strangers import shown


def say(line: str) -> None:
    """Say what takes its time, on standard error."""
    print(f"lossgap: {line}", file=sys.stderr, flush=True)


def command_line(command: str, argv: Sequence[str]) -> str:
    """The command as it was typed, for the page to name."""
    return shlex.join(["lossgap", command, *argv])


def check_places(flags: Drawn) -> None:
    """The folders of the files that were asked for are there: before the work, not after. Raises `not-written`."""
    for path in (flags.html, flags.png):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            what = "it is a folder" if path.is_dir() else f"there is no folder {shown(path.parent)}"
            raise LossgapError("not-written", f"{shown(path)} could not be written: {what}; give another path")


def show_results(results: Sequence[object], flags: Shown, command: str) -> None:
    """Print the answer or its JSON document, and write its page and chart. Raises LossgapError as `report.show`."""
    from lossgap.report.show import show

    if not all(_has_view(result) for result in results):
        _without_view(results, flags)
        return
    html, png = (flags.html, flags.png) if isinstance(flags, Drawn) else (None, None)
    show(
        results,
        json=flags.json,
        html=str(html or ""),
        png=str(png or ""),
        full=flags.full,
        command=command,
    )


def _has_view(result: object) -> bool:
    """Whether `report.show` knows the class of the result."""
    from lossgap.report.show import MODULES

    names = (MODULES.get(item.__name__) for item in type(result).__mro__)
    return any(name is not None and find_spec(name) is not None for name in names)


def _without_view(results: Sequence[object], flags: Shown) -> None:
    """Results whose class has no view yet: their own texts, documents and pages."""
    from lossgap.attribution.explanation import Explanation
    from lossgap.comparison.comparison import Comparison
    from lossgap.report.terminal import Terminal

    console = Terminal() if sys.stdout.isatty() else Terminal(width=100)
    html, png = (flags.html, flags.png) if isinstance(flags, Drawn) else (None, None)
    result: Any = results[0]
    draw: tuple[Callable[[Path], None], Callable[[Path], None]]
    if isinstance(result, Comparison):
        from lossgap.report import chart, document, page, text

        several: Any = tuple(results)
        print(document.text(several)) if flags.json else text.show(several, console)
        draw = (lambda path: page.write(several, path)), (lambda path: chart.write(several, path))
    elif isinstance(result, Explanation):
        from lossgap.report import explanation_document, explanation_page, explanation_text

        print(explanation_document.text(result)) if flags.json else explanation_text.show(result, console)
        draw = (
            (lambda path: explanation_page.write(result, path)),
            (lambda path: explanation_page.write_png(result, path)),
        )
    else:
        from lossgap.report import canary, replay_document, replay_page, replay_text

        if hasattr(result, "faults"):
            print(canary.text(result)) if flags.json else canary.show(result, console)
        else:
            print(replay_document.text(result)) if flags.json else replay_text.show(result, Terminal(width=120))
        draw = (lambda path: replay_page.write(result, path)), (lambda path: replay_page.write_png(result, path))
    for what, path, write in (("page", html, draw[0]), ("chart", png, draw[1])):
        if path is not None:
            write(path)
            print(f"{what}: {path}", file=sys.stderr)
