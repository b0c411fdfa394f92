"""The small edits that no rule explains: a table of replacements of lines, each tied to its place and its old text.

`corrections.json` holds a list of objects: `line` (counted from 1 in the text that the rules make), `old` and `new`
(lists of lines). `scripts/make_tinyshakespeare_corrections.py` makes it from the original.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

# Another version of the package may have gained or lost lines: `old` is looked for this far from its place.
_SEARCH_LINES = 300


@dataclass(frozen=True)
class Correction:
    """Replace the lines `old`, which begin at line `line` (from 1) of the uncorrected text, by the lines `new`."""

    line: int
    old: tuple[str, ...]
    new: tuple[str, ...]


def shipped_corrections() -> list[Correction]:
    """The corrections that come with this package, in order of their lines."""
    table = json.loads(resources.files(__package__).joinpath("corrections.json").read_text(encoding="utf-8"))
    return [Correction(row["line"], tuple(row["old"]), tuple(row["new"])) for row in table]


def corrected(lines: Sequence[str], corrections: Sequence[Correction]) -> list[str]:
    """`lines` with the corrections applied, in order of their lines.

    A correction whose old text is not found near its place is left out: the text then was right already, or it is
    another text, and the hash of the result tells which.
    """
    result: list[str] = []
    done = 0
    for correction in corrections:
        start = _find(lines, correction, not_before=done)
        if start is not None:
            result += [*lines[done:start], *correction.new]
            done = start + len(correction.old)
    return result + list(lines[done:])


def _find(lines: Sequence[str], correction: Correction, *, not_before: int) -> int | None:
    """The index where `old` stands, nearest to its place; None if it is nowhere near."""
    expected = correction.line - 1
    for distance in range(_SEARCH_LINES + 1):
        for start in {expected - distance, expected + distance}:
            if start >= not_before and tuple(lines[start : start + len(correction.old)]) == correction.old:
                return start
    return None
