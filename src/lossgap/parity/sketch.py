"""A tensor in 33 numbers: its norm and a sketch, from which the distance of two tensors follows.

Count sketch (Charikar, Chen and Farach-Colton 2002): each entry gets a fixed random sign and falls into one of 32 sums.
The squared distance of two sketches is an unbiased estimate of that of the tensors, with a relative deviation of about
sqrt(2 / 32); where the tensors differ in one entry only, it is exact. Deviation from the paper: entry i falls into sum
i mod 32, not into a random one, which the random signs make up for.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from lossgap.random import Float64

SUMS = 32
WIDTH = 1 + SUMS
"""Numbers in a sketch: the norm, then the sums."""
_KEY = 0x6C6F7373676170
_CHUNK = 1 << 20


def sketch(tensor: Tensor) -> Float64:
    """The norm and the sums of a tensor of any shape, (WIDTH,) float64."""
    flat = tensor.detach().cpu().double().reshape(-1).numpy()
    words = np.random.Philox(key=_KEY)
    result = np.zeros(WIDTH)
    result[0] = np.linalg.norm(flat)
    for start in range(0, len(flat), _CHUNK):
        part = flat[start : start + _CHUNK]
        bits = np.unpackbits(words.random_raw(-(-len(part) // 64)).astype("<u8").view(np.uint8))
        signed = np.zeros(-(-len(part) // SUMS) * SUMS)
        np.multiply(part, bits[: len(part)] * 2.0 - 1.0, out=signed[: len(part)])
        result[1:] += signed.reshape(-1, SUMS).sum(0)
    return result


def distance(found: Float64, reference: Float64) -> float:
    """Estimated |a - b| / |b| of two tensors by their sketches.

    Infinite where b is 0 and a is not; nan if a is not finite.
    """
    apart = float(np.linalg.norm(found[1:] - reference[1:]))
    return _over(max(apart, abs(float(found[0] - reference[0]))), float(reference[0]))


def relative_error(found: Tensor, reference: Tensor) -> float:
    """|a - b| / |b|, both float64. Infinite where b is 0 and a is not; nan if a is not finite."""
    if found.shape != reference.shape:
        return math.inf
    return _over(float(torch.linalg.vector_norm(found - reference)), float(torch.linalg.vector_norm(reference)))


def _over(apart: float, norm: float) -> float:
    if apart == 0.0:
        return 0.0
    return apart / norm if norm else math.inf if apart == apart else math.nan
