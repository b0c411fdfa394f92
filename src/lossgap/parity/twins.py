"""Twins: trainings that differ from one by rounding alone.

A twin's initial weights are moved by one unit in the last place, and its sums run in another order: the channels of the
residual stream, the hidden units of each MLP, the heads, the channels of a head and the sequences of each batch are
put into another order, which changes nothing but the order in which the same products are added up, in every sum of
every iteration. That is how another instruction set or another device differs. All of it is drawn by counters, so twins
repeat.

Where dropout has masks of its own, they are tied to places, and the residual stream and the heads keep their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lossgap import random
from lossgap.gpt import GPTConfig
from lossgap.parity.stretch import Job


@dataclass(frozen=True, kw_only=True)
class Order:
    """New orders: entry i is the old place of what stands at i."""

    channels: Tensor
    """The order of the residual stream, (C,)."""
    hidden: tuple[Tensor, ...]
    """The order of each layer's MLP, (4C,)."""
    scores: tuple[Tensor, ...]
    """The order of each layer's queries and keys, (C,): whole heads, and channels within a head."""
    values: tuple[Tensor, ...]
    """The order of each layer's values, (C,): the same heads."""


def order(shape: GPTConfig, seed: int, twin: int, fixed: bool) -> Order:
    """The orders of one twin; `fixed` keeps channels and heads in their places."""
    C, H = shape.n_embd, shape.n_head
    D = C // H

    def drawn(name: str, count: int) -> Tensor:
        return _order(seed, f"twin {twin}, {name}", count)

    def heads(layer: int, kind: str) -> Tensor:
        outer = torch.arange(H) if fixed else drawn(f"layer {layer}, heads", H)
        return torch.cat([head * D + drawn(f"layer {layer}, {kind} of head {head}", D) for head in outer.tolist()])

    layers = range(shape.n_layer)
    return Order(
        channels=torch.arange(C) if fixed else drawn("channels", C),
        hidden=tuple(drawn(f"layer {layer}, hidden", 4 * C) for layer in layers),
        scores=tuple(heads(layer, "scores") for layer in layers),
        values=tuple(heads(layer, "values") for layer in layers),
    )


def _order(seed: int, name: str, count: int) -> Tensor:
    words = random.words(seed, random.Purpose.TWINS, random.name_stream(name), count)
    return torch.from_numpy(np.argsort(words, kind="stable"))


def reordered(tensors: Mapping[str, Tensor], new: Order) -> dict[str, Tensor]:
    """Weights, or moments of weights, by parameter name: the same model in another order."""
    return {name: _reordered(name, tensor, new) for name, tensor in tensors.items()}


def _reordered(name: str, tensor: Tensor, new: Order) -> Tensor:
    parts = name.split(".")
    layer = int(parts[2]) if parts[1] == "h" else None
    if layer is None or parts[3].startswith("ln_"):
        return tensor[..., new.channels]
    module, hidden = ".".join(parts[3:5]), new.hidden[layer]
    if module == "attn.c_attn":
        C = len(new.channels)
        rows = torch.cat([new.scores[layer], C + new.scores[layer], 2 * C + new.values[layer]])
        columns = new.channels
    else:
        rows, columns = {
            "attn.c_proj": (new.channels, new.values[layer]),
            "mlp.c_fc": (hidden, new.channels),
            "mlp.c_proj": (new.channels, hidden),
        }[module]
    return tensor[rows][:, columns] if tensor.dim() == 2 else tensor[rows]


def moved(weights: Mapping[str, Tensor], seed: int, twin: int, unit: float | None) -> dict[str, Tensor]:
    """Each weight one float32 up or down; with `unit`, by a random part of that share of itself."""
    found = {}
    for name, weight in weights.items():
        stream = random.name_stream(f"twin {twin}, {name}")
        words = torch.from_numpy(random.words(seed, random.Purpose.TWINS, stream, weight.numel()).view(np.int64))
        words = words.view(weight.shape)
        if unit is None:
            towards = torch.where(words < 0, -torch.inf, torch.inf).to(weight.dtype)
            found[name] = torch.nextafter(weight, towards)
        else:
            found[name] = (weight.double() * (1 + unit * (words.double() * 2.0**-63))).to(weight.dtype)
    return found


class ReorderedJob(Job):
    """A training whose micro-batches hold the same sequences in another order."""

    def __init__(self, job: Job, seed: int, twin: int) -> None:
        super().__init__(config=job.config, shape=job.shape, batches=self._batches, evaluation=job.evaluation)
        object.__setattr__(self, "_job", job)
        object.__setattr__(self, "_sequences", _order(seed, f"twin {twin}, sequences", job.config.batch_size))

    _job: Job
    _sequences: Tensor

    def _batches(self, iteration: int) -> tuple[Tensor, Tensor]:
        x, y = self._job.batches(iteration)
        return x[:, self._sequences], y[:, self._sequences]

    def keys(self, iteration: int) -> Tensor | None:
        """The dropout keys go with their sequences."""
        keys = self._job.keys(iteration)
        return None if keys is None else keys[:, self._sequences]
