"""Which findings are causes, and in which order.

1. A pair without a gap has no cause: with an equivalent verdict, or a gap inside its known noise, causes become
   remarks, and so they do where the gap is inside the margin. While the noise is unknown and the gap not beyond its
   bound, a cause that follows from the settings stays, at most `likely`; one that is inferred from the curves stays
   only if its rule is sure of it, as `possible`.
2. A cause whose expected effect has the sign against the gap's, or is far smaller, does not explain it: it becomes a
   remark that says so.
3. Causes are ordered by strength, then by the size of their expected effect, then by the order of their rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lossgap.comparison.findings.weighing import MOST_TIMES
from lossgap.comparison.rules import STRENGTHS, Finding, RuledOut
from lossgap.comparison.verdict import Verdict

TRACES = "looks-like-"
"""With which the ids of rules begin that see a trace of a fault in bare curves (findings/traces.py)."""
AGAINST = "It pushes the other way, so it cannot explain this gap."
FAR_TOO_SMALL = 25.0
"""The multiple of its size beyond which a cause is none: five times the one beyond which it is only possible
(findings/weighing.py, MOST_TIMES), and which counts where the noise may make the gap. A choice."""
TOO_SMALL = "It is far too small to be a cause of this gap."
NO_GAP = "There is no gap beyond the noise that it could be the cause of."


def rank(
    results: Iterable[Finding | RuledOut], gap: float | None, verdict: Verdict
) -> tuple[tuple[Finding, ...], tuple[RuledOut, ...]]:
    """Findings (causes first, strongest first; remarks in firing order), and what was ruled out."""
    found = [_judged(item, gap, verdict) for item in results if isinstance(item, Finding)]
    causes = [item for item in found if item.role == "cause"]
    remarks = [item for item in found if item.role == "remark"]
    causes.sort(key=_place)
    known = {item.id for item in causes}
    # What a rule found beside what it ruled out stands; the other is then no news.
    ruled = tuple(item for item in results if isinstance(item, RuledOut) and item.id not in known)
    return (*causes, *remarks), ruled


def _place(item: Finding) -> tuple[bool, int, float, int, str]:
    """Causes that a curve only looks like stand behind all others."""
    trace = item.id.startswith(TRACES)
    return trace, STRENGTHS.index(item.strength), -(item.magnitude or 0.0), item.order, item.id


def _judged(item: Finding, gap: float | None, verdict: Verdict) -> Finding:
    if item.role != "cause" or verdict.word == "not-comparable":
        return item
    small = verdict.word == "inconclusive" and gap is not None and abs(gap) <= verdict.margin
    if verdict.word == "equivalent" or small or (verdict.word == "inconclusive" and not verdict.bounded):
        return _as_remark(item, NO_GAP)
    if item.effect is not None and gap is not None and item.effect * gap < 0:
        return _as_remark(item, AGAINST)
    size = item.magnitude
    most = MOST_TIMES if verdict.word == "inconclusive" else FAR_TOO_SMALL
    if gap is not None and size is not None and item.strength == "possible" and abs(gap) > most * size:
        return _as_remark(item, TOO_SMALL)
    if verdict.word == "inconclusive":
        if item.evidence in ("measured", "computed"):
            return replace(item, strength="likely") if item.strength == "strong" else item
        if item.id.startswith(TRACES):
            return item
        return replace(item, strength="possible") if item.strength == "strong" else _as_remark(item, NO_GAP)
    return item


def _as_remark(item: Finding, because: str) -> Finding:
    return replace(item, role="remark", text=f"{item.text} {because}")
