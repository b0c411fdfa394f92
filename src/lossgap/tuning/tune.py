"""`tune`: which settings are faster on this machine, how much, and what each does to the loss.

    found = tune(config, "shakespeare_char_cpu")
    found.trials                       # every setting that was tried, against the recipe
    found.faster()                     # settings that change only the speed, and are faster here
    found.write(Path("fast.py"))       # a config that `lossgap train fast.py` takes

Settings that change only the speed are apart from those that change the run. Among the former, a thread count that
leaves every bit alone is told from one that changes rounding: the parameters after a few updates are compared.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lossgap.config import TrainConfig
from lossgap.corpus import Corpus, open_corpus
from lossgap.machine.probe import environment, usable_cores
from lossgap.pace.stopwatch import Stand
from lossgap.shown import Shown
from lossgap.training.numerics import Numerics, training_attention
from lossgap.tuning.trial import Kind, Trial, alternate, compiled, first_bits, free_memory, thread_counts
from lossgap.tuning.written import config_text, write_config

SECONDS = 55.0
"""The time that the trials may take together; those that do not fit say so."""
LENGTHS = (2000, 5000)
"""Iterations whose minutes the table says."""
FASTER = 1.03
"""Ratios below this are no reason to change a setting: alternating medians of one setting with itself scatter so."""
ROUNDING = "rounding only"
BATCH = 24


@dataclass(frozen=True, repr=False, kw_only=True)
class Tuned(Shown):
    """The findings of the trials."""

    recipe: str
    config: TrainConfig
    numerics: Numerics
    environment: Mapping[str, object]
    update: float
    """Seconds of one update of the recipe as it stands."""
    evaluation: float
    """Seconds of one evaluation as the config asks for it."""
    trials: tuple[Trial, ...]
    load: tuple[float, float] | None
    seconds: float

    def minutes(self, trial: Trial | None, iters: int) -> float | None:
        """Minutes of so many iterations: start, updates, evaluations. `trial` None is the recipe as it stands."""
        update = self.update if trial is None else trial.update
        if update is None:
            return None
        config = self.config if trial is None else _with(self.config, trial.settings)
        evaluation = self.evaluation
        if config.eval_mode == self.config.eval_mode:
            evaluation *= config.eval_iters / self.config.eval_iters
        count = iters // config.eval_interval + 1
        return ((0.0 if trial is None else trial.start) + update * (iters + 1) + evaluation * count) / 60

    def faster(self, iters: int | None = None) -> dict[str, object]:
        """Settings that change only the speed and shorten a run of so many iterations (by default the config's).

        One that changes rounding counts, one that changes the dtype does not: that is asked for by name or not at all.
        """
        iters = self.config.max_iters if iters is None else iters
        found: dict[str, object] = {}
        now = self.minutes(None, iters)
        best: dict[str, float] = {}
        for trial in self.trials:
            then = self.minutes(trial, iters)
            name = next(iter(trial.settings))
            if trial.kind != "speed" or name == "dtype" or trial.ratio is None or then is None or now is None:
                continue
            gain = now / then
            if trial.ratio >= FASTER and gain > best.get(name, 1.0):
                best[name] = gain
                found.update(trial.settings)
        return found

    def write(self, path: Path) -> None:
        """Write the recipe with the faster settings as a config file. Raises LossgapError `not-written`."""
        chosen = self.faster()
        notes = {
            name: f"{trial.ratio:.2f} times as fast; {trial.loss}"
            for trial in self.trials
            for name, value in trial.settings.items()
            if trial.ratio is not None and name in chosen and chosen[name] == value
        }
        title = f"{self.recipe}, with what `lossgap tune` found faster on this machine"
        write_config(path, config_text({**self.config.to_dict(), **chosen}, title, notes))


def tune(config: TrainConfig, recipe: str = "", say: Callable[[str], None] = lambda line: None) -> Tuned:
    """Try settings against `config` for at most about a minute. Raises what a training's start raises."""
    start, before = time.perf_counter(), _load()
    corpus = open_corpus(config.dataset)
    # What `auto` means here is fixed, so that a trial differs from the recipe in its own setting alone.
    base = Stand(config, corpus)
    fixed = dataclasses.replace(config, threads=base.numerics.threads, compile=False)
    base = Stand(fixed, corpus)
    say("timing the recipe as it stands")
    base.updates(1)
    update = statistics.median(base.updates(1 if base.slowest > 1 else 5))
    evaluation = base.evaluation()
    these = _Trials(fixed, base, corpus, start + SECONDS, say)
    trials = [*these.threads(), *these.attention(), *these.dtype(), these.batch(), these.longer(update)]
    trials += [these.fewer_evaluations(update), these.compile(update)]  # last: it takes the time that is left
    after = _load()
    return Tuned(
        recipe=recipe,
        config=config,
        numerics=base.numerics,
        environment=environment(base.numerics.device),
        update=update,
        evaluation=evaluation,
        trials=tuple(trials),
        load=(before, after) if before is not None and after is not None else None,
        seconds=time.perf_counter() - start,
    )


class _Trials:
    """The trials of one recipe, until the time is over."""

    def __init__(
        self, config: TrainConfig, base: Stand, corpus: Corpus, end: float, say: Callable[[str], None]
    ) -> None:
        self.config, self.base, self.corpus, self.end, self.say = config, base, corpus, end, say
        self.bits = first_bits(Stand(config, corpus))

    def threads(self) -> list[Trial]:
        """Other thread counts, on a CPU."""
        if self.base.numerics.device_type != "cpu":
            return []
        return [self._speed({"threads": n}) for n in thread_counts(usable_cores() or 1, self.base.numerics.threads)]

    def attention(self) -> list[Trial]:
        """The other attention kernel, where dropout leaves the choice."""
        if training_attention(self.config, self.base.numerics) != self.base.numerics.attention:
            return []
        return [self._speed({"attention": "plain" if self.base.numerics.attention == "fused" else "fused"})]

    def dtype(self) -> list[Trial]:
        """Half precision: bfloat16, after the canary has passed it."""
        if self.base.numerics.dtype != "float32":
            return []
        settings = {"dtype": "bfloat16"}
        if self._late():
            return [self._left_out(settings, "speed")]
        from lossgap.kernels.check import check

        other = Stand(dataclasses.replace(self.config, dtype="bfloat16"), self.corpus)
        self.say("holding this device's bfloat16 kernels against float64")
        faults = check(other.config, other.model.config, other.numerics, other.config.batch_size).faults
        if faults:
            why = f"the canary finds {faults[0].words()}"
            return [dataclasses.replace(self._left_out(settings, "speed"), why=why)]
        return [self._speed(settings)]

    def batch(self) -> Trial:
        """A larger batch, if memory allows."""
        size = BATCH if self.config.batch_size < BATCH else 2 * self.config.batch_size
        settings = {"batch_size": size}
        need = self.base.memory() * size // self.config.batch_size
        if need > free_memory(self.base.numerics.device):
            why = f"it may need {need >> 20:,} MiB, more than is free"
            return dataclasses.replace(self._left_out(settings, "run"), why=why)
        return self._try(settings, "run")

    def longer(self, update: float) -> Trial:
        """A longer run with a longer decay: an update takes as long as before."""
        length = 5000 if self.config.max_iters < 5000 else 2 * self.config.max_iters
        settings = {"max_iters": length, "lr_decay_iters": length}
        return dataclasses.replace(self._left_out(settings, "run"), update=update, ratio=1.0, why="")

    def fewer_evaluations(self, update: float) -> Trial:
        """Fewer batches in an evaluation: the printed losses scatter more, the run is the same."""
        fewer = max(1, self.config.eval_iters // 4)
        apart = self.config.rng == "counter"  # nanoGPT draws evaluations and training from one generator
        trial = self._left_out({"eval_iters": fewer}, "measurement" if apart else "run")
        wider = (self.config.eval_iters / fewer) ** 0.5
        loss = f"none; printed losses scatter {wider:.1f} times as much" if apart else "other batches"
        return dataclasses.replace(trial, update=update, ratio=1.0, loss=loss, evidence="computed", why="")

    def compile(self, update: float) -> Trial:
        """The compiled model, and what its compilation costs."""
        trial = self._left_out({"compile": True}, "speed")
        if self._late():
            return trial
        self.say("compiling, in a process of its own")
        found = compiled(self.config, self.end - time.perf_counter())
        if isinstance(found, str):
            return dataclasses.replace(trial, why=found)
        once, start = found
        return dataclasses.replace(
            trial, update=once, start=start, ratio=update / once, loss=ROUNDING, evidence="inferred", why=""
        )

    def _speed(self, settings: Mapping[str, object]) -> Trial:
        return self._try(settings, "speed")

    def _try(self, settings: Mapping[str, object], kind: Kind) -> Trial:
        trial = self._left_out(settings, kind)
        if self._late():
            return trial
        self.say(f"trying {trial.name}")
        other = Stand(_with(self.config, settings), self.corpus)
        equal = first_bits(other) == self.bits if kind == "speed" else None
        update, ratio = alternate(self.base, other)
        trial = dataclasses.replace(trial, update=update, ratio=ratio, same_bits=equal, why="")
        if equal is None:
            return trial
        loss, evidence = ("none: the same bits", "measured") if equal else (ROUNDING, "inferred")
        return dataclasses.replace(trial, loss=loss, evidence=evidence)  # type: ignore[arg-type]  # two of its words

    def _left_out(self, settings: Mapping[str, object], kind: Kind) -> Trial:
        name = " ".join(f"--{key}={value}" for key, value in settings.items())
        return Trial(
            name=name,
            settings=settings,
            kind=kind,
            ratio=None,
            update=None,
            start=0.0,
            same_bits=None,
            loss="unknown",
            evidence="unknown",
            why=f"the {SECONDS:.0f} s were over",
        )

    def _late(self) -> bool:
        return time.perf_counter() > self.end


def _with(config: TrainConfig, settings: Mapping[str, object]) -> TrainConfig:
    return TrainConfig.from_dict({**config.to_dict(), **settings})


def _load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
