"""A comparison as one HTML file: the curves, the table of the text answer, findings, settings, what to do next.

    page.render([comparison])              # the whole file as text
    page.write([comparison], path)

The file needs no network, and what strangers say is text or a value in JSON: see `shell`. The tables need no
JavaScript.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lossgap.comparison.comparison import Comparison
from lossgap.comparison.facts import Facts
from lossgap.comparison.metric import Metric
from lossgap.report import chart, embed, like_for_like, shell, words
from lossgap.report.curves import POINTS, SIDES, Curves, Side, curves
from lossgap.report.output import put
from lossgap.report.table import INFERRED, equal, lines

Json = dict[str, object]

ALL_POINTS = 6000
"""Points per kind of curve on a page of many comparisons, which share them."""
LONE_SETTINGS = 40
"""Names of settings that only one run has, at most."""


def write(comparisons: Sequence[Comparison], path: Path) -> None:
    """Write the page. Raises LossgapError `not-written` if the file cannot be."""
    put(path, render(comparisons).encode())


def render(comparisons: Sequence[Comparison]) -> str:
    """The page of one comparison or several, each against the first run."""
    points = max(100, min(POINTS, ALL_POINTS // max(1, len(comparisons))))
    views = [_view(found, number, len(comparisons), points) for number, found in enumerate(comparisons, 1)]
    first = comparisons[0]
    others = [found.test.name for found in comparisons]
    return shell.page(
        f"{first.control.name} against {', '.join(others)}",
        "comparison.html.j2",
        views,
        style=("page.css",),
        script=("drawing.js", "page.js") if any("data" in view for view in views) else (),
        drawn=any("data" in view for view in views),
    )


# ---------------------------------------------------------------------------------------------
# What the template shows of one comparison


def _view(found: Comparison, number: int, count: int, points: int) -> Json:
    table = lines(found)
    return {
        "number": number,
        "count": count,
        "runs": [_run(found, side) for side in SIDES],
        **_answer(found),
        **_chart(found, points),
        "lines": table,
        "marked": any(INFERRED in cell or "~" in cell for line in table for cell in (line.control, line.test)),
        "equal": ", ".join(equal(found)),
        "like": _like(found),
        "causes": found.causes,
        "no_causes": "None that these two records support." if found.verdict.is_gap else _NO_GAP[found.verdict.word],
        "remarks": found.remarks,
        "ruled_out": found.ruled_out,
        **_settings(found),
        "settle": found.verdict.settle,
        "next": [{"command": step.command, "why": words.sentence(step.why)} for step in found.next],
        "noise": words.noise(found) or ["There is no gap to speak of the noise of."],
    }


_NO_GAP = {
    "equivalent": "None is needed: there is no gap beyond the margin.",
    "inconclusive": "None can be told: the gap is not beyond the noise.",
    "not-comparable": "None can be told: the two losses are not comparable.",
}


def _run(found: Comparison, side: Side) -> Json:
    facts: Facts = getattr(found, side)
    run = facts.run
    read = [f"{getattr(found, f'{side}_source')}, read as {words.origin(run)}"]
    read.append(f"{run.iters.height:,} rows of iterations, {run.evals.height:,} evaluations")
    if run.not_understood.count:
        at = ", ".join(map(str, run.not_understood.lines))
        read.append(f"{run.not_understood.count:,} lines not understood (first ones: {at})")
    if run.damaged_lines:
        read.append(f"{run.damaged_lines:,} damaged lines left out")
    if run.thinned:
        read.append(f"{run.thinned.rows:,} iteration rows thinned to {run.thinned.kept:,} at reading")
    read += [words.sentence(note.text) for note in run.notes]
    return {
        "side": side,
        "name": run.name,
        "origin": words.origin(run),
        "inferred": words.inferred(run),
        "read": read,
    }


def _answer(found: Comparison) -> Json:
    metric, gap, verdict = found.alignment.metric, found.gap, found.verdict
    reasons = [words.sentence(reason) for reason in verdict.reasons]
    unit = ""
    if isinstance(metric, Metric):
        reasons += [f"Assumed: {assumption}." for assumption in metric.assumptions]
        unit = metric.unit
    if gap is not None and unit:
        reasons.insert(0, f"{words.sentence(words.chance(found))}")
    return {
        "gap": "" if gap is None or not unit else f"{gap:+.4f}",
        "unit": unit,
        "word": verdict.word,
        "verdict": words.sentence(words.WORDS[verdict.word]),
        "strip": _strip(found),
        "margin": f"{verdict.margin:g}",
        "reasons": reasons,
    }


def _strip(found: Comparison) -> Json | None:
    """Where the gap, its interval, the margin and 0 lie on a line, in percent of its width."""
    gap, interval, margin = found.gap, found.verdict.interval, found.verdict.margin
    if gap is None or interval is None:
        return None
    ends = (interval[0], interval[1], -margin, margin, 0.0)
    low, high = min(ends), max(ends)
    if not high > low:
        return None

    def place(value: float) -> float:
        return round(4 + 92 * (value - low) / (high - low), 2)

    bounded = " with the upper bounds of what nobody measured" if found.verdict.bounded else ""
    said = f"gap {gap:+.4f}, 95% interval{bounded} {interval[0]:+.4f} to {interval[1]:+.4f}, margin {margin:g}"
    return {
        "label": said,
        "zero": place(0.0),
        "gap": place(gap),
        "low": place(interval[0]),
        "high": place(interval[1]),
        "margin": (place(-margin), round(place(margin) - place(-margin), 2)),
    }


def _chart(found: Comparison, points: int) -> Json:
    drawn = curves(found, points)
    if drawn.why:
        return {"no_chart": drawn.why}
    first = next(axis.name for axis in drawn.axes if not axis.why)
    axes = [
        {"name": axis.name, "label": axis.label, "why": axis.why, "chosen": axis.name == first} for axis in drawn.axes
    ]
    kinds = [
        (kind, label, checked)
        for kind, label, checked in (("train", "train split", True), ("iters", "loss of iterations", False))
        if drawn.of("train" if kind == "train" else "iters")
    ]
    off: dict[str, list[str]] = {}
    for axis in drawn.axes:
        if axis.why:
            off.setdefault(axis.why, []).append(axis.label)
    return {
        "no_chart": "",
        "axes": axes,
        "kinds": kinds,
        "off": [f"No axis of {_either(names)}: {why}." for why, names in off.items()],
        "notes": drawn.notes,
        "chart_title": drawn.title,
        "bands": any(np.isfinite(line.error).any() for line in drawn.of("compared")),
        "has_train": bool(drawn.of("train")),
        "chart_label": _chart_label(drawn),
        "data": embed.json_block(chart.payload(drawn)),
    }


def _either(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def _chart_label(drawn: Curves) -> str:
    ends = [
        f"{last.run} ends at {last.y:.4f}, its best is {best.y:.4f} at iteration {best.iter:,.0f}"
        for last, best in zip(drawn.last, drawn.best, strict=True)
    ]
    return f"Curves of the {drawn.title} of both runs: {'; '.join(ends)}. The slider below reads single values."


def _like(found: Comparison) -> Json | None:
    """Both checkpoints evaluated alike, where that was asked for."""
    measured = found.reevaluation
    if measured is None:
        return None
    return {
        "summary": like_for_like.summary(measured),
        "header": like_for_like.HEADER,
        "splits": list(like_for_like.splits(measured)),
    }


def _settings(found: Comparison) -> Json:
    settings = found.settings
    others = [item.name for item in settings.differ if not item.meaning]
    said = [f"Also, without effect on the training: {', '.join(others)}."] if others else []
    for side, items in (("control", settings.only_control), ("test", settings.only_test)):
        lone = [item for item in items if item.meaning]
        if lone:
            names = ", ".join(f"{item.name} = {words.value(item, side)}" for item in lone[:LONE_SETTINGS])
            more = f" and {len(lone) - LONE_SETTINGS} more" if len(lone) > LONE_SETTINGS else ""
            said.append(f"Known of {side} only: {names}{more}.")
    rows = [
        {
            "name": item.name,
            "control": words.value(item, "control"),
            "test": words.value(item, "test"),
            "factor": item.factor or "",
        }
        for item in settings.differ_in_meaning
    ]
    none = "None of those that both records have." if settings.comparable else "No setting is known of both runs."
    return {"settings": rows, "no_settings": none, "other_settings": said}
