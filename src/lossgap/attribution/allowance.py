"""An experiment's budget: `20m`, `30runs`, `5e14flops`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from lossgap.errors import ConfigError
from lossgap.strangers import one_line

Unit = Literal["seconds", "runs", "flops"]
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_FORM = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:[eE][+]?[0-9]{1,3})?) ?([a-z]+)")
_EXAMPLES = "e.g. --budget=20m (s, m, h, d), --budget=30runs or --budget=5e14flops"


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """A budget as it was written, and its amount in one unit."""

    text: str
    amount: float
    unit: Unit


def parse(text: str) -> Allowance:
    """Read a budget. Raises ConfigError `bad-budget`."""
    found = _FORM.fullmatch(text.strip().lower())
    amount = float(found[1]) if found else math.nan
    if not found or not 0 < amount < 1e30:
        raise ConfigError(
            "bad-budget", f"--budget={one_line(text, 40)}: it needs a number above 0 and a unit; {_EXAMPLES}"
        )
    unit = found[2]
    if unit in ("run", "runs") and amount < 1:
        raise ConfigError("bad-budget", f"--budget={one_line(text, 40)}: no arm fits less than one run; {_EXAMPLES}")
    if unit in _SECONDS:
        return Allowance(text=text.strip(), amount=amount * _SECONDS[unit], unit="seconds")
    if unit in ("run", "runs"):
        return Allowance(text=text.strip(), amount=math.floor(amount), unit="runs")
    if unit in ("flop", "flops"):
        return Allowance(text=text.strip(), amount=amount, unit="flops")
    raise ConfigError("bad-budget", f"--budget={one_line(text, 40)}: {one_line(unit, 20)} is not a unit; {_EXAMPLES}")
