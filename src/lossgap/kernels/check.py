"""The canary: the operations of a run at its own shapes, on this device, against float64; in seconds.

    found = canary(given)              # of what `lossgap canary` was given
    found.faults                       # the outputs that are out of bounds, worst first

What is allowed is found by perturbation, not by constants. In float64, on the CPU:

1. Every input is moved by a random part of the unit roundoff u of the dtype that the operation computes in (u = 2^-24
   in float32, 2^-11 in TF32 and float16, 2^-8 in bfloat16), every output by its own, and in attention the scores and
   weights: what rounding them makes. Twice; the worse counts.
2. Long sums are added up in float32, one term after the other: the least exact order that a kernel may choose.
3. Allowed is `MARGIN` times the root of the sum of both squares.

An error is the root mean square of a row (the last axis) of the output minus float64, in the worst row, relative to
the root mean square of the whole output; of an update, relative to the change of the weights. So a wrong row counts
wherever it is among thousands of good ones. The margin was chosen so that every kernel measured in docs/parity.md
stays below half of what is allowed.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lossgap import random
from lossgap.arguments import Given
from lossgap.arithmetic import GPT2_OUTPUTS
from lossgap.config import TrainConfig
from lossgap.corpus import open_corpus
from lossgap.errors import CorpusError, MachineError
from lossgap.gpt import GPTConfig, gpt_config
from lossgap.kernels.kernels import of_a_run
from lossgap.kernels.operation import SEED, UNIT, Direction, Operation, Tensors, rounded
from lossgap.machine.device import resolve_device
from lossgap.machine.probe import environment
from lossgap.random import Float64
from lossgap.shown import Shown
from lossgap.training.checkpoint import Checkpoint
from lossgap.training.numerics import Numerics, applied, resolve
from lossgap.training.recipe_source import source_of

MARGIN = 5.0
"""Times what rounding makes."""
DRAWS = 2
"""Perturbations of each operation."""
FEW = 64
"""Outputs with fewer numbers than this are perturbed by the whole unit: chance must not make their error small."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One output of one operation. Errors are relative (see the module)."""

    operation: str
    shape: str
    output: str
    direction: Direction
    error: float | None
    """None where the device gave a number that is not finite."""
    allowed: float
    of_run: bool
    looks_like: str = ""
    """The dtype that explains the error, if one does."""

    @property
    def is_ok(self) -> bool:
        """True if the error is within what is allowed."""
        return self.error is not None and self.error <= self.allowed

    @property
    def ratio(self) -> float:
        """Error over allowed."""
        return math.inf if self.error is None else self.error / self.allowed

    def words(self) -> str:
        """The operation, and how wrong it is, in one clause."""
        size = "not finite" if self.error is None else f"off by {self.error:.2g}, {self.allowed:.2g} is allowed"
        like = f", as if computed in {self.looks_like}" if self.looks_like else ""
        return f"{self.operation} {self.shape}: {self.output} ({self.direction}) {size}{like}"


@dataclass(frozen=True, repr=False, kw_only=True)
class Canary(Shown):
    """The canary's findings."""

    numerics: Numerics
    environment: Mapping[str, object]
    checks: tuple[Check, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def faults(self) -> tuple[Check, ...]:
        """The checks that are out of bounds among those that the run computes, worst first."""
        return self._faults(True)

    @property
    def traps(self) -> tuple[Check, ...]:
        """The checks that are out of bounds among the cases that the run does not compute."""
        return self._faults(False)

    def _faults(self, of_run: bool) -> tuple[Check, ...]:
        wrong = [check for check in self.checks if not check.is_ok and check.of_run is of_run]
        return tuple(sorted(wrong, key=lambda check: -check.ratio))


def canary(given: Given) -> Canary:
    """The canary of a run, a checkpoint, or configs; of the laptop recipe where nothing is given.

    Where the corpus is not here, the vocabulary is GPT-2's, and a note says so. Raises what opening config, checkpoint
    and device raises.
    """
    config, found = source_of(given, "")
    vocab_size, note = _vocabulary(config, found)
    shape = gpt_config(config, vocab_size)
    before = found.part("numerics") if found is not None else {}
    numerics, _ = resolve(config, resolve_device(config.device).value, 1, before)
    checked = check(config, shape, numerics, config.batch_size)
    return dataclasses.replace(checked, notes=(*note, *checked.notes))


def _vocabulary(config: TrainConfig, found: Checkpoint | None) -> tuple[int, tuple[str, ...]]:
    if found is not None:
        return int(found.model_args["vocab_size"]), ()
    try:
        return open_corpus(config.dataset).vocab_size or GPT2_OUTPUTS, ()
    except CorpusError:
        return GPT2_OUTPUTS, (f"the corpus {config.dataset} is not here: taking GPT-2's vocabulary",)


def check(config: TrainConfig, shape: GPTConfig, numerics: Numerics, micro_batch: int) -> Canary:
    """Run every operation of `shape` in `numerics` and judge it. Draws nothing from torch's generators."""
    start = time.perf_counter()
    checks: list[Check] = []
    notes: list[str] = []
    with applied(numerics):
        for operation in of_a_run(shape, config, numerics, micro_batch):
            try:
                outputs = operation.on_device(numerics)
            except (RuntimeError, TypeError) as error:
                if operation.of_run:
                    raise
                reason = str(error).strip().partition("\n")[0][:120]
                notes.append(f"{operation.name} was left out, this device does not compute it: {reason}")
                continue
            checks += judged(operation, outputs, numerics)
    if numerics.compile:
        notes.append("kernels are checked as they run uncompiled; `lossgap replay` judges the compiled model")
    return Canary(
        numerics=numerics,
        environment=environment(numerics.device),
        checks=tuple(checks),
        notes=tuple(notes),
        seconds=time.perf_counter() - start,
    )


def refuse(found: Canary) -> None:
    """Raises MachineError (`canary-out-of-bounds`) where an operation of the run is out of bounds."""
    if found.faults:
        worst, *others = found.faults
        more = f" (and {len(others)} more outputs)" if others else ""
        raise MachineError(
            "canary-out-of-bounds",
            f"{found.numerics.device} computes {worst.words()}{more}: a training here would not be the one that was "
            "asked for; `lossgap canary` lists all; take another --device, --dtype or --attention, or update the "
            "driver and torch",
        )


def certify(config: TrainConfig, shape: GPTConfig, numerics: Numerics, micro_batch: int) -> str:
    """A line that says that the device computes this run within bounds; for `lossgap train --canary`.

    Raises MachineError (`canary-out-of-bounds`).
    """
    found = check(config, shape, numerics, micro_batch)
    refuse(found)
    return f"canary: {len(found.checks)} outputs of this device's kernels are within bounds ({found.seconds:.1f} s)"


def judged(operation: Operation, outputs: Tensors, numerics: Numerics) -> Iterator[Check]:
    """Each output of the device against float64."""
    inputs = operation.sampled()
    exact = operation.exact(inputs)
    perturbed = [_perturbed(operation, inputs, exact, numerics, draw) for draw in range(DRAWS)]
    terms = operation.terms(inputs)
    for output, direction in operation.directions.items():
        reference = exact[output]
        base = operation.base(inputs, output)
        scale = rms(reference if base is None else reference - base)
        error = worst_row(outputs[output].double() - reference) / scale
        rounding = max(worst_row(moved[output] - reference) for moved in perturbed) / scale
        summing = running_sum_error(terms[output]) / scale if output in terms else 0.0
        allowed = MARGIN * math.hypot(rounding, summing)
        check = Check(
            operation=operation.name,
            shape=operation.shape,
            output=output,
            direction=direction,
            error=error if math.isfinite(error) else None,
            allowed=allowed,
            of_run=operation.of_run,
        )
        if check.error is not None and not check.is_ok:
            like = _looks_like(operation, outputs[output].double(), output, error * scale, numerics)
            check = dataclasses.replace(check, looks_like=like)
        yield check


def rms(values: Tensor) -> float:
    """Root mean square."""
    return float(values.square().mean().sqrt())


def worst_row(difference: Tensor) -> float:
    """The largest root mean square along the last axis; NaN where one is."""
    return float(difference.square().mean(-1).max().sqrt())


def _perturbed(operation: Operation, inputs: Tensors, exact: Tensors, numerics: Numerics, draw: int) -> Tensors:
    unit = operation.unit_in(numerics)

    def noise(name: str, values: Tensor) -> Tensor:
        return values * (1 + unit * _uniform(f"{operation.name}/{name}/{draw}", values))

    found = operation.perturbed(inputs, noise)
    for name, tensor in found.items():
        unit_out = operation.unit_out(numerics, name)
        if tensor.numel() < FEW:
            found[name] = tensor + (tensor - exact[name]).sign() * unit_out * tensor.abs()
        else:
            found[name] = tensor * (1 + unit_out * _uniform(f"{operation.name}/{name}/{draw}/out", tensor))
    return found


def _uniform(name: str, like: Tensor) -> Tensor:
    """Numbers in (-1, 1) of the shape of `like`, float64; beyond 2^20 they repeat."""
    count = min(like.numel(), (1 << 20) + 7)
    words = random.words(SEED, random.Purpose.TWINS, random.name_stream(f"canary/{name}"), count)
    drawn = (words >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1
    return torch.from_numpy(np.resize(drawn, like.numel()).reshape(like.shape))


def running_sum_error(terms: Float64) -> float:
    """Return the error of adding (n, m) up over n in float32, one after the other: root mean square over m."""
    added = terms.astype(np.float32)
    sums = np.add.accumulate(added, axis=0, dtype=np.float32)[-1]
    return float(np.sqrt(np.mean(np.square(sums - added.astype(np.float64).sum(0)))))


def _looks_like(operation: Operation, found: Tensor, output: str, error: float, numerics: Numerics) -> str:
    """The dtype in which float64 with rounded inputs comes clearly nearer to the device's output than without."""
    inputs = operation.sampled()
    candidates: dict[str, Callable[[Tensor], Tensor]] = {
        "TF32": _to_tf32,
        "bfloat16": lambda x: rounded(x, "bfloat16"),
        "float16": lambda x: rounded(x, "float16"),
    }
    for name, coarser in candidates.items():
        if UNIT[name.lower()] <= operation.unit_in(numerics):
            continue
        # A bias is added in float32 to what a coarser product gives.
        wanted = {key for key, x in inputs.items() if x.is_floating_point() and x.dim() > 1}
        moved = {key: coarser(x.float()).double() if key in wanted else x for key, x in inputs.items()}
        made = operation.exact(moved)[output]
        if min(worst_row(found - made), worst_row(found - coarser(made.float()).double())) < 0.3 * error:
            return name
    return ""


def _to_tf32(values: Tensor) -> Tensor:
    """To 10 stored bits, to the nearest."""
    bits = values.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)
