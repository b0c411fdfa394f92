"""Groups of runs for every renderer: JSON, and the cells of a table that text and page can show.

lines(groups)        # [GroupLine(place="last", control="3.2785 ± 0.0013 (16)", ...), ...]
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lossgap.comparison.groups import GroupRow, Groups, Sample
from lossgap.report.json_values import Json, finite, with_why

HEADER = ("at", "control: mean ± sd (runs)", "test", "gap", "95% interval", "p")


@dataclass(frozen=True, kw_only=True)
class GroupLine:
    """One row of the table of groups, as text."""

    place: str
    control: str
    test: str
    gap: str
    interval: str
    p: str

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells in the order of `HEADER`."""
        return (self.place, self.control, self.test, self.gap, self.interval, self.p)


def lines(groups: Groups) -> list[GroupLine]:
    """The rows that have a gap."""
    return [_line(row) for row in groups.rows if row.gap is not None]


def notes(groups: Groups) -> list[str]:
    """Notes that a reader of the table must know, one sentence each."""
    said = []
    if groups.mixed:
        shown = ", ".join(groups.mixed[:6]) + (f" and {len(groups.mixed) - 6} more" if len(groups.mixed) > 6 else "")
        said.append(f"The runs of one side differ in more than the seed: {shown}.")
    if groups.spread is not None:
        said.append(f"The spread is given, not measured: sd {groups.spread.sd:.4g} ({groups.spread.source}).")
    return said


def _line(row: GroupRow) -> GroupLine:
    place = row.by if row.at is None else f"{row.by} {row.at:,.6g}"
    interval = row.interval
    return GroupLine(
        place=place,
        control=_sample(row.control),
        test=_sample(row.test),
        gap=f"{row.gap:+.5f}",
        interval="unknown" if interval is None else f"{interval[0]:+.5f} to {interval[1]:+.5f}",
        p="unknown" if row.p is None else f"{row.p:.2g}",
    )


def _sample(sample: Sample | None) -> str:
    if sample is None:
        return "unknown"
    sd = "" if sample.sd is None else f" ± {sample.sd:.5f}"
    return f"{sample.mean:.5f}{sd} ({sample.n})"


def document(groups: Groups) -> Json:
    """The groups as JSON: `groups` of `lossgap.comparison/1`."""
    spread: Json | None = None
    if groups.spread is not None:
        values: Json = {
            "sd": groups.spread.sd,
            "df": finite(groups.spread.df),
            "source": groups.spread.source,
        }
        spread = with_why(values, {"df": "taken as exact"})
    found: Json = {
        "control": [str(facts.run.path) for facts in groups.control],
        "test": [str(facts.run.path) for facts in groups.test],
        "rows": [_row(row) for row in groups.rows],
        "spread": spread,
        "mixed": list(groups.mixed),
        "more": groups.more,
    }
    return with_why(found, {"spread": "it is measured over the runs", "more": "no affordable number would decide"})


def _row(row: GroupRow) -> Json:
    known = row.noise.standard_error is not None
    values: Json = {
        "by": row.by,
        "unit": row.unit,
        "at": finite(row.at),
        "control": _values(row.control),
        "test": _values(row.test),
        "gap": finite(row.gap),
        "standard_error": finite(row.noise.standard_error),
        "df": finite(row.noise.df) if known and math.isfinite(row.noise.df) else None,
        "interval": None if row.interval is None else list(row.interval),
        "p": finite(row.p),
    }
    why = row.why or "each run has its own iteration"
    reasons = dict.fromkeys(("control", "test", "gap", "standard_error", "interval", "p", "at"), why)
    return with_why(values, reasons | {"df": why if row.why else "taken as exact"})


def _values(sample: Sample | None) -> Json | None:
    if sample is None:
        return None
    values: Json = {
        "values": [finite(value) for value in sample.values],
        "n": sample.n,
        "mean": finite(sample.mean),
        "sd": finite(sample.sd),
    }
    return with_why(values, {"sd": "one run shows no spread"})
