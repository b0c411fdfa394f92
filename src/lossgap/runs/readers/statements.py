"""Settings that a log prints as Python (`batch_size = 12  # comment`, `'n_layer': 6,`): read, never run."""

from __future__ import annotations

import ast
import re
import warnings

from lossgap.config import TrainConfig
from lossgap.config_file import NotConstantError, evaluate_constant
from lossgap.errors import ConfigError
from lossgap.settings import read_text, settings_of

# Possessive repetitions: a stranger's line of a million blanks is looked at once and not once for each blank.
ASSIGNMENT = re.compile(r"\s*+([A-Za-z_]\w{0,63}+)\s*+(?::\s*+[A-Za-z_][\w\[\], .|]{0,40}?\s*+)?=(?!=)\s*+(\S.*)", re.A)
"""`name = value` and `name : type = value`."""

_ENTRY = re.compile(r"""\s*+(?:\{\s*+)?['"]([A-Za-z_]\w{0,63}+)['"]\s*+:\s*+(\S.*)""", re.A)

MAX_EXPRESSION = 500


def assignment(text: str) -> tuple[str, str] | None:
    """Name and value of a line `name = value`, None for any other line."""
    found = ASSIGNMENT.fullmatch(text)
    return (found[1], found[2]) if found else None


def entry(text: str) -> tuple[str, str] | None:
    """Name and value of a line of a printed dict, such as `'n_layer': 6,`; None for any other line."""
    found = _ENTRY.fullmatch(text)
    if not found:
        return None
    value = found[2].rstrip().removesuffix("}").rstrip().removesuffix(",")
    return (found[1], value) if value else None


def constant(text: str) -> object:
    """The value of a constant expression, a comment behind it ignored; raises ValueError for anything else."""
    if len(text) > MAX_EXPRESSION:
        raise ValueError("too long")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the parser, about an unknown escape such as \d
            return evaluate_constant(ast.parse(text.strip(), mode="eval").body, {})
    except (SyntaxError, RecursionError, MemoryError, OverflowError, NotConstantError) as error:
        raise ValueError(str(error)) from None


def printed(name: str, text: str) -> object:
    """The value that `Overriding: name = text` tells: of the setting's type, or else a constant, or else the text."""
    settings = settings_of(TrainConfig)
    if name in settings:
        try:
            return plain(read_text(settings[name], text, name))
        except ConfigError:  # a fork's own meaning of the name
            return text
    try:
        return plain(constant(text))
    except ValueError:
        return text


def plain(value: object) -> object:
    """`value` as JSON has it."""
    return list(value) if isinstance(value, tuple) else value
