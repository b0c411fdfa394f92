"""The answer of an explanation in a sentence that a learner understands, and what its verdict is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import PurePath

from lossgap.attribution.explanation import Contribution, Division, Explanation
from lossgap.report.division import UNIT, UNKNOWN, amount, mark, scale_words, span
from lossgap.report.experiment import several
from lossgap.report.factor_phrases import phrase
from lossgap.report.words import cut

MOST_GIVES, MOST_COSTS = 3, 2
"""Factors that the sentence names."""
_NAME = 40
"""Characters of a run's name in the sentence."""


def headline(explanation: Explanation) -> str:
    """`Of the 0.74 by which small_b ends lower, the larger model gives 0.30, ...; the dropout costs 0.06.`"""
    division = explanation.last
    common = division.common.value
    if common is None or not math.isfinite(common) or not division.contributions:
        return f"How the gap divides is unknown: {division.common.why or 'no seed has ended'}."
    control, test = names(explanation)
    of_test = common < 0
    lower = test if of_test else control
    scale = "" if explanation.scale.true else f"At {scale_words(explanation.scale)}, "
    if abs(common) <= explanation.margin and not _settled(division):
        end = f"{control} and {test} end {abs(common):.2g} apart when both are trained again"
        return f"{scale}{end}, and no setting in which they differ makes more than ±{explanation.margin:g}."
    of = "of" if scale else "Of"
    size = _size(common)
    start = f"{scale}{of} the {size} by which {lower} ends lower"
    interval = division.common.ci
    if interval is not None and interval[0] <= 0 <= interval[1]:
        start += " (as a whole not beyond the noise)"
    return f"{start}, {_parts(division, of_test)}."


def names(explanation: Explanation) -> tuple[str, str]:
    """The sentence's names of control and test: the last part of a path, or all of it where both end alike."""
    whole = (explanation.control, explanation.test)
    last = tuple(PurePath(name).name or name for name in whole)
    first, second = last if last[0] != last[1] else whole
    return cut(first, _NAME), cut(second, _NAME)


def _settled(division: Division) -> list[Contribution]:
    return [item for item in division.contributions if item.verdict == "different"]


def _parts(division: Division, of_test: bool) -> str:
    """Who gives and who costs, from the side of the run that ends lower."""
    sign = -1.0 if of_test else 1.0
    settled = sorted(_settled(division), key=lambda item: -abs(item.value))
    settled = [item for item in settled if math.isfinite(item.value)]
    gives = [(item, sign * item.value) for item in settled if sign * item.value > 0]
    costs = [(item, -sign * item.value) for item in settled if sign * item.value < 0]
    said = []
    if gives:
        said.append(_list(gives, "gives", MOST_GIVES, of_test))
    if costs:
        said.append(_list(costs, "costs", MOST_COSTS, of_test))
    if said:
        return "; ".join(said)
    seeds = max((len(item.per_seed) for item in division.contributions), default=0)
    return f"no single setting's part is beyond the noise of {several(seeds, 'seed')}"


def _list(parts: Sequence[tuple[Contribution, float]], verb: str, most: int, of_test: bool) -> str:
    named = [
        f"{phrase(item.factor, of_test=of_test)} {f'{verb} ' if not place else ''}{_size(value)}"
        for place, (item, value) in enumerate(parts[:most])
    ]
    left = parts[most:]
    if left:
        named.append(f"{several(len(left), 'other')} together {_size(math.fsum(value for _, value in left))}")
    return ", ".join(named)


def _size(value: float) -> str:
    """Two decimals, or as many as a small number needs."""
    return f"{abs(value):.2f}" if abs(value) >= 0.0095 else f"{abs(value):.2g}"


# ---------------------------------------------------------------------------------------------
# The verdict


def verdict(explanation: Explanation, division: Division) -> str:
    """How many factors are settled, and how."""
    counts = {
        "beyond the noise": sum(item.verdict == "different" for item in division.contributions),
        f"within ±{explanation.margin:g}": sum(item.verdict == "equivalent" for item in division.contributions),
        "not settled": sum(item.verdict in ("inconclusive", "not-comparable") for item in division.contributions),
    }
    said = [f"{count} {what}" for what, count in counts.items() if count]
    total = several(len(division.contributions), "factor")
    return f"{total}: {', '.join(said)}" if said else "nothing could be divided"


def word(division: Division) -> str:
    """The verdict's word for its colour: green where every factor is settled, yellow where one is open."""
    words = {item.verdict for item in division.contributions}
    return "inconclusive" if not words or words & {"inconclusive", "not-comparable"} else "equivalent"


def gap_line(explanation: Explanation, division: Division) -> str:
    """The reported gap beside the one that was divided, in one sentence."""
    common, sign = division.common, mark(explanation)
    reported = amount(division.reported.value)
    interval = span(common.ci, sign)
    sure = f", 95%: {interval}" if interval != UNKNOWN else f", no interval: {common.why or 'nobody measured one'}"
    again = UNKNOWN if common.value is None else f"{amount(common.value, sign)}{sure}"
    if reported == UNKNOWN:
        why = division.reported.why or "not a finite number"
        return f"trained again, the gap is {again} {UNIT} (test minus control); the reported one is unknown: {why}"
    return f"gap {reported} {UNIT}{_perplexity(division)}, test minus control, as reported; trained again {again}"


def _perplexity(division: Division) -> str:
    """The gap as perplexity: a loss 0.25 lower is 22% less perplexity."""
    value = division.reported.value
    if value is None or not math.isfinite(value) or abs(value) < 0.005 or abs(value) > 5:
        return ""
    ratio = math.exp(value) - 1
    return f" ({abs(ratio):.0%} {'less' if ratio < 0 else 'more'} perplexity)"
