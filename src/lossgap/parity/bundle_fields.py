"""The JSON document of a bundle, read as a stranger's: every value is of its kind and within its bounds, or refused.

    fields = Fields(parse(text), "the document")
    fields.count("first", 0, 2**53)

Everything raises ValueError with the reason; `lossgap.parity.bundle_file` makes one line of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

MAX_DEPTH = 12
"""Levels of nesting; ours has six."""
MAX_TEXT = 10_000
"""Characters of one text; ours are short lines."""
_MAX_DIGITS = 40
_SHOWN = 40


def parse(text: str) -> object:
    """JSON without NaN, infinities, names given twice, numbers without end, or endless nesting."""
    try:
        value: object = json.loads(
            text, parse_constant=_constant, parse_int=_whole, parse_float=_real, object_pairs_hook=_mapping
        )
        _check(value, MAX_DEPTH)
    except json.JSONDecodeError as error:
        raise ValueError(f"its document is not JSON at character {error.pos}") from None
    except RecursionError:
        raise ValueError(f"its document is nested deeper than {MAX_DEPTH} levels") from None
    return value


def _constant(text: str) -> float:
    raise ValueError(f"its document holds {text}")


def _whole(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError("its document holds a number that is too long")
    return int(text)


def _real(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("its document holds a number that is too large")
    return value


def _mapping(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("its document gives a name twice")
    return found


def _check(value: object, depth: int) -> None:
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise ValueError(f"its document holds a text of more than {MAX_TEXT:,} characters")
        value.encode("utf-8")  # a lone surrogate, a UnicodeEncodeError and so a ValueError, would break any printer
    if isinstance(value, dict | list):
        if depth == 0:
            raise RecursionError
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, depth - 1)
        for name in value if isinstance(value, dict) else ():
            _check(name, depth)


class Fields:
    """A mapping of the document, and where it stands there."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{where} is not a mapping")
        self.values: dict[str, object] = value
        self.where = where

    def _bad(self, name: str, rule: str) -> ValueError:
        value = ascii(self.values.get(name))
        shown = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}..."
        return ValueError(f"{name!r} of {self.where} is {shown}, not {rule}")

    def text(self, name: str) -> str:
        """A text."""
        value = self.values.get(name)
        if not isinstance(value, str):
            raise self._bad(name, "a text")
        return value

    def count(self, name: str, least: int, most: int) -> int:
        """A whole number within bounds."""
        value = self.values.get(name)
        if type(value) is not int or not least <= value <= most:
            raise self._bad(name, f"a whole number from {least} to {most:,}")
        return value

    def number(self, name: str, least: float, most: float) -> float:
        """A number within bounds."""
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise self._bad(name, f"a number from {least:g} to {most:g}")
        return float(value)

    def number_or_none(self, name: str, least: float, most: float) -> float | None:
        """A number within bounds, or None for null."""
        return None if self.values.get(name, 0) is None else self.number(name, least, most)

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self.values.get(name)
        if not isinstance(value, bool):
            raise self._bad(name, "true or false")
        return value

    def mapping(self, name: str) -> dict[str, object]:
        """A mapping, as it is."""
        value = self.values.get(name)
        if not isinstance(value, dict):
            raise self._bad(name, "a mapping")
        return value

    def sequence(self, name: str, most: int) -> list[object]:
        """A list of at most so many values."""
        value = self.values.get(name)
        if not isinstance(value, list) or len(value) > most:
            raise self._bad(name, f"a list of at most {most:,} values")
        return value

    def rows(self, name: str, most: int) -> Iterator[Fields]:
        """A list of mappings."""
        for number, value in enumerate(self.sequence(name, most)):
            yield Fields(value, f"{name}[{number}] of {self.where}")

    def numbers(self, name: str, length: int, *, nulls: bool = False) -> tuple[float, ...]:
        """A list of so many finite numbers; with `nulls` null stands for one that was not finite, and becomes inf."""
        values = self.sequence(name, length)
        if len(values) != length:
            raise self._bad(name, f"a list of {length:,} numbers")
        if nulls:
            values = [math.inf if value is None else value for value in values]
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
            raise self._bad(name, "a list of numbers")
        return tuple(float(value) for value in values if isinstance(value, int | float))

    def only(self, names: tuple[str, ...]) -> Fields:
        """Itself, if it has no other names than these."""
        for name in self.values:
            if name not in names:
                raise ValueError(f"{self.where} has a name that is not of this version: {name[:_SHOWN]!a}")
        return self
