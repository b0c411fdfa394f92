"""GPT-2's weights: a tiny GPT-2 with random weights, saved by transformers itself, is loaded and trained."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lossgap.errors import CheckpointError, ConfigError
from lossgap.training.gpt2 import check_tokens, pretrained

from .small import Ended, one_error
from .tiny_run import SETTINGS, document, rows

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed (extra hf)"
)
Train = Callable[..., Ended]
SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": 32, "vocab_size": 50257}
_SHAPE_HERE = ("n_layer", "n_head", "n_embd", "block_size")
_OTHERS = {"dataset": "prepared", "batch_size": 2, "dropout": 0.1, "learning_rate": 1e-3}
SHORT = {**{name: value for name, value in SETTINGS.items() if name not in _SHAPE_HERE}, **_OTHERS}


def save_gpt2(folder: Path, **changes: object) -> Path:
    """A tiny GPT-2 with random weights, biases and LayerNorms, so that each of them counts."""
    import transformers
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**{"activation_function": "gelu", **SHAPE, **changes})
    )
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    theirs.save_pretrained(folder)
    logging.enable_progress_bar()  # as a user has it
    return folder


def their_logits(folder: Path, tokens: Tensor) -> Tensor:
    import transformers

    with torch.no_grad():
        logits: Tensor = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()(tokens).logits
    return logits


@pytest.fixture
def train(command: Callable[..., Ended]) -> Train:
    """`train("out", max_iters=5)`: a training in this process with these settings and no others."""
    return lambda out_dir, **settings: command(
        "train", f"--out_dir={out_dir}", *(f"--{k}={v}" for k, v in settings.items())
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_gpt2(tmp_path_factory.mktemp("gpt2") / "tiny")


@pytest.fixture
def tiny(saved: Path, here: Path) -> Path:
    """The folder `tiny` in the current one, beside a corpus of random tokens of GPT-2's vocabulary."""
    shutil.copytree(saved, here / "tiny")
    (here / "prepared").mkdir()
    random = np.random.default_rng(0)
    for split, count in (("train", 4000), ("val", 500)):
        random.integers(0, 50257, count).astype(np.uint16).tofile(here / "prepared" / f"{split}.bin")
    return here / "tiny"


def tokens() -> Tensor:
    return torch.randint(50257, (3, 32), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("attention", ["plain", "fused"])
def test_logits_are_those_of_transformers(tiny: Path, attention: Any) -> None:
    gpt = pretrained(f"gpt2:{tiny}", 0.3).eval()
    gpt.use_attention(attention)
    with torch.no_grad():
        ours, _ = gpt(tokens(), tokens())
    theirs = their_logits(tiny, tokens())
    assert theirs.std() > 0.4
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)


def test_the_tanh_gelu_differs_slightly(here: Path) -> None:
    """nanoGPT's deviation and ours: published GPT-2 has the approximation, the model has the exact one."""
    folder = save_gpt2(here / "published", activation_function="gelu_new")
    with torch.no_grad():
        ours, _ = pretrained(f"gpt2:{folder}", 0.0).eval()(tokens(), tokens())
    difference = (ours - their_logits(folder, tokens())).abs().max()
    assert 1e-4 < difference < 1e-2


def test_shape_and_dropout(tiny: Path) -> None:
    gpt = pretrained(f"gpt2:{tiny}", 0.3)
    c = gpt.config
    assert (c.n_layer, c.n_head, c.n_embd, c.block_size, c.vocab_size) == (2, 2, 16, 32, 50257)
    assert (c.bias, c.dropout) == (True, 0.3)
    assert {block.attn.dropout for block in gpt.blocks()} == {block.mlp.dropout for block in gpt.blocks()} == {0.3}
    assert gpt.lm_head.weight is gpt.wte.weight


def test_training(train: Train, tiny: Path) -> None:
    ended = train("out", **{**SHORT, "init_from": "gpt2:tiny", "dropout": 0.0, "max_iters": 10, "eval_interval": 10})
    assert ended.code == 0, ended.err
    assert ended.err == "", "nothing of transformers' on the console"
    assert "Initializing from OpenAI GPT-2 weights: gpt2:tiny\n" in ended.out
    run = document(Path("out"))
    shape = {name: run["config"][name] for name in ("n_layer", "n_head", "n_embd", "block_size", "bias")}
    assert shape == {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 32, "bias": True}
    assert run["parameters"]["total"] == sum(parameter.numel() for parameter in pretrained("gpt2:tiny", 0).parameters())
    assert run["tokens_per_iter"] == 2 * 32
    first, last = rows(Path("out"), "eval")
    assert last["train_loss"] < first["train_loss"]
    saved = torch.load("out/ckpt-last.pt", weights_only=True)
    assert saved["config"]["init_from"] == "gpt2:tiny"
    assert run["differences"] == []


def test_training_begins_with_those_weights(train: Train, tiny: Path) -> None:
    assert train("out", **{**SHORT, "init_from": "gpt2:tiny", "max_iters": 1, "checkpoint_at": "0"}).code == 0
    saved = torch.load("out/ckpt-000000.pt", weights_only=True)
    for name, parameter in pretrained("gpt2:tiny", 0.1).named_parameters():
        assert torch.equal(saved["model"][name], parameter)


def test_resume_after_it(train: Train, command: Callable[..., Ended], tiny: Path) -> None:
    """The checkpoint is whole: the resume needs neither the folder nor transformers, and goes on exactly."""
    settings = {**SHORT, "init_from": "gpt2:tiny"}
    assert train("whole", **{**settings, "max_iters": 6}).code == 0
    assert train("out", **{**settings, "max_iters": 3}).code == 0
    shutil.rmtree(tiny)
    ended = command("train", "--init_from=resume", "--out_dir=out", "--max_iters=6")
    assert ended.code == 0, ended.err
    one, other = (torch.load(f"{name}/ckpt-final.pt", weights_only=True)["model"] for name in ("whole", "out"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_shorter_context_is_cut(train: Train, tiny: Path) -> None:
    ended = train("out", **{**SHORT, "init_from": "gpt2:tiny", "block_size": 8, "checkpoint_at": "0"})
    assert ended.code == 0, ended.err
    saved = torch.load("out/ckpt-000000.pt", weights_only=True)
    whole = pretrained("gpt2:tiny", 0.1)
    assert saved["model_args"]["block_size"] == 8
    assert whole.wpe is not None
    assert torch.equal(saved["model"]["transformer.wpe.weight"], whole.wpe.weight[:8])
    cut = pretrained("gpt2:tiny", 0.1).eval()
    cut.crop_block_size(8)
    with torch.no_grad():
        short, _ = cut(tokens()[:, :8], tokens()[:, :8])
    torch.testing.assert_close(short, their_logits(tiny, tokens()[:, :8]), rtol=0, atol=2e-5)


def test_another_shape_that_was_asked_for_is_a_difference(train: Train, tiny: Path) -> None:
    asked = {"dropout": 0.0, "block_size": 64, "n_layer": 5, "bias": False}
    ended = train("out", **{**SHORT, "init_from": "gpt2:tiny", **asked})
    assert ended.code == 0, ended.err
    found = {(d["setting"], d["asked"], d["ran"], d["why"]) for d in document(Path("out"))["differences"]}
    why = "gpt2:tiny has a shape of its own"
    assert found == {("block_size", 64, 32, why), ("n_layer", 5, 2, why), ("bias", False, True, why)}


def edited(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}), encoding="utf-8")


def without(folder: Path, name: str) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def cut_off(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100_000])


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("executed",)


def hostile(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Hostile()}, protocol=2))


@pytest.mark.parametrize(
    ("damage", "slug", "reason"),
    [
        (lambda f: without(f, "transformer.h.1.mlp.c_fc.weight"), "gpt2-unfit", "h.1.mlp.c_fc.weight is missing"),
        (lambda f: edited(f, n_layer=3), "gpt2-unfit", "the weight transformer.h.2.attn.c_attn.bias is missing"),
        (
            lambda f: edited(f, n_layer=1),
            "gpt2-unfit",
            "the weight transformer.h.1.attn.c_attn.weight is not one of",
        ),
        (lambda f: edited(f, n_embd=32), "gpt2-unfit", "has another shape than the config says"),
        (lambda f: edited(f, n_inner=20), "gpt2-unfit", "n_inner is 20, not 4 * n_embd"),
        (lambda f: edited(f, activation_function="relu"), "gpt2-unfit", "activation_function is relu, not gelu_new or"),
        (lambda f: edited(f, layer_norm_epsilon=1e-3), "gpt2-unfit", "layer_norm_epsilon is 0.001, not 1e-05"),
        (
            lambda f: edited(f, scale_attn_by_inverse_layer_idx=True),
            "gpt2-unfit",
            "inverse_layer_idx is True, not False",
        ),
        (lambda f: edited(f, tie_word_embeddings=False), "gpt2-unfit", "tie_word_embeddings is False, not True"),
        (lambda f: edited(f, n_head=3), "gpt2-unavailable", "divisible"),
        (lambda f: edited(f, n_layer="two"), "gpt2-unavailable", "n_layer"),
        (lambda f: (f / "config.json").write_text("{"), "gpt2-unavailable", "JSON"),
        (lambda f: (f / "model.safetensors").unlink(), "gpt2-unavailable", "model.safetensors"),
        (cut_off, "gpt2-unavailable", "transformers cannot load it"),
        (hostile, "gpt2-unavailable", "transformers cannot load it"),
    ],
)
def test_what_is_no_gpt2_is_refused(
    train: Train, tiny: Path, damage: Callable[[Path], object], slug: str, reason: str
) -> None:
    """Some of these transformers would load with a report, the missing weights at random."""
    damage(tiny)
    ended = train("out", **{**SHORT, "init_from": "gpt2:tiny"})
    line = one_error(ended, slug)
    assert ended.err == line + "\n", "and no report of transformers' beside it"
    assert "--init_from=gpt2:tiny" in line
    assert reason in line
    assert not Path("out").exists()
    assert not Path("executed").exists()


@pytest.mark.parametrize("name", ["gpt2:nowhere", "gpt2:", "gpt2-huge", "gpt2-medium:tiny", "gpt2:tiny/config.json"])
def test_unknown_names(train: Train, tiny: Path, name: str) -> None:
    line = one_error(train("out", **{**SHORT, "init_from": name}), "unknown-gpt2")
    assert f"--init_from={name}: known are gpt2, gpt2-medium, gpt2-large, gpt2-xl, and gpt2:FOLDER" in line
    assert not Path("out").exists()


def test_a_published_name_without_a_network(
    train: Train, tiny: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    line = one_error(train("out", **{**SHORT, "init_from": "gpt2"}), "gpt2-unavailable")
    assert "download it where there is a network" in line
    assert "gpt2:FOLDER" in line


def test_without_transformers(train: Train, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)  # as if it were not installed
    line = one_error(train("out", **{**SHORT, "init_from": "gpt2:tiny"}), "missing-extra")
    assert "needs transformers, which is not installed; pip install 'lossgap[hf]'" in line
    assert not Path("out").exists()


def test_tokens_of_another_kind(train: Train, tiny: Path) -> None:
    """Character 17 of a text is not GPT-2's token 17."""
    line = one_error(train("out", **{**SHORT, "init_from": "gpt2:tiny", "dataset": "text.txt"}), "vocabulary-mismatch")
    assert "has a vocabulary of 50,257 tokens, text.txt has 22" in line
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("outputs", "corpus_has", "fits"),
    [
        *((50257, None, True), (50304, None, True), (50257, 50257, True), (22, 22, True)),
        *((50256, None, False), (22, None, False), (50257, 65, False), (22, 21, False), (21, 22, False)),
    ],
)
def test_which_vocabularies_fit(tiny: Path, outputs: int, corpus_has: int | None, fits: bool) -> None:
    class Named:
        name = "corpus"
        vocab_size = corpus_has

    class Model:
        class config:  # noqa: N801  # an attribute of a GPT
            vocab_size = outputs

    if fits:
        check_tokens("gpt2:tiny", Model, Named)  # type: ignore[arg-type]  # all that is looked at
        return
    with pytest.raises(CheckpointError, match="has a vocabulary of"):
        check_tokens("gpt2:tiny", Model, Named)  # type: ignore[arg-type]  # as above


def test_errors_of_the_function() -> None:
    with pytest.raises(ConfigError, match="known are gpt2"):
        pretrained("gpt3", 0.0)
