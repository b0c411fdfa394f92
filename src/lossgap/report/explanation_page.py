"""An explanation as one HTML file: the answer, the waterfall, the tables, the arms' curves, the experiment.

    explanation_page.write(explanation, path)
    explanation_page.write_png(explanation, path)      # the waterfall

Without JavaScript all numbers are there, last against last and best against best below each other; with it, a switch
shows one of them. The file needs no network, and what strangers say is text or a value in JSON: see `shell`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lossgap.attribution.explanation import ArmRow, At, Explanation
from lossgap.report import division as parts
from lossgap.report import embed, experiment, shell, vega, words
from lossgap.report import waterfall as falls
from lossgap.report.arm_curves import ArmCurves, arm_curves, payload
from lossgap.report.division import Row
from lossgap.report.output import put
from lossgap.report.waterfall import Waterfall, waterfall, write_png

__all__ = ["render", "write", "write_png"]

Json = dict[str, object]

ARMS = 200
"""Arms in the table; `--json` has all."""


def write(explanation: Explanation, path: Path) -> None:
    """Write the page. Raises LossgapError `not-written` if the file cannot be."""
    put(path, render(explanation).encode())


def render(explanation: Explanation) -> str:
    """The whole file as text."""
    shown: tuple[At, ...] = ("last",) if parts.alike(explanation) else ("last", "best")
    drawn = {at: waterfall(explanation, at) for at in shown}
    curves = arm_curves(explanation)
    falling = any(not item.why for item in drawn.values())
    view: Json = {
        "runs": [{"side": side, "name": getattr(explanation, side)} for side in ("control", "test")],
        "warnings": _warnings(explanation),
        "divisions": [_division(explanation, at, drawn[at]) for at in shown],
        "same": "" if len(shown) > 1 else ", and best against best: the same numbers",
        "drawn": falling,
        "loss": f"nats per token{parts.mark(explanation)}",
        "chart_label": " ".join(_label(at, item) for at, item in drawn.items() if not item.why),
        "margin": f"{explanation.margin:g}",
        **_curves(curves, parts.mark(explanation)),
        "arms_title": _arms_title(explanation.arms),
        "arms": [_arm(item, parts.mark(explanation)) for item in explanation.arms[:ARMS]],
        "failed": experiment.failure_lines(explanation),
        "facts": experiment.fact_lines(explanation),
        "open": experiment.open_words(explanation),
        "next": [{"command": step.command, "why": words.sentence(step.why)} for step in explanation.next],
        "data": embed.json_block(_data(drawn, curves)) if falling or not curves.why else "",
    }
    return shell.page(
        f"{explanation.control} against {explanation.test}, explained",
        "explanation.html.j2",
        [view],
        style=("page.css", "explanation.css"),
        script=("drawing.js", "explanation.js") if view["data"] else (),
        drawn=bool(view["data"]),
    )


def _warnings(explanation: Explanation) -> list[str]:
    found = experiment.scale_lines(explanation.scale)
    return found if explanation.complete else [experiment.stopped(explanation), *found]


def _division(explanation: Explanation, at: At, drawn: Waterfall) -> Json:
    division = explanation.division(at)
    answer = parts.answer(explanation, division)
    number = parts.amount(division.reported.value)
    known = number != parts.UNKNOWN
    scale = "" if explanation.scale.true else ", by the two runs at their true scale"
    contributions = parts.contribution_rows(explanation, division)
    interactions = parts.interaction_rows(explanation, division)
    total = parts.total(explanation, division)
    return {
        "at": at,
        "title": parts.TITLES[at],
        "number": number if known else "",
        "unit": f"{parts.UNIT}, test minus control, as reported{scale}",
        "answer": answer[1:] if known else answer,
        "checks": parts.checks(division),
        "no_chart": drawn.why,
        "contributions": [
            (row.name, row.value, row.interval, row.verdict or "", row.settings or row.note) for row in contributions
        ],
        "total": [(total.name, total.value, total.interval, total.note, "")],
        "no_interval": [
            f"No interval: {why}."
            for why in parts.reasons([*(row for row in contributions if row.verdict), *interactions])
        ],
        "gap": [(row.name, row.value, row.interval, _why(row)) for row in parts.gap_rows(explanation, division)],
        "interactions": [(row.name, row.value, row.interval) for row in interactions],
    }


def _why(row: Row) -> str:
    return ": ".join(filter(None, (row.settings, row.note)))


def _label(at: At, drawn: Waterfall) -> str:
    said = ", ".join(f"{bar.name} {bar.label}" for bar in drawn.bars)
    return f"Waterfall of losses, {parts.TITLES[at]}: {said}."


# ---------------------------------------------------------------------------------------------
# Arms


def _curves(drawn: ArmCurves, mark: str) -> Json:
    count = experiment.several(len(drawn.curves), "arm")
    return {
        "no_curves": drawn.why,
        "factors": drawn.factors,
        "ceiling": f"{drawn.ceiling:.3g}{mark}",
        "curve_notes": drawn.notes,
        "curves_label": f"Val losses of {count} over their iterations; the table below has their last and best ones.",
    }


def _arms_title(arms: Sequence[ArmRow]) -> str:
    if len(arms) > ARMS:
        return f"Table of the first {ARMS} of {len(arms):,} arms (--json has all)"
    return f"Table of {'all ' if len(arms) > 1 else ''}{experiment.several(len(arms), 'arm')}"


def _arm(arm: ArmRow, mark: str) -> tuple[str, ...]:
    how = [
        "" if arm.stage == "confirmation" else arm.stage,
        "exact" if arm.exact else "losses of its log",
        "trained earlier" if arm.cached else "",
        arm.run,
    ]
    return (
        experiment.arm_words(arm.factors),
        "none" if arm.seed is None else str(arm.seed),
        f"{arm.val_loss:.4f}{mark}",
        f"{arm.best_val_loss:.4f}{mark}",
        f"{arm.seconds:,.1f}",
        ", ".join(filter(None, how)),
    )


# ---------------------------------------------------------------------------------------------
# What the scripts draw


def _data(drawn: dict[At, Waterfall], curves: ArmCurves) -> Json:
    return {
        "themes": {theme: falls.config(theme) for theme in vega.THEMES},
        "waterfalls": {
            at: None if item.why else {"spec": falls.spec(item), "rows": falls.rows(item)} for at, item in drawn.items()
        },
        "curves": None if curves.why else payload(curves),
    }
