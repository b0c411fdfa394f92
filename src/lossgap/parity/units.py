"""The parts of the model that are judged one by one, each on its own inputs: its modules, the embedding, the loss.

Nothing here computes what a layer computes: a unit runs the model's own code, in float64 on the CPU or in the dtype of
a device. `capture` runs the whole model in float64 and keeps what each unit was given, forward and backward.

Shapes: B batch, T context, C channels, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lossgap.gpt import GPT, CausalSelfAttention
from lossgap.parity.rounding import Move
from lossgap.training.batches import Batch
from lossgap.training.numerics import Numerics

EMBEDDING, LOSS, HEAD = "embedding", "loss", "lm_head"


@dataclass
class Unit:
    """One part of the model with what it was given in the float64 pass."""

    name: str
    args: tuple[object, ...]
    """Positional arguments; the first one is what the unit works on: activations, or token ids."""
    gradient: Tensor | None = None
    """The gradient of its output; None in evaluation, and where the unit is not judged backward."""
    training: bool = True

    def run(
        self, model: GPT, numerics: Numerics | None, scale: float = 1.0, move: Move | None = None
    ) -> dict[str, Tensor]:
        """`output`, and with a gradient `input gradient`, `weight gradient`, `bias gradient`: float64 on the CPU.

        `numerics` None is float64, in which `model` then is. `scale` is the loss scale, taken out of the results
        again, `move` perturbs all that the unit is given. A gradient that does not arrive is left out.
        """
        moved = move or torch.Tensor.detach
        own = self._module(model)
        parameters = {n: moved(p.detach()).requires_grad_() for n, p in own.named_parameters()}
        leaves = {n: p for n, p in parameters.items() if "." not in n}
        args = [_at(argument, next(model.parameters())) for argument in self.args]
        if isinstance(args[0], Tensor) and args[0].is_floating_point():
            args[0] = leaves["input"] = moved(args[0].detach()).requires_grad_()
        wanted = self.gradient is not None and bool(leaves)
        with torch.set_grad_enabled(wanted), autocast(numerics):
            y = self._call(model, own, parameters, tuple(args))
        found = {"output": y}
        if wanted:
            gradient = moved(cast("Tensor", _at(self.gradient, next(model.parameters()))))
            grads = torch.autograd.grad(y, list(leaves.values()), (gradient * scale).to(y.dtype), allow_unused=True)
            found |= {f"{n} gradient": g / scale for n, g in zip(leaves, grads, strict=True) if g is not None}
        return {what: tensor.detach().cpu().double() for what, tensor in found.items()}

    def has_products(self, model: GPT) -> bool:
        """True if it computes in the dtype of products: a linear layer is in it, or it works on one's logits."""
        own = self._module(model)
        return self.name == LOSS or (self.name != EMBEDDING and any(isinstance(m, nn.Linear) for m in own.modules()))

    def has_attention(self, model: GPT) -> bool:
        """True if attention is in it."""
        own = self._module(model)
        return self.name != EMBEDDING and any(isinstance(module, CausalSelfAttention) for module in own.modules())

    def _module(self, model: GPT) -> nn.Module:
        if self.name == EMBEDDING:
            return model
        return nn.Identity() if self.name == LOSS else model.get_submodule(self.name)

    def _call(self, model: GPT, own: nn.Module, parameters: Mapping[str, Tensor], args: tuple[object, ...]) -> Tensor:
        if self.name == EMBEDDING:
            return _embedding(model, parameters, args)
        if self.name == LOSS:
            return _loss(model, args)
        return _first(functional_call(own, dict(parameters), args))


def capture(model: GPT, batch: Batch, *, training: bool) -> list[Unit]:
    """Every unit in the order of the forward pass, inner ones before the one they are in.

    `model` and `batch` are on the CPU, the model in float64. In training a backward pass follows, and the units have
    the gradients of their outputs.
    """
    units: dict[str, Unit] = {}
    outputs: dict[str, Tensor] = {}

    def before(module: nn.Module, args: tuple[object, ...]) -> None:
        units[EMBEDDING] = Unit(EMBEDDING, (batch.x, batch.keys), training=training)

    def after(name: str, args: tuple[object, ...], output: object) -> None:
        units[name] = Unit(name, cast("tuple[object, ...]", _detached(args)), training=training)
        outputs[name] = _first(output)
        if outputs[name].requires_grad:
            outputs[name].retain_grad()

    hooks = [model.blocks()[0].register_forward_pre_hook(before)]
    for name, module in model.named_modules():
        if name:
            hooks.append(module.register_forward_hook(lambda _, args, output, name=name: after(name, args, output)))
    try:
        with torch.set_grad_enabled(training):
            _, loss = model(batch.x, batch.y, batch.keys)
    finally:
        for hook in hooks:
            hook.remove()
    units[LOSS] = Unit(LOSS, (outputs[HEAD].detach(), batch.x, batch.y), training=training)
    if training:
        assert loss is not None
        loss.backward()
        model.zero_grad(set_to_none=True)
        for name, output in outputs.items():
            units[name].gradient = output.grad
        units[LOSS].gradient = torch.ones((), dtype=torch.float64)
    return list(units.values())


def backward_order(model: GPT) -> list[str]:
    """Names of the units in the order in which gradients reach them, inner ones before the one they are in."""
    return [LOSS, *(name for name, _ in reversed(list(model.named_modules())) if name)]


class _Stop(Exception):  # noqa: N818  # no error: the embedding is known, the rest of the model need not run
    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = x


def _embedding(model: GPT, parameters: Mapping[str, Tensor], args: tuple[object, ...]) -> Tensor:
    """Return the input of the first block, (B, T, C)."""

    def stop(module: nn.Module, given: tuple[object, ...]) -> None:
        raise _Stop(cast("Tensor", given[0]))

    hook = model.blocks()[0].register_forward_pre_hook(stop)
    try:
        functional_call(model, dict(parameters), (args[0], None, args[1]))
    except _Stop as stopped:
        return stopped.x
    finally:
        hook.remove()
    raise AssertionError("the model has no first block")


def _loss(model: GPT, args: tuple[object, ...]) -> Tensor:
    """The loss that the model makes of these logits (B, T, V) in place of its own."""
    logits, idx, targets = cast("tuple[Tensor, Tensor, Tensor]", args)
    hook = model.lm_head.register_forward_hook(lambda module, given, output: logits.to(output.dtype))
    try:
        with _no_layers(model):
            return cast("Tensor", model(idx, targets)[1])
    finally:
        hook.remove()


@contextmanager
def _no_layers(model: GPT) -> Iterator[None]:
    """The model without its layers, where their result is not used."""

    def hidden(idx: Tensor, keys: Tensor | None = None) -> tuple[Tensor, list[object]]:
        weight = model.lm_head.weight
        return torch.zeros(*idx.shape, weight.shape[1], dtype=weight.dtype, device=weight.device), []

    model.__dict__["hidden"] = hidden
    try:
        yield
    finally:
        del model.__dict__["hidden"]


def _first(output: object) -> Tensor:
    """A module's output, or the first part of it."""
    return cast("Tensor", output[0] if isinstance(output, tuple) else output)


def _detached(value: object) -> object:
    if isinstance(value, Tensor):
        return value.detach()
    return tuple(map(_detached, value)) if isinstance(value, tuple) else value


def _at(value: object, like: Tensor) -> object:
    """Arguments on the device of `like`, floating-point ones in its dtype."""
    if isinstance(value, Tensor):
        # The dtype first: MPS has no float64.
        return (value.to(like.dtype) if value.is_floating_point() else value).to(like.device)
    return tuple(_at(item, like) for item in value) if isinstance(value, tuple) else value


def autocast(numerics: Numerics | None) -> AbstractContextManager[object]:
    """The context of a forward pass; nothing for float64."""
    return nullcontext() if numerics is None else numerics.autocast()
