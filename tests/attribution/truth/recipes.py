"""The pairs of the ground-truth bank: recipes that train in a second, on a text that is made here.

Each pair has a clear top factor and smaller ones. `three` and `five` have one that changes almost nothing, and in all
three two factors have a real interaction: a higher rate and a larger batch, a wider model and a longer training.
`OVERFIT` reads 220 characters a hundred times over: what a factor does there depends on all the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lossgap.attribution.factor import FactorPlan, factors
from lossgap.config import TrainConfig

Settings = Mapping[str, object]
SEEDS = tuple(range(1, 61))
OVERFIT_SEEDS = tuple(range(1, 13))
"""Fewer, as its trainings are the longest."""
HELD_OUT = tuple(range(61, 121))
"""Of a second bank, which nothing was chosen by."""
TEXT = "text.txt"
CHARACTERS = 24_000
LETTERS = "abcdefghijklmnop"
WORDS = 40
FOLLOWERS = (0, 0, 0, 0, 0, 1, 1, 1, 2, 3)
"""Which of its four followers comes after a word, in ten equally probable cases."""
_TEXT_SEED = 1


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two recipes by what they have beyond `BASE`, and the factors in which they differ."""

    name: str
    control: Settings
    test: Settings
    factors: tuple[str, ...]
    train_tokens: int = 0
    """First characters of the train split that it trains on; 0: all."""

    def plan(self, dataset: str) -> FactorPlan:
        """The factors, as the project itself finds them, of trainings on this text."""
        ends = [TrainConfig.from_dict({**BASE, **side, "dataset": dataset}) for side in (self.control, self.test)]
        found = factors(*ends)
        assert found.names == self.factors
        return found


BASE: Settings = {
    "n_layer": 1,
    "n_head": 2,
    "n_embd": 16,
    "block_size": 16,
    "batch_size": 4,
    "gradient_accumulation_steps": 1,
    "max_iters": 60,
    "lr_decay_iters": 60,
    "warmup_iters": 5,
    "learning_rate": 1e-2,
    "min_lr": 1e-3,
    "dropout": 0.0,
    "compile": False,
}
PAIRS = (
    Pair(
        name="three",
        control={},
        test={"batch_size": 12, "learning_rate": 7e-3, "weight_decay": 0.0},
        factors=("batch", "schedule", "regularisation"),
    ),
    Pair(
        name="four",
        control={"block_size": 12, "min_lr": 1e-2, "max_iters": 40, "lr_decay_iters": 40, "warmup_iters": 4},
        test={"n_embd": 24, "max_iters": 100, "lr_decay_iters": 100, "warmup_iters": 10},
        factors=("capacity", "context", "length", "schedule"),
    ),
    Pair(
        name="five",
        control={"warmup_iters": 6},
        test={
            "n_embd": 20,
            "batch_size": 12,
            "max_iters": 80,
            "lr_decay_iters": 80,
            "warmup_iters": 8,
            "beta2": 0.97,
            "dropout": 0.1,
        },
        factors=("capacity", "batch", "length", "regularisation", "optimizer"),
    ),
)
OVERFIT = Pair(
    name="overfit",
    control={"max_iters": 40, "lr_decay_iters": 40, "warmup_iters": 4},
    test={
        "n_embd": 48,
        "batch_size": 8,
        "max_iters": 150,
        "lr_decay_iters": 150,
        "warmup_iters": 15,
        "dropout": 0.2,
    },
    factors=("capacity", "batch", "length", "regularisation"),
    train_tokens=220,
)


def text() -> str:
    """24,000 characters of a made language: 40 words of 2 to 5 letters, each with four likely followers.

    Its entropy is 2.60 nats a character, 0.27 given the seven characters before: there is something to learn. From raw
    Philox words, which no version of NumPy changes.
    """
    generator = np.random.Philox(key=_TEXT_SEED)

    def drawn(bound: int) -> int:
        return int(generator.random_raw()) * bound >> 64

    words = ["".join(LETTERS[drawn(len(LETTERS))] for _ in range(2 + drawn(4))) for _ in range(WORDS)]
    followers = [[drawn(WORDS) for _ in range(4)] for _ in range(WORDS)]
    written, length, word = [], 0, 0
    while length < CHARACTERS:
        written.append(words[word])
        length += len(words[word]) + 1
        word = followers[word][FOLLOWERS[drawn(len(FOLLOWERS))]]
    return " ".join(written)[:CHARACTERS]
