"""A `Price` for people: what is shown before anything runs."""

from __future__ import annotations

import math

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from lossgap.attribution.factor import NotSwitched
from lossgap.attribution.price import Price, ShapeTiming
from lossgap.duration import duration
from lossgap.report import words
from lossgap.report.division import MARK, UNIT, changes, scale_words
from lossgap.report.experiment import design_words, scale_lines, several
from lossgap.report.terminal import heading, indented, labelled, plain_table
from lossgap.strangers import visible

INDENT = 3
SHAPES = 6
"""Shapes that are shown, those that take the most time in all first."""


def show_price(price: Price, console: Console) -> None:
    """Print what the experiment would take and tell."""
    for line in scale_lines(price.scale):
        console.print(Text(visible(line), style="yellow"))
    console.print(labelled(_lines(price)))
    if price.timings:
        _timings(price, console)
    for note in price.notes:
        indented(console, words.sentence(note), 0)


def _lines(price: Price) -> list[tuple[str, str]]:
    left = price.arms - price.cached
    arms = several(price.arms, "arm")
    if price.cached:
        arms += f", {price.cached:,} of them trained by earlier experiments: {left:,} left"
    threads = several(price.threads, "thread")
    return [
        ("factors", f"{len(price.factors)}: {', '.join(price.factors)}"),
        ("design", design_words(price.kind, len(price.factors), price.seeds, price.arms_per_seed)),
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


def _timings(price: Price, console: Console) -> None:
    heading(console, "measured on this machine")
    table = plain_table()
    for name in ("shape", "arms left", "iterations", "ms per iteration", "each"):
        table.add_column(name, justify="left" if name == "shape" else "right", overflow="fold")
    ordered = sorted(price.timings, key=lambda item: -item.arms * _each(item))
    for item in ordered[:SHAPES]:
        cells = (item.shape, f"{item.arms:,}", f"{item.iterations:,}", f"{1000 * item.seconds_per_iter:,.4g}")
        table.add_row(*(Text(visible(cell)) for cell in (*cells, duration(_each(item)))))
    console.print(Padding(table, (0, 0, 0, INDENT)))
    if ordered[SHAPES:]:
        left = sum(item.arms for item in ordered[SHAPES:])
        indented(console, f"and {several(left, 'arm')} of shapes that take less", INDENT, style="dim")


def _each(item: ShapeTiming) -> float:
    """Seconds of one arm."""
    return item.iterations * item.seconds_per_iter
