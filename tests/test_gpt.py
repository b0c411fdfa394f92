"""The model: sizes, FLOPs, causality, attention kernels, dropout by key."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lossgap import random
from lossgap.gpt import GPT, GPTConfig, n_places, plain_attention
from lossgap.training.draws import CounterDraws

LAPTOP: dict[str, Any] = {"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": 64, "vocab_size": 65}
GPU: dict[str, Any] = {"n_layer": 6, "n_head": 6, "n_embd": 384, "block_size": 256, "vocab_size": 65}
SMALL: dict[str, Any] = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 12, "vocab_size": 17}
SEED = 1337


def make(**settings: Any) -> GPT:
    """A model with keyed weights; biases and LayerNorms get numbers too, so that each one counts."""
    model = CounterDraws(SEED, True).new_model(GPTConfig(**{"bias": False, **SMALL, **settings}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(torch.from_numpy(random.normal(1, name, parameter.numel(), 0.1)).view(parameter.shape))
    return model


def batch(sequences: int, length: int = 12, vocab_size: int = 17, seed: int = SEED) -> tuple[Tensor, Tensor]:
    words = random.words(seed, random.Purpose.BATCHES, 0, 2 * sequences * length)
    tokens = torch.from_numpy(random.below(words, vocab_size)).view(2, sequences, length)
    return tokens[0], tokens[1]


def keys(sequences: range, n_layer: int = 2, iteration: int = 0) -> Tensor:
    return torch.from_numpy(random.dropout_keys(SEED, iteration, sequences, n_places(n_layer)))


def loss_of(model: GPT, x: Tensor, y: Tensor, dropout_keys: Tensor | None = None) -> Tensor:
    loss = model(x, y, dropout_keys)[1]
    assert isinstance(loss, Tensor)
    return loss


# ---------------------------------------------------------------------------------------------
# Sizes


@pytest.mark.parametrize(("shape", "bias", "count"), [
    (LAPTOP, False, 795_904), (GPU, False, 10_646_784),
    (LAPTOP, True, 801_664), (GPU, True, 10_672_512),
])  # fmt: skip
def test_parameter_count(shape: dict[str, Any], bias: bool, count: int) -> None:
    with torch.device("meta"):
        model = GPT(GPTConfig(**shape, bias=bias))
    assert model.num_params() == count
    # By hand: tokens; per layer 12 C^2 and two LayerNorms; the last LayerNorm; biases of 3C + C + 4C + C.
    C, L = shape["n_embd"], shape["n_layer"]
    norms = (2 * L + 1) * C * (2 if bias else 1)
    assert count == shape["vocab_size"] * C + 12 * L * C * C + norms + (9 * L * C if bias else 0)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [LAPTOP, SMALL], ids=["laptop", "small"])
def test_flops_are_the_counted_ones_up_to_parameters_outside_matrix_products(shape: dict[str, Any], bias: bool) -> None:
    """6N + 12LHQT counts 6 FLOPs for every parameter but the position embeddings.

    torch's counter sees matrix products only. The difference is 6 x (LayerNorm parameters) x tokens; with bias=True the
    LayerNorms have their own biases, and the linear layers' biases (9 C per layer), which are added, not
    multiplied, count in N as well: 6 x 9 L C x tokens more.
    """
    model = make(**shape, bias=bias)
    x, y = batch(3, shape["block_size"], shape["vocab_size"])
    with FlopCounterMode(display=False) as counter:
        loss_of(model, x, y).backward()
    norms = sum(p.numel() for name, p in model.named_parameters() if "ln_" in name)
    assert norms == (2 * shape["n_layer"] + 1) * shape["n_embd"] * (2 if bias else 1)
    linear_biases = 9 * shape["n_layer"] * shape["n_embd"] if bias else 0
    difference = model.flops_per_token() * x.numel() - counter.get_total_flops()
    assert difference == 6 * (norms + linear_biases) * x.numel()


def test_token_embedding_and_output_layer_are_one_parameter() -> None:
    model = make()
    names = [name for name, _ in model.named_parameters()]
    assert "transformer.wte.weight" in names
    assert "lm_head.weight" not in names
    assert {"transformer.wte.weight", "lm_head.weight"} <= model.state_dict().keys()
    other = GPT(GPTConfig(**SMALL, bias=False))
    other.load_state_dict(model.state_dict())
    for tied in (model, other, other.double()):
        embedding = tied.transformer["wte"].weight
        assert isinstance(embedding, Tensor)
        assert embedding.data_ptr() == tied.lm_head.weight.data_ptr()


def test_crop_block_size_keeps_what_the_model_says_about_short_texts() -> None:
    model = make().eval()
    x, _ = batch(2, 7)
    before = model(x)[0]
    count = model.num_params()
    model.crop_block_size(7)
    assert torch.equal(model(x)[0], before)
    assert model.config.block_size == 7
    assert model.state_dict()["transformer.wpe.weight"].shape == (7, 16)
    assert model.num_params() == count
    with pytest.raises(AssertionError, match="8 tokens, but block_size is 7"):
        model(batch(1, 8)[0])
    with pytest.raises(AssertionError):
        model.crop_block_size(8)
    assert all(parameter.requires_grad for parameter in model.parameters())


# ---------------------------------------------------------------------------------------------
# Attention


@pytest.mark.parametrize("kernel", ["plain", "fused"])
def test_no_token_sees_a_later_one(kernel: str) -> None:
    model = make().eval()
    model.use_attention("plain" if kernel == "plain" else "fused")
    x, y = batch(2)
    logits = model(x, y)[0]
    for place in range(1, 12):
        changed = x.clone()
        changed[:, place] = (changed[:, place] + 1) % 17
        other = model(changed, y)[0]
        assert torch.equal(other[:, :place], logits[:, :place])
        # And each one sees itself and all before it.
        assert ((other - logits)[:, place:].abs().amax(-1) > 0).all()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [LAPTOP, GPU], ids=["laptop", "gpu"])
def test_plain_and_fused_attention_agree(shape: dict[str, Any], bias: bool) -> None:
    x, y = batch(2, shape["block_size"], 65)
    model = make(**shape, bias=bias)
    found = {}
    for kernel in ("plain", "fused"):
        model.use_attention("plain" if kernel == "plain" else "fused")
        model.zero_grad()
        logits, loss = model(x, y)
        loss.backward()
        found[kernel] = [logits.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]
    for plain, fused in zip(*found.values(), strict=True):
        assert (plain - fused).abs().max() < 1e-5 * fused.abs().max()


def test_kept_keys_and_values_continue_the_sequence() -> None:
    model = make().eval()
    x, _ = batch(3)
    whole, _ = model.hidden(x)
    first, past = model.hidden(x[:, :5])
    second, past = model.hidden(x[:, 5:9], past=past)
    third, past = model.hidden(x[:, 9:], past=past)
    torch.testing.assert_close(torch.cat((first, second, third), dim=1), whole, rtol=1e-5, atol=1e-5)
    assert past[0][0].shape == (3, 2, 12, 8)
    with pytest.raises(AssertionError, match="13 tokens, but block_size is 12"):
        model.hidden(x[:, :1], past=past)


def test_targets_of_minus_one_are_not_scored() -> None:
    model = make()
    x, y = batch(2)
    masked = y.clone()
    masked[:, :6] = -1
    logits = model(x, y)[0]
    expected = torch.nn.functional.cross_entropy(logits[:, 6:].flatten(0, 1), y[:, 6:].flatten())
    torch.testing.assert_close(loss_of(model, x, masked), expected)


# ---------------------------------------------------------------------------------------------
# Dropout


def test_micro_batches_drop_what_the_whole_batch_drops() -> None:
    model = make(dropout=0.2).train()
    x, y = batch(6)
    whole = model(x, y, keys(range(6)))[0]
    for size in (1, 2, 3):
        for start in range(0, 6, size):
            part = model(x[start : start + size], y[start : start + size], keys(range(start, start + size)))[0]
            # The masks are equal to the bit (tests/test_random.py); products of other shapes round differently.
            torch.testing.assert_close(part, whole[start : start + size], rtol=1e-5, atol=1e-5)
    exchanged = model(x, y, keys(range(6)).roll(1, 0))[0]
    assert (exchanged - whole).abs().max() > 0.1


def test_iterations_have_masks_of_their_own() -> None:
    model = make(dropout=0.2).train()
    x, y = batch(2)
    losses = {float(loss_of(model, x, y, keys(range(2), iteration=iteration)).detach()) for iteration in (0, 1, 0)}
    assert len(losses) == 2


@pytest.mark.parametrize("place", range(n_places(2)))
def test_every_place_has_a_mask_of_its_own(place: int) -> None:
    """Another key at one place changes the outcome; so no place is left out, and none shares another's key."""
    model = make(dropout=0.2).train()
    x, y = batch(2)
    own = keys(range(2))
    changed = own.clone()
    changed[:, place] += 1
    assert float(loss_of(model, x, y, changed).detach()) != float(loss_of(model, x, y, own).detach())


def test_no_dropout_in_evaluation() -> None:
    x, y = batch(2)
    model, without = make(dropout=0.5), make(dropout=0.0)
    assert not torch.equal(model.train()(x, y, keys(range(2)))[0], without(x, y)[0])
    for kernel in ("plain", "fused"):
        for module in (model, without):
            module.use_attention("plain" if kernel == "plain" else "fused")
        for given in (None, keys(range(2))):
            assert torch.equal(model.eval()(x, y, given)[0], without(x, y)[0])


def test_set_dropout_reaches_every_place() -> None:
    x, y = batch(2)
    changed, made = make(dropout=0.0), make(dropout=0.3)
    changed.set_dropout(0.3)
    assert torch.equal(changed(x, y, keys(range(2)))[0], made(x, y, keys(range(2)))[0])


def test_dropout_falls_on_the_weights_of_attention() -> None:
    """With values of one, a row of the output is the sum of its kept weights over 1 - p."""
    p, shape = 0.5, (2, 3, 8, 4)
    key = keys(range(2))[:, 1]
    q, k = (torch.from_numpy(random.normal(SEED, name, 192, 1.0)).view(shape) for name in "qk")
    kept = torch.from_numpy(random.keep_mask(key.numpy(), 3 * 8 * 8, p)).view(2, 3, 8, 8)
    later = torch.ones(8, 8, dtype=torch.bool).triu(1)
    scores = (q @ k.transpose(-2, -1) / 2.0).masked_fill(later, float("-inf"))
    expected = (scores.softmax(-1) * kept).sum(-1, keepdim=True) / (1 - p)
    torch.testing.assert_close(plain_attention(q, k, torch.ones(shape), later, p, key), expected.expand(shape))


def test_keyed_training_takes_nothing_from_torchs_generator() -> None:
    model = make(dropout=0.2).train()
    x, y = batch(2)
    before = torch.get_rng_state()
    loss_of(model, x, y, keys(range(2))).backward()
    assert torch.equal(torch.get_rng_state(), before)
    loss_of(model, x, y)
    assert not torch.equal(torch.get_rng_state(), before)


def test_a_compiled_model_drops_the_same() -> None:
    model = make(dropout=0.2).train()
    x, y = batch(2)
    eager = float(loss_of(model, x, y, keys(range(2))).detach())
    compiled: Any = torch.compile(model, backend="aot_eager")  # needs no C++ compiler
    assert float(compiled(x, y, keys(range(2)))[1].detach()) == pytest.approx(eager, rel=1e-6)
