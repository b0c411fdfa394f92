"""`bench`: how fast a training is here, by part, how long its start takes, and beside nanoGPT's own trainer.

    found = bench(config, BenchOptions())
    found.update.median               # seconds of one update
    found.race.ratios["wall"]         # with `against`: nanoGPT's seconds over ours, and its interval

Every figure is a median with its quartiles: a machine that does other work besides makes single timings worthless.
Against nanoGPT, cold processes alternate (theirs, ours, ours, theirs, ...), so that what the machine does besides falls
on both alike, and each pair gives one ratio.
"""

from __future__ import annotations

import dataclasses
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lossgap.config import TrainConfig
from lossgap.errors import LossgapError
from lossgap.machine.peak import device_peak
from lossgap.machine.probe import environment
from lossgap.options import BenchOptions
from lossgap.pace.cold_start import ColdRun, cold_run, nanogpts, ours
from lossgap.pace.stopwatch import PARTS, Stand
from lossgap.shown import Shown
from lossgap.strangers import one_line
from lossgap.training.numerics import Numerics

MEASURES = ("wall", "start_up", "update", "evaluation")
"""The times of a cold run that both trainers have."""
LEVEL = 0.95
"""Coverage of a ratio's interval."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Repeated timings, in seconds: median, quartiles, and how many."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        """Summarise one timing or more; the quartiles are those of the sample itself (linear between its values)."""
        if len(seconds) == 1:
            return cls(median=seconds[0], low=seconds[0], high=seconds[0], count=1)
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(median=median, low=low, high=high, count=len(seconds))


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """nanoGPT's time over ours: the geometric mean over pairs, with Student's interval of the pairs' logarithms."""

    mean: float
    low: float | None
    high: float | None
    """None of one pair, which has no spread."""

    @classmethod
    def of(cls, theirs: Sequence[float], own: Sequence[float]) -> Ratio | None:
        """The ratio of pairs of seconds; None where one is not above 0."""
        if not all(value > 0 for value in (*theirs, *own)):
            return None
        logs = [math.log(a / b) for a, b in zip(theirs, own, strict=True)]
        mean = math.fsum(logs) / len(logs)
        if len(logs) < 2:
            return cls(mean=math.exp(mean), low=None, high=None)
        from scipy.stats import t

        half = float(t.ppf((1 + LEVEL) / 2, len(logs) - 1)) * statistics.stdev(logs) / math.sqrt(len(logs))
        return cls(mean=math.exp(mean), low=math.exp(mean - half), high=math.exp(mean + half))


@dataclass(frozen=True, kw_only=True)
class Race:
    """Cold trainings of nanoGPT and of ours in alternation, each of `iters` iterations."""

    iters: int
    theirs: tuple[ColdRun, ...]
    ours: tuple[ColdRun, ...]

    @property
    def ratios(self) -> dict[str, Ratio | None]:
        """For each of `MEASURES`, nanoGPT's time over ours."""
        return {
            name: Ratio.of([getattr(r, name) for r in self.theirs], [getattr(r, name) for r in self.ours])
            for name in MEASURES
        }

    def timing(self, name: str, *, theirs: bool) -> Timing:
        """The timings of one of `MEASURES`."""
        return Timing.of([getattr(run, name) for run in (self.theirs if theirs else self.ours)])


@dataclass(frozen=True, repr=False, kw_only=True)
class Bench(Shown):
    """How fast a training is on this machine."""

    recipe: str
    config: TrainConfig
    numerics: Numerics
    environment: Mapping[str, object]
    update: Timing
    parts: Mapping[str, Timing]
    """By the names of `stopwatch.PARTS`."""
    evaluation: Timing
    """One evaluation as the config asks for it."""
    exact: Timing
    """The exact evaluation that ends a training."""
    start_up: Timing | None
    """From the start of a cold process to its first evaluation; None where `starts` is 0."""
    flops_per_iter: float
    peak: float | None
    peak_source: str
    memory: int
    load: tuple[float, float] | None
    """The machine's load average (one minute) at the start and at the end; None where the system has none."""
    race: Race | None
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Training tokens per second of updates, evaluations left out."""
        return self.config.tokens_per_iter / self.update.median

    @property
    def mfu(self) -> float | None:
        """Model FLOPs of an update over what the peak does in its time (nanoGPT's formula); None without a peak."""
        return self.flops_per_iter / self.update.median / self.peak if self.peak else None


def bench(
    config: TrainConfig, options: BenchOptions, recipe: str = "", say: Callable[[str], None] = lambda line: None
) -> Bench:
    """Measure one training. `say` hears what takes its time.

    Raises LossgapError `nanogpt-not-prepared`, `bench-run-failed`, and what a training's start raises.
    """
    start, before = time.perf_counter(), _load()
    if options.against is not None:
        check_checkout(options.against, config.dataset)
    stand = Stand(config)
    say(f"timing {2 * options.updates} updates")
    updates, by_part = stand.updates(options.updates), stand.parts(options.updates)
    say("timing evaluations")
    evaluations = [stand.evaluation() for _ in range(3)]
    exact = [stand.evaluation("exact") for _ in range(2)]
    numerics = stand.numerics
    peak = device_peak(numerics.device, numerics.dtype, numerics.tf32, numerics.threads)
    with tempfile.TemporaryDirectory(prefix="lossgap-bench-") as folder:
        starts = _starts(config, numerics, options.starts, Path(folder), say)
        race = _race(config, numerics, options, Path(folder), say) if options.against else None
    after = _load()
    return Bench(
        recipe=recipe,
        config=config,
        numerics=numerics,
        environment=environment(numerics.device),
        update=Timing.of(updates),
        parts={name: Timing.of([getattr(item, name) for item in by_part]) for name in PARTS},
        evaluation=Timing.of(evaluations),
        exact=Timing.of(exact),
        start_up=Timing.of(starts) if starts else None,
        flops_per_iter=float(stand.model.flops_per_token() * config.tokens_per_iter),
        peak=peak.flops,
        peak_source=peak.source,
        memory=stand.memory(),
        load=(before, after) if before is not None and after is not None else None,
        race=race,
        seconds=time.perf_counter() - start,
    )


def check_checkout(folder: Path, dataset: str) -> None:
    """Check that a nanoGPT checkout is there with its data prepared. Raises LossgapError `nanogpt-not-prepared`."""
    where = one_line(str(folder))
    if not (folder / "train.py").is_file():
        raise LossgapError("nanogpt-not-prepared", f"--against={where}: there is no train.py; name a nanoGPT checkout")
    data = folder / "data" / dataset
    if not (data / "train.bin").is_file():
        raise LossgapError(
            "nanogpt-not-prepared",
            f"--against={where}: there is no data/{one_line(dataset)}/train.bin; run its prepare.py first",
        )


def _starts(
    config: TrainConfig, numerics: Numerics, count: int, folder: Path, say: Callable[[str], None]
) -> list[float]:
    """Start-up seconds of cold trainings of a few iterations."""
    if count:
        say(f"timing {count} cold starts")
    short = dataclasses.replace(config, eval_iters=1, log_interval=1, final_eval=False, eval_mode="sampled")
    found = []
    for _ in range(count):
        run = cold_run(ours(short, 12, folder / "start"), folder, numerics.threads)
        found.append(run.start_up)
    return found


def _race(
    config: TrainConfig, numerics: Numerics, options: BenchOptions, folder: Path, say: Callable[[str], None]
) -> Race:
    assert options.against is not None
    theirs: list[ColdRun] = []
    own: list[ColdRun] = []
    for pair in range(options.pairs):
        say(f"pair {pair + 1} of {options.pairs}: nanoGPT and lossgap, {options.iters} iterations each")
        for is_theirs in (True, False) if pair % 2 == 0 else (False, True):
            if is_theirs:
                command = nanogpts(config, numerics, options.iters, folder / "theirs")
                theirs.append(cold_run(command, options.against, numerics.threads))
            else:
                own.append(cold_run(ours(config, options.iters, folder / "ours"), folder, numerics.threads))
    return Race(iters=options.iters, theirs=tuple(theirs), ours=tuple(own))


def _load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
