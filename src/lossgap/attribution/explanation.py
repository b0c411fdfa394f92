"""`Explanation`: how a gap divides among its factors. A plain record; renderers turn it into text, JSON or a page."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from lossgap import suggestion
from lossgap.attribution.design import LEAST_SEEDS, least_orders
from lossgap.attribution.factor import Factor, NotSwitched
from lossgap.attribution.settle import seeds_needed
from lossgap.comparison.comparison import NextStep
from lossgap.comparison.verdict import Word
from lossgap.duration import duration
from lossgap.shown import Shown

At = Literal["last", "best"]
Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A number of nats per token with its 95% interval; `value` None, with `why`, where it is not known."""

    value: float | None
    ci: Interval | None = None
    why: str = ""
    """Why the value, or else why the interval, is not known; empty if both are."""


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """One factor's share of the common gap."""

    factor: Factor
    value: float
    ci: Interval | None
    """95%, simultaneous over the factors."""
    verdict: Word
    per_seed: tuple[float, ...]
    """Empty where every arm has a seed of its own."""
    error: float | None = None
    """Standard error, nats per token; None where there is no interval."""
    why: str = ""
    """Why there is no interval; empty if there is one."""


@dataclass(frozen=True, kw_only=True)
class Interaction:
    """Two factors' joint effect beyond the sum of their own (Shapley interaction index); not part of the sum."""

    factors: tuple[str, str]
    value: float
    ci: Interval | None
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class EndEffects:
    """The effect of switching one factor in either recipe, all else being that recipe's: no mean over mixtures.

    The 95% intervals are simultaneous over both ends of all factors.
    """

    factor: str
    in_control: Quantity
    """The control with this factor of the test, minus the control."""
    in_test: Quantity
    """The test, minus the test with this factor of the control."""


@dataclass(frozen=True, kw_only=True)
class Division:
    """The gap at one alignment: last against last, or best against best.

    reported = not_reproduced + measurement + common, and common = sum of contributions + screened_out. What could not
    be switched (`Explanation.not_switched`) is in not_reproduced, with everything else that a new run does not repeat.
    """

    at: At
    reported: Quantity
    """Test minus control as the two runs say it."""
    measurement: Quantity
    """The contribution of the ends' own measurement (own context) beside the common one: mean over seeds of
    (own - common) of the test minus that of the control."""
    common: Quantity
    """The gap of the re-trained ends on the common measurement."""
    ends: tuple[float, float]
    """Mean losses of the re-trained control and test on the common measurement."""
    own_context: tuple[float, float]
    """The gain of each end from its own longer context: own minus common loss, 0 at the common context."""
    contributions: tuple[Contribution, ...]
    """Largest first."""
    interactions: tuple[Interaction, ...]
    """Empty where the design tells none (permutations)."""
    not_reproduced: Quantity
    screened_out: Quantity
    end_effects: tuple[EndEffects, ...] = ()
    """In the order of `contributions`."""
    higher_order: Quantity = Quantity(value=None, why="not measured")
    """Gap of the factors divided minus the sum of the means of both end effects: 0 unless three factors or more
    interact. The sum of the contributions is the gap by construction; this can turn out to be anything."""

    @property
    def remainder(self) -> float:
        """Common gap minus contributions minus screened out: 0 but for rounding, or the runs do not fit."""
        assert self.common.value is not None
        return self.common.value - sum(item.value for item in self.contributions) - (self.screened_out.value or 0.0)


@dataclass(frozen=True, kw_only=True)
class ArmRow:
    """One arm as it ran."""

    factors: tuple[str, ...]
    """Names of the factors switched to the test's level."""
    seed: int | None
    stage: Literal["screening", "confirmation"]
    val_loss: float
    best_val_loss: float
    seconds: float
    run: str
    exact: bool
    cached: bool
    """True if an earlier experiment had trained it."""
    curve: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class FailedArm:
    """An arm that gave no result, after its retries; its seed was replaced."""

    factors: tuple[str, ...]
    seed: int | None
    failure: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much smaller than the runs the experiment is; 1 everywhere for the true scale."""

    iterations: int = 1
    """The iterations and horizons of both ends were divided by this."""
    shape: int = 1
    """Channels, context and batch were divided by this."""
    train_tokens: int = 0
    """The train split was cut to this many tokens, from its beginning; 0: it is whole."""
    rule: str = "the true scale"
    """One sentence: what was divided, and what the numbers are of."""

    @property
    def true(self) -> bool:
        """True if nothing was scaled."""
        return self.iterations == 1 and self.shape == 1


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The budget that was asked for, and what it came to."""

    asked: str
    runs: int
    """Arms that the budget allows, fixed before the start."""
    spent_runs: int
    """Arms trained by this call; cached ones cost nothing."""
    spent_seconds: float
    resolvable: float | None
    """Half width of a contribution's interval that this design was expected to reach; None if no spread is known."""
    resolvable_why: str = ""


@dataclass(frozen=True, kw_only=True)
class DesignSummary:
    """The experiment in words and numbers."""

    kind: Literal["factorial", "permutations"]
    seeds: tuple[int | None, ...]
    """Rounds, where every arm has a seed of its own."""
    arms_per_seed: int
    """The arms of each seed; of the first round, where every arm has a seed of its own."""
    repeated: int = 0
    """Arms that the later rounds train again, where every arm has a seed of its own; 0 if arms share their seeds."""
    screening_seeds: tuple[int, ...] = ()
    replaced_seeds: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OpenFactor:
    """A factor whose contribution is not settled, and how many seeds would settle it."""

    name: str
    seeds: int | None
    """In all; None where no affordable number would."""


@dataclass(frozen=True, repr=False, kw_only=True)
class Explanation(Shown):
    """Two runs and how their gap divides."""

    control: str
    test: str
    """The user's names of the two runs."""
    coordinates: Literal["iterations", "tokens"]
    margin: float
    factors: tuple[Factor, ...]
    """The confirmed ones, then the screened-out ones."""
    screened_out: tuple[str, ...]
    not_switched: tuple[NotSwitched, ...]
    last: Division
    best: Division
    scale: Scale
    design: DesignSummary
    budget: Budget
    arms: tuple[ArmRow, ...]
    failed: tuple[FailedArm, ...] = ()
    notes: tuple[str, ...] = field(default=())
    complete: bool = True
    """False where the experiment was stopped: the numbers are of the seeds that ended."""
    command: str = ""
    """The command line that made it, without its budget, quoted for a shell; empty if a Python call did."""

    def division(self, at: At) -> Division:
        """By name."""
        return self.last if at == "last" else self.best

    @property
    def open_factors(self) -> tuple[OpenFactor, ...]:
        """The factors that are not settled at last or at best, cheapest first."""
        found: dict[str, int | None] = {}
        for division in (self.last, self.best):
            for item in division.contributions:
                if item.verdict != "inconclusive":
                    continue
                factors = len(division.contributions)
                needed = self._needed(item, factors)
                before = found.get(item.factor.name, 0)
                found[item.factor.name] = None if needed is None or before is None else max(needed, before)
        ordered = sorted(found.items(), key=lambda item: math.inf if item[1] is None else item[1])
        return tuple(OpenFactor(name=name, seeds=needed) for name, needed in ordered)

    def _needed(self, item: Contribution, factors: int) -> int | None:
        """Seeds, of all arms where there are all."""
        design, spread = self.design, None
        least = least_orders(factors) if design.kind == "permutations" else LEAST_SEEDS
        if item.error is not None:
            later = len(design.seeds) - 1
            runs = 1 + later * design.repeated / design.arms_per_seed if design.repeated else len(design.seeds)
            spread = item.error * math.sqrt(runs)
        return seeds_needed(item.value, item.ci, self.margin, len(design.seeds), factors, spread, least)

    @property
    def next(self) -> tuple[NextStep, ...]:
        """Commands, each with what it would settle and its price; a sentence for Python, where there was no command."""
        steps = []
        if not self.complete:
            steps.append(self._again(self.budget.asked, "It resumes where it stopped; no arm runs twice."))
        if None in self.design.seeds:
            return tuple(steps)
        affordable = [item for item in self.open_factors if item.seeds is not None]
        if affordable:
            name, seeds = affordable[0].name, affordable[0].seeds or 0
            screening = sum(arm.stage == "screening" for arm in self.arms)
            runs = seeds * self.design.arms_per_seed + screening
            more = max(0, runs - len(self.arms))
            steps.append(
                self._again(
                    f"{runs}runs",
                    f"About {seeds:,} seed{'s' * (seeds != 1)} would settle {name}, if value and spread stay what they "
                    f"are: {more:,} run{'s' * (more != 1)} more{self._price(more)}.",
                )
            )
        return tuple(steps)

    def _price(self, runs: int) -> str:
        """Return what so many runs take at the pace of this experiment, in words; empty where that is not known."""
        if not self.budget.spent_runs or not self.budget.spent_seconds > 0:
            return ""
        return f", about {duration(runs * self.budget.spent_seconds / self.budget.spent_runs)} at the pace of this one"

    def _again(self, budget: str, why: str) -> NextStep:
        """The same experiment with another budget."""
        if self.command:
            return NextStep(command=suggestion.extended(self.command, budget=budget), why=why)
        return NextStep(command="", why=f"{why} Call explain again with budget={budget!r}.")
