"""Recipes that leave nanoGPT's: other architectures, Muon, other schedules. What held before must hold for each."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lossgap.arithmetic import muon_flops
from lossgap.config import NANOGPT_FIELDS, TrainConfig
from lossgap.corpus import open_corpus
from lossgap.errors import ConfigError
from lossgap.gpt import GPTConfig, rotated, rotation_of
from lossgap.schedule import context_parts, learning_rate, momentum, weight_decay
from lossgap.training import optimizer
from lossgap.training.batches import Batches
from lossgap.training.checkpoint import find
from lossgap.training.distributed import share
from lossgap.training.draws import CounterDraws
from lossgap.training.muon import Muon, orthogonalised

from .small import Ended, same_run
from .tiny_run import config, model, numerics

Command = Callable[..., Ended]
ARCHITECTURE: dict[str, object] = {
    "rotary": True,
    "qk_norm": True,
    "relu2": True,
    "zero_proj": True,
    "tied": False,
    "logit_softcap": 15.0,
}
RECIPES: dict[str, dict[str, object]] = {
    **{name: {name: value} for name, value in ARCHITECTURE.items()},
    "architecture": ARCHITECTURE,
    "muon": {"optimizer": "muon", "momentum_warmup_iters": 15},
    "linear": {"lr_schedule": "linear", "weight_decay_schedule": "linear"},
    "wsd": {"lr_schedule": "wsd", "decay_fraction": 0.5},
    "context warm-up": {"context_warmup_iters": 10, "dropout": 0.2},
    "all": {**ARCHITECTURE, "optimizer": "muon", "lr_schedule": "wsd", "weight_decay_schedule": "linear"},
}


# ---------------------------------------------------------------------------------------------
# A resume is exact, and the checkpoint says what the model is


@pytest.mark.parametrize("name", RECIPES)
def test_a_resume_is_exact(name: str, here: Path, train: Command, command: Command) -> None:
    settings = RECIPES[name]
    assert train("whole", **settings).code == 0
    assert train("half", max_iters=7, **settings).code == 0
    ended = command("train", "--init_from=resume", "--out_dir=half", "--max_iters=20")
    assert ended.code == 0, ended.err
    same_run(Path("half"), Path("whole"))


def test_only_what_leaves_nanogpt_is_in_its_model_args(here: Path, train: Command) -> None:
    nanogpts = {"n_layer", "n_head", "n_embd", "block_size", "bias", "vocab_size", "dropout"}
    assert train("plain", max_iters=1).code == 0
    assert train("other", max_iters=1, rotary=True, logit_softcap=15.0).code == 0
    assert set(find(Path("plain")).model_args) == nanogpts
    found = find(Path("other"))
    assert set(found.model_args) - nanogpts == {"rotary", "logit_softcap"}
    assert set(found.config) == set(NANOGPT_FIELDS)
    assert not GPTConfig.from_model_args(found.model_args).is_nanogpt


def test_another_architecture_is_refused_at_a_resume(here: Path, train: Command, command: Command) -> None:
    assert train("run", max_iters=2).code == 0
    ended = command("train", "--init_from=resume", "--out_dir=run", "--max_iters=4", "--rotary=True")
    assert ended.code == 1
    assert "[shape-fixed]" in ended.err


def test_another_optimizer_cannot_take_the_state(here: Path, train: Command, command: Command) -> None:
    assert train("run", max_iters=2).code == 0
    ended = command("train", "--init_from=resume", "--out_dir=run", "--max_iters=4", "--optimizer=muon")
    assert ended.code == 1
    assert "[bad-checkpoint]" in ended.err


# ---------------------------------------------------------------------------------------------
# The model


@given(shift=st.integers(0, 40), distance=st.integers(0, 20))
def test_rotary_products_depend_on_the_distance_alone(shift: int, distance: int) -> None:
    q, k = (torch.randn(1, 1, 1, 8, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in (1, 2))

    def product(first: int, second: int) -> float:
        at = [rotation_of(torch.tensor([n]), 8) for n in (first, second)]
        return float((rotated(q, at[0]) * rotated(k, at[1])).sum())

    assert product(shift + distance, shift) == pytest.approx(product(distance, 0), abs=1e-5)


def test_rotary_has_no_position_embeddings_and_tells_orders_apart() -> None:
    gpt = model(config(rotary=True, zero_proj=False)).eval()
    assert not any("wpe" in name for name, _ in gpt.named_parameters())
    x = torch.tensor([[1, 2, 3, 4], [3, 2, 1, 4]])
    logits, _ = gpt(x)
    assert not torch.allclose(logits[0], logits[1], atol=1e-6)


@pytest.mark.parametrize("settings", [{"rotary": True}, ARCHITECTURE], ids=["rotary", "architecture"])
def test_kept_keys_and_values_give_the_logits_of_a_whole_pass(settings: dict[str, object]) -> None:
    gpt = model(config(**{**settings, "zero_proj": False})).eval()
    idx = torch.randint(22, (2, 9), generator=torch.Generator().manual_seed(1))
    whole, _ = gpt.hidden(idx)
    x, past = gpt.hidden(idx[:, :5])
    for at in range(5, 9):
        x, past = gpt.hidden(idx[:, at : at + 1], past=past)
    torch.testing.assert_close(gpt.logits(x), gpt.logits(whole[:, -1:]), rtol=1e-4, atol=1e-5)


def test_zero_projections_leave_the_embedding_at_the_start() -> None:
    gpt = model(config(zero_proj=True, tied=False)).eval()
    _, loss = gpt(torch.zeros(1, 4, dtype=torch.int64), torch.zeros(1, 4, dtype=torch.int64))
    assert loss is not None
    assert loss.item() == pytest.approx(math.log(22))


def test_softcap_bounds_the_logits() -> None:
    gpt = model(config(logit_softcap=0.001)).eval()
    assert float(gpt(torch.zeros(1, 4, dtype=torch.int64))[0].detach().abs().max()) <= 0.001001


def test_flops_of_an_untied_head_count_one_matrix() -> None:
    tied, untied = (model(config(tied=value)) for value in (True, False))
    assert untied.flops_per_token() == tied.flops_per_token()


def test_heads_of_odd_size_have_no_rotary_positions() -> None:
    with pytest.raises(ConfigError, match="do not pair"):
        config(rotary=True, n_embd=6, n_head=2)


# ---------------------------------------------------------------------------------------------
# Muon


def test_an_update_is_orthogonal() -> None:
    generator = torch.Generator().manual_seed(3)
    shapes = [(24, 8), (8, 24), (8, 8), (24, 8)]
    for found in orthogonalised([torch.randn(shape, generator=generator) for shape in shapes]):
        values = torch.linalg.svdvals(found)
        assert (float(values.min()) > 0.6, float(values.max()) < 1.3) == (True, True)


def test_it_moves_as_torchs_own() -> None:
    generator = torch.Generator().manual_seed(4)
    start = [torch.randn(shape, generator=generator) for shape in [(24, 8), (8, 24), (16, 16)]]
    ours, theirs = ([nn.Parameter(tensor.clone()) for tensor in start] for _ in range(2))
    rest = torch.optim.AdamW([{"params": [nn.Parameter(torch.zeros(2))]}], lr=1e-3)
    pair = (
        Muon(rest, ours, lr=0.02, weight_decay=0.1, momentum=0.9),
        torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(4):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            other.grad = mine.grad.clone()
        for each in pair:
            each.step()
    for before, mine, other in zip(start, ours, theirs, strict=True):
        moved = (other.detach() - before).norm()
        assert float((mine.detach() - other.detach()).norm() / moved) < 0.02  # torch's products are in bfloat16


def test_matrices_of_the_layers_are_muons_and_the_rest_is_adamws() -> None:
    made = config(optimizer="muon")
    gpt = model(made)
    found = optimizer.build(gpt, made, numerics(made))
    names = {id(parameter): name for name, parameter in gpt.named_parameters()}
    groups = [[names[id(p)] for p in group["params"]] for group in found.param_groups]
    assert groups[0] == ["transformer.wte.weight", "transformer.wpe.weight"]
    assert len(groups[2]) == 4 * made.n_layer
    assert all(".h." in name for name in groups[2])
    assert sum(map(len, groups)) == len(names)


def test_rates_follow_their_schedules() -> None:
    made = config(optimizer="muon", muon_lr=0.02, learning_rate=0.01, momentum_warmup_iters=10, max_iters=40)
    gpt = model(made)
    found = optimizer.build(gpt, made, numerics(made))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rate = optimizer.set_rates(found, made, 5)
    assert rate == learning_rate(made, 5)
    assert [group["lr"] for group in found.param_groups] == pytest.approx([rate, rate, 2 * rate])
    assert found.param_groups[2]["momentum"] == pytest.approx(0.90)


# ---------------------------------------------------------------------------------------------
# Schedules


def test_shapes_of_the_decay() -> None:
    common = {"learning_rate": 1.0, "min_lr": 0.0, "warmup_iters": 0, "lr_decay_iters": 100, "max_iters": 100}

    def rates(**settings: object) -> list[float]:
        return [learning_rate(TrainConfig.from_dict({**common, **settings}), i) for i in (0, 25, 50, 90, 100)]

    assert rates() == pytest.approx([1, 0.8536, 0.5, 0.0245, 0], abs=1e-4)
    assert rates(lr_schedule="linear") == pytest.approx([1, 0.75, 0.5, 0.1, 0])
    assert rates(lr_schedule="wsd", decay_fraction=0.2) == pytest.approx([1, 1, 1, 0.5, 0])


def test_weight_decay_and_momentum() -> None:
    made = config(weight_decay=0.2, weight_decay_schedule="linear", lr_decay_iters=100, momentum_warmup_iters=100)
    assert [weight_decay(made, i) for i in (0, 50, 100, 150)] == pytest.approx([0.2, 0.1, 0, 0])
    assert [momentum(made, i) for i in (0, 50, 100, 150)] == pytest.approx([0.85, 0.90, 0.95, 0.95])
    assert weight_decay(config(weight_decay=0.2), 50) == 0.2


def test_a_context_warm_up_cuts_the_same_windows(here: Path) -> None:
    Path("text.txt").write_text("to be, or not to be: that is the question.\n" * 200)
    made = config(context_warmup_iters=9, block_size=16, batch_size=3)
    assert [context_parts(made, i) for i in (0, 2, 3, 5, 6, 8, 9, 100)] == [8, 8, 4, 4, 2, 2, 1, 1]
    assert context_parts(config(), 0) == 1
    draws, whole = CounterDraws(5, keyed_dropout=True), share(0, 1, 3, 1)
    corpus = open_corpus("text.txt")
    for iteration, parts in ((0, 8), (4, 4), (9, 1)):
        cut, uncut = (
            Batches(corpus, draws, whole, 16, 2, "cpu", iteration, of).take()
            for of in (partial(context_parts, made), lambda _: 1)
        )
        assert cut.x.shape == (3 * parts, 16 // parts)
        assert torch.equal(cut.x.reshape(3, 16), uncut.x)
        assert torch.equal(cut.y.reshape(3, 16), uncut.y)
        assert cut.keys is not None
        assert len(cut.keys.flatten(1).unique(dim=0)) == 3 * parts


def test_a_context_warm_up_needs_eighths() -> None:
    with pytest.raises(ConfigError, match="take --block_size=16"):
        config(context_warmup_iters=5, block_size=20)


def test_muon_flops_are_the_counted_ones() -> None:
    made = model(config(optimizer="muon"))
    layers = [p for name, p in made.named_parameters() if ".h." in name and p.dim() == 2]
    with FlopCounterMode(display=False) as counter:
        orthogonalised([torch.ones_like(p) for p in layers])
    shape = made.config
    assert counter.get_total_flops() == muon_flops(shape.n_layer, shape.n_embd)
