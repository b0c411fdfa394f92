"""Text that a stranger wrote, such as a name in a log or a path, made fit to be shown.

A log may hold the escape sequences of a terminal, a right-to-left override or a thousand lines where a name should be.
`visible`, `one_line`, `short` and `shown` make such text harmless where a sentence is made of it, which is where the
layout is still right. `guarded` holds where that was forgotten: during a command nothing but printable characters,
line ends and tabs passes through `sys.stdout` and `sys.stderr`. Colours come from `report.terminal.Terminal`, which
makes each piece of text visible before it colours it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO, cast

LAYOUT = "\n\t"
"""The control characters that a text of several lines may keep."""


def visible(text: str, keep: str = "") -> str:
    """`text` with every unprintable character as an escape such as `\\x1b`, but for those in `keep`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else ascii(char)[1:-1] for char in text)


def one_line(text: str, limit: int | None = 200) -> str:
    """`text`, cut to `limit` characters; its repr if it does not print on one line, as a file name may not."""
    cut = text if limit is None or len(text) <= limit else text[: limit - 3] + "..."
    return cut if cut.isprintable() and cut else repr(cut)


def shown(path: str | os.PathLike[str]) -> str:
    """A path for a message, uncut: as it is if it prints on one line, else quoted with escapes."""
    text = os.fspath(path)
    return text if text.isprintable() and text else ascii(text)


def short(value: object, limit: int = 60) -> str:
    """The repr of `value`, cut to `limit` characters, for a message of one line."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of more digits than Python converts; lists in lists without end
        return f"a very large {type(value).__name__}"
    return text if len(text) <= limit else text[: limit - 3] + "..."


class _Guard:
    """A text stream that lets printable characters, line ends and tabs through, and shows everything else."""

    def __init__(self, stream: TextIO) -> None:
        self.unguarded = stream

    def write(self, text: str) -> int:
        """Write `text`, made visible, in characters that the stream's encoding has."""
        encoding = self.unguarded.encoding or "utf-8"
        self.unguarded.write(visible(text, LAYOUT).encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        """Write each of `lines`."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> object:
        return getattr(self.unguarded, name)


@contextmanager
def guarded() -> Iterator[None]:
    """While this is open, what is written to `sys.stdout` and `sys.stderr` cannot drive a terminal."""
    out, err = (cast(TextIO, _Guard(stream)) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(out), redirect_stderr(err):
        yield


def unguarded(stream: TextIO) -> TextIO:
    """The stream below the guard, for one who has made the text visible or is asked for its exact bytes."""
    return cast(TextIO, getattr(stream, "unguarded", stream))


@contextmanager
def trusted() -> Iterator[None]:
    """While this is open, a library that the user switched on, such as a tracker, prints as it does without us."""
    with redirect_stdout(unguarded(sys.stdout)), redirect_stderr(unguarded(sys.stderr)):
        yield
