"""R10: where the two curves part, and what parting there looks like."""

from __future__ import annotations

from lossgap.comparison.finding import Pair, Result, remark, rule
from lossgap.comparison.findings.likeness import between
from lossgap.comparison.findings.onset import Onset, onset

ALIKE = 5e-3
"""Relative: losses at the start that are closer can be of one state, computed or sampled otherwise. A choice."""
_SERIES = {"train": "losses of single iterations", "val": "val losses"}


@rule("first-divergence", title="Where the curves part", group="F", order=10)
def first_divergence(pair: Pair) -> Result:
    """From the first value, after one update, gradually, or at once; equal to the last digit up to there."""
    found = onset(pair)
    if found is None or found.shape == "never":
        return
    said = {
        "at the start": _at_the_start,
        "after one update": _after_one_update,
        "gradual": _gradual,
        "sudden": _sudden,
    }[found.shape](pair, found)
    yield remark(
        "inferred",
        said,
        numbers={
            "shape": found.shape,
            "series": found.series,
            "equal": found.equal,
            "apart": found.apart,
            "difference": found.first_difference,
            "last_difference": found.last_difference,
        },
    )


def _at_the_start(pair: Pair, found: Onset) -> str:
    small = abs(found.first_difference) <= ALIKE * max(1.0, abs(_first(pair, found)))
    where = f"{found.first_difference:+.2g} at iteration {found.apart:,}"
    text = f"The {_SERIES[found.series]} are apart from the first one ({where})"
    alike = between(pair.control, pair.test) if found.series == "train" else None
    if small and alike is not None and alike.same:
        return f"{text}, by little and on the same batches: the initial state or the forward pass differs slightly."
    if small:
        return f"{text}, by no more than other windows or another seed make; the curves do not show where they part."
    return (
        f"{text}: before any update is made, the initial weights (another seed is enough), the data, the vocabulary or "
        "the loss differ."
    )


def _first(pair: Pair, found: Onset) -> float:
    curve = pair.control.train if found.series == "train" else pair.control.val
    return curve.first.value if curve is not None else 1.0


def _after_one_update(pair: Pair, found: Onset) -> str:
    return (
        f"The {_SERIES[found.series]} are equal at iteration {found.equal:,} and {found.first_difference:+.2g} apart "
        "after one update: weights, data and forward pass agree; the backward pass, the optimizer or the learning rate "
        f"differs{_rates(pair, found)}."
    )


def _gradual(pair: Pair, found: Onset) -> str:
    text = (
        f"The {_SERIES[found.series]} are equal up to iteration {found.equal:,}, {found.first_difference:+.2g} apart "
        f"at iteration {found.apart:,}, and {found.last_difference:+.2g} at the end of what both printed"
    )
    rates = _rates(pair, found)
    if rates:
        return f"{text}: the learning rates part there{rates}."
    return f"{text}: they part gradually, as rounding does that the training amplifies."


def _sudden(pair: Pair, found: Onset) -> str:
    where = f"at iteration {found.apart:,}"
    if found.step > 1:
        where = f"between iterations {found.equal:,} and {found.apart:,}"
    return (
        f"The {_SERIES[found.series]} are equal up to iteration {found.equal:,} and {found.first_difference:+.2g} "
        f"apart at iteration {found.apart:,}. What differs took effect {where}: other batches, another learning rate, "
        f"a resume or a fault{_rates(pair, found)}."
    )


def _rates(pair: Pair, found: Onset) -> str:
    """The learning rates of the update before the parting, where they are known and differ."""
    at = max(0, (found.apart or 0) - 1)
    first, second = pair.control.lr_at(at).value, pair.test.lr_at(at).value
    if first is None or second is None or abs(first - second) <= 1e-6 * max(abs(first), abs(second)):
        return ""
    return f" (learning rate {first:.4g} and {second:.4g} at iteration {at:,})"
