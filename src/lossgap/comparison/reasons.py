"""Causes in plain words, for the answer's first sentence and for one line each.

`because` says a cause from the side of the run that ends lower ("it is another experiment: 13x the parameters, ..."),
`brief` says it neutrally, with its size ("13.4x the parameters"). Both read the numbers of a finding, never its text; a
rule without an entry is said by its title.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from lossgap.comparison.compared import Compared
from lossgap.comparison.rules import Finding

Names = tuple[str, str]


def because(finding: Finding, comparison: Compared, names: Names) -> str:
    """Why the lower run is lower, as a half sentence behind `because`; empty where the rule has none."""
    gap = comparison.gap or 0.0
    lower = 1 if gap < 0 else 0
    found = _BECAUSE.get(finding.id)
    return found(finding.numbers, lower, names) if found is not None else ""


def brief(finding: Finding, comparison: Compared, names: Names) -> str:
    """A cause in one line: what differs, by how much, and what share of the gap the rule expects of it."""
    found = _BRIEF.get(finding.id)
    said = (found(finding.numbers) if found is not None else "") or named(finding.title, names)
    effect = finding.effect
    if effect is None or finding.id == "different-recipes":
        return said
    gap = comparison.gap
    share = "all of it" if gap is not None and abs(effect - gap) < 5e-4 else f"about {effect:+.2g}"
    return f"{said}: {share}"


def named(text: str, names: Names) -> str:
    """`text` with the runs' names in place of `the control` and `the test`."""
    return re.sub(r"\b[Tt]he (control|test)\b", lambda found: names[0 if found[1] == "control" else 1], text)


def times(ratio: float, what: str) -> str:
    """`13x the parameters`, `1/13 of the parameters`."""
    size = ratio if ratio >= 1 else 1 / ratio
    said = f"{size:,.0f}" if size >= 10 else f"{size:.2g}"
    return f"{said}x {what}" if ratio >= 1 else f"1/{said} of {what}"


# ---------------------------------------------------------------------------------------------
# By rule: the lower run's side


def _number(numbers: Mapping[str, object], name: str) -> float | None:
    value = numbers.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _ratio(numbers: Mapping[str, object], name: str, lower: int) -> float | None:
    """A number that is test over control, as lower over other."""
    value = _number(numbers, name)
    return None if not value or value <= 0 else (value if lower == 1 else 1 / value)


def _sides(numbers: Mapping[str, object], lower: int) -> tuple[float, float] | None:
    """The numbers `control` and `test`, the lower run's first."""
    both = _number(numbers, "control"), _number(numbers, "test")
    if both[0] is None or both[1] is None:
        return None
    return (both[1], both[0]) if lower else (both[0], both[1])


def _another_experiment(numbers: Mapping[str, object], lower: int, names: Names) -> str:
    found = [
        times(ratio, f"the {name}")
        for name in ("parameters", "tokens", "FLOPs", "iterations")
        if (ratio := _ratio(numbers, name, lower)) is not None and abs(ratio - 1) > 0.05
    ]
    return f"it is another experiment{': ' if found else ''}{', '.join(found[:2])}"


def _capacity(numbers: Mapping[str, object], lower: int, names: Names) -> str:
    both = _sides(numbers, lower)
    if both is None or min(both) <= 0:
        return ""
    return f"its model has {times(both[0] / both[1], 'the parameters')} ({both[0]:,.0f} and {both[1]:,.0f})"


def _length(numbers: Mapping[str, object], lower: int, names: Names) -> str:
    both = _sides(numbers, lower)
    if both is None:
        return ""
    longer = "longer" if both[0] > both[1] else "less"
    return f"it trained {longer} ({both[0]:,.0f} iterations, the other {both[1]:,.0f})"


def _batch(numbers: Mapping[str, object], lower: int, names: Names) -> str:
    both = _sides(numbers, lower)
    ratio = _ratio(numbers, "ratio", lower)
    if both is not None and min(both) > 0:
        ratio = both[0] / both[1]
    return "" if ratio is None else f"each of its updates reads {times(ratio, 'the tokens')}"


def _context(numbers: Mapping[str, object], lower: int, names: Names) -> str:
    both = _sides(numbers, lower)
    return "" if both is None else f"it sees {both[0]:,.0f} tokens of context, the other {both[1]:,.0f}"


def _two(what: str) -> Callable[[Mapping[str, object], int, Names], str]:
    """`its WHAT is 0.2, that of the other 0`."""

    def said(numbers: Mapping[str, object], lower: int, names: Names) -> str:
        both = _sides(numbers, lower)
        return "" if both is None else f"its {what} is {both[0]:.3g}, that of the other {both[1]:.3g}"

    return said


def _overfits(numbers: Mapping[str, object], lower: int, names: Names) -> str:
    other = "control" if lower else "test"
    above = _number(numbers, f"{other}_above_best")
    return "" if above is None else f"{names[1 - lower]} overfits: that one ends {above:.2f} above its own best"


def _off(numbers: Mapping[str, object], lower: int, names: Names) -> str:
    val, expected = _number(numbers, "val"), _number(numbers, "reference")
    name = names[0 if numbers.get("run") == "control" else 1]
    if val is None or expected is None:
        return ""
    return f"{name} is not what its recipe gives ({val:.4g}, expected {expected:.4g})"


_BECAUSE: dict[str, Callable[[Mapping[str, object], int, Names], str]] = {
    "different-recipes": _another_experiment,
    "capacity": _capacity,
    "length": _length,
    "batch": _batch,
    "context": _context,
    "dropout": _two("dropout"),
    "learning-rate": _two("peak learning rate"),
    "weight-decay": _two("weight decay"),
    "overfitting": _overfits,
    "recipe-result": _off,
}


# ---------------------------------------------------------------------------------------------
# By rule: one line


def _pair(what: str, form: str = ",.0f") -> Callable[[Mapping[str, object]], str]:
    """`WHAT 64 and 256`, of the control and of the test."""

    def said(numbers: Mapping[str, object]) -> str:
        both = _sides(numbers, 0)
        return "" if both is None else f"{what} {both[0]:{form}} and {both[1]:{form}}"

    return said


def _recipes(numbers: Mapping[str, object]) -> str:
    found = [
        times(ratio, name)
        for name in ("parameters", "tokens", "FLOPs")
        if (ratio := _number(numbers, name)) is not None and abs(ratio - 1) > 0.005
    ]
    return f"two recipes: {', '.join(found[:2])}" if found else ""


def _others(numbers: Mapping[str, object]) -> str:
    names = list(numbers)
    return f"other settings: {', '.join(names[:3])}{' and more' if len(names) > 3 else ''}" if names else ""


_BRIEF: dict[str, Callable[[Mapping[str, object]], str]] = {
    "different-recipes": _recipes,
    "capacity": _pair("parameters"),
    "length": _pair("iterations"),
    "batch": _pair("sequences per update"),
    "context": _pair("context"),
    "dropout": _pair("dropout", "g"),
    "learning-rate": _pair("peak learning rate", ".3g"),
    "weight-decay": _pair("weight decay", "g"),
    "other-settings": _others,
}
