"""What one rule says of a pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl

from comparison.made import LAPTOP, curve, run
from lossgap.comparison import compare
from lossgap.comparison.rules import Finding, RuledOut, rules
from lossgap.runs.run import Run

NOTHING: Mapping[str, object] = {}


@dataclass(frozen=True)
class Answer:
    """The findings of one rule after ranking."""

    findings: tuple[Finding, ...]
    ruled_out: tuple[RuledOut, ...]

    @property
    def causes(self) -> tuple[Finding, ...]:
        return tuple(item for item in self.findings if item.role == "cause")

    @property
    def cause(self) -> Finding:
        assert len(self.causes) == 1, self.findings
        return self.causes[0]

    @property
    def remark(self) -> Finding:
        assert not self.causes
        assert len(self.findings) == 1, self.findings
        return self.findings[0]

    @property
    def silent(self) -> bool:
        """No finding; being ruled out is none."""
        return not self.findings

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(need for item in self.findings for need in item.needs)


def ask(id: str, control: Run, test: Run) -> Answer:
    found = compare(control, test, rules=[item for item in rules() if item.id == id], sources=("a.log", "b.log"))
    return Answer(found.findings, found.ruled_out)


def laptop(
    end: float = 1.9,
    *,
    last: int = 2000,
    without: tuple[str, ...] = (),
    also: Mapping[str, object] = NOTHING,
    **changes: object,
) -> Run:
    """The laptop recipe with changes, ending at a val loss of `end`; `without` names settings the record lacks."""
    config = {name: value for name, value in (LAPTOP | dict(also) | changes).items() if name not in without}
    return run(curve(end, last=last), config=config)


def rates(made: Run, rate_of: dict[int, float]) -> Run:
    """The run with logged learning rates."""
    rows = [{"iter": at, "loss": 3.0, "lr": rate} for at, rate in rate_of.items()]
    table = pl.DataFrame({name: [row.get(name) for row in rows] for name in made.iters.columns}, made.iters.schema)
    return replace(made, iters=table)
