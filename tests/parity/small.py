"""Small trainings for the tests of this folder, as jobs in memory and as runs in folders."""

from __future__ import annotations

import dataclasses
import json
import pickle
import random
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import lossgap
from lossgap.arguments import Given
from lossgap.config import TrainConfig
from lossgap.corpus import open_corpus
from lossgap.gpt import GPTConfig
from lossgap.parity.bundle import Bundle
from lossgap.parity.bundle_file import read_bundle
from lossgap.parity.drawing import draw, initial_moment, new_draws
from lossgap.parity.record import record
from lossgap.parity.stretch import Job, Moment
from lossgap.training.numerics import Numerics, resolve

SETTINGS: dict[str, object] = {
    "dataset": "text.txt",
    "device": "cpu",
    "compile": False,
    "threads": 1,
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 32,
    "block_size": 16,
    "batch_size": 4,
    "gradient_accumulation_steps": 1,
    "learning_rate": 1e-2,
    "warmup_iters": 3,
    "lr_decay_iters": 50,
    "min_lr": 1e-3,
    "max_iters": 9,
    "eval_interval": 4,
    "eval_iters": 2,
    "final_eval": False,
}


WORDS = ("king", "shall", "not", "war", "with", "his", "own", "brother", "and", "yet", "would", "speak", "of", "love")


def write_corpus(path: Path) -> Path:
    """A text of about 15,500 characters, 22 of them different."""
    draw = random.Random(0)
    path.write_text("\n".join(" ".join(draw.choices(WORDS, k=8)) for _ in range(400)), encoding="utf-8")
    return path


def write_prepared(folder: Path) -> None:
    """The same text as nanoGPT prepares it, in `data/small`: a corpus with a plain name."""
    text = write_corpus(folder / "text.txt").read_text(encoding="utf-8")
    chars = sorted(set(text))
    tokens = np.array([chars.index(char) for char in text], dtype=np.uint16)
    prepared = folder / "data" / "small"
    prepared.mkdir(parents=True)
    cut = len(tokens) * 9 // 10
    tokens[:cut].tofile(prepared / "train.bin")
    tokens[cut:].tofile(prepared / "val.bin")
    meta = {"vocab_size": len(chars), "itos": dict(enumerate(chars)), "stoi": {c: i for i, c in enumerate(chars)}}
    (prepared / "meta.pkl").write_bytes(pickle.dumps(meta))


def recorded(out: Path, settings: Mapping[str, object], *, iters: int = 8, checkpoints: int = 2) -> Bundle:
    """Record this training into `out` and read the bundle."""
    record(Given({**SETTINGS, **settings}, {}), out, iters=iters, checkpoints=checkpoints)
    return read_bundle(out)


def config(**settings: object) -> TrainConfig:
    return TrainConfig.from_dict({**SETTINGS, **settings})


def numerics(settings: TrainConfig, **changes: object) -> Numerics:
    return dataclasses.replace(resolve(settings, "cpu", 1, {})[0], **changes)  # type: ignore[arg-type]  # by name


def job(settings: TrainConfig, iterations: int = 10) -> tuple[Job, Moment]:
    """The training from scratch on the text in the current folder, and its first state."""
    corpus = open_corpus(settings.dataset)
    shape = GPTConfig(
        n_layer=settings.n_layer,
        n_head=settings.n_head,
        n_embd=settings.n_embd,
        block_size=settings.block_size,
        bias=settings.bias,
        vocab_size=corpus.vocab_size or 50304,
        dropout=settings.dropout,
    )
    draws = new_draws(settings)
    moment = initial_moment(settings, shape, draws)
    drawn = draw(settings, shape, corpus, draws, 0, iterations, settings.eval_iters)
    return drawn.job(settings, shape), moment


def train(out_dir: str, **settings: object) -> Path:
    """`lossgap.train` of this training; its run folder. That float16 is slow on a CPU is no news to these tests."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="few CPUs compute in float16")
        return Path(lossgap.train(**{**SETTINGS, **settings, "out_dir": out_dir}).path)


def rows(folder: Path, kind: str) -> list[dict[str, float]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="ascii").splitlines()
    return [row for line in lines if (row := json.loads(line))["kind"] == kind]
