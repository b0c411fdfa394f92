"""Which findings are causes, and in which order.

1. Whether a gap is beyond chance is one question, and whether a setting is known to make gaps of this size another. A
   pair without a gap has no cause: with an equivalent verdict, or a gap inside the margin, causes become remarks. A gap
   inside the noise keeps, as `likely` at most, the causes whose known size is no smaller than the standard error of the
   gap: of the expected square of such a gap, size^2 + error^2, they make half or more. A cause without a known size
   stays only where the noise itself is not measured.
2. A cause whose expected effect has the sign against the gap's, or is far smaller, does not explain it: it becomes a
   remark that says so.
3. Causes are ordered by strength, then by the size of their expected effect, then by the order of their rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lossgap.comparison.findings.weighing import MOST_TIMES
from lossgap.comparison.rules import STRENGTHS, Finding, RuledOut, Strength
from lossgap.comparison.verdict import Verdict

TRACES = "looks-like-"
"""With which the ids of rules begin that see a trace of a fault in bare curves (findings/traces.py)."""
FAILED = ("diverged", "not-finite", "float16-overflow")
"""Rules that see a training fail: that is a fact whatever the noise, and a failed run's own scatter makes the noise."""
AGAINST = "It pushes the other way, so it cannot explain this gap."
FAR_TOO_SMALL = 25.0
"""The multiple of its size beyond which a cause is none: five times the one beyond which it is only possible
(findings/weighing.py, MOST_TIMES), and which counts where the noise may make the gap. A choice."""
TOO_SMALL = "It is far too small to be a cause of this gap."
TOO_LARGE = "It would make a far larger gap than this one."
ALSO_CHANCE = "Chance alone makes gaps of this size too."
NO_GAP = "There is no gap beyond the noise that it could be the cause of."


def rank(
    results: Iterable[Finding | RuledOut], gap: float | None, verdict: Verdict, error: float | None = None
) -> tuple[tuple[Finding, ...], tuple[RuledOut, ...]]:
    """Findings (causes first, strongest first; remarks in firing order), and what was ruled out.

    `error` is the standard error of the gap, with the bounds of its unknown parts; without it a gap inside the noise
    has the causes of an unknown error alone.
    """
    found = [_judged(item, gap, verdict, error) for item in results if isinstance(item, Finding)]
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


def _judged(item: Finding, gap: float | None, verdict: Verdict, error: float | None) -> Finding:
    if item.role != "cause":
        return item
    size, word = item.magnitude, verdict.word
    if word == "equivalent" or (word == "inconclusive" and gap is not None and abs(gap) <= verdict.margin):
        return _as_remark(item, NO_GAP)
    if word != "not-comparable" and item.effect is not None and gap is not None and item.effect * gap < 0:
        return _as_remark(item, AGAINST)
    most = MOST_TIMES if word == "inconclusive" else FAR_TOO_SMALL
    if gap is not None and size is not None and item.strength == "possible" and abs(gap) > most * size:
        return _as_remark(item, TOO_SMALL)
    return _in_noise(item, gap or 0.0, verdict.bounded, error) if word == "inconclusive" else item


def _in_noise(item: Finding, gap: float, bounded: bool, error: float | None) -> Finding:
    """A cause of a gap that chance alone could make."""
    size, settings = item.magnitude, item.evidence in ("measured", "computed")
    if item.id in FAILED and item.strength == "strong":
        return replace(item, strength="likely")
    if size is None or error is None:
        if item.id.startswith(TRACES):
            return item if bounded else _as_remark(item, NO_GAP)
        if not bounded or not (settings or item.strength == "strong"):
            return _as_remark(item, NO_GAP)
        strongest: Strength = "likely" if settings else "possible"
        return replace(item, strength=strongest) if item.strength == "strong" else item
    # What is concluded from the curves counts where its rule is sure of it.
    if size < error or not (settings or item.strength == "strong"):
        return _as_remark(item, NO_GAP)
    if size > MOST_TIMES * (abs(gap) + 2 * error):
        return _as_remark(item, TOO_LARGE)
    fits = settings and item.strength != "possible" and abs(gap) >= max(error, size / MOST_TIMES)
    return replace(item, strength="likely" if fits else "possible", text=f"{item.text} {ALSO_CHANCE}")


def _as_remark(item: Finding, because: str) -> Finding:
    return replace(item, role="remark", text=f"{item.text} {because}")
