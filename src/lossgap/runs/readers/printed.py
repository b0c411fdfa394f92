"""Numbers as a log prints them, and counts of lines."""

from __future__ import annotations

import math
import re

from lossgap.runs.run import NotUnderstood

SHOWN_LINES = 5
"""Line numbers that a note or a count keeps."""

FORMATTED = 8
"""Decimals up to which all values of a column are printed with the same number; a whole float has its own."""

Number = int | float | str | bytes | None

_NUMBER = re.compile(
    r"[+-]?(?:\d[\d_,]*+(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d{1,4})?|[+-]?(?:nan|inf(?:inity)?)", re.I | re.A
)
_FIXED = re.compile(r"[+-]?[\d,_]*\.(\d+)", re.A)
MAX_INT = 2**63 - 1


def number(value: Number) -> float | None:
    """A number from text (`1,234.5`, `nan`) or as it is, infinities and NaN kept; None for anything else."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        value = value.strip()
        if len(value) > 400 or not _NUMBER.fullmatch(value):
            return None
        return float(value.replace(",", "").replace("_", ""))
    if value is None or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def decimals(value: Number) -> int | None:
    """How many digits after the point a printed number has; None where that says nothing (`1e-5`, a float)."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return None
    found = _FIXED.fullmatch(value.strip())
    return len(found[1]) if found else None


def whole(value: Number) -> int | None:
    """An int of 64 bits from text or a number without fraction, else None."""
    found = number(value)
    if found is None or not math.isfinite(found) or found != int(found) or abs(found) > MAX_INT:
        return None
    if isinstance(value, int):
        return value
    return int(found)


class Tally:
    """How many, and the first few line numbers."""

    def __init__(self) -> None:
        self.count = 0
        self.lines: list[int] = []

    def add(self, line: int | None, count: int = 1) -> None:
        """Count one more (or `count`), of which the first is at `line`."""
        self.count += count
        if line is not None and len(self.lines) < SHOWN_LINES and line not in self.lines:
            self.lines.append(line)

    def join(self, other: Tally) -> None:
        """Add what another one counted."""
        self.count += other.count
        self.lines = [*self.lines, *other.lines][:SHOWN_LINES]

    def understood(self) -> NotUnderstood:
        """As the field of a Run."""
        return NotUnderstood(count=self.count, lines=tuple(self.lines))
