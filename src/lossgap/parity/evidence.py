"""The recording machine's evidence for one step: each value in float64, its own errors, and what rounding allows.

    items = gather(job, numerics, moment, gradients)

The float64 values go along as sketches, so that another machine compares with what was computed here and not only with
what its own copy of the code computes.

How far a value may be off is measured by perturbation, for every arithmetic: twins of the step whose operands are moved
by one unit in the last place, and the recording machine's own valid kernels (the other attention, one
thread), all against float64 of the unmoved step. `allowed` is MULTIPLE times the largest of these errors. A layer
without products (layer norm, embedding) computes in float32 whatever the arithmetic, and is moved by float32's unit.
An arithmetic that the recording machine did not run (TF32; float16 where the recording is in another) is imitated in
float32 with operands and results of products moved by its unit; then `error` is None.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lossgap.gpt import Attention
from lossgap.parity.reference import BATCHES, LOSS, NORM, OUTPUT, Key, Step, data_of, gradient_key, inputs_of
from lossgap.parity.rounding import FLOAT32, FLOAT64, PRECISION, Arithmetic, arithmetic, mover, noisy
from lossgap.parity.sketch import distance, relative_error, sketch
from lossgap.parity.stretch import Job, Moment
from lossgap.parity.units import Unit
from lossgap.random import Float64
from lossgap.training.numerics import Numerics

MULTIPLE = 4.0
"""Errors of healthy kernels lie below 2.1 times the largest of the twins' (instruction sets, threads, oneDNN)."""
EXACT = 100.0
"""The same for float64 on two machines, whose twin is one only."""
TWINS = 2
FEW = 4
"""Evaluation batches of a split that twins are run on."""
SCALAR_TWINS = 8
"""The error of a single number is small by chance now and then, so a loss has more twins."""
FLOOR = 4 * 2.0**-24
"""The least that a loss or a norm is allowed in any arithmetic: 4 units in the last place of float32."""
LEAST_EXACT = 2.0**-44
"""The least that float64 is allowed."""
ROUNDED_EXACT = 2.0**-22
"""The same for an update from gradients of float64 rounded to float32: another machine may round one the other way."""


@dataclass(frozen=True)
class StepAllowance:
    """The recording machine's own relative error in an arithmetic (None: not run there), and the one allowed."""

    error: float | None
    allowed: float


@dataclass(frozen=True, kw_only=True)
class Item:
    """One value of a recorded step."""

    key: Key
    sketch: Float64
    """The sketch of the float64 value."""
    exact: float
    """Relative distance within which float64 on another machine must give the same."""
    allowances: Mapping[Arithmetic, StepAllowance] = field(default_factory=dict)
    """Empty for what a unit is given."""


@dataclass
class _Value:
    """A value while its evidence is gathered."""

    reference: Float64
    exact: float
    own: dict[Arithmetic, float] = field(default_factory=dict)
    errors: dict[Arithmetic, list[float]] = field(default_factory=dict)

    def add(self, kind: Arithmetic, error: float, own: bool = False) -> None:
        if own:
            self.own[kind] = error
        self.errors.setdefault(kind, []).append(error)


def gather(job: Job, numerics: Numerics, moment: Moment, gradients: Mapping[str, Tensor] | None) -> list[Item]:
    """The evidence of the step from `moment`; `numerics` are the recording's.

    `gradients` (float32, by parameter, before clipping) are what AdamW is judged from; None takes float64's own,
    rounded to float32. Everything runs on the recording's device, the float64 on the CPU.
    """
    return _GatheringEvidence(job, numerics, moment).items(gradients)


def teacher_gradients(exact: Mapping[Key, Tensor], names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Float64's own gradients of the whole step, rounded to float32, by parameter."""
    return {name: exact.get(gradient_key(name), torch.zeros_like(names[name])).float() for name in names}


class _GatheringEvidence:
    def __init__(self, job: Job, numerics: Numerics, moment: Moment) -> None:
        self.job, self.numerics, self.moment = job, numerics, moment
        self.exact = Step(job, None, moment)
        self.other = Step(job, None, _moved(moment, FLOAT64, 0))
        self.other.model.use_attention("fused")
        self.found: dict[Key, _Value] = {}
        self.run: tuple[Arithmetic, ...] = tuple(dict.fromkeys((arithmetic(numerics), "float32", "bfloat16")))
        if numerics.device_type not in ("cpu", "cuda") and numerics.dtype != "bfloat16":
            self.run = tuple(kind for kind in self.run if kind != "bfloat16")  # not all of these devices have it
        self.imitated: tuple[Arithmetic, ...] = tuple(kind for kind in PRECISION if kind not in self.run)

    def items(self, gradients: Mapping[str, Tensor] | None) -> list[Item]:
        data = data_of(self.job, self.moment.iteration)
        self._note(data, data)
        for key in data:
            self.found[key].errors = {kind: [0.0] for kind in PRECISION}
            self.found[key].own = dict.fromkeys(PRECISION, 0.0)
        self._units(training=True)
        if self.job.config.dropout > 0:
            self._units(training=False)
        self._whole(gradients)
        return [self._item(key, value) for key, value in self.found.items()]

    def _item(self, key: Key, value: _Value) -> Item:
        floor = FLOOR if key in (LOSS, NORM, Key("loss", key.direction, OUTPUT)) or key.what == BATCHES else 0.0
        allowances = {
            kind: StepAllowance(value.own.get(kind), max(floor, MULTIPLE * max(errors)))
            for kind, errors in value.errors.items()
            if all(map(math.isfinite, errors))  # relative to 0 there is no error
        }
        return Item(key=key, sketch=value.reference, exact=value.exact, allowances=allowances)

    def _note(self, first: Mapping[Key, Tensor], second: Mapping[Key, Tensor]) -> None:
        for key, tensor in first.items():
            reference = sketch(tensor)
            apart = distance(sketch(second[key]), reference) if key in second else 0.0
            self.found[key] = _Value(reference, max(LEAST_EXACT, EXACT * apart))

    def _compare(
        self, exact: Mapping[Key, Tensor], found: Mapping[Key, Tensor], kind: Arithmetic, own: bool = False
    ) -> None:
        for key, tensor in found.items():
            self.found[key].add(kind, _error(key, tensor, exact), own)

    # ---------------------------------------------------------------------------------------------
    # Units

    def _units(self, *, training: bool) -> None:
        others = {unit.name: unit for unit in self.other.units(training=training)}
        steps = {kind: Step(self.job, self._of(kind), self.moment) for kind in self.run}
        for unit in self.exact.units(training=training):
            exact = self.exact.unit(unit)
            self._note(
                {**inputs_of(unit), **exact}, {**inputs_of(others[unit.name]), **self.other.unit(others[unit.name])}
            )
            self._unit(exact, unit, steps)

    def _unit(self, exact: Mapping[Key, Tensor], unit: Unit, steps: Mapping[Arithmetic, Step]) -> None:
        if not unit.has_products(self.exact.model):
            # Such a layer computes in float32 under every arithmetic.
            self._twins_of(exact, unit, steps["float32"], "float32", FLOAT32)
            for key in exact:
                value = self.found[key]
                value.errors = dict.fromkeys(PRECISION, value.errors["float32"])
                value.own = dict.fromkeys(self.run, value.own["float32"])
            return
        for kind in self.run:
            self._twins_of(exact, unit, steps[kind], kind, PRECISION[kind])
        for precision in dict.fromkeys(PRECISION[kind] for kind in self.imitated):
            for seed in range(self._twins(unit)):
                found = steps["float32"].unit(unit, mover(precision, seed))
                for kind in self.imitated:
                    if PRECISION[kind] == precision:
                        self._compare(exact, found, kind)

    def _twins_of(self, exact: Mapping[Key, Tensor], unit: Unit, step: Step, kind: Arithmetic, precision: int) -> None:
        self._compare(exact, step.unit(unit), kind, own=True)
        for variant in _variants(step, unit.has_attention(step.model)):
            with variant:
                self._compare(exact, step.unit(unit), kind)
        for seed in range(self._twins(unit)):
            self._compare(exact, step.unit(unit, mover(precision, seed)), kind)

    def _twins(self, unit: Unit) -> int:
        return SCALAR_TWINS if unit.name == "loss" else TWINS

    def _of(self, kind: Arithmetic) -> Numerics:
        """The recording's numerics in another arithmetic; layers and twins run eager."""
        dtype = "float32" if kind == "tf32" else kind
        return dataclasses.replace(self.numerics, dtype=dtype, tf32=kind == "tf32", compile=False)

    # ---------------------------------------------------------------------------------------------
    # The whole step

    def _whole(self, gradients: Mapping[str, Tensor] | None) -> None:
        exact, other = self.exact.gradients(), self.other.gradients()
        teacher = gradients or teacher_gradients(exact, self.moment.weights)
        updated = self.exact.update(teacher)
        other_updated = self.other.update(gradients or teacher_gradients(other, self.moment.weights))
        exact, other = exact | self.exact.evaluation(), other | self.other.evaluation()
        self._note(exact, other)
        self._note(updated, other_updated)
        if gradients is None:
            for key in updated:
                self.found[key].exact = max(self.found[key].exact, ROUNDED_EXACT)
        for kind in self.run:
            self._run_whole(exact, kind)
        for kind, source in self._imitated_whole(exact).items():
            for key in exact:
                self.found[key].errors[kind] = source[key]
        self._updates(updated, teacher)

    def _run_whole(self, exact: Mapping[Key, Tensor], kind: Arithmetic) -> None:
        # The recording's own arithmetic as it ran, compiled if it was.
        numerics = self.numerics if kind == arithmetic(self.numerics) else self._of(kind)
        step = Step(self.job, numerics, self.moment)
        self._compare(exact, step.gradients() | step.evaluation(), kind, own=True)
        step = Step(self.job, self._of(kind), self.moment)
        for variant in _variants(step, attention=True):
            with variant:
                self._compare(exact, step.gradients() | step.evaluation(FEW), kind)
        for seed in range(SCALAR_TWINS):
            step.moment = _moved(self.moment, PRECISION[kind], seed)
            found = step.gradients()
            self._compare(exact, found | step.evaluation(FEW) if seed < TWINS else {LOSS: found[LOSS]}, kind)

    def _imitated_whole(self, exact: Mapping[Key, Tensor]) -> dict[Arithmetic, dict[Key, list[float]]]:
        """Errors by kind and key; kinds of one precision share their twins."""
        by_precision: dict[int, dict[Key, list[float]]] = {}
        step = Step(self.job, self._of("float32"), self.moment)
        for precision in dict.fromkeys(PRECISION[kind] for kind in self.imitated):
            errors = by_precision[precision] = {key: [] for key in exact}
            for seed in range(SCALAR_TWINS):
                step.moment = _moved(self.moment, precision, seed)
                with noisy(step.model, precision, seed):
                    found = step.gradients() | (step.evaluation(FEW) if seed < TWINS else {})
                for key, tensor in found.items():
                    errors[key].append(_error(key, tensor, exact))
        return {kind: by_precision[PRECISION[kind]] for kind in self.imitated}

    def _updates(self, exact: Mapping[Key, Tensor], teacher: Mapping[str, Tensor]) -> None:
        """AdamW is in float32 in every arithmetic."""
        own = self._of("float32")
        errors: dict[Key, list[float]] = {key: [] for key in exact}
        for seed in range(-1, TWINS):
            for kernel in ("fused", "loop"):
                numerics = own if seed < 0 and kernel == own.adamw else dataclasses.replace(own, adamw=kernel)
                moment, given = self.moment, dict(teacher)
                if seed >= 0:
                    moment, given = _moved(moment, FLOAT32, seed), _each(given, FLOAT32, seed)
                found = Step(self.job, numerics, moment).update(given)
                for key, tensor in found.items():
                    error = relative_error(tensor, exact[key])
                    errors[key].append(error)
                    if seed < 0 and kernel == own.adamw:
                        for each in self.run:
                            self.found[key].own[each] = error
        for key in exact:
            for each in PRECISION:
                self.found[key].errors[each] = errors[key]


def _error(key: Key, found: Tensor, exact: Mapping[Key, Tensor]) -> float:
    """Relative to float64; of evaluations the batches that were run."""
    reference = exact[key]
    return relative_error(found, reference[: len(found)] if key.what == BATCHES else reference)


def _moved(moment: Moment, precision: int, seed: int) -> Moment:
    """The state with its weights moved by one unit in the last place, and AdamW's moments, which are float32."""
    moments = FLOAT64 if precision == FLOAT64 else FLOAT32
    return dataclasses.replace(
        moment,
        weights=_each(moment.weights, precision, seed),
        exp_avg=_each(moment.exp_avg, moments, seed + 1),
        exp_avg_sq=_each(moment.exp_avg_sq, moments, seed + 2),
    )


def _each(tensors: Mapping[str, Tensor], precision: int, seed: int) -> dict[str, Tensor]:
    move = mover(precision, seed)
    # Moved by float64's unit, they must stay float64.
    return {name: move(tensor.double() if precision == FLOAT64 else tensor) for name, tensor in tensors.items()}


def _variants(step: Step, attention: bool) -> Iterator[AbstractContextManager[None]]:
    """Other valid kernels of this machine; `attention` is whether there is any."""
    if attention:
        yield _variant(step, attention="fused" if step.numerics.attention == "plain" else "plain")
    if step.numerics.device_type == "cpu" and step.numerics.threads > 1 and step.numerics.dtype == "float32":
        yield _variant(step, threads=1)


@contextmanager
def _variant(step: Step, attention: Attention | None = None, threads: int | None = None) -> Iterator[None]:
    before = step.numerics
    step.model.use_attention(attention or before.attention)
    step.set_threads(threads or before.threads)
    try:
        yield
    finally:
        step.model.use_attention(before.attention)
        step.set_threads(before.threads)
