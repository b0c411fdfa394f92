"""Drawing tokens: kept keys and values change no token; where rounding could, the window is recomputed.

That the tokens are nanoGPT's own is tested in tests/test_nanogpt_parity.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from lossgap import generation, random
from lossgap.errors import LossgapError
from lossgap.generation import generate
from lossgap.gpt import GPT, GPTConfig
from lossgap.training import checkpoint

TINY = Path(__file__).parent / "golden" / "nanogpt_tiny_ckpt.pt"
SHAPE: dict[str, Any] = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 12, "vocab_size": 26, "bias": False}
CPU = torch.device("cpu")


def make(std: float = 0.3, **settings: Any) -> GPT:
    model = GPT(GPTConfig(**{**SHAPE, **settings})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.from_numpy(random.normal(7, name, parameter.numel(), std)).view(parameter.shape)
            parameter.copy_(drawn + 1.0 if "ln_" in name else drawn)
    model.use_attention("fused")
    return model


def continued(
    model: GPT, seed: int, prompt: Tensor, count: int, top_k: int | None, cache: bool
) -> tuple[Tensor, Tensor]:
    """The tokens and the generator's state after them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return generate(model, prompt, count, 0.8, top_k, cache), torch.get_rng_state()


@pytest.mark.parametrize("top_k", [None, 1, 3, 25, 200])
@pytest.mark.parametrize(("sequences", "length"), [(1, 1), (3, 4), (1, 11), (2, 12), (1, 30)])
def test_kept_keys_and_values_change_neither_tokens_nor_generator(
    top_k: int | None, sequences: int, length: int
) -> None:
    model = make()
    prompt = torch.from_numpy(random.below(random.words(1, random.Purpose.BATCHES, 0, sequences * length), 26)).view(
        sequences, length
    )
    for seed in range(4):
        kept, kept_state = continued(model, seed, prompt, 20, top_k, cache=True)
        recomputed, state = continued(model, seed, prompt, 20, top_k, cache=False)
        assert kept.shape == (sequences, length + 20)
        assert torch.equal(kept[:, :length], prompt)
        assert torch.equal(kept, recomputed)
        assert torch.equal(kept_state, state)


def different_texts() -> int:
    """Of 20 texts drawn in bfloat16, how many differ between kept and recomputed keys and values."""
    model = make(0.2, n_embd=64, block_size=32, vocab_size=65)
    prompt = torch.zeros(1, 1, dtype=torch.int64)
    count = 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for seed in range(20):
            kept, recomputed = (continued(model, seed, prompt, 31, 40, cache)[0] for cache in (True, False))
            count += not torch.equal(kept, recomputed)
    return count


def test_rounding_that_would_change_tokens_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 rounds so coarsely that texts would differ; the tolerance of the race is what keeps them equal."""
    assert different_texts() == 0
    monkeypatch.setattr(generation, "TOLERANCE", dict.fromkeys(generation.TOLERANCE, 0.0))
    assert different_texts() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_tolerance_is_well_above_what_rounding_does(dtype: torch.dtype) -> None:
    model = GPT(GPTConfig(**checkpoint.load(TINY).model_args)).eval()  # type: ignore[arg-type]  # bool or int each
    checkpoint.fill(model, checkpoint.load(TINY))
    model.use_attention("fused")
    tokens = torch.from_numpy(random.below(random.words(3, random.Purpose.BATCHES, 0, 4 * 32), 65)).view(4, 32)
    worst, past = 0.0, None
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        for place in range(32):
            hidden, past = model.hidden(tokens[:, [place]], past=past)
            kept, recomputed = model.lm_head(hidden)[:, -1], model(tokens[:, : place + 1])[0][:, -1]
            assert kept.dtype == dtype
            apart = (kept - recomputed).float().abs().amax(-1) / recomputed.float().abs().amax(-1)
            worst = max(worst, float(apart.max()))
    assert worst < generation.TOLERANCE[dtype] / 4


@given(
    seed=st.integers(0, 10_000),
    top_k=st.sampled_from([None, 1, 2, 5, 25, 26]),
    scale=st.sampled_from([0.01, 1.0]),
    gap=st.floats(0.0, 4.0),
)
@example(seed=79, top_k=None, scale=0.01, gap=2.0)  # logits so small that the race's own rounding decides
@hypothesis_settings(max_examples=300, deadline=None)
def test_a_winner_without_doubt_wins_whatever_the_rounding(
    seed: int, top_k: int | None, scale: float, gap: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, 26, generator=generator) * scale
    unit = float(logits.abs().max()) * generation.TOLERANCE[torch.float32]
    # Some logits nearly equal, for the edge of the top k, and one rival `gap` tolerances behind the winner.
    logits[0, :3] = logits[0, 3:6] + unit * 0.5
    times = torch.empty(1, 26).exponential_(generator=generator)
    winner, rival = int(generation._Race(logits, top_k, times).winner), seed % 26
    if rival != winner:
        times[0, rival] = times[0, winner] * torch.exp(logits[0, rival] - logits[0, winner] + gap * unit)
    race = generation._Race(logits, top_k, times)
    if race.in_doubt():
        return
    error = 0.99 * generation.TOLERANCE[torch.float32] * float(logits.abs().max())
    against = torch.full_like(logits, error).scatter_(1, race.winner, -error)
    one_rival = [torch.full_like(logits, -error).scatter_(1, torch.tensor([[place]]), error) for place in range(26)]
    random_signs = error * (2 * torch.rand(1, 26, generator=generator) - 1)
    for change in (against, random_signs, *one_rival):
        assert torch.equal(generation._Race(logits + change, top_k, times).winner, race.winner)


def test_doubt_is_rare_in_float32_and_there_in_a_tie() -> None:
    doubts = 0
    for seed in range(500):
        torch.manual_seed(seed)
        doubts += generation._Race(torch.randn(1, 65) * 3, 40).in_doubt()
    assert doubts < 15
    times = torch.ones(1, 4)
    assert generation._Race(torch.tensor([[1.0, 1.0, 0.0, 0.0]]), None, times).in_doubt()
    # A tie at the edge of the top k matters only for a token that could win.
    edge = torch.tensor([[9.0, 1.0, 1.0, 0.0]])
    assert not generation._Race(edge, 2, times).in_doubt()
    assert generation._Race(edge, 2, torch.tensor([[1.0, 1e-6, 1.0, 1.0]])).in_doubt()


def test_torch_draws_one_token_by_an_exponential_race() -> None:
    assert generation._draws_by_race(CPU)


def test_the_likeliest_token_with_top_k_one() -> None:
    model = make()
    drawn, _ = continued(model, 1, torch.zeros(1, 1, dtype=torch.int64), 20, 1, cache=True)
    for place in range(1, 21):
        logits = model(drawn[:, max(0, place - 12) : place])[0]
        assert int(drawn[0, place]) == int(logits.argmax())


def test_logits_that_are_not_finite_are_told() -> None:
    model = make()
    with torch.no_grad():
        model.lm_head.weight[3] = float("nan")
    for cache in (True, False):
        with pytest.raises(LossgapError, match="infinite or not a number") as caught:
            continued(model, 1, torch.zeros(1, 1, dtype=torch.int64), 3, None, cache)
        assert caught.value.slug == "not-finite-logits"
