"""The chart of a forecast: what was seen, and behind it the fan of the 90% interval."""

from __future__ import annotations

import numpy as np

from lossgap.comparison.scales import Name
from lossgap.errors import LossgapError
from lossgap.forecasting.forecast import Forecast, SeriesForecast
from lossgap.report import chart, vega
from lossgap.report.blocks import Chart, Control, LegendMark, Option
from lossgap.report.curves import Axis, ChartLine, Curves

TITLES = {"val_loss": "val loss, nats per token", "train_loss": "train loss, nats per token"}


def drawn(found: Forecast) -> Curves:
    """The curves of the loss that the answer is about: the run's side is `control`, the forecast's `test`."""
    item = found.main
    axes = (Axis(name="iterations", label="iterations"),)
    if item.fan is None or item.points is None:
        why = item.why or "the run has been there: nothing is forecast"
        return Curves(title="", axes=axes, lines=(), best=(), last=(), notes=(), why=why)
    lines = (_seen(item), _fan(item))
    return Curves(title=TITLES[item.name], axes=axes, lines=lines, best=(), last=(), notes=(), late=_late(item))


def _seen(item: SeriesForecast) -> ChartLine:
    assert item.points is not None
    at = item.points.iters
    empty = np.full(len(at), np.nan)
    return ChartLine(
        run="control", kind="compared", x={"iterations": at}, y=item.points.losses, error=empty, rows=len(at)
    )


def _fan(item: SeriesForecast) -> ChartLine:
    assert item.fan is not None
    half = (item.fan.high - item.fan.low) / 2
    at = item.fan.iters
    return ChartLine(run="test", kind="compared", x={"iterations": at}, y=item.fan.mean, error=half, rows=len(at))


def _late(item: SeriesForecast) -> dict[Name, float]:
    """Behind the first fall, where that leaves most of the points."""
    assert item.points is not None
    return {"iterations": float(item.points.iters[-1]) * 0.1}


def block(found: Forecast) -> Chart:
    """The chart as a block of the page."""
    curves = drawn(found)
    if curves.why:
        return Chart(draws="curves", data=None, label="", why=curves.why)
    item = found.main
    label = f"The {TITLES[item.name]} that was seen, and its forecast to iteration {found.target:,}: {item.loss:.3f}."
    scales = (Option("linear", "linear", chosen=True), Option("log", "log"))
    ranges = (Option("late", "after the first fall", chosen=True), Option("all", "all"))
    axis = Control(name="axis", legend="Horizontal axis", options=(Option("iterations", "iterations", chosen=True),))
    return Chart(
        draws="curves",
        data=chart.payload(curves),
        label=label,
        title=curves.title,
        key=(LegendMark("control", "seen"), LegendMark("test", "forecast"), LegendMark("shade", "90% interval")),
        controls=(
            axis,
            Control(name="scale", legend="Loss", options=scales),
            Control(name="range", legend="Range", options=ranges),
            Control(name="show", legend="Show", options=(), boxes=True),
        ),
        readable=True,
    )


def png(found: Forecast) -> bytes:
    """The chart as a PNG. Raises LossgapError `no-chart` where nothing is forecast, `chart-failed`."""
    curves = drawn(found)
    if curves.why:
        raise LossgapError("no-chart", f"there is nothing to draw: {curves.why}")
    payload = chart.payload(curves)
    said = f"seen (blue), forecast to iteration {found.target:,} and its 90% interval"
    body = chart.spec(curves, "iterations", "linear", titled=True)
    body |= {"title": vega.names_title([found.run], [said])}
    return vega.png([body], dict(chart.datasets(payload, "iterations")), vega.config("light"))
