"""How long something takes, in words: the one place that writes seconds for people."""

from __future__ import annotations

import math

_UNITS = ((90, 1, "s", ".0f"), (5400, 60, "min", ".0f"), (172_800, 3600, "h", ".1f"))
"""(limit, size, unit, form): a duration below `limit` seconds is written in units of `size` seconds."""


def duration(seconds: float) -> str:
    """`45 s`, `18 min`, `3.2 h`, `12 days`; `an unknown time` for what is not finite."""
    if not math.isfinite(seconds):
        return "an unknown time"
    for limit, size, unit, form in _UNITS:
        if seconds < limit:
            return f"{seconds / size:{form}} {unit}"
    return f"{seconds / 86_400:,.0f} days"
