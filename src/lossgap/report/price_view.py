"""A `Price` as a view: what an experiment would train, how long that takes here, and what it could tell."""

from __future__ import annotations

import math

from lossgap.attribution.factor import NotSwitched
from lossgap.attribution.price import Price, ShapeTiming
from lossgap.duration import duration
from lossgap.report import words
from lossgap.report.blocks import Block, Fold, Grid, GridColumn, Headline, Labelled, Paragraphs, View
from lossgap.report.division import MARK, UNIT, changes, scale_words
from lossgap.report.experiment import design_words, scale_lines, several
from lossgap.report.json_values import Json, finite, safe, with_why
from lossgap.version import __version__

SCHEMA = "lossgap.price/1"
SHAPES = 6
"""Shapes that a terminal shows, those that take the most time in all first."""


def view(price: Price) -> View:
    """The view of a price: what the experiment would take, then what is not switched, then the timings."""
    warnings = [words.sentence(line) for line in (*scale_lines(price.scale), *price.notes)]
    return View(
        title=f"the price of an experiment with {', '.join(price.factors)}",
        first=(
            Headline(_headline(price)),
            *([Paragraphs(lines=tuple(warnings), look="warning")] if warnings else []),
            Labelled(rows=tuple(_rows(price))),
        ),
        rest=_timings(price),
    )


def _headline(price: Price) -> str:
    left = price.arms - price.cached
    if not left:
        start = f"Nothing is left to train: all {several(price.arms, 'arm')} are there from earlier experiments"
    else:
        start = f"This trains {several(left, 'model')}, {_about(price.seconds)} on this machine"
    if price.resolvable is None or not math.isfinite(price.resolvable):
        return f"{start}; how small a contribution it can tell is not known before it ends."
    small = "" if price.scale.true else MARK
    return f"{start}, and tells each factor's part of the gap to about ±{price.resolvable:.2g}{small} {UNIT}."


def _rows(price: Price) -> list[tuple[str, str]]:
    left = price.arms - price.cached
    arms = several(price.arms, "arm")
    if price.cached:
        arms += f", {price.cached:,} of them trained by earlier experiments: {left:,} left"
    threads = several(price.threads, "thread")
    return [
        ("factors", f"{len(price.factors)}: {', '.join(price.factors)}"),
        ("design", design_words(price.kind, len(price.factors), price.seeds, price.arms_per_seed, price.repeated)),
        ("runs", arms),
        ("takes", f"{_about(price.seconds)} here, {price.at_once} at a time with {threads} each"),
        ("budget", price.asked),
        ("tells", _resolution(price)),
        ("scale", "the true scale of both runs" if price.scale.true else _scale(price)),
        *(("not switched", _held(item)) for item in price.not_switched),
    ]


def _about(seconds: float) -> str:
    return f"about {duration(seconds)}" if math.isfinite(seconds) else duration(seconds)


def _held(item: NotSwitched) -> str:
    return f"{changes(item.settings)}: {item.why}; what it does to the gap stays unknown"


def _resolution(price: Price) -> str:
    if price.resolvable is None or not math.isfinite(price.resolvable):
        return f"the smallest contribution it can resolve is unknown: {price.resolvable_why or 'no spread is known'}"
    small = "" if price.scale.true else MARK
    said = f"contributions to about ±{price.resolvable:.2g}{small} {UNIT}; smaller ones stay inconclusive"
    return f"{said} ({price.resolvable_why})" if price.resolvable_why else said


def _scale(price: Price) -> str:
    if price.true_scale_seconds is None:
        return scale_words(price.scale)
    return f"{scale_words(price.scale)}; at the true scale it would take about {duration(price.true_scale_seconds)}"


def _timings(price: Price) -> tuple[Block, ...]:
    if not price.timings:
        return ()
    ordered = sorted(price.timings, key=lambda item: -item.arms * _each(item))
    grid = Grid(
        columns=(
            GridColumn(name="shape"),
            *(GridColumn(name=name, number=True) for name in ("arms left", "iterations", "ms per iteration", "each")),
        ),
        rows=tuple(
            (
                item.shape,
                f"{item.arms:,}",
                f"{item.iterations:,}",
                f"{1000 * item.seconds_per_iter:,.4g}",
                duration(_each(item)),
            )
            for item in ordered
        ),
        most=SHAPES,
    )
    return (Fold("Measured on this machine", (grid,)),)


def _each(item: ShapeTiming) -> float:
    """Seconds of one arm."""
    return item.iterations * item.seconds_per_iter


# ---------------------------------------------------------------------------------------------
# JSON


def document(price: Price) -> Json:
    """The JSON document: `lossgap.price/1`, whose schema ships as `schemas/price.schema.json`."""
    values: Json = {
        "schema": SCHEMA,
        "lossgap": __version__,
        "kind": price.kind,
        "factors": list(price.factors),
        "seeds": price.seeds,
        "arms_per_seed": price.arms_per_seed,
        "arms": price.arms,
        "cached": price.cached,
        "seconds": finite(price.seconds),
        "at_once": price.at_once,
        "threads": price.threads,
        "resolvable": finite(price.resolvable),
        "budget": price.asked,
        "scale": {"iterations": price.scale.iterations, "shape": price.scale.shape, "true": price.scale.true},
        "true_scale_seconds": finite(price.true_scale_seconds),
        "timings": [
            {"shape": item.shape, "arms": item.arms, "iterations": item.iterations, "seconds_per_iter": _pace(item)}
            for item in price.timings
        ],
        "not_switched": [
            {
                "factor": item.name,
                "settings": {name: [safe(first), safe(second)] for name, (first, second) in item.settings.items()},
                "reason": item.why,
            }
            for item in price.not_switched
        ],
        "notes": list(price.notes),
    }
    return with_why(
        values,
        {
            "seconds": "the trainer's pace is not known",
            "resolvable": price.resolvable_why or "no spread over seeds is known",
            "true_scale_seconds": "nothing is scaled, or the pace at the true scale is not known",
        },
    )


def _pace(item: ShapeTiming) -> float:
    return item.seconds_per_iter if math.isfinite(item.seconds_per_iter) else 0.0
