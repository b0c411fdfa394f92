"""`Comparison`: everything that is said of two runs. A plain record; renderers turn it into text, JSON or a page."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from lossgap.comparison.alignment import Alignment
from lossgap.comparison.answer import Answer, answer
from lossgap.comparison.differences import Settings
from lossgap.comparison.facts import Facts
from lossgap.comparison.groups import Groups
from lossgap.comparison.noise import Noise
from lossgap.comparison.reevaluation import Reevaluation
from lossgap.comparison.rules import Finding, RuledOut
from lossgap.comparison.verdict import Verdict
from lossgap.shown import Shown


@dataclass(frozen=True, kw_only=True)
class NextStep:
    """A step that would settle something: a command, or, where it is empty, the sentence `why` alone."""

    command: str
    why: str
    price: str = ""
    """How long the command takes, in words; empty under a minute, or where that is not known."""

    def to_dict(self) -> dict[str, str]:
        """The step for a JSON document, with its price where there is one."""
        said = {"command": self.command, "why": self.why}
        return {**said, "price": self.price} if self.price else said


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Comparison(Shown):
    """Two runs: `control`, and `test`, of which the gap (test minus control) is asked."""

    control: Facts
    test: Facts
    control_source: str
    """The name that the user gave it: the argument of the command line."""
    test_source: str
    alignment: Alignment
    noise: Noise
    """The noise of the gap between the last values."""
    verdict: Verdict
    settings: Settings
    findings: tuple[Finding, ...]
    """Causes first, strongest first; then remarks in the order of their rules."""
    ruled_out: tuple[RuledOut, ...]
    next: tuple[NextStep, ...]
    max_gap: float | None = None
    reevaluation: Reevaluation | None = None
    """Both runs' checkpoints evaluated alike; None if that was not asked for."""
    groups: Groups | None = None
    """The groups behind it, where a side has several runs: `control` and `test` are then the middle runs."""

    @cached_property
    def answer(self) -> Answer:
        """The answer in one to three sentences, and the facts that it is made of."""
        return answer(self)

    @property
    def gap(self) -> float | None:
        """Test minus control of the last values, in the unit of the metric; None if there is none."""
        return self.alignment.gap("last")

    @property
    def causes(self) -> tuple[Finding, ...]:
        """The findings that explain the gap, strongest first."""
        return tuple(item for item in self.findings if item.role == "cause")

    @property
    def remarks(self) -> tuple[Finding, ...]:
        """The other findings."""
        return tuple(item for item in self.findings if item.role == "remark")

    @property
    def exit_code(self) -> int:
        """0; with `max_gap`: 3 if it cannot be judged, 2 if the upper end of the 95% interval exceeds it.

        What cannot be judged is an inconclusive or not-comparable pair, whatever its interval.
        """
        if self.max_gap is None:
            return 0
        if self.verdict.word in ("inconclusive", "not-comparable") or self.verdict.interval is None:
            return 3
        return 2 if self.verdict.interval[1] > self.max_gap else 0


def exit_code(comparisons: tuple[Comparison, ...]) -> int:
    """The exit code of several: 2 if one exceeds its threshold, else 3 if one cannot be judged, else 0."""
    codes = {item.exit_code for item in comparisons}
    return next((code for code in (2, 3) if code in codes), 0)
