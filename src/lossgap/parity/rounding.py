"""Rounding as a perturbation: numbers moved by one unit in the last place of an arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from lossgap.gpt import GPT, MLP, CausalSelfAttention
from lossgap.training.numerics import Numerics

Arithmetic = Literal["float32", "tf32", "bfloat16", "float16"]
"""The arithmetic of products; sums, layer norms and the optimizer stay in float32."""

PRECISION: dict[Arithmetic, int] = {"float32": 24, "tf32": 11, "bfloat16": 8, "float16": 11}
"""Bits of the significand (IEEE 754 and NVIDIA's A100 white paper for TF32), the leading one counted."""
FLOAT32, FLOAT64 = 24, 53

Move = Callable[[Tensor], Tensor]
"""Gives a floating-point tensor moved as rounding could; of other tensors and of zeros nothing changes."""


def arithmetic(numerics: Numerics) -> Arithmetic:
    """The arithmetic of these numerics."""
    if numerics.dtype == "float32":
        return "tf32" if numerics.tf32 else "float32"
    return "bfloat16" if numerics.dtype == "bfloat16" else "float16"


def mover(precision: int, seed: int) -> Move:
    """Moves each number up or down, at random, by one unit in the last place of `precision` bits.

    The unit of x = m * 2**e with m in [1/2, 1) is 2**(e - precision).
    """
    generator = torch.Generator().manual_seed(seed)

    def move(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        x = tensor.detach().cpu().double()
        exponent = torch.frexp(x)[1]
        sign = torch.randint(0, 2, x.shape, generator=generator, dtype=torch.int8).double() * 2 - 1
        moved = x + sign * torch.ldexp(torch.ones_like(x), exponent - precision) * (x != 0)
        return moved.to(tensor.dtype).to(tensor.device)  # in this order: MPS has no float64

    return move


@contextmanager
def noisy(model: GPT, precision: int, seed: int) -> Iterator[None]:
    """The model with every product's result moved, forward and backward: an arithmetic that this machine lacks."""
    generator = torch.Generator().manual_seed(seed)

    def move(tensor: Tensor) -> Tensor:
        sign = torch.randint(0, 2, tensor.shape, generator=generator, dtype=torch.int8).to(tensor.device) * 2 - 1
        return tensor.detach() * (1.0 + sign * 2.0 ** (1 - precision))

    def shake(output: Tensor) -> Tensor:
        shaken = output + (move(output) - output.detach())
        if shaken.requires_grad:
            shaken.register_hook(move)
        return shaken

    def after(module: nn.Module, args: object, output: object) -> object:
        if isinstance(output, Tensor):
            return shake(output)
        assert isinstance(output, tuple)
        return (shake(output[0]), *output[1:])

    hooks = [
        module.register_forward_hook(after)
        for module in model.modules()
        if isinstance(module, nn.Linear | CausalSelfAttention | MLP)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
