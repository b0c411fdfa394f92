"""Names of the two runs of a comparison in sentences: their own names, shortened, and never the same one twice."""

from __future__ import annotations

from pathlib import PurePath

from lossgap.comparison.compared import Compared
from lossgap.strangers import visible

LONGEST = 40
"""Characters of a name in a sentence."""


def names(comparison: Compared) -> tuple[str, str]:
    """The control's and the test's name.

    In this order, the first that tells the two apart: the part of the names before a comma, the names, the ends of the
    paths that the user gave, the names with `control` and `test` behind them.
    """
    whole = _counted(comparison, 0), _counted(comparison, 1)
    heads = whole[0].partition(", ")[0], whole[1].partition(", ")[0]
    for first, second in (heads, whole, _paths(comparison)):
        both = middle_cut(first), middle_cut(second)
        if both[0] != both[1] and all(both):
            return both
    return f"{middle_cut(whole[0])} (control)", f"{middle_cut(whole[1])} (test)"


def _counted(comparison: Compared, side: int) -> str:
    """The name of a run, with the number of runs behind it where a side has several."""
    facts = (comparison.control, comparison.test)[side]
    groups = comparison.groups
    runs = 1 if groups is None else len((groups.control, groups.test)[side])
    name = " ".join(visible(facts.run.name).split())
    return name if runs == 1 else f"{_stem(name)} ({runs} runs)"


def _stem(name: str) -> str:
    """A name without the number that tells repetitions apart: `seed` of `seed-3`."""
    return name.rstrip("0123456789").rstrip("-_. ") or name


def _paths(comparison: Compared) -> tuple[str, str]:
    """The shortest different ends of the two sources: `a/train.log` and `b/train.log`."""
    sources = visible(comparison.control_source), visible(comparison.test_source)
    parts = PurePath(sources[0]).parts, PurePath(sources[1]).parts
    for length in range(1, max(map(len, parts)) + 1):
        ends = "/".join(parts[0][-length:]), "/".join(parts[1][-length:])
        if ends[0] != ends[1]:
            return ends
    return sources


def middle_cut(name: str, most: int = LONGEST) -> str:
    """At most so many characters of a name, its beginning and its end: names of one series differ at the end."""
    if len(name) <= most:
        return name
    end = (most - 1) * 2 // 5
    return f"{name[: most - 1 - end].rstrip()}…{name[-end:].lstrip()}"
