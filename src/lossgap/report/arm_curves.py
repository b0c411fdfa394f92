"""The curves of all arms of an experiment as Vega-Lite: thin lines, coloured by the level of one factor.

    drawn = arm_curves(explanation)       # curves by column, thinned
    payload(drawn)                        # JSON: the page colours them by the factor that its reader chooses

A curve has at most `POINTS` points, and the page at most `ALL_POINTS` points and `ARMS` arms: where there are more, all
curves are thinned alike, and seeds are left out whole, the last ones first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lossgap.attribution.explanation import ArmRow, Explanation
from lossgap.report import vega
from lossgap.report.curves import POINTS, thin
from lossgap.report.json_values import Json

ALL_POINTS = 60_000
ARMS = 600
HEIGHT = 260
FEWEST = 20
"""Points that thinning leaves a curve at least."""
HEADROOM = 0.6
"""Above the highest last loss, in spans of the last losses: what `ceiling` shows."""


@dataclass(frozen=True, kw_only=True)
class DrawnCurve:
    """One arm's curve."""

    switched: tuple[int, ...]
    """Places of its factors in `ArmCurves.factors`."""
    end: bool
    """True if it is the re-trained control or test."""
    iters: tuple[int, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ArmCurves:
    """All curves."""

    factors: tuple[str, ...]
    """In the order of their contributions, largest first."""
    curves: tuple[DrawnCurve, ...]
    ceiling: float
    """Losses above it are those of the beginning."""
    notes: tuple[str, ...]
    why: str = ""
    """Why there is nothing to draw; empty if there is."""


def arm_curves(explanation: Explanation) -> ArmCurves:
    """The curves of the confirmation's arms; screening's are left out, as they switch other groups of factors."""
    names = tuple(item.factor.name for item in explanation.last.contributions)
    whole = set(names)
    usable = [arm for arm in explanation.arms if arm.stage == "confirmation" and len(arm.curve) > 1]
    if not usable or not names:
        return ArmCurves(factors=names, curves=(), ceiling=0.0, notes=(), why="the arms have no curves")
    kept = _whole_seeds(usable)
    notes = []
    if len(kept) < len(usable):
        notes.append(f"{len(kept):,} of {len(usable):,} curves are drawn; the other seeds look alike.")
    points = max(FEWEST, min(POINTS, ALL_POINTS // len(kept)))
    curves = []
    for arm in kept:
        places = [(at, loss) for at, loss in arm.curve if math.isfinite(loss)]
        chosen = thin(np.array([loss for _, loss in places], dtype=float), points).tolist() if places else []
        switched = set(arm.factors) & whole
        curves.append(
            DrawnCurve(
                switched=tuple(place for place, name in enumerate(names) if name in switched),
                end=len(switched) in (0, len(names)),
                iters=tuple(places[at][0] for at in chosen),
                losses=tuple(places[at][1] for at in chosen),
            )
        )
    curves = [curve for curve in curves if len(curve.losses) > 1]
    longest = max((len(arm.curve) for arm in kept), default=0)
    if longest > points:
        notes.append(f"Thinned to at most {points:,} points a curve, the lowest and highest of equal blocks.")
    if not curves:
        return ArmCurves(factors=names, curves=(), ceiling=0.0, notes=(), why="the arms have no curves")
    return ArmCurves(factors=names, curves=tuple(curves), ceiling=_ceiling(curves), notes=tuple(notes))


def _whole_seeds(arms: Sequence[ArmRow]) -> list[ArmRow]:
    """The arms of as many seeds as fit `ARMS`, of the first one in any case."""
    by_seed: dict[int | None, list[ArmRow]] = {}
    for arm in arms:
        by_seed.setdefault(arm.seed, []).append(arm)
    kept: list[ArmRow] = []
    for group in by_seed.values():
        if kept and len(kept) + len(group) > ARMS:
            break
        kept += group
    return kept


def _ceiling(curves: Sequence[DrawnCurve]) -> float:
    last = [curve.losses[-1] for curve in curves]
    lowest = min(min(curve.losses) for curve in curves)
    return max(last) + HEADROOM * max(max(last) - lowest, 0.05)


# ---------------------------------------------------------------------------------------------
# The specification


def payload(drawn: ArmCurves) -> Json:
    """The specification, and the curves by column; equal columns of iterations stand once, in `places`."""
    places: dict[tuple[int, ...], int] = {}
    lines = [
        {
            "on": list(curve.switched),
            "end": curve.end,
            "x": places.setdefault(curve.iters, len(places)),
            "y": [float(f"{loss:.6g}") for loss in curve.losses],
        }
        for curve in drawn.curves
    ]
    return {"spec": spec(), "places": [list(iters) for iters in places], "lines": lines, "ceiling": drawn.ceiling}


def spec() -> Json:
    """The Vega-Lite specification of rows {arm, level, end, x, y}."""
    x: Json = {
        "field": "x",
        "type": "quantitative",
        "scale": {"nice": False, "zero": False},
        "axis": {"title": "iterations", "format": ",f", "tickCount": 6, "labelFlush": True},
    }
    y: Json = {"field": "y", "type": "quantitative", "scale": {"zero": False, "nice": True}, "axis": {"title": None}}
    color: Json = {
        "field": "level",
        "type": "nominal",
        "legend": None,
        "scale": {"domain": ["control", "test"]},
    }
    of_arm: Json = {"x": x, "y": y, "color": color, "detail": {"field": "arm", "type": "nominal"}}
    looks: tuple[tuple[str, Json], ...] = (
        ("no", {"strokeWidth": 0.8, "opacity": 0.55}),
        ("yes", {"strokeWidth": 2.2, "opacity": 1}),
    )
    return {
        "$schema": vega.SCHEMA,
        "data": {"name": "rows"},
        "width": vega.WIDTH,
        "height": HEIGHT,
        "layer": [
            {
                "transform": [{"filter": {"field": "end", "equal": end}}],
                "mark": look | {"type": "line", "clip": True},
                "encoding": of_arm,
            }
            for end, look in looks
        ],
    }
