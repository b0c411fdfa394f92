"""Both runs' values at the same place: last, best, and equal iterations, tokens, passes, FLOPs, seconds, phase.

    alignment = align(control, test)
    alignment.metric               # Metric (name, unit, both curves), or NoMetric (why)
    alignment.row("tokens")        # Row: at, control, test, gap, why
    alignment.common               # both curves at the iterations that both logged
    alignment.coincide             # whether all common points are equal digit for digit

"At equal X" is at the largest X that both runs reached. A value is a logged one where there is one, else linear (in X)
between its two logged neighbours and marked `interpolated`; nothing is ever extrapolated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from lossgap.comparison.curve import Curve, Floats, Value
from lossgap.comparison.fact import Unknown
from lossgap.comparison.facts import Facts
from lossgap.comparison.metric import Metric, NoMetric, metric
from lossgap.comparison.scales import NAMES, Name

RowName = Literal["last", "best", "iterations", "tokens", "passes", "flops", "seconds", "phase"]

_EQUAL = 1e-9
"""Relative: two places on a scale closer than this are the same (they are products and quotients of whole numbers)."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Both runs at one place. `gap` is test minus control; None, with `why`, where one value is missing."""

    by: RowName
    unit: str = ""
    at: float | None = None
    """The common X; None for last and best, where each run has its own iteration."""
    control: Value | None = None
    test: Value | None = None
    exact: bool = False
    """True if both values are exact over the val split (no sampling error)."""
    why: str = ""
    needs: tuple[str, ...] = ()
    """`RUN.setting` that would make the row known."""
    apart: bool = False
    """True if the row is empty because one run begins after the other ends."""

    @property
    def gap(self) -> float | None:
        """Test minus control."""
        return None if self.control is None or self.test is None else self.test.value - self.control.value

    @property
    def interpolated(self) -> bool:
        """True if one of the values stands between logged points."""
        return any(value is not None and value.interpolated for value in (self.control, self.test))


@dataclass(frozen=True, eq=False, kw_only=True)
class Common:
    """Both curves at the iterations that both logged: `iters`, `control`, `test`, each (n,)."""

    iters: Floats
    control: Floats
    test: Floats

    @property
    def gaps(self) -> Floats:
        """Test minus control, (n,)."""
        return self.test - self.control

    def __len__(self) -> int:
        return len(self.iters)


@dataclass(frozen=True, eq=False, kw_only=True)
class Alignment:
    """See the top of this file."""

    metric: Metric | NoMetric
    rows: tuple[Row, ...]

    def row(self, by: RowName) -> Row:
        """The row by name."""
        return next(item for item in self.rows if item.by == by)

    def gap(self, by: RowName = "last") -> float | None:
        """The gap of one row."""
        return self.row(by).gap

    @cached_property
    def common(self) -> Common | None:
        """Both curves where both logged a value; None if they share no iteration."""
        if isinstance(self.metric, NoMetric):
            return None
        control, test = self.metric.control, self.metric.test
        iters, first, second = np.intersect1d(control.iters, test.iters, return_indices=True)
        if not len(iters):
            return None
        return Common(iters=iters.astype(float), control=control.values[first], test=test.values[second])

    @cached_property
    def coincide(self) -> bool:
        """True if the runs share at least 3 logged iterations beyond the first and are equal at every one.

        Equal as far as both are printed: one run in two formats has 1.8912 here and 1.89117 there.
        """
        common = self.common
        if common is None or int((common.iters > 0).sum()) < 3:
            return False
        return bool((abs(common.gaps) <= self.rounding * (1 + 1e-9)).all())

    @property
    def rounding(self) -> float:
        """How far one value, printed in both logs, may lie apart: half a unit of each; 0 with equal digits, or none."""
        if isinstance(self.metric, NoMetric):
            return 0.0
        sides = (self.metric.control, self.metric.control_factor), (self.metric.test, self.metric.test_factor)
        digits = [curve.meaning.digits for curve, _ in sides]
        if digits[0] == digits[1]:
            return 0.0
        return sum(
            10.0**-curve.meaning.digits * factor / 2 for curve, factor in sides if curve.meaning.digits is not None
        )


def align(control: Facts, test: Facts) -> Alignment:
    """The two runs at all places. Never raises; what cannot be aligned says why."""
    found = metric(control, test)
    if isinstance(found, NoMetric):
        names: tuple[RowName, ...] = ("last", "best", *NAMES)
        return Alignment(metric=found, rows=tuple(Row(by=name, why=found.why) for name in names))
    best = Row(by="best", control=found.control.best, test=found.test.best)
    equal = [_equal(name, found, control, test) for name in NAMES]
    return Alignment(metric=found, rows=(_last(found, control, test), best, *equal))


def _last(found: Metric, control: Facts, test: Facts) -> Row:
    """The last values: exact ones of the final state where both have them, else the last logged ones."""
    first, second = control.final, test.final
    if found.name == "val_loss" and first is not None and second is not None:
        return Row(
            by="last",
            exact=True,
            control=_scaled(first, found.control_factor),
            test=_scaled(second, found.test_factor),
        )
    return Row(by="last", control=found.control.last, test=found.test.last)


def _scaled(value: Value, factor: float) -> Value:
    error = value.standard_error
    return replace(value, value=value.value * factor, standard_error=None if error is None else error * factor)


def _equal(name: Name, found: Metric, control: Facts, test: Facts) -> Row:
    scales = control.scale(name), test.scale(name)
    missing = [
        (label, item) for label, item in zip(("control", "test"), scales, strict=True) if isinstance(item, Unknown)
    ]
    if missing:
        reasons = {item.why: label for label, item in missing}
        same = len(missing) == 2 and len(reasons) == 1
        why = "; ".join(f"{'both' if same else label}: {item}" for item, label in reasons.items())
        needs = tuple(f"{label}.{need}" for label, item in missing for need in item.needs)
        return Row(by=name, why=why, needs=needs)
    places = []
    for curve, scale in zip((found.control, found.test), scales, strict=True):
        assert scale.value is not None
        at = scale.value.at(curve.iters.astype(float))
        known = np.isfinite(at)
        places.append((at[known], curve, known))
    unit = scales[0].value.unit if scales[0].value is not None else ""
    if any(len(at) == 0 for at, _, _ in places):
        return Row(by=name, unit=unit, why=f"no logged loss has a place in {name}")
    x = min(float(at[-1]) for at, _, _ in places)
    if x < max(float(at[0]) for at, _, _ in places) * (1 - _EQUAL):
        return Row(by=name, unit=unit, why=_apart(name, places[0][0], places[1][0]), apart=True)
    values = [value_at(x, at, curve, known) for at, curve, known in places]
    return Row(by=name, unit=unit, at=x, control=values[0], test=values[1])


def _apart(name: Name, control: Floats, test: Floats) -> str:
    """Why two ranges have no place in common."""
    late, early = ("test", "control") if test[0] > control[-1] else ("control", "test")
    first, last = (test[0], control[-1]) if late == "test" else (control[0], test[-1])
    return f"{late} logged its first loss at {first:,.6g} {name}, {early} its last at {last:,.6g}"


def value_at(x: float, places: Floats, curve: Curve, known: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Value | None:
    """The value of a curve at `x`, where its points with `known` lie at `places` (non-decreasing) on the scale."""
    indices = np.flatnonzero(known)
    after = int(np.searchsorted(places, x * (1 - _EQUAL) if x > 0 else x))
    if after == len(places):
        return None
    if abs(float(places[after]) - x) <= _EQUAL * abs(x):
        return curve.point(int(indices[after]))
    if after == 0:
        return None
    left, right = int(indices[after - 1]), int(indices[after])
    weight = (x - float(places[after - 1])) / (float(places[after]) - float(places[after - 1]))

    def between(values: Floats) -> float:
        return float((1 - weight) * values[left] + weight * values[right])

    return Value(value=between(curve.values), iter=between(curve.iters.astype(float)), interpolated=True)
