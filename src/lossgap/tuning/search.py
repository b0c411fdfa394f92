"""`search`: the recipe with the lowest val loss that fits a time on this machine, by successive halving on seeds.

1. Every recipe of a stated space (`SPACE`, drawn by a keyed random number) is timed: seconds of an update here.
2. Rung by rung: each recipe that is left is trained with a whole schedule of its own, as many iterations as fit its
   share of the time; the better half goes on to twice the share. The last rung has the whole time.
3. The winner is trained anew on seeds that took no part: their mean is the figure that is given, the rung's is not.

Arms are explain's: an arm that is done is never trained twice, so a search that was stopped goes on. Halving is due to
Jamieson and Talwalkar 2016, arXiv:1502.07943.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lossgap.attribution.arm import Arm, Measurement
from lossgap.attribution.executor import Executor
from lossgap.attribution.explain import Executors, explain_root
from lossgap.attribution.measure import our_arm
from lossgap.config import TrainConfig
from lossgap.corpus import Corpus, open_corpus
from lossgap.errors import ConfigError, LossgapError
from lossgap.pace.stopwatch import Stand
from lossgap.runs.run_json import replace_file
from lossgap.shown import Shown
from lossgap.tuning.written import config_text, write_config

SPACE: Mapping[str, tuple[Mapping[str, object], ...]] = {
    "rate": tuple({"learning_rate": rate, "min_lr": 0.0} for rate in (1e-3, 2e-3, 4e-3, 8e-3)),
    "optimizer": (
        {"optimizer": "adamw"},
        {"optimizer": "muon", "muon_lr": 0.005},
        {"optimizer": "muon", "muon_lr": 0.01},
        {"optimizer": "muon", "muon_lr": 0.02},
    ),
    "shape": tuple(
        {"n_layer": layers, "n_head": 4, "n_embd": width} for layers, width in ((3, 128), (4, 128), (4, 192), (6, 192))
    ),
    "context": tuple({"block_size": context} for context in (64, 128)),
    "batch": tuple({"batch_size": size} for size in (8, 12, 24, 48)),
    "schedule": ({"lr_schedule": "cosine"}, {"lr_schedule": "linear"}, {"lr_schedule": "wsd"}),
    "architecture": ({}, {"rotary": True, "qk_norm": True}, {"rotary": True, "qk_norm": True, "relu2": True}),
}
"""The recipes that take part: one choice of each row. Iterations follow from the time."""
FIRST_SEED, FRESH_SEED = 101, 9001
FEWEST = 20
"""Iterations below which a training says nothing about its recipe."""
WARM_UP = 0.05
"""Part of the iterations in which the learning rate grows, at most 100."""
SHORTEST = 0.5
"""Minutes with which a search for a target begins."""


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """The cost of a search, known before it starts."""

    seconds: float
    """The time that the recipe may take."""
    recipes: int
    rungs: int
    fresh: int

    @property
    def cost(self) -> float:
        """Seconds of training: each rung takes about the whole time once per two recipes of the last one."""
        last = max(1, self.recipes >> (self.rungs - 1))
        return self.seconds * (last * self.rungs + self.fresh)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A recipe, its seconds of an update here, and its last loss."""

    settings: Mapping[str, object]
    update: float
    iterations: int = 0
    val_loss: float = math.inf


@dataclass(frozen=True, repr=False, kw_only=True)
class Found(Shown):
    """The result of a search."""

    plan: SearchPlan
    settings: Mapping[str, object]
    """The winner, complete: what `lossgap train` takes."""
    val_losses: tuple[float, ...]
    """Exact val losses on the fresh seeds, nats per token, at the winner's own context."""
    rungs: tuple[tuple[Candidate, ...], ...]
    """Best first, with the losses of the seed that chose."""
    seconds: float

    @property
    def val_loss(self) -> float:
        """Mean over the fresh seeds."""
        return statistics.fmean(self.val_losses)

    @property
    def spread(self) -> float | None:
        """Standard deviation over the fresh seeds; None of one."""
        return statistics.stdev(self.val_losses) if len(self.val_losses) > 1 else None

    def write(self, path: Path) -> None:
        """Write the winner as a config file. Raises LossgapError `not-written`."""
        title = (
            f"found by `lossgap tune --minutes={self.plan.seconds / 60:g}`: val loss {self.val_loss:.4f} on fresh seeds"
        )
        write_config(path, config_text(self.settings, title, {}))


def search_given(
    config: TrainConfig,
    minutes: float | None,
    target: float | None,
    executors: Executors,
    say: Callable[[str], None],
) -> Found:
    """Search for a time (by default 10 minutes) or for a target, beside explain's experiments. Raises as `search`."""
    corpus, root = open_corpus(config.dataset), explain_root()
    if target is not None:
        return search_target(config, corpus, target, 60.0 if minutes is None else minutes, root, executors, say)
    wanted = plan(10.0 if minutes is None else minutes)
    say(f"{wanted.recipes} recipes: about {wanted.cost / 60:.0f} min of updates; stopped, it goes on where it was")
    return search(config, corpus, wanted, root, executors, say)


def search_target(
    base: TrainConfig,
    corpus: Corpus,
    target: float,
    most: float,
    root: Path,
    executors: Executors,
    say: Callable[[str], None],
) -> Found:
    """Search with times that double, until the mean loss on fresh seeds is at most `target`, or `most` minutes.

    The result's `val_loss` tells whether it was reached. Raises as `search`.
    """
    minutes = min(SHORTEST, most)
    while True:
        say(f"trying for {target:g} in {minutes:g} min of updates")
        found = search(base, corpus, plan(minutes), root, executors, say)
        if found.val_loss <= target or minutes >= most:
            return found
        minutes = min(2 * minutes, most)


def plan(minutes: float, recipes: int = 16, fresh: int = 2) -> SearchPlan:
    """The plan of a search. Raises ConfigError `bad-setting` for a time that is not above 0."""
    if not 0 < minutes < math.inf:
        raise ConfigError("bad-setting", f"--minutes={minutes}: minutes must be above 0; e.g. 10")
    return SearchPlan(seconds=60 * minutes, recipes=recipes, rungs=max(1, recipes.bit_length()), fresh=fresh)


def draw(base: TrainConfig, count: int, seed: int = 1) -> list[dict[str, object]]:
    """So many different recipes of the space, the base's own first; equal for equal arguments."""
    generator = np.random.Generator(np.random.Philox(seed))
    found: list[dict[str, object]] = [{}]
    most = math.prod(len(choices) for choices in SPACE.values())
    while len(found) < min(count, most):
        settings: dict[str, object] = {}
        for choices in SPACE.values():
            settings |= choices[int(generator.integers(len(choices)))]
        if settings not in found:
            found.append(settings)
    return found


def search(
    base: TrainConfig, corpus: Corpus, wanted: SearchPlan, root: Path, executors: Executors, say: Callable[[str], None]
) -> Found:
    """Search. Raises LossgapError `nothing-fits` where no recipe fits the time, and what a training raises."""
    start = time.perf_counter()
    device, threads = Stand(base, corpus).numerics.device, base.threads or Stand(base, corpus).numerics.threads
    candidates = _timed(base, corpus, draw(base, wanted.recipes), root, threads, say)
    rungs: list[tuple[Candidate, ...]] = []
    with executors(root, 1) as executor:
        for rung in range(wanted.rungs):
            share = wanted.seconds / 2 ** (wanted.rungs - 1 - rung)
            say(f"rung {rung + 1} of {wanted.rungs}: {len(candidates)} recipes, {share:.0f} s each")
            arms = [(c, _arm(base, corpus, c, share, FIRST_SEED, device, threads)) for c in candidates]
            losses = _losses(executor, [arm for _, arm in arms if arm is not None])
            done = [
                Candidate(
                    settings=c.settings, update=c.update, iterations=_iterations(c, share), val_loss=losses[arm.key]
                )
                for c, arm in arms
                if arm is not None and arm.key in losses
            ]
            if not done:
                raise LossgapError("nothing-fits", f"no recipe could be trained in {share:.1f} s; take more --minutes")
            done.sort(key=lambda c: c.val_loss)
            rungs.append(tuple(done))
            candidates = done[: max(1, len(done) // 2)]
        winner = rungs[-1][0]
        say(f"the winner on {wanted.fresh} fresh seeds")
        fresh = [
            _arm(base, corpus, winner, wanted.seconds, FRESH_SEED + k, device, threads) for k in range(wanted.fresh)
        ]
        final = _losses(executor, [arm for arm in fresh if arm is not None])
    if not final:
        raise LossgapError("nothing-fits", "the winner gave no loss on a fresh seed; take more --minutes")
    return Found(
        plan=wanted,
        settings=_settings(base, winner, wanted.seconds),
        val_losses=tuple(final.values()),
        rungs=tuple(rungs),
        seconds=time.perf_counter() - start,
    )


def _timed(
    base: TrainConfig,
    corpus: Corpus,
    recipes: Sequence[Mapping[str, object]],
    root: Path,
    threads: int,
    say: Callable[[str], None],
) -> list[Candidate]:
    """Time each recipe once and for all: a search that goes on must have the same arms."""
    name = hashlib.sha256(json.dumps([base.to_dict(), threads, [dict(r) for r in recipes]]).encode()).hexdigest()
    path = root / "searches" / f"{name}.json"
    if path.is_file():
        known = json.loads(path.read_bytes()[: 1 << 20])
        if isinstance(known, list) and len(known) == len(recipes) and all(isinstance(v, float) for v in known):
            return [Candidate(settings=r, update=v) for r, v in zip(recipes, known, strict=True)]
    say(f"timing {len(recipes)} recipes")
    seconds = [update_seconds(TrainConfig.from_dict({**base.to_dict(), **r}), corpus) for r in recipes]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as stream:
        stream.write(json.dumps(seconds).encode())
    return [Candidate(settings=r, update=v) for r, v in zip(recipes, seconds, strict=True)]


def update_seconds(config: TrainConfig, corpus: Corpus) -> float:
    """Seconds of one update here: the median of five."""
    return statistics.median(Stand(config, corpus).updates(5))


def _iterations(candidate: Candidate, share: float) -> int:
    return int(share / candidate.update)


def _settings(base: TrainConfig, candidate: Candidate, share: float) -> dict[str, object]:
    length = _iterations(candidate, share)
    horizon = {"max_iters": length, "lr_decay_iters": length, "warmup_iters": min(100, int(WARM_UP * length))}
    return {**base.to_dict(), **candidate.settings, **horizon}


def _arm(
    base: TrainConfig, corpus: Corpus, candidate: Candidate, share: float, seed: int, device: str, threads: int
) -> Arm | None:
    """The arm of a recipe that has so many seconds; None where too few iterations fit."""
    if _iterations(candidate, share) < FEWEST:
        return None
    settings = TrainConfig.from_dict(_settings(base, candidate, share)).to_dict() | {"seed": TrainConfig.seed}
    measurement = Measurement(context=TrainConfig.from_dict(settings).block_size, evaluations=4)
    return our_arm(settings, seed, measurement, corpus, device, threads)


def _losses(executor: Executor, arms: Sequence[Arm]) -> dict[str, float]:
    """The final exact val loss of each arm that gave one, by its key."""
    return {done.arm.key: done.result.own_val_loss for done in executor.run(arms) if done.result is not None}
