"""The seam between an experiment and what runs its arms.

An executor takes arms and gives back, in the order of completion, a `Done` for each. It stores nothing and decides
nothing: which arms are needed, what is cached, what is retried is the experiment's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from lossgap.attribution.arm import Arm, ArmResult, Failure


@dataclass(frozen=True, kw_only=True)
class Done:
    """How one arm ended: with a result, or with a kind of failure and one line that describes it."""

    arm: Arm
    result: ArmResult | None = None
    failure: Failure | None = None
    why: str = ""


class Executor(Protocol):
    """Runs arms. Used as a context manager, so that its workers end with it."""

    at_once: int
    """Arms that run at the same time."""

    def run(self, arms: Sequence[Arm]) -> Iterator[Done]:
        """Run all of them, in their order as far as workers are free; yields each as it ends.

        Closing the iterator, or leaving the executor, stops the arms that have not ended.
        """

    def __enter__(self) -> Executor:
        """Start."""

    def __exit__(self, *error: object) -> None:
        """Stop the workers; arms in progress are lost, not damaged."""
