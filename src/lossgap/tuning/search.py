"""`Search`: the recipe with the lowest val loss that fits a time on this machine, by successive halving on seeds.

1. An update of the recipe is timed; the number of rungs and of recipes (`space.py`) follow from it and from the time.
2. Rung by rung: each recipe that is left is trained with a whole schedule of its own, as many iterations as fit its
   share of the time; the better half goes on to twice the share. The last rung, of two recipes, has half the time.
3. The winner is trained for the whole time on seeds that took no part: their mean is the figure that is given.

A time in which the shortest trainings would tell nothing is given to the recipe as it stands, and `Found.why` says so.
Arms are explain's: an arm that is done is never trained twice, so a search that was stopped goes on. Halving is due to
Jamieson and Talwalkar 2016, arXiv:1502.07943.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lossgap.attribution.arm import Arm, Measurement
from lossgap.attribution.executor import Done, Executor
from lossgap.attribution.explain import Executors, explain_root
from lossgap.attribution.measure import our_arm
from lossgap.config import TrainConfig
from lossgap.corpus import open_corpus
from lossgap.errors import LossgapError
from lossgap.pace.stopwatch import Stand
from lossgap.shown import Shown
from lossgap.tuning.search_price import SearchPlan, SearchPrice, plan, tries
from lossgap.tuning.space import candidates
from lossgap.tuning.update_time import UpdateClock, real_update
from lossgap.tuning.written import config_text, write_config

FIRST_SEED, FRESH_SEED = 101, 9001
FEWEST = 20
"""Iterations below which a recipe's training takes no part in a rung."""
WARM_UP = 0.05
"""Part of the iterations in which the learning rate grows, at most 100."""
WRONG = 2.0
"""A timing that a training's real time contradicts by this factor is replaced by it."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A recipe, its seconds of an update here, and its last loss."""

    settings: Mapping[str, object]
    """The changes to the recipe that the search began with."""
    update: float
    iterations: int = 0
    val_loss: float = math.inf


@dataclass(frozen=True, repr=False, kw_only=True)
class Found(Shown):
    """The result of a search."""

    plan: SearchPlan
    target: float | None
    settings: Mapping[str, object]
    """The winner, complete: what `lossgap train` takes."""
    changes: Mapping[str, object]
    """The winner as changes to the recipe that the search began with; its horizon goes without saying."""
    val_losses: tuple[float, ...]
    """Exact val losses on the fresh seeds, nats per token, at the winner's own context."""
    rungs: tuple[tuple[Candidate, ...], ...]
    """Best first, with the losses of the seed that chose; none where the time is too short to choose."""
    load: tuple[float, float] | None
    """Load averages at the start and at the end."""
    seconds: float
    why: str = ""
    """Why no other recipe was preferred to the one that the search began with; empty where that was tried."""

    @property
    def val_loss(self) -> float:
        """Mean over the fresh seeds."""
        return statistics.fmean(self.val_losses)

    @property
    def spread(self) -> float | None:
        """Standard deviation over the fresh seeds; None of one."""
        return statistics.stdev(self.val_losses) if len(self.val_losses) > 1 else None

    @property
    def reached(self) -> bool | None:
        """True where the mean of the fresh seeds is at the target; None without a target."""
        return None if self.target is None else self.val_loss <= self.target

    def write(self, path: Path) -> None:
        """Write the winner as a config file. Raises LossgapError `not-written`."""
        title = (
            f"found by `lossgap tune --minutes={self.plan.seconds / 60:g}`: val loss {self.val_loss:.4f} on fresh seeds"
        )
        write_config(path, config_text(self.settings, title, {}))


class Search:
    """A search that has its price and was not started. Raises what a training's start raises, ConfigError."""

    def __init__(
        self, base: TrainConfig, minutes: float | None, target: float | None, executors: Executors, say: Say
    ) -> None:
        self.base, self.target, self.executors = base, target, executors
        self.corpus, self.root = open_corpus(base.dataset), explain_root()
        numerics = Stand(base, self.corpus).numerics
        self.device, self.threads = numerics.device, base.threads or numerics.threads
        default = 10.0 if target is None else 60.0
        most = default if minutes is None else minutes
        plan(most, 1.0)  # refuses a time that is none, before anything is timed
        say("timing the recipe as it stands")
        update = self._clock(most).seconds(base, self.corpus)
        times = tries(most) if target is not None else [most]
        plans = tuple(plan(one, update) for one in times)
        first = tuple(candidates(base, plans[-1].recipes))
        self.price = SearchPrice(plans=plans, target=target, recipes=first, load=load())

    def run(self, say: Say) -> Found:
        """Search; for a target with times that double, until it is reached or the last time is over.

        Raises LossgapError `nothing-fits` where not one update fits the time, and what a training raises.
        """
        for wanted in self.price.plans:
            if self.target is not None:
                say(f"trying for {self.target:g} in {wanted.seconds / 60:g} min of updates")
            found = self._found(wanted, say)
            if found.reached:
                break
        return found

    def _clock(self, minutes: float) -> UpdateClock:
        content = json.dumps([self.base.to_dict(), self.threads, minutes])
        name = hashlib.sha256(content.encode()).hexdigest()
        return UpdateClock(self.root / "searches" / f"{name}.json", self.threads)

    def _found(self, wanted: SearchPlan, say: Say) -> Found:
        start, before = time.perf_counter(), load()
        rungs: list[tuple[Candidate, ...]] = []
        left = self._timed(wanted, say)
        with self.executors(self.root, 1) as executor:
            for rung in range(wanted.rungs):
                done = self._rung(executor, wanted, rung, left, say)
                if not done:
                    break
                rungs.append(tuple(done))
                left = done[: max(1, len(done) // 2)]
            winner = left[0]
            say(f"the winner on {wanted.fresh} fresh seeds")
            losses = self._fresh(executor, winner, wanted)
        after = load()
        return Found(
            plan=wanted,
            target=self.target,
            settings=self._settings(winner, wanted.seconds),
            changes=winner.settings,
            val_losses=losses,
            rungs=tuple(rungs),
            load=(before, after) if before is not None and after is not None else None,
            seconds=time.perf_counter() - start,
            why="" if rungs else _why_alone(wanted),
        )

    def _timed(self, wanted: SearchPlan, say: Say) -> list[Candidate]:
        """The recipes that begin, with their seconds of an update; one that cannot start takes no part."""
        recipes, clock = candidates(self.base, wanted.recipes), self._clock(wanted.seconds / 60)
        if len(recipes) > 1:
            say(f"timing {len(recipes)} recipes")
        found = [Candidate(settings={}, update=wanted.update)]
        for settings in recipes[1:]:
            try:
                update = clock.seconds(TrainConfig.from_dict({**self.base.to_dict(), **settings}), self.corpus)
            except LossgapError as error:
                say(f"left out: {_words(settings)}: {error}")
                continue
            found.append(Candidate(settings=settings, update=update))
        return found

    def _rung(
        self, executor: Executor, wanted: SearchPlan, rung: int, those: Sequence[Candidate], say: Say
    ) -> list[Candidate]:
        """Train each; those that gave a loss, best first, with a wrong timing replaced by what the training took."""
        share = wanted.share(rung)
        say(f"rung {rung + 1} of {wanted.rungs}: {len(those)} recipes, {share:.0f} s each")
        enough = [one for one in those if _iterations(one.update, share) >= FEWEST]
        arms = [self._arm(one, share, FIRST_SEED) for one in enough]
        of = {arm.key: one for arm, one in zip(arms, enough, strict=True)}
        found = []
        for done in executor.run(arms):
            one = of[done.arm.key]
            if done.result is None:
                say(f"left out: {_words(one.settings)}: {done.why}")
                continue
            found.append(
                Candidate(
                    settings=one.settings,
                    update=_corrected(one.update, real_update(done.result.run)),
                    iterations=_iterations(one.update, share),
                    val_loss=done.result.own_val_loss,
                )
            )
        return sorted(found, key=lambda one: one.val_loss)

    def _fresh(self, executor: Executor, winner: Candidate, wanted: SearchPlan) -> tuple[float, ...]:
        """The winner's losses on the fresh seeds, in the order of the seeds."""
        if _iterations(winner.update, wanted.seconds) < 1:
            raise LossgapError(
                "nothing-fits",
                f"one update takes {winner.update:.2g} s, {wanted.seconds:.2g} s are given; take more --minutes",
            )
        arms = [self._arm(winner, wanted.seconds, FRESH_SEED + k) for k in range(wanted.fresh)]
        every: list[Done] = list(executor.run(arms))
        losses = {done.arm.key: done.result.own_val_loss for done in every if done.result is not None}
        if not losses:
            raise LossgapError("nothing-fits", f"the winner gave no loss on a fresh seed: {every[0].why}")
        return tuple(losses[arm.key] for arm in arms if arm.key in losses)

    def _settings(self, one: Candidate, share: float) -> dict[str, object]:
        length = _iterations(one.update, share)
        horizon = {"max_iters": length, "lr_decay_iters": length, "warmup_iters": min(100, int(WARM_UP * length))}
        return {**self.base.to_dict(), **one.settings, **horizon}

    def _arm(self, one: Candidate, share: float, seed: int) -> Arm:
        config = TrainConfig.from_dict(self._settings(one, share))
        settings = dataclasses.replace(config, seed=TrainConfig.seed).to_dict()
        measurement = Measurement(context=config.block_size, evaluations=4)
        return our_arm(settings, seed, measurement, self.corpus, self.device, self.threads)


def _words(settings: Mapping[str, object]) -> str:
    """A recipe as what it changes."""
    return " ".join(f"{name}={value}" for name, value in settings.items()) or "as it stands"


def load() -> float | None:
    """The load average of the last minute; None on a system without one."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _iterations(update: float, share: float) -> int:
    return int(share / update)


def _corrected(timed: float, real: float | None) -> float:
    return real if real is not None and max(real / timed, timed / real) >= WRONG else timed


def _why_alone(wanted: SearchPlan) -> str:
    if wanted.rungs:
        return "no training of the first rung gave a loss"
    return (
        f"the time holds {_iterations(wanted.update, wanted.seconds):,} updates of it, too few to prefer another recipe"
    )
