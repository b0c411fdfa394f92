"""The curves in the chart of a comparison: those of both runs, on every horizontal axis that both have.

    drawn = curves(comparison)
    drawn.axes                  # iterations, tokens, passes, flops, seconds: each known, or why not
    drawn.lines                 # of the compared loss, the train split's, that of iterations, the learning rate
    drawn.lines[0].x["tokens"]  # (n,), NaN where unknown

A line has at most `points` points: where a curve has more, every block of rows keeps its lowest and its highest, and
the first, the last and the best point stay (`thin`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from lossgap.comparison.comparison import Comparison
from lossgap.comparison.curve import Curve, Floats, Value
from lossgap.comparison.error_band import ErrorBand, error_bands
from lossgap.comparison.fact import Known, Unknown
from lossgap.comparison.facts import Facts
from lossgap.comparison.metric import Metric
from lossgap.comparison.scales import Name

Side = Literal["control", "test"]
Kind = Literal["compared", "train", "iters", "rate"]
"""The compared loss; the train split in evaluation mode; the loss that iterations print; the learning rate."""

SIDES: tuple[Side, Side] = ("control", "test")
AXES: dict[Name, str] = {
    "iterations": "iterations",
    "tokens": "tokens",
    "passes": "passes",
    "flops": "FLOPs",
    "seconds": "seconds",
}
POINTS = 2000
"""Points that a curve has at most."""
RATE_POINTS = 400
"""Points at which a schedule is computed where the record has no rates."""
HOLE = 3.0
"""Times the usual distance of two points, from which on a curve says nothing of what is between them."""
LATE = 0.3
"""A share of the curves' height: what lies higher is their first fall, in which all runs look alike."""
FEW = 3
"""Points of a curve that must be left to see, at least."""
BAND = 2.0
"""Half the height of the noise band, in standard errors of an evaluation."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A horizontal axis; `why` is empty if both runs have it."""

    name: Name
    label: str
    why: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class ChartLine:
    """One curve: `y` (n,) over `x[axis]` (n,); `error` (n,) is the half height of the band, NaN where there is none."""

    run: Side
    kind: Kind
    x: dict[Name, Floats]
    y: Floats
    error: Floats
    rows: int
    """Points before thinning."""
    breaks: frozenset[int] = frozenset()
    """Positions before which there is a hole: much more than the usual distance to the point before."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Mark:
    """A point with a name: the best, or the last."""

    run: Side
    x: dict[Name, float | None]
    iter: float
    y: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Curves:
    """See the top of this file."""

    title: str
    """The title of the vertical axis: the loss with its unit."""
    axes: tuple[Axis, ...]
    lines: tuple[ChartLine, ...]
    best: tuple[Mark, ...]
    last: tuple[Mark, ...]
    notes: tuple[str, ...]
    """Sentences that a reader must know: bands, thinning, what is not shown and why."""
    late: dict[Name, float] = field(default_factory=dict)
    """Where on each axis the curves have left their first fall behind; empty where that leaves too little to see."""
    why: str = ""
    """Why there is nothing to draw; empty if there is."""

    def of(self, kind: Kind) -> tuple[ChartLine, ...]:
        """The lines of one kind."""
        return tuple(line for line in self.lines if line.kind == kind)


def curves(found: Comparison, points: int = POINTS) -> Curves:
    """The curves of a comparison, each with at most `points` points."""
    metric = found.alignment.metric
    axes = tuple(_axis(name, found) for name in AXES)
    if not isinstance(metric, Metric):
        return Curves(title="", axes=axes, lines=(), best=(), last=(), notes=(), why=metric.why)
    names = [axis.name for axis in axes if not axis.why]
    lines: list[ChartLine] = []
    notes: list[str] = []
    best: list[Mark] = []
    last: list[Mark] = []
    bands = error_bands(found.control, found.test, metric)
    for (side, facts, curve, factor), band in zip(_sides(found, metric), bands, strict=True):
        error, note = _band(side, band)
        notes.append(note)
        lines.append(_line(side, "compared", facts, curve, error, names, points))
        best.append(_mark(side, facts, curve.best, names))
        last.append(_mark(side, facts, curve.last, names))
        lines += _others(side, facts, curve, factor, names, points)
        rate = _rate(facts)
        if isinstance(rate, Unknown):
            notes.append(f"Learning rate of {side} not drawn: {rate.why}.")
        else:
            lines.append(_rate_line(side, facts, rate, names, points))
            if rate.how:
                notes.append(f"Learning rate of {side}: {rate.how}.")
    notes += _thinning(lines, points)
    return Curves(
        title=f"{metric.name.replace('_', ' ')} ({metric.unit})",
        axes=axes,
        lines=tuple(lines),
        best=tuple(best),
        last=tuple(last),
        notes=tuple(notes),
        late=_late([line for line in lines if line.kind == "compared"], names),
    )


def _late(lines: list[ChartLine], names: list[Name]) -> dict[Name, float]:
    """From where on both curves lie in the lowest `LATE` of the height, where each still has `FEW` points there."""
    every = np.concatenate([line.y for line in lines])
    limit = every.min() + LATE * np.ptp(every)
    found: dict[Name, float] = {}
    for name in names:
        starts, first = [], []
        for line in lines:
            above = np.flatnonzero(line.y > limit)
            start = int(above[-1]) + 1 if len(above) else 0
            starts.append(line.x[name][start] if start < len(line.y) else np.nan)
            first.append(line.x[name][0])
        for at in (max(starts), min(starts)):
            shown = all(np.count_nonzero(line.x[name] >= at) >= min(FEW, max(1, len(line.y) - 1)) for line in lines)
            if shown and at > min(first):
                found[name] = float(at)
                break
    return found


def _sides(found: Comparison, metric: Metric) -> tuple[tuple[Side, Facts, Curve, float], ...]:
    return (
        ("control", found.control, metric.control, metric.control_factor),
        ("test", found.test, metric.test, metric.test_factor),
    )


# ---------------------------------------------------------------------------------------------
# Axes


def _axis(name: Name, found: Comparison) -> Axis:
    row = found.alignment.row(name)
    missing = row.control is None and row.test is None and not row.apart and isinstance(found.alignment.metric, Metric)
    return Axis(name=name, label=AXES[name], why=(row.why or "not in the records") if missing else "")


def _places(facts: Facts, iters: npt.NDArray[np.generic], names: list[Name]) -> dict[Name, Floats]:
    """Where iterations lie on each axis; NaN where that is not known."""
    at = iters.astype(float)
    found: dict[Name, Floats] = {}
    for name in names:
        scale = facts.scale(name)
        found[name] = np.full(len(at), np.nan) if isinstance(scale, Unknown) else scale.value.at(at)
    return found


def _mark(side: Side, facts: Facts, value: Value, names: list[Name]) -> Mark:
    places = _places(facts, np.array([value.iter]), names)
    at = {name: float(x[0]) if np.isfinite(x[0]) else None for name, x in places.items()}
    return Mark(run=side, x=at, iter=value.iter, y=value.value)


# ---------------------------------------------------------------------------------------------
# Lines


def _line(
    side: Side, kind: Kind, facts: Facts, curve: Curve, error: Floats | None, names: list[Name], points: int
) -> ChartLine:
    usable = np.flatnonzero(np.isfinite(curve.values))
    kept = usable[thin(curve.values[usable], points)]
    return ChartLine(
        run=side,
        kind=kind,
        x=_places(facts, curve.iters[kept], names),
        y=curve.values[kept],
        error=np.full(len(kept), np.nan) if error is None else error[kept],
        rows=len(usable),
        breaks=_breaks(curve.iters[usable], kept, usable),
    )


def _breaks(
    iters: npt.NDArray[np.generic], kept: npt.NDArray[np.int64], usable: npt.NDArray[np.int64]
) -> frozenset[int]:
    """The positions among `kept` before which `iters`, those of all usable points, have a hole."""
    if len(iters) < 2:
        return frozenset()
    steps = np.diff(iters.astype(float))
    # Of a few points the distance says nothing; a line over a quarter of the run is then drawn as a guess.
    usual = float(np.median(steps)) if len(steps) >= 4 else float(steps.sum()) / (4 * HOLE)
    holes = np.flatnonzero(steps > HOLE * usual) + 1  # before which of the usable points
    return frozenset(np.searchsorted(kept, usable[holes]).tolist())


def thin(values: Floats, points: int) -> npt.NDArray[np.int64]:
    """Positions of at most `points` values, increasing: the lowest and highest of equal blocks, the first, the last."""
    count = len(values)
    if count <= points:
        return np.arange(count)
    edges = np.linspace(0, count, max(1, (points - 2) // 2) + 1).astype(np.int64)
    kept = {0, count - 1}
    for start, stop in pairwise(edges):
        block = values[start:stop]
        kept |= {int(start + block.argmin()), int(start + block.argmax())}
    return np.array(sorted(kept), dtype=np.int64)


def _band(side: Side, band: ErrorBand) -> tuple[Floats | None, str]:
    """Half the height of the band at each point of the curve, and in a sentence what it is."""
    part = band.part
    if band.each and band.errors is not None:
        how = f"measured at each evaluation: {part.how}"
        return BAND * band.errors, f"Band of {side}: ± 2 standard errors of an evaluation, {how}."
    if part.standard_error is None:
        return None, f"No noise band for {side}: {part.how}."
    if band.errors is None:
        return None, f"No noise band for {side}: its evaluations are {part.how}."
    size = f"{BAND * part.standard_error:.2g}"
    said = f"Band of {side}: ± {size}, 2 standard errors of an evaluation, estimated for the last one: {part.how}."
    return BAND * band.errors, said


def _others(side: Side, facts: Facts, curve: Curve, factor: float, names: list[Name], points: int) -> list[ChartLine]:
    """The other losses of the run in the unit of the compared one, where they have one tokenizer's unit."""
    found = []
    choices: tuple[tuple[Kind, Curve | None], ...] = (("train", facts.train_eval), ("iters", facts.train))
    for kind, other in choices:
        same_unit = other is not None and other.meaning.unit == curve.meaning.unit
        if other is None or other.name == curve.name or not same_unit:
            continue
        line = _line(side, kind, facts, other, None, names, points)
        found.append(replace(line, y=line.y * factor))
    return found


# ---------------------------------------------------------------------------------------------
# Learning rate


@dataclass(frozen=True, eq=False, kw_only=True)
class _Rate:
    iters: Floats
    values: Floats
    how: str = ""


def _rate(facts: Facts) -> _Rate | Unknown:
    """The rates that the record says, else those of the schedule."""
    rows = facts.run.iters.filter(pl.col("lr").is_not_null() & pl.col("iter").is_not_null())
    rows = rows.unique(subset="iter", keep="last", maintain_order=True).sort("iter")
    if rows.height > 1:
        return _Rate(iters=rows["iter"].to_numpy().astype(float), values=rows["lr"].to_numpy().astype(float))
    end = facts.last_iter
    if end is None:
        return Unknown("it has no iterations")
    iters = np.unique(np.linspace(0, end, RATE_POINTS).round())
    if isinstance(facts.warmup_iters, Known):
        iters = np.unique(np.append(iters, min(max(facts.warmup_iters.value, 0), end)))
    rates = [facts.lr_at(float(at)) for at in iters]
    unknown = next((item for item in rates if isinstance(item, Unknown)), None)
    if unknown is not None:
        return unknown
    inferred = any(isinstance(item, Known) and item.evidence == "inferred" for item in rates)
    how = "by nanoGPT's schedule from the settings" + (", some of them inferred" if inferred else "")
    return _Rate(iters=iters, values=np.array([item.value for item in rates], dtype=float), how=how)


def _rate_line(side: Side, facts: Facts, rate: _Rate, names: list[Name], points: int) -> ChartLine:
    usable = np.flatnonzero(np.isfinite(rate.values))
    kept = usable[thin(rate.values[usable], points)]
    return ChartLine(
        run=side,
        kind="rate",
        x=_places(facts, rate.iters[kept], names),
        y=rate.values[kept],
        error=np.full(len(kept), np.nan),
        rows=len(usable),
    )


_NAMES: dict[Kind, str] = {
    "compared": "the compared loss",
    "train": "the train split's loss",
    "iters": "the loss of iterations",
    "rate": "the learning rate",
}


def _thinning(lines: list[ChartLine], points: int) -> list[str]:
    thinned = [f"{_NAMES[line.kind]} of {line.run} {line.rows:,} to {len(line.y):,}" for line in lines]
    thinned = [said for said, line in zip(thinned, lines, strict=True) if line.rows > len(line.y)]
    if not thinned:
        return []
    how = f"Thinned to at most {points:,} points a curve, the lowest and highest of equal blocks of rows"
    return [f"{how}: {', '.join(thinned)}."]
