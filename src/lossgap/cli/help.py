"""The help of a command, made from its options: usage, what it does, its flags by group, three examples."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence

from lossgap.settings import Setting, settings_of
from lossgap.strangers import short

PLAIN_WIDTH = 100
"""Columns where the output is not a terminal."""
FLAG_WIDTH = 30
"""Columns of the flags; a longer one has its text on the next line."""
OPTIONS, OUTPUT = "Options", "Output"
"""The first heading, of settings that name none, and the last."""


def help_text(
    usage: str,
    about: str,
    options: type | Sequence[type],
    examples: Sequence[str],
    heading: Callable[[Setting], str] = lambda item: item.group or OPTIONS,
    order: Sequence[str] = (OPTIONS,),
) -> str:
    """The text of `lossgap COMMAND --help`.

    `usage` and `examples` are command lines without the leading `lossgap`; `about` is in paragraphs of one line each.
    Flags stand in the order of the classes, each under what `heading` says of it: by default the group that the setting
    names. The headings of `order` come first.
    """
    width = shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns if sys.stdout.isatty() else PLAIN_WIDTH
    classes = [options] if isinstance(options, type) else options
    lines = [f"usage: lossgap {usage}", ""]
    for paragraph in about.split("\n"):
        indent = " " * (len(paragraph) - len(paragraph.lstrip()))
        wrapped = textwrap.wrap(paragraph.strip(), width, initial_indent=indent, subsequent_indent=2 * indent)
        lines += wrapped or [""]
    groups: dict[str, list[Setting]] = {name: [] for name in order}
    for item in (item for cls in classes for item in settings_of(cls).values()):
        groups.setdefault(heading(item), []).append(item)
    # How the answer is shown comes last: every command has it.
    for name, items in sorted(groups.items(), key=lambda pair: pair[0] == OUTPUT):
        if items:
            lines += ["", f"{name}:", *(line for item in items for line in _flag(item, width))]
    lines += ["", "Examples:", *(f"  lossgap {example}" for example in examples)]
    return "\n".join(lines)


def _flag(item: Setting, width: int) -> list[str]:
    """The lines of one flag."""
    name = f"--{item.flag}" + (f", {item.short}" if item.short else "")
    if item.value:
        name += f"{' ' if item.repeatable else '='}{item.value}"
    elif not (item.is_switch and item.default is False):
        name += f"={_shown(item.default)}"
    unit = f" [{item.unit}]" if item.unit else ""
    text = textwrap.wrap(f"{item.doc}{unit}", max(30, width - FLAG_WIDTH - 2)) or [""]
    if len(name) + 4 > FLAG_WIDTH:
        return [f"  {name}", *(" " * FLAG_WIDTH + line for line in text)]
    return [f"  {name:<{FLAG_WIDTH - 2}}{text[0]}", *(" " * FLAG_WIDTH + line for line in text[1:])]


def _shown(value: object) -> str:
    """A default as one would type it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value) if str(value).isprintable() and str(value).strip() else short(value)
