"""Dropout whose masks are a function of a key and a position, equal bit for bit on every device.

`keep_mask` is the torch side of `lossgap.random.keep_mask`: on a CPU that very function (NumPy's
native loops, as an operator that torch.compile does not look into), elsewhere the same hash in int32
tensor operations, compiled into one kernel where a compiler is there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F

from lossgap import random


def dropout(x: torch.Tensor, p: float, key: torch.Tensor | None) -> torch.Tensor:
    """Zero each element of `x` with probability p and scale the rest by 1 / (1 - p).

    `x` (B, ...); `key` (B, 2) int32 from `lossgap.random.dropout_keys`. With no key the mask comes from torch's
    own generator, as in nanoGPT: it then depends on the device and on everything drawn before.
    """
    if p == 0.0:
        return x
    if key is None:
        return F.dropout(x, p)
    return x * keep_mask(key, x.shape, p) * (1.0 / (1.0 - p))


def keep_mask(key: torch.Tensor, shape: torch.Size, p: float) -> torch.Tensor:
    """The mask of `shape` (B, ...), bool; position is the flat index within one sequence."""
    count = math.prod(shape[1:])
    if key.device.type == "cpu":
        mask: torch.Tensor = _native_mask(key, count, p)
    elif torch.compiler.is_compiling():
        mask = tensor_mask(key, count, p)
    else:
        mask = _compiled_mask()(key, count, p)
    return mask.view(shape)


@torch.library.custom_op("lossgap::keep_mask", mutates_args=(), device_types="cpu")
def _native_mask(key: torch.Tensor, count: int, p: float) -> torch.Tensor:
    return torch.from_numpy(random.keep_mask(key.contiguous().numpy(), count, p))


@_native_mask.register_fake
def _(key: torch.Tensor, count: int, p: float) -> torch.Tensor:
    return key.new_empty((key.shape[0], count), dtype=torch.bool)


@cache
def _compiled_mask() -> Callable[[torch.Tensor, int, float], torch.Tensor]:
    return torch.compile(tensor_mask, dynamic=False)


def tensor_mask(key: torch.Tensor, count: int, p: float) -> torch.Tensor:
    """`lossgap.random.keep_mask` in int32 tensor operations: key (B, 2) int32 -> (B, count) bool.

    int32 because it is what every device multiplies fast with wrap-around; the logical right shift
    is the arithmetic one with the copied sign bits masked away, and the unsigned comparison is the
    signed one with the top bit flipped on both sides.
    """
    x = torch.arange(count, dtype=torch.int32, device=key.device)[None, :] + key[:, :1]
    for index, (shift, multiplier) in enumerate(random.ROUNDS):
        x = x ^ ((x >> shift) & ((1 << (32 - shift)) - 1))
        if index == 1:
            x = x + key[:, 1:]
        x = x * _signed(multiplier)
    x = x ^ ((x >> random.LAST_SHIFT) & ((1 << (32 - random.LAST_SHIFT)) - 1))
    return (x ^ -(2**31)) >= _signed(random.drop_threshold(p) ^ 2**31)


def _signed(word: int) -> int:
    return word - 2**32 if word >= 2**31 else word
