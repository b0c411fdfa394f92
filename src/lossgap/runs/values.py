"""Values of a record as the type they should have; what has another type is unknown.

Records come from strangers: a loss may be a text, a setting a list. Nothing here raises.
"""

from __future__ import annotations

import math
from typing import cast

_MAX_INT = 2**63 - 1


def as_float(value: object) -> float | None:
    """A finite number as float, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def as_int(value: object) -> int | None:
    """An int of at most 64 bits, else None."""
    return value if type(value) is int and -_MAX_INT <= value <= _MAX_INT else None


def as_text(value: object) -> str | None:
    """A text that can be encoded (a lone surrogate becomes a question mark), else None."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else None


def as_mapping(value: object) -> dict[str, object]:
    """A JSON object, else an empty one."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[object]:
    """A JSON array, else an empty one."""
    return value if isinstance(value, list) else []
