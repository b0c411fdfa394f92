"""The chart of a comparison as a block: its controls, its key, what a reader must know of it."""

from __future__ import annotations

import numpy as np

from lossgap.comparison.comparison import Comparison
from lossgap.report import chart
from lossgap.report.blocks import Chart, Control, LegendMark, Option
from lossgap.report.curves import POINTS, Curves, curves
from lossgap.report.words import cut

NAME = 40
"""Characters of a run's name in the key."""


def curves_chart(comparison: Comparison, points: int = POINTS) -> Chart:
    """The curves of both runs, each with at most `points` points."""
    drawn = curves(comparison, points)
    if drawn.why:
        return Chart(draws="curves", data=None, label="", why=drawn.why)
    return Chart(
        draws="curves",
        data=chart.payload(drawn),
        label=_label(drawn),
        title=drawn.title,
        key=tuple(_key(comparison, drawn)),
        controls=(*_axes(drawn), Control(name="show", legend="Show", options=_kinds(drawn), boxes=True)),
        notes=drawn.notes,
        readable=True,
    )


def _label(drawn: Curves) -> str:
    ends = [
        f"{last.run} ends at {last.y:.4f}, its best is {best.y:.4f} at iteration {best.iter:,.0f}"
        for last, best in zip(drawn.last, drawn.best, strict=True)
    ]
    return f"Curves of the {drawn.title} of both runs: {'; '.join(ends)}. The slider below reads single values."


def _key(comparison: Comparison, drawn: Curves) -> list[LegendMark]:
    called = comparison.answer.names
    marks = [LegendMark("control", cut(called[0], NAME)), LegendMark("test", cut(called[1], NAME))]
    marks.append(LegendMark("ring", "best"))
    if any(np.isfinite(line.error).any() for line in drawn.of("compared")):
        marks.append(LegendMark("shade", "noise of an evaluation"))
    if any(line.breaks for line in drawn.of("compared")):
        marks.append(LegendMark("dots", "nothing evaluated in between"))
    return marks


def _axes(drawn: Curves) -> tuple[Control, ...]:
    first = next(axis.name for axis in drawn.axes if not axis.why)
    axes = tuple(Option(axis.name, axis.label, chosen=axis.name == first, why=axis.why) for axis in drawn.axes)
    scales = (Option("linear", "linear", chosen=True), Option("log", "log"))
    ranges = (Option("late", "after the first fall", chosen=True), Option("all", "all"))
    return (
        Control(name="axis", legend="Horizontal axis", options=axes),
        Control(name="scale", legend="Loss", options=scales),
        *([Control(name="range", legend="Range", options=ranges)] if drawn.late else []),
    )


def _kinds(drawn: Curves) -> tuple[Option, ...]:
    kinds = (("train", "train split"), ("iters", "loss of iterations"))
    return tuple(Option(kind, label) for kind, label in kinds if any(line.kind == kind for line in drawn.lines))
