"""Muon: the layers' matrices move by orthogonalised momentum, everything else by AdamW.

Jordan et al. 2024 (kellerjordan.github.io/posts/muon). torch has it too, and a test holds this one against it. Ours
orthogonalises matrices of one shape in one batch and in float32, which on a CPU without bfloat16 products takes a
third of the time, and is one optimizer together with AdamW, so that a checkpoint has one state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""The coefficients of the quintic Newton-Schulz iteration, as published."""
STEPS = 5
RMS = 0.2
"""Root mean square that an update has at learning rate 1, near AdamW's: Liu et al. 2025, arXiv:2502.16982, 2.2."""


class Muon(torch.optim.Optimizer):
    """Muon for `matrices`, and the AdamW that it is given for the rest, as one optimizer.

    Each group's `lr` is its own: `lr_ratio` of the last group holds Muon's over AdamW's. Its state of a matrix is
    `momentum_buffer`, of the shape of the matrix.
    """

    def __init__(
        self, adamw: torch.optim.AdamW, matrices: Sequence[Tensor], *, lr: float, weight_decay: float, momentum: float
    ) -> None:
        self.adamw = adamw
        own = {
            "params": list(matrices),
            "lr": lr,
            "lr_ratio": lr / adamw.param_groups[0]["lr"] if adamw.param_groups[0]["lr"] else 0.0,
            "weight_decay": weight_decay,
            "momentum": momentum,
        }
        super().__init__([*adamw.param_groups, own], {})
        self._share()

    def _share(self) -> None:
        """Give AdamW its part of the groups and the state."""
        self.adamw.param_groups = self.param_groups[:-1]
        self.adamw.state = self.state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load groups and state. Raises as torch does for another shape."""
        super().load_state_dict(dict(state_dict))
        self._share()

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # takes no closure
        """Update every parameter that has a gradient; a closure is not taken."""
        assert closure is None
        self.adamw.step()
        group = self.param_groups[-1]
        with torch.no_grad():
            moving = [p for p in group["params"] if p.grad is not None]
            directions = [self._direction(p, group["momentum"]) for p in moving]
            for parameter, update in zip(moving, orthogonalised(directions), strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                scale = RMS * max(parameter.shape) ** 0.5
                parameter.add_(update, alpha=-group["lr"] * scale)

    def _direction(self, parameter: Tensor, momentum: float) -> Tensor:
        """The momentum with Nesterov's look ahead, (rows, columns)."""
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"]
        buffer.lerp_(gradient, 1 - momentum)
        return gradient.lerp(buffer, momentum)


def orthogonalised(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Each matrix U S V' as about U V' (singular values 0.7 to 1.2), by five Newton-Schulz steps in float32.

    Matrices of one shape, or of its transpose, go through together.
    """
    found: list[Tensor] = [torch.empty(0)] * len(matrices)
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for index, matrix in enumerate(matrices):
        by_shape.setdefault(tuple(sorted(matrix.shape)), []).append(index)
    for indices in by_shape.values():
        # Wide matrices: the products are then as small as they can be.
        wide = [m.mT if m.size(0) > m.size(1) else m for m in (matrices[i].float() for i in indices)]
        for index, result in zip(indices, _newton_schulz(torch.stack(wide)), strict=True):
            tall = matrices[index].size(0) > matrices[index].size(1)
            found[index] = (result.mT if tall else result).to(matrices[index].dtype)
    return found


def _newton_schulz(x: Tensor) -> Tensor:
    """(n, rows, columns) with rows <= columns -> the same shape, orthogonalised."""
    a, b, c = COEFFICIENTS
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x
