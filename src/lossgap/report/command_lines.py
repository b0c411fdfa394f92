"""A command on lines that fit a terminal and can still be copied: a shell joins them again."""

from __future__ import annotations

PROMPT = "$ "
NEXT = "    "
"""The indent of the further lines of a command."""


def command_lines(command: str, width: int | None = None) -> list[str]:
    """`command` behind a prompt; broken between words with a backslash where it is longer than `width` columns.

    A word that is longer than the line stays whole: half a path cannot be copied. Quoted text is never broken.
    """
    line = PROMPT + command
    if width is None or len(line) <= width:
        return [line]
    lines, current = [], PROMPT.rstrip()
    for word in _words(command):
        longer = f"{current} {word}"
        if len(longer) + 2 > width and current.strip() not in (PROMPT.strip(), ""):
            lines.append(f"{current} \\")
            current = NEXT + word
        else:
            current = longer
    return [*lines, current]


def _words(command: str) -> list[str]:
    """The words of a command as they are written, quotes and all."""
    words, current, quote = [], "", ""
    for char in command:
        if char == " " and not quote:
            words.append(current)
            current = ""
            continue
        if char in "'\"" and quote in ("", char):
            quote = "" if quote else char
        current += char
    return [word for word in [*words, current] if word]
