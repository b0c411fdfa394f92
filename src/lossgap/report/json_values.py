"""Values of a JSON document: finite or null, and a null with its reason."""

from __future__ import annotations

import math

from lossgap.runs.run_json import plain
from lossgap.strangers import short

Json = dict[str, object]


def with_why(values: Json, reasons: dict[str, str]) -> Json:
    """`values` with a field `why` that gives, for each field that is null, the reason."""
    missing = {name: reasons.get(name) or "not in the record" for name, value in values.items() if value is None}
    return values | {"why": missing}


def finite(value: float | None) -> float | None:
    """A number that JSON has, else None."""
    return None if value is None or not math.isfinite(value) else value


def safe(value: object) -> object:
    """A value of a stranger's record as JSON: plain types as they are, anything else (a date, a set) by its repr."""
    try:
        return plain(value)
    except (TypeError, RecursionError):
        return short(value)
