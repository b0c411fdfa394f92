"""The waterfall of an explanation as Vega-Lite: from the control's loss to the test's, one row for each contribution.

    drawn = waterfall(explanation, "last")        # rows, top to bottom
    spec(drawn)                                   # its data are the named set `rows`
    png(explanation)                              # last and best as an image, without a browser or a network

A bar is filled where the contribution is beyond the noise and hollow where it is not. Names of factors are values in
the data, never names of fields and never expressions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal

from lossgap.attribution.explanation import At, Explanation, Interval
from lossgap.errors import LossgapError
from lossgap.report import vega
from lossgap.report.division import TITLES, alike, amount, contribution_rows, mark, scale_words
from lossgap.report.json_values import Json
from lossgap.strangers import one_line, visible

Kind = Literal["control", "test", "lower", "higher"]

STEP = 34
"""Pixels of a row."""
BAR = 0.3
"""Half the height of a bar, in rows."""
CAP = 0.11
"""Half the height of the end of an error bar, in rows."""
NAMES = 118
"""Pixels left of the plot, for the names."""
VALUES = 66
"""Right of it, for the numbers."""
ROOM = 0.04
"""A share of the width of the data, left free on both sides."""
SOLID, HOLLOW = 0.9, 0.12
"""Opacity of a bar that is beyond the noise, and of one that is not."""
COLOURS = {
    # Apart from each other, and from the two of the runs, for all common kinds of colour blindness.
    "light": {"lower": "#0f766e", "higher": "#9d3c8c"},
    "dark": {"lower": "#4fc4b7", "higher": "#e08fd0"},
}
KINDS: tuple[Kind, ...] = ("control", "test", "lower", "higher")


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One row: an end of the waterfall (start == end), or what takes the loss from `start` to `end`."""

    name: str
    kind: Kind
    start: float
    end: float
    interval: Interval | None
    """The interval of `end`, if `start` is exact."""
    sure: bool
    """True if it is beyond the noise."""
    label: str


@dataclass(frozen=True, kw_only=True)
class Waterfall:
    """The rows, top to bottom; `why` there is nothing to draw, else empty."""

    bars: tuple[Bar, ...]
    why: str = ""


def waterfall(explanation: Explanation, at: At) -> Waterfall:
    """The bars at one alignment, on the common measurement."""
    division = explanation.division(at)
    common, screened = division.common, division.screened_out
    values = [item.value for item in division.contributions]
    intervals = [item.ci for item in division.contributions]
    words = [item.verdict for item in division.contributions]
    if explanation.screened_out:
        values.append(screened.value if screened.value is not None else math.nan)
        intervals.append(screened.ci)
        words.append("inconclusive")
    start, end = division.ends
    if not values or common.value is None or not all(map(math.isfinite, (*values, start, end))):
        return Waterfall(bars=(), why=common.why or "not every part of the gap is known")
    sign = mark(explanation)
    levels = list(accumulate(values, initial=start))
    steps = [
        Bar(
            name=_drawable(row.name),
            kind="lower" if value < 0 else "higher",
            start=before,
            end=after,
            interval=_moved(interval, before),
            sure=word == "different",
            label=amount(value, sign),
        )
        for row, value, interval, word, (before, after) in zip(
            contribution_rows(explanation, division), values, intervals, words, pairwise(levels), strict=True
        )
    ]
    first = _end("control", start, None, sign)
    last = _end("test", end, _moved(common.ci, start), sign)
    return Waterfall(bars=(first, *steps, last))


def _drawable(name: str) -> str:
    """A name of at most 60 characters; Vega, which cuts a text to its room, cuts those beyond 16 bits in two."""
    return "".join(char if ord(char) < 1 << 16 else "\N{REPLACEMENT CHARACTER}" for char in one_line(visible(name), 60))


def _end(kind: Kind, loss: float, interval: Interval | None, sign: str) -> Bar:
    return Bar(name=kind, kind=kind, start=loss, end=loss, interval=interval, sure=True, label=f"{loss:.4f}{sign}")


def _moved(interval: Interval | None, by: float) -> Interval | None:
    if interval is None or not all(map(math.isfinite, interval)):
        return None
    return interval[0] + by, interval[1] + by


# ---------------------------------------------------------------------------------------------
# The specification


def rows(drawn: Waterfall) -> list[Json]:
    """The data: places in rows from the top, losses, texts."""
    found: list[Json] = []
    for place, bar in enumerate(drawn.bars):
        row: Json = {
            "name": bar.name,
            "label": bar.label,
            "kind": bar.kind,
            "fill": SOLID if bar.sure else HOLLOW,
            "start": bar.start,
            "end": bar.end,
            "at": place,
            "top": place - BAR,
            "bottom": place + BAR,
        }
        if place + 1 < len(drawn.bars):
            row["next"] = place + 1 - BAR
        if bar.interval is not None:
            low, high = bar.interval
            row |= {"low": low, "high": high, "over": place - CAP, "under": place + CAP}
        found.append(row)
    return found


def payload(drawn: Waterfall) -> Json:
    """All that the page needs to draw: specification, rows, and the configuration of both themes."""
    return {"spec": spec(drawn), "rows": rows(drawn), "themes": {theme: config(theme) for theme in vega.THEMES}}


def spec(drawn: Waterfall, suffix: str = "") -> Json:
    """The Vega-Lite specification of rows named `rows`, with `suffix`."""
    ends = [value for bar in drawn.bars for value in (bar.start, bar.end, *(bar.interval or ()))]
    low, high = min(ends), max(ends)
    room = ROOM * (high - low) or 0.01
    look: Json = {"title": None, "tickCount": 5, "labelFlush": False, "grid": True}
    look |= {"labelOverlap": "greedy", "labelSeparation": 8}
    domain: Json = {"domain": [low - room, high + room], "nice": False, "zero": False}
    x: Json = {"field": "end", "type": "quantitative", "scale": domain, "axis": look}
    # No labels, but their room: the names are a layer of their own, so that two may be alike.
    names: Json = {"title": None, "labels": False, "ticks": False, "domain": False, "grid": False}
    names |= {"minExtent": {"expr": "room"}, "maxExtent": {"expr": "room"}}
    lines: Json = {"domain": [-0.5, len(drawn.bars) - 0.5], "reverse": True, "nice": False}
    y: Json = {"field": "at", "type": "quantitative", "scale": lines, "axis": names}
    at: Json = {"x": x, "y": y}
    color: Json = {"field": "kind", "type": "nominal", "legend": None, "scale": {"domain": list(KINDS)}}
    filled: Json = {"field": "fill", "type": "quantitative", "scale": None, "legend": None}
    text: Json = {"type": "text", "baseline": "middle", "fontSize": 12}
    bars = {"filter": {"field": "kind", "oneOf": ["lower", "higher"]}}
    known = {"filter": {"field": "low", "valid": True}}
    return {
        "$schema": vega.SCHEMA,
        "data": {"name": f"rows{suffix}"},
        "params": [{"name": "room", "value": NAMES}],
        "width": vega.WIDTH - NAMES - VALUES,
        "height": STEP * len(drawn.bars),
        "layer": [
            {
                "transform": [{"filter": {"field": "next", "valid": True}}],
                "mark": {"type": "rule", "strokeWidth": 1, "opacity": 0.45},
                "encoding": at | {"y": y | {"field": "at"}, "y2": {"field": "next"}},
            },
            {
                "transform": [bars],
                "mark": {"type": "rect", "strokeWidth": 1.5},
                "encoding": {
                    "x": x | {"field": "start"},
                    "x2": {"field": "end"},
                    "y": y | {"field": "top"},
                    "y2": {"field": "bottom"},
                    "color": color,
                    "stroke": color,
                    "fillOpacity": filled,
                },
            },
            _ends("control", "circle", at, color),
            _ends("test", "diamond", at, color),
            {
                "transform": [known],
                "mark": {"type": "rule", "strokeWidth": 1.5},
                "encoding": {"x": x | {"field": "low"}, "x2": {"field": "high"}, "y": y},
            },
            *(
                {
                    "transform": [known],
                    "mark": {"type": "rule", "strokeWidth": 1.5},
                    "encoding": {"x": x | {"field": side}, "y": y | {"field": "over"}, "y2": {"field": "under"}},
                }
                for side in ("low", "high")
            ),
            {
                "mark": text | {"align": "right", "limit": {"expr": "room - 10"}},
                "encoding": {"x": {"value": -10}, "y": y, "text": {"field": "name", "type": "nominal"}},
            },
            {
                "mark": text | {"align": "left", "dx": 10},
                "encoding": {"x": {"value": "width"}, "y": y, "text": {"field": "label", "type": "nominal"}},
            },
        ],
    }


def _ends(kind: Kind, shape: str, at: Json, color: Json) -> Json:
    return {
        "transform": [{"filter": {"field": "kind", "equal": kind}}],
        "mark": {"type": "point", "filled": True, "shape": shape, "size": 110, "opacity": 1},
        "encoding": at | {"color": color},
    }


def config(theme: str) -> Json:
    """The chart's theme with the colours of the bars."""
    ink, ours = vega.THEMES[theme], COLOURS[theme]
    return vega.config(
        theme,
        range={"category": [ink["control"], ink["test"], ours["lower"], ours["higher"]]},
        text=vega.text_style(theme),
        rule={"color": ink["ink"]},
        axisX={"gridColor": ink["grid"], "domain": False, "ticks": False},
    )


# ---------------------------------------------------------------------------------------------
# The image


def png(explanation: Explanation) -> bytes:
    """Last and, where it differs, best, one below the other. Raises LossgapError `no-chart`, `chart-failed`."""
    choices: tuple[At, ...] = ("last",) if alike(explanation) else ("last", "best")
    drawn = [(at, waterfall(explanation, at)) for at in choices]
    known = [(at, item) for at, item in drawn if not item.why]
    if not known:
        raise LossgapError("no-chart", f"there is nothing to draw: {drawn[0][1].why}")
    parts: list[Json] = []
    for at, item in known:
        part = spec(item, at) | {"title": _title(explanation, at)}
        del part["params"]
        parts.append(part)
    data = {f"rows{at}": rows(item) for at, item in known}
    return vega.png(parts, data, config("light"), params=[{"name": "room", "value": NAMES}])


def _title(explanation: Explanation, at: At) -> Json:
    about = [f"{TITLES[at]}, nats per token, 95% intervals; hollow: not beyond the noise"]
    if not explanation.scale.true:
        about.append(f"{mark(explanation)} scaled down to {scale_words(explanation.scale)}")
    if explanation.not_switched:
        held = ", ".join(dict.fromkeys(item.name for item in explanation.not_switched))
        about.append(f"not switched, so unknown: {one_line(visible(held), 60)}")
    if not explanation.complete:
        about.append("stopped before its end")
    return vega.names_title([f"{side}: {getattr(explanation, side)}" for side in ("control", "test")], about)
