"""Planted faults, each found at its layer and in its direction; and healthy machines, where nothing is found.

A fault is planted on the replaying side only, in code that every arithmetic shares: it corrupts this machine's float64
in the same way, so only the recorded float64 can tell. A fault `in kernels` spares float64, as a device's wrong kernel
does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lossgap import gpt, random
from lossgap.parity import bundle as bundles
from lossgap.parity.bundle import Bundle
from lossgap.parity.steps import Steps, judge
from lossgap.parity.stretch import fill as stretch_fill
from lossgap.training import optimizer as optimizers
from lossgap.training.numerics import resolve
from lossgap.training.update import accumulate, apply

from .small import recorded as record_small

Patch = pytest.MonkeyPatch
BELOW = "below what this dtype can show"


def judged(recorded: Bundle, dtype: str = "float32", **numerics: object) -> Steps:
    own = resolve(recorded.config, "cpu", 1, recorded.numerics)[0]
    return judge(recorded, dataclasses.replace(own, dtype=dtype, **numerics))  # type: ignore[arg-type]  # by name


# ---------------------------------------------------------------------------------------------
# Faults


def everywhere(tensor: Tensor) -> bool:
    return True


def in_kernels(tensor: Tensor) -> bool:
    return tensor.dtype != torch.float64


def layer_norm_epsilon(patch: Patch, where: Callable[[Tensor], bool]) -> None:
    def forward(self: gpt.LayerNorm, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-3 if where(x) else 1e-5)

    patch.setattr(gpt.LayerNorm, "forward", forward)


def tanh_gelu(patch: Patch, where: Callable[[Tensor], bool]) -> None:
    exact = F.gelu
    patch.setattr(F, "gelu", lambda x: exact(x, approximate="tanh" if where(x) else "none"))


def attention_scale(patch: Patch, where: Callable[[Tensor], bool]) -> None:
    plain = gpt.plain_attention
    patch.setattr(gpt, "plain_attention", lambda q, *rest: plain(q * 1.01 if where(q) else q, *rest))


def one_layers_weights(patch: Patch, where: Callable[[Tensor], bool]) -> None:
    fill = stretch_fill

    def wrong(model: gpt.GPT, weights: dict[str, Tensor]) -> None:
        fill(model, weights)
        weight = model.blocks()[1].mlp.c_fc.weight
        if where(weight):
            weight.data *= 1.001

    patch.setattr("lossgap.parity.stretch.fill", wrong)


FORWARD = [
    (layer_norm_epsilon, "transformer.h.0.ln_1", False),
    (tanh_gelu, "transformer.h.0.mlp", True),
    (attention_scale, "transformer.h.0.attn", True),
    (one_layers_weights, "transformer.h.1.mlp.c_fc.weight", False),
]
"""Fault, layer, and whether bfloat16 cannot show it."""


@pytest.mark.parametrize("where", [everywhere, in_kernels])
@pytest.mark.parametrize(("fault", "layer", "fine"), FORWARD)
def test_a_forward_fault(
    recorded: Bundle, monkeypatch: Patch, fault: Callable[..., None], layer: str, fine: bool, where: Any
) -> None:
    fault(monkeypatch, where)
    first = judged(recorded).first
    assert first is not None
    assert (first.name, first.direction, first.iteration) == (layer, "forward", 0)
    low = judged(recorded, "bfloat16")
    if not fine:
        assert low.first is not None
        assert (low.first.name, low.first.direction) == (layer, "forward")
    elif where is everywhere:
        assert low.first is None
        assert low.below is not None
        assert (low.below.name, low.below.direction, low.below.verdict) == (layer, "forward", BELOW)
    else:
        assert low.first is None


def test_a_fault_beside_the_kernel_that_runs(recorded: Bundle, monkeypatch: Patch) -> None:
    """In evaluation the device attends by its own kernel: the fault is in the code that only float64 runs there."""
    attention_scale(monkeypatch, everywhere)
    found = judged(recorded, attention="fused")
    checks = {(check.name, check.direction): check for check in found.checks if check.iteration == 7}
    for direction in ("forward", "evaluation"):
        check = checks["transformer.h.0.attn", direction]
        assert check.verdict == "out of bounds"
        assert "the code differs" in check.why


def test_the_cause_is_told(recorded: Bundle, monkeypatch: Patch) -> None:
    with monkeypatch.context() as patch:
        layer_norm_epsilon(patch, everywhere)
        first = judged(recorded).first
    assert first is not None
    assert first.why.startswith("the code differs: in float64, too")
    layer_norm_epsilon(monkeypatch, in_kernels)
    first = judged(recorded).first
    assert first is not None
    assert first.why == "this device computes it otherwise than float64 does here"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dropout_left_on_in_evaluation(recorded: Bundle, monkeypatch: Patch, dtype: str) -> None:
    @contextmanager
    def evaluating(model: gpt.GPT, numerics: Any) -> Iterator[None]:
        with torch.no_grad(), numerics.autocast():
            yield

    monkeypatch.setattr("lossgap.parity.stretch.evaluating", evaluating)
    first = judged(recorded, dtype).first
    assert first is not None
    assert (first.name, first.direction) == ("train loss", "evaluation")
    monkeypatch.setattr("lossgap.parity.reference.evaluating", evaluating)
    first = judged(recorded, dtype).first
    assert first is not None
    assert (first.name, first.direction) == ("embedding", "evaluation")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_layers_dropout_left_on_in_evaluation(recorded: Bundle, monkeypatch: Patch, dtype: str) -> None:
    def forward(self: gpt.MLP, x: Tensor, key: Tensor | None) -> Tensor:
        return gpt.dropout(self.c_proj(F.gelu(self.c_fc(x))), self.dropout, key)  # type: ignore[attr-defined]

    monkeypatch.setattr(gpt.MLP, "forward", forward)
    first = judged(recorded, dtype).first
    assert first is not None
    assert (first.name, first.direction) == ("transformer.h.0.mlp", "evaluation")


def _adamw(patch: Patch, **changes: object) -> None:
    real = optimizers.adamw

    def wrong(*given: Any) -> torch.optim.AdamW:
        optimizer = real(*given)
        for group in optimizer.param_groups:
            group.update(changes)
        return optimizer

    patch.setattr(optimizers, "adamw", wrong)


@pytest.mark.parametrize("changes", [{"eps": 1e-5}, {"betas": (0.9, 0.999)}], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_optimizer_fault(recorded: Bundle, monkeypatch: Patch, changes: dict[str, object], dtype: str) -> None:
    _adamw(monkeypatch, **changes)
    first = judged(recorded, dtype).first
    assert first is not None
    assert (first.name, first.direction) == ("AdamW", "optimizer")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_missing_bias_gradient(recorded: Bundle, monkeypatch: Patch, dtype: str) -> None:
    def forgetful(model: gpt.GPT, *rest: Any) -> Tensor:
        losses = accumulate(model, *rest)
        model.blocks()[1].mlp.c_fc.bias.grad = None
        return losses

    with monkeypatch.context() as patch:
        patch.setattr("lossgap.parity.stretch.accumulate", forgetful)
        first = judged(recorded, dtype).first
    assert first is not None
    assert (first.name, first.direction) == ("transformer.h.1.mlp.c_fc.bias", "backward")

    linear = F.linear
    detached = lambda x, w, b=None: linear(x, w, b if b is None or len(b) != 4 * 32 else b.detach())  # noqa: E731
    monkeypatch.setattr(F, "linear", detached)
    first = judged(recorded, dtype).first
    assert first is not None
    assert (first.name, first.direction) == ("transformer.h.1.mlp.c_fc.bias", "backward")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_shifted_labels(recorded: Bundle, monkeypatch: Patch, dtype: str) -> None:
    forward = gpt.GPT.forward
    with monkeypatch.context() as patch:
        shifted = lambda self, x, y=None, keys=None: forward(self, x, y if y is None else y.roll(1, 1), keys)  # noqa: E731
        patch.setattr(gpt.GPT, "forward", shifted)
        first = judged(recorded, dtype).first
    assert first is not None
    assert (first.name, first.direction) == ("loss", "forward")

    def wrong(windows: Any) -> Any:
        return windows[..., :-1].astype("int64"), windows[..., :-1].astype("int64")

    monkeypatch.setattr(bundles, "inputs_and_targets", wrong)
    first = judged(recorded, dtype).first
    assert first is not None
    assert (first.name, first.direction) == ("targets", "forward")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_another_data_order(recorded: Bundle, monkeypatch: Patch, dtype: str) -> None:
    with monkeypatch.context() as patch:
        real = random.window_starts
        patch.setattr(random, "window_starts", lambda *given: real(*given)[::-1].copy())
        first = judged(recorded, dtype).first
    assert first is not None
    assert (first.name, first.direction, first.what) == ("inputs", "forward", "drawn here")

    batches = Bundle.batches
    other = {iteration: (iteration + 1) % 8 for iteration in range(8)}
    monkeypatch.setattr(Bundle, "batches", lambda self, iteration: batches(self, other[iteration]))
    first = judged(recorded, dtype).first
    assert first is not None
    assert (first.name, first.direction) == ("inputs", "forward")


def test_float16_without_loss_scaling(here: Path, monkeypatch: Patch) -> None:
    """With 1,024 tokens an update, gradients are so small that unscaled ones drown in float16's subnormal numbers."""
    wide = {"dataset": "small", "dtype": "float16", "n_layer": 1, "n_embd": 16, "batch_size": 64, "eval_iters": 1}
    bundle = record_small(here / "wide", wide, iters=2)
    assert bundle.points[1].moment.scale is not None
    assert all(given.allowed < 0.5 for item in bundle.points[1].items for given in item.allowances.values())
    assert judged(bundle, "float16").first is None
    monkeypatch.setattr(optimizers, "scaler", lambda numerics: torch.amp.GradScaler("cpu", enabled=False))
    first = judged(bundle, "float16").first
    assert first is not None
    assert first.direction == "backward"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_kept_in_bfloat16(recorded: Bundle, monkeypatch: Patch, dtype: str) -> None:
    def rounded(model: gpt.GPT) -> None:
        for parameter in model.parameters():
            parameter.data = parameter.data.bfloat16().to(parameter.dtype)

    def wrong_fill(model: gpt.GPT, weights: dict[str, Tensor]) -> None:
        stretch_fill(model, weights)
        rounded(model)

    with monkeypatch.context() as patch:
        patch.setattr("lossgap.parity.stretch.fill", wrong_fill)
        first = judged(recorded, dtype).first
    assert first is not None
    assert (first.name, first.direction) == ("transformer.wte.weight", "forward")

    def wrong_apply(model: gpt.GPT, *rest: Any) -> Tensor:
        norm = apply(model, *rest)
        rounded(model)
        return norm

    monkeypatch.setattr("lossgap.parity.reference.apply", wrong_apply)
    first = judged(recorded, dtype).first
    assert first is not None
    assert (first.name, first.direction) == ("AdamW", "optimizer")


# ---------------------------------------------------------------------------------------------
# Healthy machines


@pytest.mark.parametrize(
    "numerics",
    [{}, {"dtype": "bfloat16"}, {"threads": 2}, {"attention": "fused"}, {"adamw": "loop"},
     {"dtype": "bfloat16", "threads": 2, "attention": "fused", "adamw": "loop"}],
    ids=str,
)  # fmt: skip
def test_a_healthy_machine(recorded: Bundle, numerics: dict[str, Any]) -> None:
    found = judged(recorded, **numerics)
    assert found.first is None
    assert found.below is None
    assert all(check.verdict == "within" for check in found.checks)
