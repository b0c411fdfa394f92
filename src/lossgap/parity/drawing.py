"""The draws that the trainer itself would make for a stretch: its batches, its evaluation batches, its start."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from lossgap.config import TrainConfig
from lossgap.corpus import Corpus
from lossgap.corpus.windows import count_starts, token_window
from lossgap.gpt import GPTConfig
from lossgap.parity.stretch import Job, Moment, moment_of, new_model
from lossgap.random import Split
from lossgap.training import optimizer as optimizers
from lossgap.training.batches import Batches
from lossgap.training.checkpoint import Checkpoint, fill
from lossgap.training.distributed import share
from lossgap.training.draws import CounterDraws, Draws, NanoGPTDraws
from lossgap.training.numerics import Numerics
from lossgap.training.restoring import restore

SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True, kw_only=True)
class DrawnStretch:
    """The tokens of a stretch: inputs and targets, all int64 on the CPU."""

    first: int
    x: Tensor
    """(iterations, n, B, T)."""
    y: Tensor
    """(iterations, n, B, T)."""
    evaluation: Mapping[Split, tuple[Tensor, Tensor]]
    """Inputs and targets of the evaluation batches, each (n, B, T)."""

    def job(self, config: TrainConfig, shape: GPTConfig) -> Job:
        """The training on these tokens."""
        return Job(
            config=config,
            shape=shape,
            batches=lambda iteration: (self.x[iteration - self.first], self.y[iteration - self.first]),
            evaluation=self.evaluation,
        )


def new_draws(config: TrainConfig) -> Draws:
    """The run's source of random numbers."""
    if config.rng == "nanogpt":
        return NanoGPTDraws(config.seed)
    return CounterDraws(config.seed, keyed_dropout=config.dropout_rng == "counter")


def draw(
    config: TrainConfig, shape: GPTConfig, corpus: Corpus, draws: Draws, first: int, iterations: int, eval_batches: int
) -> DrawnStretch:
    """Draw a stretch of `iterations` from iteration `first` on in the trainer's order.

    `draws` stands where the trainer's stands before iteration `first`: after `new_model`, or restored. With
    `rng=nanogpt` the sampled evaluations between the iterations draw, too, as they do in a run.
    Raises CorpusError (`corpus-too-small`).
    """
    T = shape.block_size
    batches = Batches(
        corpus, draws, share(0, 1, config.batch_size, config.gradient_accumulation_steps), T, 0, "cpu", first
    )
    x, y = [], []
    for iteration in range(first, first + iterations):
        if config.rng == "nanogpt" and iteration % config.eval_interval == 0:
            for split in SPLITS:
                _evaluation(config, T, corpus, draws, split, config.eval_iters)
        for _ in range(config.gradient_accumulation_steps):
            batch = batches.take()
            x.append(batch.x)
            y.append(batch.y)
            batches.prefetch()
    steps = (iterations, config.gradient_accumulation_steps, config.batch_size, T)
    counted = CounterDraws(config.seed, keyed_dropout=True)
    evaluation = {split: _evaluation(config, T, corpus, counted, split, eval_batches) for split in SPLITS}
    return DrawnStretch(first=first, x=torch.stack(x).view(steps), y=torch.stack(y).view(steps), evaluation=evaluation)


def _evaluation(
    config: TrainConfig, T: int, corpus: Corpus, draws: Draws, split: Split, batches: int
) -> tuple[Tensor, Tensor]:
    """Inputs and targets (batches, B, T) of the first evaluation batches of a split."""
    tokens = corpus.tokens(split)
    count_starts(len(tokens), T, split)
    starts = [
        draws.eval_starts(split, range(k * config.batch_size, (k + 1) * config.batch_size), len(tokens), T)
        for k in range(batches)
    ]
    pairs = [token_window(tokens, each, T) for each in starts]
    x, y = (torch.stack([torch.from_numpy(pair[side]) for pair in pairs]) for side in (0, 1))
    return x, y


def initial_moment(config: TrainConfig, shape: GPTConfig, draws: Draws) -> Moment:
    """The state before the first update of a run from scratch."""
    model = draws.new_model(shape)
    weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    return Moment(iteration=0, weights=weights)


def checkpoint_moment(
    found: Checkpoint, config: TrainConfig, shape: GPTConfig, numerics: Numerics, draws: Draws
) -> Moment:
    """The state that a checkpoint holds, as a resume with `config` takes it over; `draws` go on from there, too.

    Raises CheckpointError (`bad-checkpoint`).
    """
    model = new_model(dataclasses.replace(shape, block_size=int(found.model_args["block_size"])), 0.0)
    fill(model, found)
    if shape.block_size < model.config.block_size:
        model.crop_block_size(shape.block_size)
    optimizer = optimizers.adamw(model, config, numerics)
    scaler = optimizers.scaler(numerics)
    state = restore(found, config, model, optimizer, scaler, draws)
    return moment_of(state.iteration, model, optimizer, scaler)
