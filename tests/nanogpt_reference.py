"""Runs the real nanoGPT from outside: its `model.py` as a module, its `train.py` and `sample.py` as programs.

Used by scripts/record_nanogpt_golden.py, which writes tests/golden, and by tests/test_nanogpt_parity.py, which compares
with it. Nothing is written into nanoGPT's checkout; its programs run in a workspace that links to it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

import lossgap
from lossgap import random
from lossgap.corpus import open_corpus
from lossgap.gpt import GPT, GPTConfig

SEED = 1337
SHAPES: dict[str, dict[str, int]] = {
    "laptop": {"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": 64, "vocab_size": 65},
    "gpu": {"n_layer": 6, "n_head": 6, "n_embd": 384, "block_size": 256, "vocab_size": 65},
}
"""nanoGPT's two Tiny Shakespeare recipes: for a CPU (its README) and for a GPU (its config file)."""

TINY = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 32, "vocab_size": 65}
"""A model whose checkpoint is small enough for git."""

README_FLAGS = [
    "config/train_shakespeare_char.py",
    "--device=cpu",
    "--compile=False",
    "--eval_iters=20",
    "--log_interval=1",
    "--block_size=64",
    "--batch_size=12",
    "--n_layer=4",
    "--n_head=4",
    "--n_embd=128",
    "--max_iters=2000",
    "--lr_decay_iters=2000",
    "--dropout=0.0",
]
"""nanoGPT's README command for a CPU, word for word."""

SHORT_FLAGS = ["--max_iters=60", "--eval_interval=20"]
"""The first 60 iterations of it: the schedule stays that of 2,000."""

DROPOUT_FLAGS = ["--dropout=0.2", "--gradient_accumulation_steps=3"]
TINY_FLAGS = [
    "config/train_shakespeare_char.py",
    "--device=cpu",
    "--compile=False",
    "--eval_iters=20",
    "--log_interval=1",
    "--eval_interval=20",
    "--always_save_checkpoint=True",
    "--block_size=32",
    "--batch_size=12",
    "--n_layer=2",
    "--n_head=2",
    "--n_embd=16",
    "--lr_decay_iters=2000",
    "--dropout=0.0",
]
SAMPLE_FLAGS = ["--num_samples=3", "--max_new_tokens=300", "--device=cpu"]
RULE = "---------------"
"""What nanoGPT prints after each text."""


def nanogpt_model(nanogpt: Path) -> ModuleType:
    """nanoGPT's `model.py`."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", nanogpt / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def their_model(nanogpt: Path, args: Mapping[str, int | float | bool]) -> Any:
    """A model of nanoGPT's with the weights that it draws itself from torch's generator; dropout 0 unless args say."""
    module = nanogpt_model(nanogpt)
    with contextlib.redirect_stdout(io.StringIO()):
        return module.GPT(module.GPTConfig(**{"dropout": 0.0, **args}))


def our_model(shape: Mapping[str, int], bias: bool) -> GPT:
    """Our model with weights that need no generator, biases and LayerNorms included, so that each one counts."""
    model = GPT(GPTConfig.from_model_args({**shape, "bias": bias}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.from_numpy(random.normal(SEED, name, parameter.numel(), 0.05)).view(parameter.shape)
            parameter.copy_(1.0 + drawn if "ln_" in name and name.endswith("weight") else drawn)
    model.use_attention("fused")
    return model


def batch(shape: Mapping[str, int], sequences: int) -> tuple[Tensor, Tensor]:
    """Fixed inputs and targets (sequences, block_size) int64, of counter-based numbers."""
    T = shape["block_size"]
    words = random.words(SEED, random.Purpose.BATCHES, 0, sequences * (T + 1))
    tokens = torch.from_numpy(random.below(words, shape["vocab_size"])).view(sequences, T + 1)
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def figures(model: torch.nn.Module, x: Tensor, y: Tensor) -> dict[str, Any]:
    """Loss, a slice of the logits, and of each gradient its norm and four entries. `model` is ours or nanoGPT's."""
    model.zero_grad(set_to_none=True)
    logits, loss = model(x, y)
    loss.backward()
    gradients = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        flat = parameter.grad.flatten()
        entries = flat[torch.linspace(0, len(flat) - 1, 4).long()]
        gradients[name] = {"norm": float(parameter.grad.double().norm()), "entries": entries.tolist()}
    return {
        "loss": float(loss.detach()),
        "logits": logits[0, :: x.size(1) // 4, ::8].detach().tolist(),
        "gradients": gradients,
    }


def initial_weights(model: torch.nn.Module) -> dict[str, dict[str, Any]]:
    """The first three values and the mean square of each parameter."""
    return {
        name: {"first": p.detach().flatten()[:3].tolist(), "mean_square": float(p.detach().double().square().mean())}
        for name, p in model.named_parameters()
    }


def workspace(nanogpt: Path, folder: Path) -> Path:
    """A folder in which nanoGPT's programs run: links to its files, and Tiny Shakespeare prepared as it does."""
    folder.mkdir(parents=True)
    for name in ("model.py", "train.py", "sample.py", "configurator.py", "config"):
        (folder / name).symlink_to((nanogpt / name).resolve())
    data = folder / "data" / "shakespeare_char"
    data.mkdir(parents=True)
    corpus = open_corpus("shakespeare_char")
    assert corpus.tokenizer is not None
    chars = corpus.tokenizer.chars
    assert chars is not None
    for split, tokens in (("train", corpus.train), ("val", corpus.val)):
        np.asarray(tokens, dtype=np.uint16).tofile(data / f"{split}.bin")
    stoi = {char: index for index, char in enumerate(chars)}
    meta = {"vocab_size": len(chars), "itos": dict(enumerate(chars)), "stoi": stoi}
    (data / "meta.pkl").write_bytes(pickle.dumps(meta))
    return folder


def run_program(arguments: list[str], folder: Path, threads: int = 1) -> str:
    """Standard output of `python ARGUMENTS` in `folder`; its standard error is shown where it fails.

    One thread, so that the sums have one order.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PYTHONPATH"] = str(Path(lossgap.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, f"python {' '.join(arguments)} exits {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def loss_lines(output: str) -> list[str]:
    """The `step` and `iter` lines of a log in nanoGPT's format, without times and MFU."""
    found = re.findall(r"^(step \d+: train loss \S+, val loss \S+|iter \d+: loss [^\s,]+)", output, flags=re.MULTILINE)
    return [str(line) for line in found]


def texts(output: str) -> list[str]:
    """The texts that nanoGPT's `sample.py` printed, each without the line end after it."""
    body = re.split(r"^(?:Loading meta from .*|No meta\.pkl found.*)\n", output, maxsplit=1, flags=re.MULTILINE)[-1]
    return [text.removesuffix("\n") for text in body.split(RULE + "\n")[:-1]]
