"""Common parts of all charts: colours and type of both themes, sizes, and drawing a specification as an image.

    spec = {"$schema": vega.SCHEMA, "data": {"name": "rows"}, ...}
    image = vega.png([spec], {"rows": rows}, vega.config("light"))

Everything a stranger named is a value in the data, never a field and never an expression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lossgap.errors import LossgapError
from lossgap.report.json_values import Json
from lossgap.strangers import one_line, short, visible

WIDTH = 720
"""The width of the image in pixels; on the page the window decides."""
AXIS_WIDTH = 46
"""Left of the plots, so that those below each other begin at the same place."""
VEGA_LITE = "6.4"
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"
THEMES: dict[str, dict[str, str]] = {
    # Blue and vermilion keep apart for all common kinds of colour blindness; shapes and dashes say it again.
    "light": {
        "control": "#0b62a8",
        "test": "#c24a00",
        "ink": "#1d2125",
        "dim": "#59616a",
        "grid": "#e3e6e9",
        "paper": "#fbfbfa",
    },
    "dark": {
        "control": "#6db5f5",
        "test": "#ff9a57",
        "ink": "#e4e7ea",
        "dim": "#9aa4ae",
        "grid": "#30373e",
        "paper": "#15181b",
    },
}


def config(theme: str, **more: object) -> Json:
    """The colours and type of one theme; `more` replaces single parts of it, such as `range`."""
    ink = THEMES[theme]
    axis = {
        "labelColor": ink["dim"],
        "titleColor": ink["dim"],
        "titleFontWeight": 400,
        "gridColor": ink["grid"],
        "domainColor": ink["grid"],
        "tickColor": ink["grid"],
        "labelFontSize": 11,
        "titleFontSize": 12,
    }
    parts: Json = {
        "background": None,
        "font": FONT,
        "aria": False,
        "view": {"stroke": None},
        "axis": axis,
        "axisY": {"minExtent": AXIS_WIDTH, "maxExtent": AXIS_WIDTH, "domain": False, "ticks": False},
        "axisX": {"grid": False},
        "title": {"color": ink["ink"]},
        "range": {"category": [ink["control"], ink["test"]]},
        "style": {"halo": {"stroke": ink["paper"], "fill": ink["paper"], "strokeWidth": 4, "strokeJoin": "round"}},
    }
    return parts | more


def text_style(theme: str) -> Json:
    """How marks of text look, for charts that have names or numbers beside their marks."""
    return {"color": THEMES[theme]["ink"], "font": FONT}


def names_title(names: Sequence[str], about: Sequence[str] = (), most: int = 60) -> Json:
    """A title of strangers' names, each on a line and cut to `most` characters, with lines of ours below it."""
    title: Json = {"text": [one_line(visible(name), most) for name in names], "subtitle": list(about)}
    look: Json = {"anchor": "start", "frame": "group", "fontSize": 12, "subtitleFontSize": 12, "fontWeight": 400}
    return title | look | {"offset": 12}


def png(
    parts: Sequence[Mapping[str, object]],
    datasets: Mapping[str, object],
    config: Json,
    *,
    spacing: int = 30,
    **more: object,
) -> bytes:
    """Specifications one below the other, with their data, as a PNG of two pixels to a point.

    `more` are further fields of the whole, such as `params`. Raises LossgapError `chart-failed`.
    """
    import vl_convert

    whole: Json = {
        "$schema": SCHEMA,
        "vconcat": [{name: value for name, value in part.items() if name != "$schema"} for part in parts],
        "spacing": spacing,
        "padding": 16,
        "background": "white",
        "datasets": dict(datasets),
        "config": config | {"background": "white"},
        **more,
    }
    try:
        image = vl_convert.vegalite_to_png(whole, vl_version=VEGA_LITE, scale=2)
    except ValueError as error:
        raise LossgapError("chart-failed", f"the chart could not be drawn: {short(str(error))}") from error
    return bytes(image)
