"""The chart of a comparison as Vega-Lite: one specification for each horizontal axis and scale, and data beside it.

    payload = chart.payload(curves)      # JSON: specs, themes, columns; the page draws from it in the browser
    image = chart.png([comparison])      # the same charts as an image, without a browser or a network

Names of runs, settings and text of logs are values in the data here, never names of fields and never expressions: the
only fields are those of `rows`, and filters compare a field with a word of ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from lossgap.comparison.comparison import Comparison
from lossgap.comparison.curve import Floats
from lossgap.comparison.scales import Name
from lossgap.errors import LossgapError
from lossgap.report import vega
from lossgap.report.curves import SIDES, ChartLine, Curves, Mark, curves
from lossgap.report.json_values import Json
from lossgap.strangers import one_line, visible

HEIGHT = 300
RATE_HEIGHT = 72
DOTTED = 150
"""Curves with at most so many points show each of them."""
CROWDED = 0.08
"""A share of the height: a label nearer than this to the other curve moves away from it."""
SCALES = ("linear", "log")
_AXIS_FORMATS: dict[Name, str] = {"iterations": ",f", "tokens": "~s", "passes": ",f", "flops": "~s", "seconds": ",f"}


# ---------------------------------------------------------------------------------------------
# The specification


def spec(drawn: Curves, axis: Name, scale: str, *, suffix: str = "", titled: bool = False) -> Json:
    """The Vega-Lite specification; its data are the named sets `lines` and `marks`, with `suffix` (see `datasets`).

    The page says in HTML what the curves are, as that wraps on a phone; the image has a title (`titled`).
    """
    label = next(item.label for item in drawn.axes if item.name == axis)
    rates = bool(drawn.of("rate"))
    losses = _losses(drawn, _x(axis, None if rates else label), scale, suffix)
    parts = [losses | {"title": _title(drawn.title)} if titled else losses]
    if rates:
        parts.append(_rates(_x(axis, label)))
    return {
        "$schema": vega.SCHEMA,
        "data": {"name": f"lines{suffix}"},
        "vconcat": parts,
        "spacing": 10,
        "resolve": {"scale": {"x": "shared", "color": "shared", "shape": "independent"}},
    }


def _losses(drawn: Curves, x: Json, scale: str, suffix: str) -> Json:
    y_scale: Json = {"type": "log", "nice": False} if scale == "log" else {"zero": False, "nice": True}
    y: Json = {"field": "y", "type": "quantitative", "title": None, "scale": y_scale, "axis": {"tickCount": 6}}
    at: Json = {"x": x, "y": y, "color": _COLOR, "detail": {"field": "part", "type": "nominal"}}
    layers: list[Json] = [
        {
            "transform": [_only("kind", "compared"), {"filter": {"field": "low", "valid": True}}],
            "mark": {"type": "area", "opacity": 0.2},
            "encoding": at | {"y": y | {"field": "low"}, "y2": {"field": "high"}},
        },
        _curve("iters", at, {"strokeWidth": 0.8, "opacity": 0.45}),
        _curve("train", at, {"strokeWidth": 1.3, "strokeDash": [4, 3], "opacity": 0.9}),
        _curve("hole", at, {"strokeWidth": 2, "strokeDash": [1, 6], "strokeCap": "round"}),
        _curve("compared", at, {"strokeWidth": 2}),
    ]
    if max((len(line.y) for line in drawn.of("compared")), default=0) <= DOTTED:
        point: Json = {"type": "point", "filled": True, "size": 26, "opacity": 1}
        layers.append({"transform": [_only("kind", "compared")], "mark": point, "encoding": at | {"shape": _SHAPE}})
    marks: Json = {"data": {"name": f"marks{suffix}"}}
    ring: Json = {"type": "point", "filled": False, "size": 150, "strokeWidth": 1.6, "opacity": 1}
    layers.append({**marks, "transform": [_only("kind", "best")], "mark": ring, "encoding": at})
    best: Json = {"type": "text", "align": "right", "dx": 4, "fontSize": 11}
    last: Json = {"type": "text", "align": "left", "dx": 8, "fontSize": 12, "fontWeight": 600}
    for kind, look in (("best", best), ("last", last)):
        label: Json = {"x": x, "y": y, "text": {"field": "label", "type": "nominal"}}
        placed = look | {"dy": {"expr": "datum.dy"}}
        # First an outline in the colour of the paper, so that a curve behind it does not cross the text.
        for mark, encoding in ((placed | {"style": "halo"}, label), (placed, label | {"color": _COLOR})):
            layers.append({**marks, "transform": [_only("kind", kind)], "mark": mark, "encoding": encoding})
    return {"width": vega.WIDTH, "height": HEIGHT, "layer": layers}


def _rates(x: Json) -> Json:
    look: Json = {"tickCount": 3, "format": "~g"}
    y: Json = {"field": "y", "type": "quantitative", "title": None, "scale": {"zero": True}, "axis": look}
    # Equal schedules lie on each other; dashes show the one below.
    dashes: Json = {"domain": list(SIDES), "range": [[1, 0], [5, 3]]}
    return {
        "width": vega.WIDTH,
        "height": RATE_HEIGHT,
        "title": _title("learning rate (test dashed)"),
        "transform": [_only("kind", "rate")],
        "mark": {"type": "line", "strokeWidth": 1.5},
        "encoding": {
            "x": x,
            "y": y,
            "color": _COLOR,
            "strokeDash": {"field": "run", "type": "nominal", "legend": None, "scale": dashes},
        },
    }


def _title(text: str) -> Json:
    return {"text": text, "anchor": "start", "frame": "group", "offset": 10, "fontSize": 12, "fontWeight": 600}


def _x(axis: Name, label: str | None) -> Json:
    """The horizontal encoding; without a label the axis has only its grid, as the one below it says the rest."""
    look: Json = {"format": _AXIS_FORMATS[axis], "tickCount": 6, "labelFlush": True, "title": label}
    # D3 writes 0 with the prefix of the other ticks: 0M.
    look["labelExpr"] = "datum.value === 0 ? '0' : datum.label"
    if label is None:
        look |= {"labels": False, "ticks": False, "domain": False}
    return {"field": "x", "type": "quantitative", "scale": {"nice": False, "zero": False}, "axis": look}


def _only(field: str, value: str) -> Json:
    return {"filter": {"field": field, "equal": value}}


def _curve(kind: str, encoding: Json, look: Json) -> Json:
    return {"transform": [_only("kind", kind)], "mark": {"type": "line", **look}, "encoding": encoding}


_RUNS = list(SIDES)
_COLOR: Json = {"field": "run", "type": "nominal", "legend": None, "scale": {"domain": _RUNS}}
_SHAPE: Json = _COLOR | {"scale": {"domain": _RUNS, "range": ["circle", "diamond"]}}


# ---------------------------------------------------------------------------------------------
# Data


class Columns(TypedDict):
    """A line by column; `error` is half the height of its band. An `x` that is a number is that times iterations."""

    run: str
    kind: str
    x: dict[Name, list[float | None] | float]
    y: list[float | None]
    error: list[float | None] | None
    breaks: list[int]
    """Positions before which there is a hole."""


class Point(TypedDict):
    """A marked point; its label stands `dy` pixels below it."""

    run: str
    kind: str
    dy: int
    label: str
    x: dict[Name, float | None]
    y: float


class Payload(TypedDict):
    """All that the page needs to draw."""

    specs: dict[Name, dict[str, Json]]
    themes: dict[str, Json]
    axes: list[dict[str, str]]
    axisWidth: int
    late: dict[Name, float]
    """Where the chart begins until all of it is asked for."""
    lines: list[Columns]
    marks: list[Point]


def payload(drawn: Curves) -> Payload:
    """A specification for each axis and scale, the themes, and the data by column."""
    known = [axis for axis in drawn.axes if not axis.why]
    return {
        "specs": {axis.name: {scale: spec(drawn, axis.name, scale) for scale in SCALES} for axis in known},
        "themes": {theme: vega.config(theme) for theme in vega.THEMES},
        "axes": [{"name": axis.name, "label": axis.label} for axis in known],
        "axisWidth": vega.AXIS_WIDTH,
        "late": {name: _rounded(at) for name, at in drawn.late.items()},
        "lines": [_columns(line) for line in drawn.lines],
        "marks": _points(drawn),
    }


def _columns(line: ChartLine) -> Columns:
    return {
        "run": line.run,
        "kind": line.kind,
        "x": {name: _times(values, line.x["iterations"]) or _column(values) for name, values in line.x.items()},
        "y": _column(line.y),
        "error": _column(line.error) if np.isfinite(line.error).any() else None,
        "breaks": sorted(line.breaks),
    }


def _column(values: Floats) -> list[float | None]:
    return [_rounded(value) if math.isfinite(value) else None for value in values.tolist()]


def _times(values: Floats, iters: Floats) -> float | None:
    """The one factor between iterations and a scale, if there is one: it takes the place of thousands of numbers."""
    at = int(iters.argmax()) if len(iters) else 0
    if values is iters or not len(iters) or iters[at] <= 0 or not np.isfinite(values).all():
        return None
    factor = float(values[at] / iters[at])
    return factor if np.allclose(values, factor * iters, rtol=1e-12, atol=0) else None


def _places(line: Columns, axis: Name) -> list[float | None]:
    x = line["x"][axis]
    if isinstance(x, list):
        return x
    iters = line["x"]["iterations"]
    assert isinstance(iters, list)
    return [None if at is None else at * x for at in iters]


def _rounded(value: float) -> float:
    """To 8 digits, whole numbers without a fraction: more cannot be seen and makes the page large."""
    near = float(f"{value:.8g}")
    return int(near) if near == int(near) else near


def _points(drawn: Curves) -> list[Point]:
    """The marked points, with the side on which their label stands: away from the other curve where that is near."""
    values = [line.y for line in drawn.of("compared")]
    span = float(np.ptp(np.concatenate(values))) if values else 0.0
    found: list[Point] = []
    for kind, marks in (("best", drawn.best), ("last", drawn.last)):
        for mark in marks:
            other = _other_curve(mark, drawn)
            apart = 0.0 if other is None else mark.y - other
            above = apart > 0 or (apart == 0 and (mark.run == "control" or other is None))
            level = kind == "last" and (other is None or abs(apart) > CROWDED * span)
            dy = 0 if level else -13 if above else 14
            label = mark.run if kind == "last" else _best_label(mark, drawn)
            found.append({"run": mark.run, "kind": kind, "dy": dy, "label": label, "x": dict(mark.x), "y": mark.y})
    return found


def _other_curve(mark: Mark, drawn: Curves) -> float | None:
    """The other run's curve at the iteration of a mark; None where it has ended or not begun."""
    for line in drawn.of("compared"):
        iters = line.x["iterations"]
        if line.run != mark.run and len(iters) and iters[0] <= mark.iter <= iters[-1]:
            return float(np.interp(mark.iter, iters, line.y))
    return None


def _best_label(mark: Mark, drawn: Curves) -> str:
    """Nothing where the best is the last: the ring says so."""
    last = next(item for item in drawn.last if item.run == mark.run)
    return "" if last.iter == mark.iter else f"best {mark.y:.4f}"


def datasets(data: Payload, axis: Name, scale: str = "linear", *, whole: bool = False) -> dict[str, list[Json]]:
    """The rows of `payload`'s columns on one axis, from where it opens or `whole`; what has no place there is left out.

    Rows of one line without a hole have one `part`; a `hole` is two rows. The page does the same in the browser
    (`rows` in curves.js).
    """
    log = scale == "log"
    least = min((y for line in data["lines"] if line["kind"] != "rate" for y in line["y"] if y and y > 0), default=1.0)
    start = -math.inf if whole else data["late"].get(axis, -math.inf)
    lines: list[Json] = []
    for line in data["lines"]:
        lines += _rows(line, axis, start, least if log else None)
    marks: list[Json] = [
        {**mark, "x": at} for mark in data["marks"] if (at := mark["x"][axis]) is not None and at >= start
    ]
    return {"lines": lines, "marks": marks}


def _rows(line: Columns, axis: Name, start: float, least: float | None) -> list[Json]:
    """The rows of one line; `least` is the lowest positive loss where the scale is logarithmic."""
    errors = line["error"] or [None] * len(line["y"])
    log = least is not None and line["kind"] != "rate"
    rows: list[Json] = []
    part, before = 0, None
    for place, (x, y, error) in enumerate(zip(_places(line, axis), line["y"], errors, strict=True)):
        part += place in line["breaks"]
        if x is None or y is None or x < start or (log and y <= 0):
            continue
        row: Json = {"run": line["run"], "kind": line["kind"], "part": part, "x": x, "y": y}
        if place in line["breaks"] and before is not None and line["kind"] == "compared":
            rows += [{**end, "kind": "hole", "part": part} for end in (before, row)]
        before = dict(row)
        if error is not None:
            low = max(y - error, least / 2) if least is not None else y - error
            row |= {"low": low, "high": y + error}
        rows.append(row)
    return rows


# ---------------------------------------------------------------------------------------------
# The image


def png(comparisons: Sequence[Comparison], axis: Name = "iterations", scale: str = "linear") -> bytes:
    """The charts of the comparisons, one below the other, as a PNG; names are cut to 60 characters.

    Raises LossgapError `no-chart` if none of them has a loss that both runs share, `chart-failed` if drawing fails.
    """
    drawn = [(found, curves(found)) for found in comparisons]
    parts = [_image_part(found, item, axis, scale, str(n)) for n, (found, item) in enumerate(drawn) if not item.why]
    if not parts:
        why = "; ".join(dict.fromkeys(item.why for _, item in drawn))
        raise LossgapError("no-chart", f"there is nothing to draw: {why}")
    return vega.png(
        [part for part, _ in parts],
        {name: rows for _, sets in parts for name, rows in sets.items()},
        vega.config("light"),
        spacing=40,
    )


def _image_part(
    found: Comparison, drawn: Curves, axis: Name, scale: str, suffix: str
) -> tuple[Json, dict[str, list[Json]]]:
    """The specification of one comparison with its names as a title, and its data under names of their own."""
    names = [f"{side}: {one_line(visible(getattr(found, side).name), 60)}" for side in SIDES]
    title = {"text": names, "anchor": "start", "frame": "group", "fontSize": 12, "fontWeight": 400, "offset": 12}
    shown = payload(drawn)
    # The noise of single iterations and the other split would hide the curves; the page can show them.
    shown["lines"] = [line for line in shown["lines"] if line["kind"] in ("compared", "rate")]
    sets = datasets(shown, axis, scale)
    body = spec(drawn, axis, scale, suffix=suffix, titled=True) | {"title": title}
    del body["$schema"]
    return body, {f"{name}{suffix}": rows for name, rows in sets.items()}
