"""An executor without trainings: arms have a made-up loss, and end as a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lossgap.attribution import measure
from lossgap.attribution.arm import Arm, ArmResult, Failure, Measurement
from lossgap.attribution.design import Switched
from lossgap.attribution.executor import Done, Executor

Fate = Callable[[Arm, int], Failure | None]
"""(arm, how often it was tried before) -> how it fails; None gives its result."""


def arm_of(switched: Switched, seed: int) -> Arm:
    """An arm whose config names its factors."""
    measurement = Measurement(context=8)
    return Arm(config=dict.fromkeys(sorted(switched), True), seed=seed, measurement=measurement, corpus="", code="")


def name_of(arm: Arm) -> str:
    """As in `ab1`: factors a and b switched, seed 1."""
    return "".join(sorted(arm.config)) + str(arm.seed)


def loss_of(arm: Arm) -> float:
    """1 + the seed's shift + 0.1 for a, 0.2 for b, ..., so that every sum is known."""
    return 1.0 + 0.01 * (arm.seed or 0) + sum(0.1 * (ord(name) - ord("a") + 1) for name in arm.config)


def result_of(arm: Arm) -> ArmResult:
    """What the arm gives."""
    loss = loss_of(arm)
    return ArmResult(
        key=arm.key,
        val_loss=loss,
        best_val_loss=loss - 0.05,
        own_val_loss=loss,
        own_best_val_loss=loss - 0.05,
        best_iter=9,
        exact=True,
        standard_error=0.0,
        seconds=2.0,
        run="nowhere",
    )


class FakeExecutor(Executor):
    """Runs arms in order, `stores` their results as a worker on this machine does, and remembers what it was asked."""

    def __init__(self, root: Path, fate: Fate = lambda arm, tried: None, *, stores: bool = True) -> None:
        self.at_once = 1
        self.root, self.fate, self.stores = root, fate, stores
        self.rounds: list[list[str]] = []
        self.ran: list[str] = []
        self.closed = 0
        """Rounds that were ended before their last arm."""

    def __enter__(self) -> FakeExecutor:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def run(self, arms: Sequence[Arm]) -> Iterator[Done]:
        self.rounds.append([name_of(arm) for arm in arms])
        try:
            for arm in self.ordered(arms):
                failure = self.fate(arm, self.ran.count(name_of(arm)))
                self.ran.append(name_of(arm))
                if failure is None and self.stores:
                    measure.keep(result_of(arm), self.root)
                result = result_of(arm) if failure is None else None
                yield Done(arm=arm, result=result, failure=failure, why="as planned" if failure else "")
        except GeneratorExit:
            self.closed += 1
            raise

    def ordered(self, arms: Sequence[Arm]) -> Sequence[Arm]:
        """The order in which they end."""
        return arms
