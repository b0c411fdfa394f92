"""The charts of a replay as Vega-Lite: the difference in its envelope, the two losses, the layers' errors.

    trajectory_payload(found), layers_payload(found)     # JSON that the page draws from in the browser
    png(found)              # the three charts as an image, without a browser or a network

Names of layers come from a bundle, a stranger's file: they are values in the data, never names of fields and never
expressions.
"""

from __future__ import annotations

import math

from lossgap.parity.replay_result import Replay
from lossgap.parity.steps import StepCheck
from lossgap.report import replay_words, vega
from lossgap.report.json_values import Json
from lossgap.strangers import one_line, visible

HEIGHT = 260
LAYERS_HEIGHT = 220
MOST_PLACES = 2000
"""Iterations in a drawn curve; of more, evenly spaced ones and all that are outside of the envelope's first one."""
LEAST_RATIO = 1e-3
"""Errors below this share of what is allowed, 0 among them, are drawn there."""
WIDE = 20.0
"""Envelope widths beyond which the differences are drawn on a symmetric logarithmic axis."""
DIRECTIONS = ("forward", "backward", "optimizer", "evaluation")
SHAPES = ("circle", "square", "diamond", "triangle-up")
VERDICTS = ("within", "below what this dtype can show", "out of bounds")


def trajectory_payload(found: Replay) -> Json:
    """All that the page needs to draw the losses: specifications by view, rows, themes."""
    return {
        "themes": {theme: config(theme) for theme in vega.THEMES},
        "specs": {"difference": difference(found), "losses": losses()},
        "rows": places(found),
        "axisWidth": vega.AXIS_WIDTH,
    }


def layers_payload(found: Replay) -> Json:
    """All that the page needs to draw the layers' errors."""
    return {
        "themes": {theme: config(theme) for theme in vega.THEMES},
        "spec": layers(),
        "rows": layer_rows(found),
        "axisWidth": vega.AXIS_WIDTH,
    }


def config(theme: str) -> Json:
    """The charts' theme."""
    ink = vega.THEMES[theme]
    return vega.config(
        theme,
        range={"category": [ink["control"], ink["test"]], "ordinal": [ink["dim"], ink["control"], ink["test"]]},
        rule={"color": ink["dim"]},
        text=vega.text_style(theme),
    )


# ---------------------------------------------------------------------------------------------
# The trajectories


def places(found: Replay) -> list[Json]:
    """A row for each iteration drawn; what is not finite is left out of it."""
    every = found.trajectory.places
    step = max(1, math.ceil(len(every) / MOST_PLACES))
    first = found.trajectory.first
    rows: list[Json] = []
    for n, place in enumerate(every):
        if n % step and place.iteration != first:
            continue
        row: Json = {"iteration": place.iteration}
        if place.high is not None and math.isfinite(place.high - place.recorded):
            row |= {"high": place.high - place.recorded, "low": place.recorded - place.high}
        if math.isfinite(place.difference):
            row["difference"] = place.difference
        row |= {
            name: value
            for name, value in (("recorded", place.recorded), ("replayed", place.replayed))
            if math.isfinite(value)
        }
        if place.iteration == first:
            row["first"] = 1
        rows.append(row)
    return rows


def difference(found: Replay, suffix: str = "") -> Json:
    """Replayed minus recorded, and the envelope around 0."""
    envelope = found.trajectory.envelope
    largest = max((abs(p.difference) for p in found.trajectory.places if math.isfinite(p.difference)), default=0.0)
    scale: Json = {"nice": True}
    axis: Json = {"tickCount": 5, "format": "~g", "labelOverlap": "greedy"}
    if envelope is not None and largest > WIDE * envelope.widest:
        scale = {"type": "symlog", "constant": envelope.widest, "nice": False}
        powers = [10.0**k for k in range(math.ceil(math.log10(envelope.widest)), math.ceil(math.log10(largest)))]
        axis["values"] = [*(-power for power in reversed(powers)), 0, *powers]
    y: Json = {
        "field": "difference",
        "type": "quantitative",
        "title": None,
        "scale": scale,
        "axis": axis,
    }
    at: Json = {"x": _x(), "y": y}
    inside: Json = {"type": "area", "opacity": 0.22}
    return {
        "$schema": vega.SCHEMA,
        "data": {"name": f"places{suffix}"},
        "width": vega.WIDTH,
        "height": HEIGHT,
        "layer": [
            {
                "transform": [_valid("high")],
                "mark": inside,
                "encoding": at | {"y": y | {"field": "low"}, "y2": {"field": "high"}, "color": _color("recorded")},
            },
            {"mark": {"type": "rule", "strokeWidth": 1}, "encoding": {"y": {"datum": 0}}},
            {
                "transform": [_valid("difference")],
                "mark": {"type": "line", "strokeWidth": 2},
                "encoding": at | {"color": _color("replayed")},
            },
            {
                "transform": [_valid("first"), _valid("difference")],
                "mark": {"type": "point", "filled": False, "size": 160, "strokeWidth": 2, "opacity": 1},
                "encoding": at | {"color": _color("replayed")},
            },
        ],
    }


def losses(suffix: str = "") -> Json:
    """Both losses."""
    lines = []
    for name, dash, width in (("recorded", [1, 0], 3.0), ("replayed", [5, 4], 1.8)):
        y: Json = {
            "field": name,
            "type": "quantitative",
            "title": None,
            "scale": {"zero": False},
            "axis": {"tickCount": 6},
        }
        lines.append(
            {
                "transform": [_valid(name)],
                "mark": {"type": "line", "strokeWidth": width, "strokeDash": dash},
                "encoding": {"x": _x(), "y": y, "color": _color(name)},
            }
        )
    return {
        "$schema": vega.SCHEMA,
        "data": {"name": f"places{suffix}"},
        "width": vega.WIDTH,
        "height": HEIGHT,
        "layer": lines,
    }


def _x() -> Json:
    axis: Json = {"format": ",f", "tickCount": 6, "labelFlush": True, "title": "iteration", "tickMinStep": 1}
    return {"field": "iteration", "type": "quantitative", "scale": {"nice": False, "zero": False}, "axis": axis}


def _valid(field: str) -> Json:
    return {"filter": {"field": field, "valid": True}}


def _color(name: str) -> Json:
    return {"datum": name, "type": "nominal", "legend": None, "scale": {"domain": ["recorded", "replayed"]}}


# ---------------------------------------------------------------------------------------------
# The layers


def layer_rows(found: Replay) -> list[Json]:
    """A row for each layer and direction that was judged, in the order of the data flow."""
    known = [check for check in found.layers if check.verdict != "not judged"]
    ratios = [_ratio(check) for check in known]
    top = max((value for value in ratios if math.isfinite(value)), default=1.0)
    first = found.steps.first
    rows: list[Json] = []
    for place, (check, value) in enumerate(zip(known, ratios, strict=True)):
        drawn = min(max(value, LEAST_RATIO), 10 * max(top, 1.0))
        row: Json = {"place": place, "ratio": drawn, "direction": check.direction, "verdict": check.verdict}
        if first is not None and (check.name, check.direction) == (first.name, first.direction):
            row |= {"label": one_line(visible(check.name), 40), "side": "left" if place < len(known) / 2 else "right"}
        rows.append(row)
    return rows


def _ratio(check: StepCheck) -> float:
    found = replay_words.ratio(check)
    if found is not None:
        return found
    return 0.0 if check.verdict == "within" else math.inf


def layers(suffix: str = "") -> Json:
    """Error over allowed, on a logarithmic axis, in the order of the data flow."""
    x: Json = {
        "field": "place",
        "type": "quantitative",
        "title": "values of a step, in the order in which they are computed",
        "scale": {"nice": False, "padding": 8},
        "axis": {"labels": False, "ticks": False, "grid": False},
    }
    y: Json = {
        "field": "ratio",
        "type": "quantitative",
        "title": None,
        "scale": {"type": "log", "nice": True, "domainMin": LEAST_RATIO},
        "axis": {"tickCount": 5, "format": "~g"},
    }
    color: Json = {"field": "verdict", "type": "nominal", "legend": None}
    color["scale"] = {"domain": list(VERDICTS), "range": "ordinal"}
    shape: Json = {
        "field": "direction",
        "type": "nominal",
        "legend": None,
        "scale": {"domain": list(DIRECTIONS), "range": list(SHAPES)},
    }
    text: Json = {"type": "text", "fontSize": 12, "fontWeight": 600, "baseline": "bottom", "dy": -8}
    label: Json = {"x": x, "y": y, "text": {"field": "label", "type": "nominal"}}
    return {
        "$schema": vega.SCHEMA,
        "data": {"name": f"layers{suffix}"},
        "width": vega.WIDTH,
        "height": LAYERS_HEIGHT,
        "layer": [
            {"mark": {"type": "rule", "strokeWidth": 1.5, "strokeDash": [6, 4]}, "encoding": {"y": {"datum": 1}}},
            {
                "mark": {"type": "point", "filled": True, "size": 42, "opacity": 0.85},
                "encoding": {"x": x, "y": y, "color": color, "shape": shape},
            },
            *(
                {
                    "transform": [{"filter": {"field": "side", "equal": side}}],
                    "mark": text | {"align": side},
                    "encoding": label,
                }
                for side in ("left", "right")
            ),
        ],
        "resolve": {"scale": {"color": "independent"}},
    }


# ---------------------------------------------------------------------------------------------
# The image


def png(found: Replay) -> bytes:
    """The three charts, one below the other, as a PNG. Raises LossgapError `chart-failed`."""
    names = [f"{side}: {replay_words.machine(found, side)}" for side in ("recorded", "replayed")]
    rows = places(found)
    parts: list[Json] = [
        difference(found) | {"title": _title("replayed minus recorded, nats per token; shaded: the envelope", names)},
        losses() | {"title": _title("training loss, nats per token; dashed: replayed", [])},
        layers() | {"title": _title("error over what is allowed, of each layer and direction", [])},
    ]
    return vega.png(
        parts,
        {"places": rows, "layers": layer_rows(found)},
        config("light"),
        resolve={"scale": {"color": "independent", "shape": "independent"}},
    )


def _title(text: str, names: list[str]) -> Json:
    return vega.names_title(names, [text], most=90) if names else vega.names_title([text])
