"""`record`: a stretch of a training as a bundle, for `replay` on another machine.

1. The start: from scratch with a config, or from a checkpoint.
2. The windows that the trainer would draw, for every iteration and for the evaluation.
3. The training of the stretch, in its own numerics; what is kept at the checkpoints.
4. The evidence of each checkpoint's step: float64, this machine's own errors, what rounding allows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from lossgap.arguments import Given
from lossgap.config import ARCHITECTURE, TrainConfig
from lossgap.corpus import Corpus, open_corpus
from lossgap.errors import BundleError, ConfigError
from lossgap.gpt import GPTConfig, gpt_config
from lossgap.machine.device import resolve_device
from lossgap.machine.probe import environment
from lossgap.parity.bundle import Bundle, BundlePoint, check_place, write_bundle
from lossgap.parity.drawing import DrawnStretch, checkpoint_moment, draw, initial_moment, new_draws
from lossgap.parity.evidence import gather
from lossgap.parity.reference import Step
from lossgap.parity.stretch import Job, Moment, Stretch, Trace
from lossgap.random import Split
from lossgap.schedule import learning_rate
from lossgap.shown import Shown
from lossgap.training.checkpoint import Checkpoint
from lossgap.training.numerics import Numerics, applied, before_cuda, resolve
from lossgap.training.recipe_source import source_of
from lossgap.training.restoring import check_vocabulary

ITERATIONS = 50
CHECKPOINTS = 2
MOST_EVALUATION, EVALUATION_TOKENS = 20, 1 << 16
"""Evaluation batches of each split in a bundle, at most, and tokens, if these are not fewer than two batches."""
UPDATES_PER_POINT, UPDATES_PER_BATCH = 110, 6
"""The cost of one checkpoint's evidence and of each evaluation batch of a split, in updates of the training.

Measured with the laptop recipe on two x86 cores (smaller models 90 to 170).
"""
FLOAT64_UPDATES, FLOAT64_BATCHES = 8, 4
"""Updates in float64 that the evidence of one checkpoint is worth, and forward passes for each evaluation batch."""
WORTH_SAYING = 5.0
"""Seconds from which on the price is told beforehand."""
_SPLITS: tuple[Split, ...] = get_args(Split)

Say = Callable[[str], None]


@dataclass(frozen=True, repr=False, kw_only=True)
class Recorded(Shown):
    """A written bundle."""

    path: Path
    bytes: int
    bundle: Bundle


def record(
    given: Given,
    out: Path,
    *,
    iters: int = ITERATIONS,
    start: str = "",
    checkpoints: int = CHECKPOINTS,
    overwrite: bool = False,
    say: Say = lambda line: None,
) -> Recorded:
    """Record `iters` iterations and write the bundle.

    `given` are config files, presets and flags as for a training, or one run folder (its config, from iteration 0) or
    checkpoint (from there). `start` is a checkpoint, or a run folder for its newest one. `checkpoints` are the states
    recorded in full: the first, the last, and others evenly between.
    Raises BundleError (`record-...`, `bundle-exists`, `bundle-unwritable`), and what opening config, checkpoint,
    corpus and device raises.
    """
    check_place(out, overwrite=overwrite)
    with torch.random.fork_rng(devices=[]):  # rng=nanogpt draws from torch's own generator
        bundle = _Recording(given, iters, start, checkpoints, say).bundle()
    return Recorded(path=out, bytes=write_bundle(bundle, out, overwrite=overwrite), bundle=bundle)


class _Recording:
    def __init__(self, given: Given, iters: int, start: str, checkpoints: int, say: Say) -> None:
        self.iters, self.say = _count("iters", iters), say
        self.count = min(_count("checkpoints", checkpoints), iters)
        self.config, self.found = source_of(given, start)
        _check_masks(self.config)
        _check_recipe(self.config)
        self.corpus = open_corpus(self.config.dataset)
        if self.found is not None:
            check_vocabulary(self.found, self.corpus)
        self.shape = shape_of(self.config, self.corpus, self.found)
        device = resolve_device(self.config.device).value
        before_cuda(self.config.deterministic, device)
        before = self.found.part("numerics") if self.found else {}
        self.numerics: Numerics = resolve(self.config, device, 1, before)[0]
        self.moment, self.drawn = self._start()
        self.job: Job = self.drawn.job(self.config, self.shape)

    def _start(self) -> tuple[Moment, DrawnStretch]:
        draws = new_draws(self.config)
        moment = initial_moment(self.config, self.shape, draws)
        if self.found is not None:
            moment = checkpoint_moment(self.found, self.config, self.shape, self.numerics, draws)
        tokens = self.config.batch_size * self.shape.block_size
        batches = min(self.config.eval_iters, MOST_EVALUATION, max(2, EVALUATION_TOKENS // tokens))
        drawn = draw(self.config, self.shape, self.corpus, draws, moment.iteration, self.iters, batches)
        return moment, drawn

    def bundle(self) -> Bundle:
        first, last = self.moment.iteration, self.moment.iteration + self.iters
        at = _spread(first, last - 1, self.count)
        stretch = Stretch(self.job, self.numerics)
        self._tell_price(stretch, len(at))
        trace = stretch.run(self.moment, self.iters, keep={*at, *(i + 1 for i in at)}, evaluate=(*at, last))
        _check_finite(trace)
        return Bundle(
            config=self.config,
            shape=self.shape,
            corpus={name: getattr(self.corpus, name) for name in ("name", "sha256", "tokens_sha256", "hash_method")},
            numerics=self.numerics.to_dict(),
            environment=environment(self.numerics.device),
            first=first,
            windows=_joined(self.drawn.x, self.drawn.y),
            evaluation={split: _joined(*self.drawn.evaluation[split]) for split in _SPLITS},
            losses=trace.losses,
            grad_norms=trace.grad_norms,
            evaluations=trace.evaluations,
            points=tuple(self._point(stretch, trace, iteration) for iteration in at),
        )

    def _point(self, stretch: Stretch, trace: Trace, iteration: int) -> BundlePoint:
        moment = trace.moments[iteration]
        gradients = self._gradients(stretch, moment) if moment.step else None
        return BundlePoint(
            moment=moment,
            lr=learning_rate(self.config, iteration),
            gradients=gradients,
            updated=trace.moments[iteration + 1].weights,
            items=tuple(gather(self.job, self.numerics, moment, gradients)),
        )

    def _gradients(self, stretch: Stretch, moment: Moment) -> dict[str, torch.Tensor]:
        """The gradients of the recorded update: computed again, with the same bits."""
        with applied(self.numerics):
            optimizer, scaler = stretch.load(moment)
            stretch.gradients(moment.iteration, optimizer, scaler)
            scale = scaler.get_scale()
            found = {}
            for name, parameter in stretch.model.named_parameters():
                assert parameter.grad is not None
                found[name] = (parameter.grad / scale).cpu()
            return found

    def _tell_price(self, stretch: Stretch, points: int) -> None:
        stretch.run(self.moment, 1)  # compiles, if it is to be compiled
        count = min(3, self.iters)
        update = _seconds(lambda: stretch.run(self.moment, count)) / count
        batches = len(self.drawn.evaluation["val"][0])
        evidence = points * (UPDATES_PER_POINT + UPDATES_PER_BATCH * batches)
        seconds = update * (self.iters + batches * (points + 1) + evidence)
        if self.numerics.device_type != "cpu":  # where float64 takes longer than all else
            exact = Step(self.job, None, self.moment)
            passes = 3 * FLOAT64_UPDATES + FLOAT64_BATCHES * batches / self.config.gradient_accumulation_steps
            seconds += points * passes * _seconds(exact.gradients) / 3
        if seconds > WORTH_SAYING:
            self.say(
                f"recording {self.iters} iterations and the evidence of {points} checkpoints takes about "
                f"{seconds:,.0f} s ({update:.2g} s an update)"
            )


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _check_masks(config: TrainConfig) -> None:
    """Dropout masks must be the same on another machine."""
    if config.dropout > 0 and (config.rng != "counter" or config.dropout_rng != "counter"):
        cause = "rng=nanogpt" if config.rng != "counter" else "dropout_rng=device"
        raise BundleError(
            "record-device-masks",
            f"dropout={config.dropout} with {cause}: its masks come from this device's generator, so no other machine "
            "can repeat them; record with --dropout=0, or with --rng=counter --dropout_rng=counter",
        )


def _check_recipe(config: TrainConfig) -> None:
    """The float64 reference and the recorded state are those of nanoGPT's architecture and AdamW."""
    other = [
        name
        for name in (*ARCHITECTURE, "optimizer", "context_warmup_iters")
        if getattr(config, name) != getattr(TrainConfig, name)
    ]
    if other:
        raise BundleError(
            "record-other-recipe",
            f"--{other[0]}={getattr(config, other[0])}: a bundle holds nanoGPT's architecture trained by AdamW; record "
            f"the recipe without {', '.join(other)}, which shows the same hardware",
        )


def _check_finite(trace: Trace) -> None:
    """A loss that is not finite has no numbers to compare."""
    bad = next((n for n, loss in enumerate(trace.losses) if not math.isfinite(loss)), None)
    if bad is not None or not all(math.isfinite(loss) for _, _, loss in trace.evaluations):
        where = f"iteration {trace.first + bad}" if bad is not None else "an evaluation"
        raise BundleError(
            "record-not-finite",
            f"the loss of {where} is not finite, so there is nothing to compare; record fewer iterations (--iters), "
            "with a lower --learning_rate, or another --dtype",
        )


def _count(name: str, value: int) -> int:
    if value < 1:
        raise ConfigError("bad-setting", f"--{name}={value}: {name} must be at least 1; leave it out for the default")
    return value


def _spread(first: int, last: int, count: int) -> list[int]:
    """`count` iterations from the first to the last, evenly."""
    if count == 1:
        return [first]
    return sorted({first + round(step * (last - first) / (count - 1)) for step in range(count)})


def shape_of(config: TrainConfig, corpus: Corpus, found: Checkpoint | None) -> GPTConfig:
    """The model's shape; the vocabulary is the checkpoint's, else the corpus's."""
    return gpt_config(config, int(found.model_args["vocab_size"]) if found else corpus.vocab_size)


def _joined(x: Tensor, y: Tensor) -> Tensor:
    """Windows (..., T + 1) of inputs and targets (..., T)."""
    return torch.cat([x, y[..., -1:]], dim=-1)
