"""R10: where the two curves part, and what parting there looks like."""

from __future__ import annotations

from dataclasses import replace

from lossgap.comparison.fact import Unknown
from lossgap.comparison.findings.chance import chance, explained
from lossgap.comparison.findings.likeness import Likeness, between
from lossgap.comparison.findings.onset import Onset, onset
from lossgap.comparison.rules import Finding, Pair, Result, cause, remark, rule

ALIKE = 5e-3
"""Relative: losses at the start that are closer can be of one state, computed or sampled otherwise. A choice."""
LEAST = 5e-3
"""Nats: with the same batches, losses that part by less at once may part by rounding. A choice."""
LEAST_GAP = 0.02
"""Nats: a smaller gap of unknown noise needs no cause. A choice."""
SHARE = 0.2
"""A share of the control's own step between two printed losses; a smaller gap is not another update. A choice."""
_SERIES = {"train": "losses of single iterations", "val": "val losses"}
_UPDATE = ("learning_rate", "warmup_iters", "beta2", "grad_clip")
"""Settings that decide what an update does to equal weights on an equal batch."""


@rule("first-divergence", title="Where the curves part", group="F", order=10)
def first_divergence(pair: Pair) -> Result:
    """From the first value, after one update, gradually, or at once; equal to the last digit up to there."""
    found = onset(pair)
    if found is None or found.shape == "never":
        return
    batches = between(pair.control, pair.test, start=found.apart or 0) if found.series == "train" else None
    text = {
        "at the start": _at_the_start,
        "after one update": _after_one_update,
        "gradual": _gradual,
        "sudden": _sudden,
    }[found.shape](pair, found, batches)
    numbers: dict[str, object] = {
        "shape": found.shape,
        "series": found.series,
        "equal": found.equal,
        "apart": found.apart,
        "difference": found.first_difference,
        "last_difference": found.last_difference,
        "correlation": batches.correlation if batches is not None else None,
    }
    if _is_another_update(pair, found, batches):
        yield _cause(pair, found, text, numbers)
    else:
        yield remark("inferred", text, numbers=numbers)


def _is_another_update(pair: Pair, found: Onset, batches: Likeness | None) -> bool:
    """Equal weights and, from the parting on, equal batches: then it is the update that differs."""
    if found.shape not in ("after one update", "sudden") or batches is None or not batches.same:
        return False
    gap = chance(pair)
    # Where nobody measured the noise, a cause that the curves show stays, as a possible one (ranking.py).
    if gap is None or not (gap.is_beyond or (gap.bounded and abs(gap.gap) > LEAST_GAP)) or explained(pair):
        return False
    clear = abs(found.first_difference) >= max(LEAST, SHARE * abs(found.move))
    return clear and found.last_difference * gap.gap > 0


def _cause(pair: Pair, found: Onset, text: str, numbers: dict[str, object]) -> Finding:
    missing = [
        f"{label}.{name}" for label, facts in pair.runs for name in _UPDATE if isinstance(facts.setting(name), Unknown)
    ]
    made = cause(
        "likely" if found.shape == "after one update" else "possible",
        "inferred",
        f"{text} A learning rate ten times higher looks like this; the weights and the data do not differ.",
        numbers=numbers,
        effect=pair.alignment.gap("last"),
        settle="Compare learning rates, warm-up, clipping and optimizer of both runs"
        + (f"; give {', '.join(missing)}." if missing else " as they ran."),
        title="The updates differ",
    )
    return replace(made, needs=tuple(missing))


# ---------------------------------------------------------------------------------------------
# What is said of each shape


def _at_the_start(pair: Pair, found: Onset, batches: Likeness | None) -> str:
    curve = pair.control.train if found.series == "train" else pair.control.val
    small = abs(found.first_difference) <= ALIKE * max(1.0, abs(curve.first.value) if curve is not None else 1.0)
    where = f"{found.first_difference:+.2g} at iteration {found.apart:,}"
    text = f"The {_SERIES[found.series]} are apart from the first one ({where})"
    if small and batches is not None and batches.same:
        return f"{text}, by little and on the same batches: the initial state or the forward pass differs slightly."
    if small:
        return f"{text}, by no more than other windows or another seed make; the curves do not show where they part."
    return (
        f"{text}: before any update is made, the initial weights (another seed is enough), the data, the vocabulary or "
        "the loss differ."
    )


def _after_one_update(pair: Pair, found: Onset, batches: Likeness | None) -> str:
    if _has_other_batches(pair, batches):
        return (
            f"The {_SERIES[found.series]} are equal at iteration {found.equal:,} and {found.first_difference:+.2g} "
            "apart at the next: the first batch was the same, those after it are others."
        )
    return (
        f"The {_SERIES[found.series]} are equal at iteration {found.equal:,} and {found.first_difference:+.2g} apart "
        f"after one update{_rates(pair, found)}: weights, data and forward pass agree; the backward pass, the "
        f"optimizer or the learning rate differs{_on(batches)}."
    )


def _gradual(pair: Pair, found: Onset, batches: Likeness | None) -> str:
    text = (
        f"The {_SERIES[found.series]} are equal up to iteration {found.equal:,}, {found.first_difference:+.2g} apart "
        f"at iteration {found.apart:,}, and {found.last_difference:+.2g} at the end of what both printed"
    )
    rates = _rates(pair, found)
    if rates:
        return f"{text}: the learning rates part there{rates}."
    return f"{text}: they part gradually, as rounding that the training amplifies, or a rate that parts slowly."


def _sudden(pair: Pair, found: Onset, batches: Likeness | None) -> str:
    where = f"at iteration {found.apart:,}"
    if found.step > 1:
        where = f"between iterations {found.equal:,} and {found.apart:,}"
    what = "other batches, another learning rate, a resume or a fault"
    if _has_other_batches(pair, batches):
        what = "other batches from there on"
    elif batches is not None and batches.same:
        what = f"another learning rate, a resume or a fault; the batches went on the same ({batches.said})"
    return (
        f"The {_SERIES[found.series]} are equal up to iteration {found.equal:,} and {found.first_difference:+.2g} "
        f"apart at iteration {found.apart:,}. What differs took effect {where}{_rates(pair, found)}: {what}."
    )


def _has_other_batches(pair: Pair, batches: Likeness | None) -> bool:
    """True if the losses after the parting, or else the settings (rule data-order), say so."""
    if batches is not None and batches.same is not None:
        return not batches.same
    return any(isinstance(item, Finding) and item.id == "data-order" and not item.needs for item in pair.so_far)


def _on(batches: Likeness | None) -> str:
    return f" (the batches are the same: {batches.said})" if batches is not None and batches.same else ""


def _rates(pair: Pair, found: Onset) -> str:
    """The learning rates of the update before the parting, where they are known and differ."""
    at = max(0, (found.apart or 0) - 1)
    first, second = pair.control.lr_at(at).value, pair.test.lr_at(at).value
    if first is None or second is None or abs(first - second) <= 1e-6 * max(abs(first), abs(second)):
        return ""
    return f" (learning rate {first:.4g} and {second:.4g} at iteration {at:,})"
