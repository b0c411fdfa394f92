"""One step of a training, value by value: in float64 on the CPU, and by the same code in the numerics of a device.

`Step(job, numerics, moment)` is the step of the state `moment`, computed by the trainer's own code and the model in
gpt.py; `Step(job, None, moment)` computes it in float64. Nothing is implemented a second time.

1. `units`: the model's parts in order, with what each is given; `unit` runs one of them on that.
2. `gradients`: the step at one go, its loss and each parameter's gradient.
3. `update`: AdamW's update from given gradients.
4. `evaluation`: the losses on the evaluation batches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lossgap.evaluation.losses import evaluating
from lossgap.gpt import GPTConfig
from lossgap.parity.rounding import Move
from lossgap.parity.stretch import Job, Moment, Stretch
from lossgap.parity.units import Unit, backward_order, capture
from lossgap.training.batches import Batch
from lossgap.training.numerics import Numerics, applied
from lossgap.training.update import apply

Direction = Literal["forward", "backward", "optimizer", "evaluation"]


class Key(NamedTuple):
    """One value of a step: of which unit, parameter or whole, in which direction, and what of it."""

    name: str
    direction: Direction
    what: str


STEP = "whole step"
LOSS = Key(STEP, "forward", "loss")
NORM = Key("gradient norm", "optimizer", "before clipping")
ADAMW = Key("AdamW", "optimizer", "update")
DATA = (Key("inputs", "forward", "tokens"), Key("targets", "forward", "tokens"))
INPUT, OUTPUT, OUTPUT_GRADIENT, INPUT_GRADIENT = "input", "output", "output gradient", "input gradient"
OWN_GRADIENT, GRADIENT = "gradient from the layer's own inputs", f"gradient of the {STEP}"
BATCHES = "of each batch"

FLOAT64 = Numerics(
    device="cpu",
    dtype="float32",
    tf32=False,
    compile=False,
    attention="plain",
    adamw="loop",
    threads=1,
    deterministic=True,
    cpu_capability="",
)
"""How the reference computes; its model is then turned to float64, and float32 here only means no autocast."""


CAPTURED = 4 << 30
"""Bytes that float64 may take in one pass: of more sequences the layers are judged on the first, the step in parts."""


def sequence_bytes(shape: GPTConfig) -> int:
    """About what one sequence takes in float64 with all that the backward pass and the units need.

    8 T (L (45 C + 3 H T) + 6 V): activations and their gradients, attention weights, logits.
    """
    T, C, H = shape.block_size, shape.n_embd, shape.n_head
    return 8 * T * (shape.n_layer * (45 * C + 3 * H * T) + 6 * shape.vocab_size)


class Step:
    """The step from `moment` in the numerics of a device, or in float64 with `numerics` None."""

    def __init__(self, job: Job, numerics: Numerics | None, moment: Moment) -> None:
        self.exact = numerics is None
        self.job, self.moment, self.iteration = _in_pieces(job) if self.exact else job, moment, moment.iteration
        self.numerics = numerics or dataclasses.replace(FLOAT64, threads=torch.get_num_threads())
        self.stretch = Stretch(job, self.numerics)
        if self.exact:
            self.stretch.model.double()
        self.model = self.stretch.model
        self.scale = float(self.stretch.load(moment)[1].get_scale())

    def units(self, *, training: bool) -> list[Unit]:
        """The units of the iteration's first micro-batch, or of the first evaluation batch of val; float64 only.

        Of a micro-batch too large for `CAPTURED`, its first sequences.
        """
        assert self.exact
        if training:
            batch = self.job.micro_batches(self.iteration)[0]
        else:
            x, y = self.job.evaluation["val"]
            batch = Batch(x[0], y[0], None)
        most = max(1, CAPTURED // sequence_bytes(self.job.shape))
        batch = Batch(batch.x[:most], batch.y[:most], None if batch.keys is None else batch.keys[:most])
        with applied(self.numerics), self._mode(training):
            return capture(self.model, batch, training=training)

    def unit(self, unit: Unit, move: Move | None = None) -> dict[Key, Tensor]:
        """Compute a unit from its own inputs: output and gradients by key, float64 on the CPU."""
        with applied(self.numerics), self._mode(unit.training):
            found = unit.run(self.model, None if self.exact else self.numerics, self.scale, move)
        return {unit_key(unit.name, what, unit.training): tensor for what, tensor in found.items()}

    def _mode(self, training: bool) -> AbstractContextManager[object]:
        """The model as the trainer has it while it trains, or while it evaluates."""
        return nullcontext() if training else evaluating(self.model, self.numerics)

    def set_threads(self, threads: int) -> None:
        """Compute with so many CPU threads from here on."""
        self.numerics = self.stretch.numerics = dataclasses.replace(self.numerics, threads=threads)

    def gradients(self) -> dict[Key, Tensor]:
        """The loss of the step and the gradients of its parameters."""
        with applied(self.numerics):
            optimizer, scaler = self.stretch.load(self.moment)
            loss = self.stretch.gradients(self.iteration, optimizer, scaler)
        found = {LOSS: torch.tensor(loss, dtype=torch.float64)}
        for name, parameter in self.model.named_parameters():
            if parameter.grad is not None:
                found[gradient_key(name)] = parameter.grad.detach().cpu().double() / scaler.get_scale()
        return found

    def evaluation(self, batches: int | None = None) -> dict[Key, Tensor]:
        """The loss of each evaluation batch, or of the first `batches` ones, by split."""
        found = {}
        with applied(self.numerics):
            self.stretch.load(self.moment)
            for split in self.job.evaluation:
                losses = torch.tensor(self.stretch.evaluate(split, batches), dtype=torch.float64)
                found[Key(f"{split} loss", "evaluation", BATCHES)] = losses
        return found

    def update(self, gradients: Mapping[str, Tensor]) -> dict[Key, Tensor]:
        """AdamW's update from these gradients (by parameter, float32, not yet clipped), and their norm."""
        with applied(self.numerics):
            return self._update(gradients)

    def _update(self, gradients: Mapping[str, Tensor]) -> dict[Key, Tensor]:
        optimizer, scaler = self.stretch.load(self.moment)
        self.stretch.set_rate(optimizer, self.iteration)
        scale = scaler.scale(torch.ones((), device=self.numerics.device))
        before = {}
        for name, parameter in self.model.named_parameters():
            before[name] = parameter.detach().cpu().to(torch.float64, copy=True)
            parameter.grad = gradients[name].to(parameter.device, parameter.dtype) * scale.to(parameter.dtype)
        norm = apply(self.model, optimizer, scaler, self.job.config.grad_clip)
        found = {
            update_key(name): parameter.detach().cpu().double() - before[name]
            for name, parameter in self.model.named_parameters()
        }
        self.stretch.load(self.moment)
        together = torch.cat([update.reshape(-1) for update in found.values()])
        return {NORM: norm.detach().cpu().double(), ADAMW: together, **found}

    def order(self) -> dict[str, int]:
        """The place of each unit in the backward pass."""
        return {name: place for place, name in enumerate(backward_order(self.model))}


def _in_pieces(job: Job) -> Job:
    """The job with micro-batches that float64 has room for; nanoGPT's loss is its last micro-batch's, which stays."""
    sequences = job.config.batch_size
    most = max(1, CAPTURED // sequence_bytes(job.shape))
    fitting = (n for n in range(1, sequences + 1) if sequences % n == 0 and sequences // n <= most)
    return job if job.config.rng == "nanogpt" else job.finer(next(fitting))


def unit_key(name: str, what: str, training: bool = True) -> Key:
    """The key of a unit's value; a parameter's gradient has the parameter's name."""
    if what in (INPUT, OUTPUT):
        return Key(name, "forward" if training else "evaluation", what)
    part = what.removesuffix(" gradient")
    if part in ("weight", "bias"):
        return Key(f"{name}.{part}", "backward", OWN_GRADIENT)
    return Key(name, "backward", what)


def gradient_key(parameter: str) -> Key:
    """The key of a parameter's gradient in the whole step."""
    return Key(parameter, "backward", GRADIENT)


def update_key(parameter: str) -> Key:
    """The key of a parameter's update."""
    return Key(parameter, "optimizer", "update")


def inputs_of(unit: Unit) -> dict[Key, Tensor]:
    """Return the inputs of a unit, by key: they must be equal on two machines before its results can be compared."""
    training = unit.training
    x = unit.args[0]
    assert isinstance(x, Tensor)
    given = {unit_key(unit.name, INPUT, training): x.double()}
    if unit.gradient is not None:
        given[Key(unit.name, "backward", OUTPUT_GRADIENT)] = unit.gradient
    return given


def is_of_unit(key: Key, name: str, training: bool) -> bool:
    """True if a value is what this unit makes of its own inputs, in training or in evaluation."""
    if (key.direction == "evaluation") == training:
        return False
    if key.what == OWN_GRADIENT:
        return key.name in (f"{name}.weight", f"{name}.bias")
    return key.name == name and key.what in (OUTPUT, INPUT_GRADIENT)


def data_of(job: Job, iteration: int) -> dict[Key, Tensor]:
    """The tokens of an iteration."""
    return {key: tokens.double() for key, tokens in zip(DATA, job.batches(iteration), strict=True)}


def matters(given: Key, key: Key) -> bool:
    """True if a value depends on what its unit was given there: an output depends on no gradient."""
    return given.direction == key.direction or given.what == INPUT or key.direction == "optimizer"
