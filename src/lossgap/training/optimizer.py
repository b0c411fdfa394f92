"""AdamW with nanoGPT's parameter groups, so that its optimizer state fits."""

from __future__ import annotations

import torch

from lossgap.config import TrainConfig
from lossgap.gpt import GPT
from lossgap.training.numerics import Numerics

Scaler = torch.amp.GradScaler
"""Loss scaling for float16; switched off for the other dtypes."""


def scaler(numerics: Numerics) -> Scaler:
    """A loss scaler, enabled for float16 only."""
    return Scaler(numerics.device_type, enabled=numerics.dtype == "float16")


def adamw(model: GPT, config: TrainConfig, numerics: Numerics) -> torch.optim.AdamW:
    """Two groups, in nanoGPT's order: tensors of two or more dimensions decay, the others do not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    fused = numerics.adamw == "fused"
    # foreach=False where not fused: torch's own choice there differs between devices.
    return torch.optim.AdamW(
        groups,
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        fused=fused,
        foreach=None if fused else False,
    )


def restore(optimizer: torch.optim.AdamW, state: dict[str, object], config: TrainConfig) -> None:
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
