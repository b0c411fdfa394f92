"""AdamW: nanoGPT's groups, the published formula, and what a checkpoint may and may not change."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from lossgap.config import TrainConfig
from lossgap.gpt import GPT
from lossgap.training import optimizer
from lossgap.training.numerics import Numerics

from .tiny_run import config, model, numerics

STEPS = 5
KERNELS = ("fused", "loop")


def rates(step: int) -> float:
    """A learning rate that changes, as the loop sets it."""
    return 0.01 * (step + 1)


def gradients(of: GPT, step: int) -> dict[str, Tensor]:
    """Fixed gradients of very different sizes."""
    generator = torch.Generator().manual_seed(step)
    return {
        name: torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * 10.0 ** (index % 5 - 3)
        for index, (name, parameter) in enumerate(of.named_parameters())
    }


def step(of: GPT, adamw: torch.optim.AdamW, number: int) -> None:
    for group in adamw.param_groups:
        group["lr"] = rates(number)
    for name, gradient in gradients(of, number).items():
        of.get_parameter(name).grad = gradient
    adamw.step()


def settings(**changes: object) -> tuple[TrainConfig, Numerics]:
    made = config(weight_decay=0.3, beta1=0.8, beta2=0.97, bias=True, **changes)
    return made, numerics(made)


def trained(kernel: str, dtype: torch.dtype, steps: int = STEPS) -> tuple[GPT, torch.optim.AdamW]:
    made, computed = settings(adamw=kernel)
    gpt = model(made).to(dtype)
    adamw = optimizer.adamw(gpt, made, computed)
    for number in range(steps):
        step(gpt, adamw, number)
    return gpt, adamw


@pytest.mark.parametrize("bias", [False, True])
def test_groups_are_nanogpts(bias: bool) -> None:
    """Embeddings and matrices decay, biases and LayerNorms do not; in the order of the model, the tied one once."""
    made = config(bias=bias, weight_decay=0.3)
    gpt = model(made)
    groups = optimizer.adamw(gpt, made, numerics(made)).param_groups
    names = {parameter: name for name, parameter in gpt.named_parameters()}
    matrices = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    layers = [f"transformer.h.{layer}.{matrix}.weight" for layer in range(2) for matrix in matrices]
    assert [names[p] for p in groups[0]["params"]] == ["transformer.wte.weight", "transformer.wpe.weight", *layers]
    others = [name for name in names.values() if "ln_" in name or name.endswith("bias")]
    assert [names[p] for p in groups[1]["params"]] == others
    assert len(others) == (2 * 8 + 2 if bias else 2 * 2 + 1)
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_published_formula(kernel: str) -> None:
    """Loshchilov & Hutter 2019 (arXiv:1711.05101), algorithm 2, with the rate inside the decay as torch has it.

    theta <- theta - lr * (lambda * theta + m_hat / (sqrt(v_hat) + eps)); five steps in float64.
    """
    gpt, _ = trained(kernel, torch.float64, 0)
    theta = {name: parameter.detach().clone() for name, parameter in gpt.named_parameters()}
    m = {name: torch.zeros_like(value) for name, value in theta.items()}
    v = {name: torch.zeros_like(value) for name, value in theta.items()}
    for number in range(STEPS):
        for name, g in gradients(gpt, number).items():
            m[name] = 0.8 * m[name] + 0.2 * g
            v[name] = 0.97 * v[name] + 0.03 * g**2
            m_hat, v_hat = m[name] / (1 - 0.8 ** (number + 1)), v[name] / (1 - 0.97 ** (number + 1))
            decay = 0.3 if theta[name].dim() >= 2 else 0.0
            theta[name] = theta[name] - rates(number) * (decay * theta[name] + m_hat / (v_hat.sqrt() + 1e-8))
    after, _ = trained(kernel, torch.float64)
    for name, parameter in after.named_parameters():
        # The order of operations differs: a few roundings of numbers around 0.1.
        torch.testing.assert_close(parameter.detach(), theta[name], rtol=1e-12, atol=1e-14, msg=name)


def test_fused_and_loop_agree_to_rounding() -> None:
    (fused, _), (loop, _) = trained("fused", torch.float32), trained("loop", torch.float32)
    for (name, one), other in zip(fused.named_parameters(), loop.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=2e-6, atol=2e-7, msg=name)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_kernel_asked_for_runs(kernel: str) -> None:
    _, adamw = trained(kernel, torch.float32, 0)
    for group in adamw.param_groups:
        assert bool(group["fused"]) == (kernel == "fused")
        assert not group["foreach"]


@pytest.mark.parametrize("before", KERNELS)
@pytest.mark.parametrize("after", KERNELS)
def test_restore_keeps_the_settings_of_the_run(before: str, after: str) -> None:
    """Moments and counts are the checkpoint's; decay, betas and kernel are those of the run that is started."""
    gpt, source = trained(before, torch.float32)
    saved = copy.deepcopy(source.state_dict())
    made = config(weight_decay=0.7, beta1=0.5, beta2=0.6, learning_rate=0.123, bias=True, adamw=after)
    adamw = optimizer.adamw(gpt, made, numerics(made))
    optimizer.restore(adamw, saved, made)
    assert [group["weight_decay"] for group in adamw.param_groups] == [0.7, 0.0]
    for group in adamw.param_groups:
        assert group["betas"] == (0.5, 0.6)
        assert group["lr"] == 0.123
        assert bool(group["fused"]) == (after == "fused")
    assert len(adamw.state) == len(list(gpt.parameters()))
    for parameter in gpt.parameters():
        assert adamw.state[parameter]["step"] == STEPS
        for name in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(adamw.state[parameter][name], source.state[parameter][name])
    step(gpt, adamw, STEPS)  # and it goes on


def test_restore_then_step_is_the_uninterrupted_step() -> None:
    for kernel in KERNELS:
        whole, _ = trained(kernel, torch.float32, STEPS)
        gpt, source = trained(kernel, torch.float32, STEPS - 1)
        made, computed = settings(adamw=kernel)
        adamw = optimizer.adamw(gpt, made, computed)
        optimizer.restore(adamw, copy.deepcopy(source.state_dict()), made)
        step(gpt, adamw, STEPS - 1)
        assert all(torch.equal(a, b) for a, b in zip(gpt.parameters(), whole.parameters(), strict=True))


def test_restore_takes_the_step_counts_as_the_new_kernel_needs_them() -> None:
    """Of a state that the loop left, and with the groups of an older torch, which lack most of today's settings."""
    gpt, source = trained("loop", torch.float32)
    saved = copy.deepcopy(source.state_dict())
    for moments in saved["state"].values():
        moments["step"] = moments["step"].double()
    kept = ("params", "lr", "betas", "eps", "weight_decay")
    saved["param_groups"] = [{name: group[name] for name in kept} for group in saved["param_groups"]]
    made, computed = settings(adamw="fused")
    adamw = optimizer.adamw(gpt, made, computed)
    optimizer.restore(adamw, saved, made)
    assert {moments["step"].dtype for moments in adamw.state.values()} == {torch.float32}
    step(gpt, adamw, STEPS)


def test_restore_refuses_another_number_of_groups() -> None:
    _, source = trained("loop", torch.float32)
    saved = source.state_dict()
    saved["param_groups"] = saved["param_groups"][:1]
    made, _ = settings()
    with pytest.raises(ValueError, match="it has not 2 groups"):
        optimizer.restore(source, saved, made)


@pytest.mark.parametrize(("dtype", "enabled"), [("float32", False), ("bfloat16", False), ("float16", True)])
def test_the_loss_is_scaled_for_float16_only(dtype: str, enabled: bool) -> None:
    scaler = optimizer.scaler(numerics(config(dtype=dtype)))
    assert scaler.is_enabled() == enabled
    assert math.isclose(float(scaler.scale(torch.tensor(2.0))), 2.0 * 65536 if enabled else 2.0)
