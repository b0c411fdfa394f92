"""The canary: sound kernels pass in every dtype, a wrong kernel of each operation is found and named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jsonschema
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import lossgap
from lossgap import schemas
from lossgap.cli.main import main
from lossgap.errors import MachineError
from lossgap.gpt import GPTConfig, plain_attention
from lossgap.kernels import products
from lossgap.kernels.check import Check, check, judged, refuse
from lossgap.kernels.kernels import AdamW, CrossEntropy, Embedding, Gelu, Normalisation, of_a_run
from lossgap.kernels.operation import Operation
from lossgap.kernels.products import Linear, SelfAttention
from lossgap.training.numerics import Numerics, applied

from .small import SETTINGS, config, numerics

TINY = GPTConfig(n_layer=1, n_head=2, n_embd=16, block_size=8, bias=True, vocab_size=22)
SMALL = config(n_layer=1, n_embd=16, block_size=8)
LINEAR = F.linear
ATTEND = F.scaled_dot_product_attention
NORM = F.layer_norm
GELU = F.gelu
CROSS_ENTROPY = F.cross_entropy
EMBEDDING = F.embedding
ADAMW = torch.optim.AdamW
PLAIN = plain_attention


def own(**settings: object) -> Numerics:
    return numerics(config(**settings))


def faults(operation: Operation, how: Numerics) -> list[Check]:
    with applied(how):
        return [found for found in judged(operation, operation.on_device(how), how) if not found.is_ok]


def directions(found: list[Check]) -> set[str]:
    return {each.direction for each in found}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("attention", ["plain", "fused"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_sound_kernels_are_within_bounds(dtype: str, attention: str, threads: int) -> None:
    how = own(dtype=dtype, attention=attention, threads=threads)
    for operation in of_a_run(TINY, config(), how, 4):
        assert not faults(operation, how)


def test_sound_kernels_stay_far_from_the_bounds() -> None:
    for dtype in ("float32", "bfloat16"):
        how = own(dtype=dtype)
        for operation in of_a_run(TINY, config(), how, 4):
            ratios = [found.ratio for found in judged(operation, operation.on_device(how), how)]
            assert max(ratios) < 0.6, operation.name


def wrong_rows(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Slightly wrong in the last of the rows alone: the mean over all rows would hide it."""
    y = LINEAR(x, w, b)
    return torch.cat([y[:-1], y[-1:] * (1 + 5e-6)])


def without_bias(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    return LINEAR(x, w, None if b is None else b.detach() + 0 * b)


def tf32(tensor: Tensor) -> Tensor:
    bits = tensor.detach().view(torch.int32)
    return tensor + (((bits + 0x1000) & ~0x1FFF).view(torch.float32) - tensor.detach())


class Tf32Product(torch.autograd.Function):
    """A product whose operands have ten stored bits, forward and backward."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return LINEAR(tf32(x), tf32(w))

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, g: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors  # type: ignore[attr-defined]  # what forward saved
        return tf32(g) @ tf32(w), tf32(g).T @ tf32(x)


def in_tf32(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    y: Tensor = Tf32Product.apply(x, w)  # type: ignore[no-untyped-call]  # torch has no types for it
    return y if b is None else y + b


def test_a_linear_layer_with_one_wrong_row(monkeypatch: pytest.MonkeyPatch) -> None:
    operation = Linear("c_fc", 3000, 16, 64, True, "float32")
    assert not faults(operation, own())
    monkeypatch.setattr(F, "linear", wrong_rows)
    found = faults(operation, own())
    assert {each.output for each in found} >= {"output", "input gradient"}
    assert all(each.looks_like == "" for each in found)


def test_a_linear_layer_whose_bias_gets_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(F, "linear", without_bias)
    found = faults(Linear("c_fc", 32, 16, 64, True, "float32"), own())
    assert [(each.output, each.direction) for each in found] == [("bias gradient", "backward")]


def test_products_in_tf32_are_found_and_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    operation = Linear("c_fc", 768, 128, 512, True, "float32")
    monkeypatch.setattr(F, "linear", in_tf32)
    found = faults(operation, own())
    assert {each.output for each in found} == {"output", "input gradient", "weight gradient"}
    assert {each.looks_like for each in found} == {"TF32"}
    # Where TF32 is allowed, it is what was asked for.
    assert not faults(operation, dataclasses.replace(own(), tf32=True))


def test_products_in_bfloat16_are_found_and_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    def low(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        return LINEAR(x.bfloat16(), w.bfloat16(), None if b is None else b.bfloat16()).float()

    monkeypatch.setattr(F, "linear", low)
    found = faults(Linear("c_fc", 64, 32, 64, False, "float32"), own())
    assert {each.looks_like for each in found} == {"bfloat16"}
    assert "as if computed in bfloat16" in found[0].words()


def test_a_sum_in_bfloat16_is_found_where_only_operands_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def added_up_low(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        y = torch.zeros(x.shape[0], w.shape[0], dtype=torch.bfloat16)
        for k in range(x.shape[1]):
            y = y + x[:, k : k + 1].bfloat16() * w[:, k].bfloat16()
        return y

    monkeypatch.setattr(F, "linear", added_up_low)
    found = faults(Linear("c_fc", 32, 512, 16, False, "bfloat16"), own(dtype="bfloat16"))
    assert [each.output for each in found] == ["output"]


def test_an_attention_that_scales_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    def off(q: Tensor, k: Tensor, v: Tensor, *rest: object, **options: object) -> Tensor:
        return ATTEND(q * 1.01, k, v, is_causal=True)

    monkeypatch.setattr(F, "scaled_dot_product_attention", off)
    assert directions(faults(SelfAttention((4, 2, 16, 8), "fused", "float32", True), own())) == {"forward", "backward"}
    assert not faults(SelfAttention((4, 2, 16, 8), "plain", "float32", True), own())


def test_a_plain_attention_that_sees_later_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    def sees_all(q: Tensor, k: Tensor, v: Tensor, later: Tensor, *rest: float | None) -> Tensor:
        return PLAIN(q, k, v, torch.zeros_like(later), 0.0, None)

    monkeypatch.setattr(products, "plain_attention", sees_all)
    for dtype in ("float32", "bfloat16"):
        operation = SelfAttention((4, 2, 16, 8), "plain", dtype, True)
        assert directions(faults(operation, own(dtype=dtype))) == {"forward", "backward"}


def test_a_fused_attention_in_bfloat16_that_blows_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def blows_up(q: Tensor, k: Tensor, v: Tensor, *rest: object, **options: object) -> Tensor:
        y = ATTEND(q, k, v, is_causal=True)
        return y * torch.where(torch.arange(y.shape[2]) == 3, float("nan"), 1.0)[:, None].to(y.dtype)

    monkeypatch.setattr(F, "scaled_dot_product_attention", blows_up)
    found = faults(SelfAttention((4, 2, 16, 8), "fused", "bfloat16", True), own(dtype="bfloat16"))
    assert found[0].error is None
    assert "not finite" in found[0].words()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_layer_norm_with_another_epsilon(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    monkeypatch.setattr(F, "layer_norm", lambda x, shape, w, b, eps: NORM(x, shape, w, b, 1e-3))
    assert directions(faults(Normalisation(64, 32, True), own(dtype=dtype))) == {"forward", "backward"}


def test_a_gelu_by_tanh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(F, "gelu", lambda x: GELU(x, approximate="tanh"))
    assert directions(faults(Gelu(64, 64, "float32"), own())) == {"forward", "backward"}


def test_a_cross_entropy_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    def low(logits: Tensor, targets: Tensor, **options: int) -> Tensor:
        return CROSS_ENTROPY(logits.bfloat16(), targets)

    monkeypatch.setattr(F, "cross_entropy", low)
    assert directions(faults(CrossEntropy(64, 65, "float32"), own())) == {"forward", "backward"}


def test_an_embedding_that_averages_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(F, "embedding", lambda index, table: EMBEDDING(index, table, scale_grad_by_freq=True))
    found = faults(Embedding(64, 22, 16), own())
    assert [(each.output, each.direction) for each in found] == [("table gradient", "backward")]


@pytest.mark.parametrize("changed", [{"eps": 1e-5}, {"weight_decay": 0.0}, {"maximize": True}, {"betas": (0.9, 0.999)}])
def test_an_adamw_that_updates_otherwise(monkeypatch: pytest.MonkeyPatch, changed: dict[str, object]) -> None:
    def other(parameters: object, **options: object) -> object:
        return ADAMW(parameters, **{**options, **changed})  # type: ignore[arg-type]  # by name

    for kind in ("fused", "loop"):
        operation = AdamW(16, config(weight_decay=0.1), kind)
        assert not faults(operation, own(adamw=kind))
        with monkeypatch.context() as planted:
            planted.setattr(torch.optim, "AdamW", other)
            assert directions(faults(operation, own(adamw=kind))) == {"optimizer"}


# ---------------------------------------------------------------------------------------------
# The whole canary


def test_what_the_run_does_not_compute_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, k, v, **options: 2 * ATTEND(q, k, v))
    found = check(SMALL, TINY, own(attention="plain"), 4)
    assert found.traps
    assert not found.faults
    refuse(found)
    assert check(SMALL, TINY, own(attention="fused"), 4).faults


def test_an_operation_that_a_device_lacks_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(q: Tensor, k: Tensor, v: Tensor, **options: object) -> Tensor:
        raise NotImplementedError("no bfloat16 here")

    monkeypatch.setattr(F, "scaled_dot_product_attention", lacks)
    found = check(SMALL, TINY, own(attention="plain"), 4)
    assert not found.faults
    assert [note for note in found.notes if "no bfloat16 here" in note]


def test_the_canary_draws_nothing_from_torch() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    check(SMALL, TINY, own(), 4)
    assert torch.equal(before, torch.get_rng_state())


def test_python_call_and_document() -> None:
    found = lossgap.canary(**SETTINGS)
    assert not found.faults
    document = found.json()
    jsonschema.validate(document, schemas.load("canary"))
    assert document["verdict"] == "within bounds"
    assert {each["direction"] for each in document["checks"]} == {"forward", "backward", "optimizer"}
    assert document["machine"]["cpu"] == found.environment["cpu"]


def flags(**settings: object) -> list[str]:
    return [f"--{name}={value}" for name, value in {**SETTINGS, "n_layer": 1, **settings}.items()]


def test_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["canary", *flags()]) == 0
    assert "all operations of the run within bounds" in capsys.readouterr().out
    monkeypatch.setattr(F, "gelu", lambda x: GELU(x, approximate="tanh"))
    assert main(["canary", *flags(), "--json", "--fail-on-fault"]) == 2
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, schemas.load("canary"))
    assert [each["operation"] for each in document["checks"] if not each["ok"]] == ["GELU", "GELU"]
    assert main(["canary", *flags(), "--fail-on-fault"]) == 2
    assert main(["canary", *flags()]) == 0
    assert "Out of bounds: GELU" in capsys.readouterr().out


def test_command_takes_a_run_and_its_checkpoint(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lossgap.train(**{**SETTINGS, "max_iters": 1, "out_dir": "run"})
    for source in ("run", "run/ckpt-final.pt"):
        assert main(["canary", source, "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert "(64, 32) x (32, 22)" in {each["shape"] for each in document["checks"]}


def test_two_runs_are_one_too_many(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "one").mkdir()
    assert main(["canary", "one", "one"]) == 1
    assert "2 were given: one run folder or checkpoint is taken, or configs and presets" in capsys.readouterr().err


def test_a_missing_corpus_is_noted() -> None:
    found = lossgap.canary(**{**SETTINGS, "dataset": "elsewhere", "n_embd": 16})
    assert "GPT-2's vocabulary" in found.notes[0]
    assert "50,304" in next(each.shape for each in found.checks if each.operation == "lm_head")


def test_train_runs_it_first(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *flags(max_iters=1, out_dir="run"), "--canary"]) == 0
    assert "canary: " in capsys.readouterr().err
    assert (here / "run" / "run.json").exists()


def test_train_refuses_a_wrong_kernel(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(F, "gelu", lambda x: GELU(x, approximate="tanh"))
    with pytest.raises(MachineError) as caught:
        lossgap.train(**{**SETTINGS, "max_iters": 1, "out_dir": "run", "canary": True})
    assert caught.value.slug == "canary-out-of-bounds"
    assert "GELU" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (here / "run").exists()


def test_words_fit_one_line() -> None:
    found = check(SMALL, TINY, own(), 4)
    assert all("\n" not in each.words() for each in found.checks)
