"""The parts of a `Comparison` that the sentences of its answer read.

The answer belongs to the comparison and reads it; this protocol stands between the two, so that neither file imports
the other in a circle.
"""

from __future__ import annotations

from typing import Protocol

from lossgap.comparison.alignment import Alignment
from lossgap.comparison.differences import Settings
from lossgap.comparison.facts import Facts
from lossgap.comparison.groups import Groups
from lossgap.comparison.rules import Finding, RuledOut
from lossgap.comparison.verdict import Verdict


class Compared(Protocol):
    """A comparison, as far as its answer reads it; see `Comparison` for what each part is."""

    @property
    def control(self) -> Facts:
        """The facts of the control."""

    @property
    def test(self) -> Facts:
        """The facts of the test."""

    @property
    def control_source(self) -> str:
        """The name that the user gave the control."""

    @property
    def test_source(self) -> str:
        """The name that the user gave the test."""

    @property
    def alignment(self) -> Alignment:
        """Both runs at equal places."""

    @property
    def verdict(self) -> Verdict:
        """The verdict on the gap of the last values."""

    @property
    def settings(self) -> Settings:
        """Which settings differ."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Causes, strongest first, then remarks."""

    @property
    def causes(self) -> tuple[Finding, ...]:
        """The findings that explain the gap."""

    @property
    def ruled_out(self) -> tuple[RuledOut, ...]:
        """Causes that were looked for and are not there."""

    @property
    def groups(self) -> Groups | None:
        """The groups behind it, where a side has several runs."""

    @property
    def gap(self) -> float | None:
        """Test minus control of the last values."""
