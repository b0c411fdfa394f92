"""`Replay`: everything that is said of a recorded stretch that was repeated. A plain record; renderers show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lossgap.comparison.comparison import NextStep
from lossgap.comparison.verdict import Word
from lossgap.parity import next_step
from lossgap.parity.steps import StepCheck, Steps
from lossgap.parity.trajectory import Shape, Trajectory
from lossgap.random import Split
from lossgap.shown import Shown
from lossgap.training.numerics import Departure, Numerics

DepartureDirection = Literal["forward", "backward", "optimizer", "evaluation"]


@dataclass(frozen=True, kw_only=True)
class HardwareBound:
    """How much of a difference in loss the other hardware and its numerics can make, on the recorded iterations."""

    value: float
    """Nats per token: the envelope, or the measured difference where that is larger."""
    at_iteration: int


@dataclass(frozen=True, kw_only=True)
class FirstDeparture:
    """Where the replay parts from the recording first."""

    iteration: int
    layer: str | None
    """None where every recorded step is right, and only the losses diverge."""
    direction: DepartureDirection | None
    what: str
    """The value of the layer: its output, the gradient of its input; or the shape of the diverging losses."""
    why: str


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The evaluation loss of the free-running state before an iteration, on the recorded windows."""

    iteration: int
    split: Split
    recorded: float
    replayed: float


@dataclass(frozen=True, repr=False, kw_only=True)
class Replay(Shown):
    """A replay of a bundle."""

    source: str
    """The bundle, as the user named it."""
    verdict: Word
    reasons: tuple[str, ...]
    settle: str
    """The step that would decide an undecided verdict; empty if it is decided."""
    margin: float
    """Nats per token that rounding may make and still count as none."""
    steps: Steps
    trajectory: Trajectory
    hardware_bound: HardwareBound | None
    first_departure: FirstDeparture | None
    evaluations: tuple[Evaluated, ...]
    numerics_recorded: Mapping[str, object]
    numerics: Numerics
    departures: tuple[Departure, ...]
    """Settings that ran otherwise than asked."""
    machine_recorded: Mapping[str, object]
    machine_replayed: Mapping[str, object]
    version_recorded: str
    first: int
    iterations: int
    recorded_iterations: int
    """As many as the bundle has; more than `iterations` where a part was asked for."""
    max_iters: int
    """The length of the recorded training."""
    seconds_per_iter: float
    seconds: float
    beyond: NextStep
    """The step that would cover iterations that were not recorded, and its price."""
    fail_on_difference: bool = False
    """The verdict was made a condition: `exit_code` says whether it is met."""

    @property
    def last(self) -> int:
        """The last iteration that was repeated."""
        return self.first + self.iterations - 1

    @property
    def layers(self) -> list[StepCheck]:
        """Return the check that is furthest out for each layer and direction, in the order of the data flow."""
        return self.steps.worst()

    @property
    def shape(self) -> Shape | None:
        """The shape in which the losses diverge; None where they do not."""
        return self.trajectory.shape

    @property
    def next(self) -> tuple[NextStep, ...]:
        """The steps to take now, most useful first: after a fault what finds its cause, else what is not known yet."""
        if self.verdict == "different":
            found = next_step.after_a_fault(
                self.source,
                self.numerics.to_dict(),
                self.version_recorded,
                code_differs=self.steps.code_differs,
                seconds=self.seconds,
            )
            return (found,)
        envelope = self.trajectory.envelope
        if self.verdict == "inconclusive" and envelope is not None:
            shorter = next_step.narrower(
                self.source, envelope.width, self.margin, self.seconds_per_iter, envelope.twins
            )
            return () if shorter is None else (shorter,)
        covered = self.first + self.recorded_iterations > self.max_iters
        return () if self.verdict != "equivalent" or covered else (self.beyond,)

    @property
    def no_bound(self) -> str:
        """Why there is no hardware bound; empty where there is one."""
        if self.hardware_bound is not None:
            return ""
        if self.verdict == "different":
            return "how much of the difference it makes is unknown until the fault is gone"
        return self.trajectory.why or "nothing was judged"

    @property
    def exit_code(self) -> int:
        """0; with `fail_on_difference`: 2 for a replay that is different, 3 for one that cannot be judged."""
        return {"equivalent": 0, "different": 2}.get(self.verdict, 3) if self.fail_on_difference else 0
