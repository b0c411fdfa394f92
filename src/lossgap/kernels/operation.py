"""An operation of a training at one shape: on the device as the run computes it, and in float64.

    outputs = operation.on_device(numerics)            # as the model computes it, a sample brought back to the CPU
    exact = operation.exact(operation.sampled())       # the same sample in float64, by formulas of its own

Inputs are drawn alike on every machine (`lossgap.random`). Rows of most outputs are independent of each other, so
float64 computes a sample of them, spread over all rows with the first and the last; sums over all rows (a weight's
gradient) are sampled by output. The operations themselves are in kernels.py.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lossgap import random
from lossgap.parity.rounding import PRECISION, arithmetic
from lossgap.random import Float64
from lossgap.training.numerics import DTYPES, Numerics

Direction = Literal["forward", "backward", "optimizer"]
Tensors = dict[str, Tensor]
Noise = Callable[[str, Tensor], Tensor]
"""Moves each number of a tensor by a random part of its unit roundoff; the name is the key of the draw."""

SEED = 1
"""The seed of the inputs; a constant, so that two machines are given the same ones."""
ROWS = 256
"""Rows of an output that float64 computes."""
POOL = (1 << 20) + 7
"""Different numbers in a large input, which repeats them; a prime, so that rows do not repeat."""

UNIT: dict[str, float] = {name: 2.0**-bits for name, bits in PRECISION.items()}
"""Unit roundoff by arithmetic: half the distance between 1 and the next number."""


class Operation(ABC):
    """One operation at one shape, with its inputs: float32 on the CPU, indices int64."""

    name: str
    shape: str
    of_run: bool
    """True if the run computes it; the others are cases of known traps."""
    inputs: Tensors
    directions: Mapping[str, Direction]
    """The direction of each output."""

    @abstractmethod
    def on_device(self, numerics: Numerics) -> Tensors:
        """The sampled outputs as the run's device and numerics give them, float32 on the CPU."""

    @abstractmethod
    def sampled(self) -> Tensors:
        """The part of the inputs that the sample needs, float64."""

    @abstractmethod
    def exact(self, inputs: Tensors) -> Tensors:
        """The sampled outputs from `sampled` inputs."""

    def perturbed(self, inputs: Tensors, noise: Noise) -> Tensors:
        """As `exact`, with inputs moved by `noise`; an operation that rounds in between moves that, too."""
        return self.exact({name: noise(name, x) if x.is_floating_point() else x for name, x in inputs.items()})

    def unit_in(self, numerics: Numerics) -> float:
        """Unit roundoff of what is computed from the inputs."""
        return UNIT["float32"]

    def unit_out(self, numerics: Numerics, output: str) -> float:
        """Unit roundoff of an output."""
        return UNIT["float32"]

    def terms(self, inputs: Tensors) -> Mapping[str, Float64]:
        """For outputs that are long sums: the n terms of m of them, (n, m), from `sampled` inputs."""
        return {}

    def base(self, inputs: Tensors, output: str) -> Tensor | None:
        """Return the value that an output changes a little, such as the weights before an update; None without one.

        Errors are then relative to the change.
        """
        return None


def numbers(name: str, *shape: int, std: float = 1.0) -> Tensor:
    """Normal numbers that depend on `name` and the shape alone; beyond `POOL` of them they repeat."""
    count = math.prod(shape)
    drawn = random.normal(SEED, f"canary/{name}", min(count, POOL), std)
    return torch.from_numpy(np.resize(drawn, count).reshape(shape))


def sample(count: int, most: int = ROWS) -> Tensor:
    """Up to `most` of `count` places, the first and the last among them."""
    return torch.from_numpy(np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)))


def leaves(inputs: Tensors, device: str) -> Tensors:
    """The inputs on the device; all but indices want a gradient."""
    return {
        name: tensor.detach().clone().to(device).requires_grad_(tensor.is_floating_point())
        for name, tensor in inputs.items()
    }


def moved(tensor: Tensor, device: str, dtype: str) -> Tensor:
    """A copy on a device, in a dtype."""
    return tensor.to(device, DTYPES[dtype], copy=True)


def home(outputs: Mapping[str, Tensor]) -> Tensors:
    """On the CPU in float32; MPS has no float64."""
    return {name: tensor.detach().float().cpu() for name, tensor in outputs.items()}


def low_unit(numerics: Numerics) -> float:
    """Unit roundoff of what matrix products take in."""
    return UNIT[arithmetic(numerics)]


def rounded(tensor: Tensor, dtype: str) -> Tensor:
    """The nearest numbers of `dtype`, as float32: what arrives where the operation before ran in it."""
    return tensor.to(DTYPES[dtype]).float()


def products(left: Tensor, right: Tensor) -> Float64:
    """(n, a), (n, b) -> (n, a * b): what is summed over n in left' right."""
    found: Float64 = (left[:, :, None] * right[:, None, :]).flatten(1).numpy()
    return found
