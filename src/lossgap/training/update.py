"""One update: gradients of the micro-batches, then clipping and AdamW. Training and replay run this same code."""

from __future__ import annotations

import contextlib
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lossgap.training.batches import Batch
from lossgap.training.numerics import Numerics
from lossgap.training.optimizer import Scaler


class BatchSource(Protocol):
    """Micro-batches in their order."""

    def take(self) -> Batch:
        """The next micro-batch, already drawn."""

    def prefetch(self) -> None:
        """Draw the micro-batch after the one just taken."""


def accumulate(step_model: nn.Module, source: BatchSource, numerics: Numerics, scaler: Scaler, steps: int) -> Tensor:
    """Add the gradients of `steps` micro-batches to the parameters, scaled by the loss scale.

    Returns the micro-batches' losses, each divided by `steps`: (steps,), on the device.
    """
    micro_losses = []
    for micro_step in range(steps):
        batch = source.take()
        with _gradients_travel(step_model, micro_step == steps - 1):
            with numerics.autocast():
                _, loss = step_model(batch.x, batch.y, batch.keys)
                loss = loss / steps
            source.prefetch()
            scaler.scale(loss).backward()
        micro_losses.append(loss.detach())
    return torch.stack(micro_losses)


def apply(model: nn.Module, optimizer: torch.optim.Optimizer, scaler: Scaler, grad_clip: float) -> Tensor:
    """Clip the gradients to `grad_clip` (0 is off), update the parameters, drop the gradients; the norm before it."""
    scaler.unscale_(optimizer)
    grad_norm = _clip(model, grad_clip)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return grad_norm


def _gradients_travel(step_model: nn.Module, last: bool) -> contextlib.AbstractContextManager[object]:
    """Between processes, gradients are averaged once an update: after the last micro-batch."""
    if isinstance(step_model, DistributedDataParallel) and not last:
        return step_model.no_sync()
    return contextlib.nullcontext()


def _clip(model: nn.Module, grad_clip: float) -> Tensor:
    parameters = list(model.parameters())
    if grad_clip > 0:
        return nn.utils.clip_grad_norm_(parameters, grad_clip).detach()
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]).detach()
