"""The optimizer of a config: AdamW with nanoGPT's parameter groups, so that its state fits, or Muon beside it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable

import torch

from lossgap.config import TrainConfig
from lossgap.gpt import GPT
from lossgap.schedule import learning_rate, momentum, weight_decay
from lossgap.training.muon import Muon
from lossgap.training.numerics import Numerics

Scaler = torch.amp.GradScaler
"""Loss scaling for float16; switched off for the other dtypes."""


class EagerAdamW(torch.optim.AdamW):
    """torch's AdamW, whose step does not import torch's compiler (see `_spare_the_compiler`)."""

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # takes no closure
        """Update every parameter that has a gradient; a closure is not taken."""
        assert closure is None
        with torch.no_grad():
            _STEP(self)


_STEP = inspect.unwrap(torch.optim.AdamW.step)
"""torch's step without the wrapper that tells the compiler where to break a graph: nothing of ours compiles a step."""


def scaler(numerics: Numerics) -> Scaler:
    """A loss scaler, enabled for float16 only."""
    return Scaler(numerics.device_type, enabled=numerics.dtype == "float16")


def build(model: GPT, config: TrainConfig, numerics: Numerics) -> torch.optim.Optimizer:
    """AdamW for all parameters, or with `optimizer=muon` for all but the layers' matrices, which Muon trains."""
    if config.optimizer == "adamw":
        return adamw(model, config, numerics)
    matrices = [p for block in model.blocks() for p in block.parameters() if p.dim() == 2]
    rest = adamw(model, config, numerics, leave_out=frozenset(map(id, matrices)))
    return Muon(rest, matrices, lr=config.muon_lr, weight_decay=config.weight_decay, momentum=momentum(config, 0))


def set_rates(optimizer: torch.optim.Optimizer, config: TrainConfig, iteration: int) -> float:
    """Give every group its learning rate, weight decay and momentum of an iteration; returns AdamW's rate."""
    rate = learning_rate(config, iteration)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_ratio"] if "lr_ratio" in group else rate
        if config.weight_decay_schedule != "constant" and group["weight_decay"]:
            group["weight_decay"] = weight_decay(config, iteration)
        if "momentum" in group:
            group["momentum"] = momentum(config, iteration)
    return rate


def adamw(
    model: GPT, config: TrainConfig, numerics: Numerics, leave_out: frozenset[int] = frozenset()
) -> torch.optim.AdamW:
    """Two groups, in nanoGPT's order: tensors of two or more dimensions decay, the others do not.

    `leave_out` holds the ids of parameters that another optimizer trains.
    """
    parameters = [p for p in model.parameters() if p.requires_grad and id(p) not in leave_out]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    _spare_the_compiler()
    fused = numerics.adamw == "fused"
    # foreach=False where not fused: torch's own choice there differs between devices.
    return EagerAdamW(
        groups,
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        fused=fused,
        foreach=None if fused else False,
    )


def _spare_the_compiler() -> None:
    """Let torch's optimizers work without importing torch's compiler, which takes a start-up as long as torch itself.

    torch (2.13, `torch/_compile.py`) wraps four methods so that a compiled caller leaves them out, and imports the
    compiler at their first call to do so; what it would find is kept as an attribute, which is set here. Nothing of
    ours compiles an optimizer. A torch that does it otherwise ignores the attribute.
    """
    if "torch._dynamo" in sys.modules:
        return
    methods = torch.optim.Optimizer
    for method in (methods.add_param_group, methods.zero_grad, methods.state_dict, methods.load_state_dict):
        plain = getattr(method, "__wrapped__", None)
        if plain is not None:
            plain.__dynamo_disable = plain


def restore(optimizer: torch.optim.Optimizer, state: dict[str, object], config: TrainConfig) -> None:
    """Load moments and step counts; settings of the groups stay those of `config`.

    A checkpoint's groups carry its own weight decay, betas and kernel choice. nanoGPT lets them win silently, so
    that a changed flag has no effect; here the settings of the run being started win. They must do so before torch
    loads: by the kernel choice it decides where the step counts go, which a fused kernel needs on its device.

    Raises ValueError, KeyError, TypeError for a state of another shape.
    """
    theirs = state["param_groups"]
    if not isinstance(theirs, list) or len(theirs) != len(optimizer.param_groups):
        raise ValueError(f"it has not {len(optimizer.param_groups)} groups of parameters")
    groups = [{**ours, "params": group["params"]} for ours, group in zip(optimizer.param_groups, theirs, strict=True)]
    optimizer.load_state_dict({**state, "param_groups": groups})
