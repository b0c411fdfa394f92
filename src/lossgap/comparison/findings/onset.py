"""Where two curves part: from the first value, at the next one, step by step, or all at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lossgap.comparison.curve import Curve, Floats
from lossgap.comparison.rules import Pair

FEWEST = 5
"""Iterations in common below which there is no shape."""
SUDDEN = 20.0
"""Print units: curves that were equal and then differ by more at once have parted suddenly."""
FIRST = 1
"""Trainers count from 0 or from 1."""
RELATIVE = 1e-6
"""Two losses of full precision closer than this are equal: float32 has about 1.2e-7."""

Shape = Literal["at the start", "after one update", "gradual", "sudden", "never"]


@dataclass(frozen=True, kw_only=True)
class Onset:
    """`shape` of the parting; `equal` is the last iteration at which the curves agree, `apart` the first other one."""

    shape: Shape
    series: str
    equal: int | None
    apart: int | None
    first_difference: float
    """Test minus control at `apart`; 0 if they never part."""
    unit: float
    """A difference too small to count: the printed precision."""
    last_difference: float
    """Mean of the last tenth of what both logged."""
    move: float
    """How far the control's own loss moved between the two values there."""
    count: int
    step: int
    """Iterations between the values there: what happened in between is not in the records."""


def onset(pair: Pair) -> Onset | None:
    """The onset in the printed iteration losses, else in the evaluations; None without values from the start on."""
    for name in ("train", "val"):
        found = _of(name, getattr(pair.control, name), getattr(pair.test, name), evaluated=name == "val")
        if found is not None:
            return found
    return None


def _of(name: str, control: Curve | None, test: Curve | None, *, evaluated: bool) -> Onset | None:
    if control is None or test is None or control.meaning.kind != test.meaning.kind:
        return None
    iters, first, second = np.intersect1d(control.iters, test.iters, return_indices=True)
    if len(iters) < FEWEST or iters[0] > FIRST:
        return None
    one, two = control.values[first], test.values[second]
    units = _units(one, control.meaning.digits, test.meaning.digits)
    apart = np.flatnonzero(np.abs(two - one) > units * 1.000001)
    last = float(np.mean((two - one)[-max(1, len(iters) // 10) :]))
    if not len(apart):
        return Onset(
            shape="never",
            series=name,
            equal=int(iters[-1]),
            apart=None,
            first_difference=0.0,
            unit=float(units[-1]),
            last_difference=last,
            move=0.0,
            count=len(iters),
            step=0,
        )
    at = int(apart[0])
    difference = float(two[at] - one[at])
    return Onset(
        shape=_shape(at, iters, abs(difference) / float(units[at])),
        series=name,
        equal=int(iters[at - 1]) if at else None,
        apart=int(iters[at]),
        first_difference=difference,
        unit=float(units[at]),
        last_difference=last,
        move=float(one[at] - one[at - 1]) if at else 0.0,
        count=len(iters),
        step=int(iters[at] - iters[at - 1]) if at else 0,
    )


def _shape(at: int, iters: np.ndarray[tuple[int], np.dtype[np.int64]], units: float) -> Shape:
    if at == 0:
        return "at the start"
    if units <= SUDDEN:
        return "gradual"
    return "after one update" if at == 1 and iters[1] - iters[0] == 1 else "sudden"


def _units(values: Floats, *digits: int | None) -> Floats:
    """The larger printed unit, or the float32 resolution where full precision is logged, at each value."""
    printed = max((10.0**-count for count in digits if count is not None), default=0.0)
    return np.maximum(printed, RELATIVE * np.abs(values))
