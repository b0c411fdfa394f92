"""different, equivalent, inconclusive or not-comparable, with the reasons and what would change it.

1. No loss in common, or no value of it: not-comparable.
2. The 95% interval of the gap lies within the margin: equivalent, whether or not it contains 0.
3. It does not contain 0: different.
4. Else inconclusive, with the number of seeds that would decide with 80% power, if the gap is what it seems.

Where the spread over seeds of a recipe is unknown, its stated upper bound takes its place, and the verdict is
`different` if even that interval does not contain 0, else at most `inconclusive`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from lossgap.comparison.alignment import Alignment
from lossgap.comparison.metric import NoMetric
from lossgap.comparison.noise import Noise
from lossgap.comparison.power import runs_to_decide
from lossgap.options import MARGIN as MARGIN

Word = Literal["different", "equivalent", "inconclusive", "not-comparable"]
WORDS: tuple[Word, ...] = ("different", "equivalent", "inconclusive", "not-comparable")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict on one gap."""

    word: Word
    margin: float
    interval: tuple[float, float] | None = None
    """95% interval of test minus control; with the bounds of unknown parts if `bounded`."""
    bounded: bool = False
    """True if an unknown part of the noise is at its upper bound in `interval`."""
    reasons: tuple[str, ...] = ()
    settle: str = ""
    """One sentence on what would decide it, or make the runs comparable; empty if it is decided."""
    seeds: int | None = None
    """Runs of each recipe that would decide an inconclusive gap of this size, with 80% power."""

    @property
    def is_gap(self) -> bool:
        """True if there is a gap beyond the noise and the margin, one that needs an explanation."""
        return self.word == "different"


def judge(gap: float | None, noise: Noise, alignment: Alignment, margin: float = MARGIN) -> Verdict:
    """The verdict on `gap` (test minus control)."""
    if isinstance(alignment.metric, NoMetric):
        found = alignment.metric
        return Verdict(word="not-comparable", margin=margin, reasons=(found.why,), settle=found.remedy)
    unit = alignment.metric.unit
    interval = noise.widest_interval(gap) if gap is not None else None
    if gap is None or interval is None:
        why = alignment.row("last").why or "one of the runs has no value of the loss that is compared"
        return Verdict(
            word="not-comparable", margin=margin, reasons=(why,), settle="Give logs with losses of both runs."
        )
    bounded = noise.standard_error is None
    low, high = interval
    said = f"the 95% interval of the gap, {low:+.4f} to {high:+.4f} {unit},"
    if bounded:
        said += f" using upper bounds for what was not measured ({', '.join(part.name for part in noise.unknown)}),"
    if not low <= 0 <= high and (bounded or max(abs(low), abs(high)) > margin):
        reason = f"{said} does not contain 0"
        return Verdict(word="different", margin=margin, interval=interval, bounded=bounded, reasons=(reason,))
    if not bounded and -margin <= low and high <= margin:
        reason = f"{said} lies within the margin of {margin:g}"
        if not low <= 0 <= high:
            reason += "; there is a difference, too small to matter by that margin"
        return Verdict(word="equivalent", margin=margin, interval=interval, reasons=(reason,))
    return _inconclusive(gap, noise, interval, said, margin, bounded)


def _inconclusive(
    gap: float, noise: Noise, interval: tuple[float, float], said: str, margin: float, bounded: bool
) -> Verdict:
    reason = f"{said} contains 0 and reaches beyond the margin of {margin:g}"
    if bounded:
        return Verdict(
            word="inconclusive",
            margin=margin,
            interval=interval,
            bounded=True,
            reasons=(reason,),
            settle="Train the same recipe with 5 seeds or more, to know how far its losses lie apart by chance.",
        )
    error = noise.standard_error
    assert error is not None  # nothing is at its bound here
    # The error is of one difference; a single run of a side then spreads by error / sqrt(2).
    seeds = runs_to_decide(gap, error / math.sqrt(2), margin)
    return Verdict(
        word="inconclusive",
        margin=margin,
        interval=interval,
        reasons=(reason,),
        settle=f"About {seeds:,} seeds of each recipe would decide a gap of this size (80% power)."
        if seeds
        else "No affordable number of seeds would decide a gap of this size; state a larger --margin.",
        seeds=seeds,
    )
