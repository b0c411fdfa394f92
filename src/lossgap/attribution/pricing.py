"""From a budget to a number of runs, at a scale: decided once, stored, and the same ever after.

A budget in runs is what it says. In one of FLOPs or of time every arm counts with its own: its FLOPs, or its seconds on
this machine, which are measured. So that a command that is repeated is the same experiment, what was measured is stored
with the two configs and what was asked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path

from lossgap.attribution import scale as scales
from lossgap.attribution.allowance import Allowance
from lossgap.attribution.arm import Measurement
from lossgap.attribution.design import Cost, Design, Switched, design, least_cost, one_order_cost, one_run
from lossgap.attribution.explanation import Scale
from lossgap.attribution.factor import FactorPlan
from lossgap.attribution.speed import Speed, Workers, flops, shape
from lossgap.errors import ConfigError
from lossgap.runs.run_json import replace_file
from lossgap.runs.values import as_float, as_int, as_list, as_mapping

PlanAt = Callable[[Scale], FactorPlan]
MOST_ENUMERATED = 10
"""Up to 2^10 arms are looked at one by one; of more factors, each alone and each left out."""
MOST_BYTES = 1 << 20
SCREENING = 1 / 3
"""Part of the budget that screening takes, at least what gives intervals."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The decisions about an experiment, made before the start."""

    plan: FactorPlan
    scale: Scale
    runs: int
    """Arms of average cost that the budget allows."""
    allowed: float
    """The budget, in the unit of `cost`."""
    cost: Cost
    screening: Design | None
    design: Design | None
    """None where screening decides the factors."""
    speed: Speed

    def arms(self) -> Iterator[tuple[int, Switched]]:
        """Every (training seed, switched) that is known before the start."""
        for part in (self.screening, self.design):
            if part is not None:
                for seed in part.seeds:
                    yield from ((part.training_seed(seed, switched), switched) for switched in part.arms(seed))


@dataclass(frozen=True, kw_only=True)
class Pricing:
    """Everything that the choice depends on."""

    plan_at: PlanAt
    timer: Callable[[Sequence[Mapping[str, object]]], Speed]
    """How fast this machine trains these configs."""
    vocab_size: int
    val_tokens: int
    corpus: str
    """SHA-256 of the tokens."""
    device: str
    allowance: Allowance
    seed: int
    screen: bool
    one_seed: bool
    """True if the trainer offers no seed, so that a second repetition would be the first again."""
    root: Path
    identity: Mapping[str, object]
    """The request, JSON-safe: it names the stored plan, with the configs."""

    def choose(self, wanted: Scale | None) -> Experiment:
        """The stored experiment, or a new one at the scale that is wanted; None takes the first that fits.

        Raises ConfigError: `small-budget`, `out-of-reach` with the scale that would fit.
        """
        known = self._stored()
        if known is not None:
            scale, runs, speed = known
            return self._experiment(self.plan_at(scale), scale, runs, speed)
        found = self._fitting() if wanted is None else self._at(wanted)
        self._store(found)
        return found

    def _at(self, scale: Scale) -> Experiment:
        plan = self.plan_at(scale)
        speed = self._speed(plan)
        cost = self._cost(plan, speed)
        least = self._least(plan.names, cost)
        if self._allowed(speed) < least and self.allowance.unit != "runs":
            raise self._out_of_reach(plan, speed, least)
        return self._experiment(plan, scale, self._runs(plan, speed), speed)

    def _fitting(self) -> Experiment:
        """The first of `scales.STEPS` that gives intervals; FLOPs pick the candidates, measuring decides."""
        reached = self._rate()
        for step in scales.STEPS:
            scale = scales.made(*step)
            plan = self.plan_at(scale)
            by_flops = self._flops(plan)
            if reached is not None and self.allowance.amount * reached < self._least(plan.names, by_flops):
                continue
            speed = self._speed(plan)
            if self._allowed(speed) >= self._least(plan.names, self._cost(plan, speed)):
                return self._experiment(plan, scale, self._runs(plan, speed), speed)
        raise ConfigError(
            "small-budget",
            f"--budget={self.allowance.text}: even at the smallest scale, {step[0]}:{step[1]}, it is less than "
            f"intervals take: give more, or fewer factors (--factor NAME=A,B)",
        )

    def _experiment(self, plan: FactorPlan, scale: Scale, runs: int, speed: Speed) -> Experiment:
        allowed, cost = self._allowed(speed), self._cost(plan, speed)
        screen = self.screen and not self.one_seed
        screening, main = designs(plan.names, allowed, cost, self.seed, screen, one_seed=self.one_seed)
        return Experiment(
            plan=plan,
            scale=scale,
            runs=runs,
            allowed=allowed,
            cost=cost,
            screening=screening,
            design=main,
            speed=speed,
        )

    def _allowed(self, speed: Speed) -> float:
        """The budget in the unit of `_cost`."""
        return self.allowance.amount * (speed.workers.at_once if self.allowance.unit == "seconds" else 1)

    def _cost(self, plan: FactorPlan, speed: Speed) -> Cost:
        """Return the part of the budget that an arm takes."""
        if self.allowance.unit == "runs":
            return one_run
        if self.allowance.unit == "flops":
            return self._flops(plan)
        return cache(lambda switched: self.seconds([plan.settings(switched)], plan, speed))

    def _flops(self, plan: FactorPlan) -> Cost:
        return cache(lambda switched: flops(plan.settings(switched), self.vocab_size))

    def _least(self, names: Sequence[str], cost: Cost) -> float:
        """Return the least cost of intervals; that of one seed, where the trainer offers no other."""
        if self.one_seed:
            return one_order_cost(names, cost, self.seed)
        return least_cost(names, cost)

    def _speed(self, plan: FactorPlan) -> Speed:
        return self.timer([plan.settings(switched) for switched in some_arms(plan.names)])

    def seconds(self, configs: Sequence[Mapping[str, object]], plan: FactorPlan, speed: Speed) -> float:
        """Predicted seconds of these arms, summed."""
        measurement = measured(plan)
        return sum(speed.arm(config, measurement, self.val_tokens, self.vocab_size) for config in configs)

    def _runs(self, plan: FactorPlan, speed: Speed) -> int:
        amount = self.allowance.amount
        if self.allowance.unit == "runs":
            return int(amount)
        arms = [plan.settings(switched) for switched in some_arms(plan.names)]
        if self.allowance.unit == "flops":
            return int(amount * len(arms) / sum(flops(config, self.vocab_size) for config in arms))
        return int(amount * speed.workers.at_once * len(arms) / self.seconds(arms, plan, speed))

    def _rate(self) -> float | None:
        """FLOP/s of all workers on the control's own shape; None where the budget is not in seconds."""
        if self.allowance.unit != "seconds":
            return None
        config = self.plan_at(Scale()).settings(())
        speed = self.timer([config])
        if shape(config) not in speed.seconds:
            return None if speed.per_flop is None else speed.workers.at_once / speed.per_flop
        per_iter = flops({**config, "max_iters": 0}, self.vocab_size)
        return speed.workers.at_once * per_iter / speed.seconds[shape(config)]

    def _out_of_reach(self, plan: FactorPlan, speed: Speed, least: float) -> ConfigError:
        if self.allowance.unit == "flops":
            price = f"{least:.2g}flops"
        else:
            price = f"{least / speed.workers.at_once / 3600:,.2g} hours on this machine"
        return ConfigError(
            "out-of-reach",
            f"--budget={self.allowance.text}: intervals for {len(plan.names)} factors take about "
            f"{price} at this scale: give that much, fewer factors (--factor NAME=A,B), or a scaled-down experiment of "
            "both recipes: --scale=auto",
        )

    # -----------------------------------------------------------------------------------------
    # The stored plan

    @property
    def _path(self) -> Path:
        plan = self.plan_at(Scale())
        content = {
            "asked": dict(self.identity),
            "control": plan.control.to_dict(),
            "test": plan.test.to_dict(),
            "corpus": self.corpus,
            "device": self.device,
        }
        name = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
        return self.root / "plans" / f"{name}.json"

    def _store(self, found: Experiment) -> None:
        content = {
            "runs": found.runs,
            "scale": [found.scale.iterations, found.scale.shape],
            "workers": [found.speed.workers.at_once, found.speed.workers.threads],
            "predicted": found.speed.predicted,
            "per_flop": found.speed.per_flop,
            "seconds": [[list(key), value] for key, value in found.speed.seconds.items()],
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(self._path) as stream:
            stream.write(json.dumps(content).encode())

    def _stored(self) -> tuple[Scale, int, Speed] | None:
        try:
            content = as_mapping(json.loads(self._path.read_bytes()[:MOST_BYTES]))
        except (OSError, ValueError, RecursionError):
            return None
        runs = as_int(content.get("runs"))
        pairs = [[as_int(item) for item in as_list(content.get(name))] for name in ("scale", "workers")]
        seconds = {
            tuple(as_list(key)): as_float(value)
            for key, value in (as_list(item) for item in as_list(content.get("seconds")) if len(as_list(item)) == 2)
        }
        values = {key: value for key, value in seconds.items() if value is not None}
        if runs is None or any(len(pair) != 2 or None in pair for pair in pairs) or len(values) != len(seconds):
            return None
        (iterations, divisor), (at_once, threads) = ([value or 1 for value in pair] for pair in pairs)
        speed = Speed(
            workers=Workers(at_once=at_once, threads=threads),
            seconds=values,
            predicted=as_int(content.get("predicted")) or 0,
            per_flop=as_float(content.get("per_flop")),
        )
        return scales.made(iterations, divisor), runs, speed


def designs(
    names: Sequence[str], allowed: float, cost: Cost, seed: int, screen: bool, *, one_seed: bool = False
) -> tuple[Design | None, Design | None]:
    """(screening, confirmation): with screening the second is decided by the first.

    Raises ConfigError `small-budget`.
    """
    if not screen:
        main = design(names, allowed, seed, cost=cost, single=not one_seed)
        return None, main.part(range(1)) if one_seed else main
    least = least_cost(names, cost)
    first = max(least, SCREENING * allowed)  # the least, where the budget is no more than three times that
    if allowed < 2 * least:
        raise ConfigError(
            "small-budget",
            f"screening takes what intervals take at least, and the confirmation as much if it drops nothing: "
            f"{2 * least / max(allowed, 1e-300):.3g} times the budget; give that much, or leave out --screen",
        )
    return design(names, first, seed, cost=cost), None


def measured(plan: FactorPlan) -> Measurement:
    """The common measurement: the smaller context of the two ends."""
    return Measurement(context=min(plan.control.block_size, plan.test.block_size))


def some_arms(names: Sequence[str]) -> list[Switched]:
    """All combinations, or of many factors the ends, each alone, and each left out."""
    k = len(names)
    if k <= MOST_ENUMERATED:
        return [frozenset(chosen) for size in range(k + 1) for chosen in combinations(names, size)]
    everything = frozenset(names)
    return [
        frozenset(), everything, *(frozenset({name}) for name in names), *(everything - {name} for name in names),
    ]  # fmt: skip
