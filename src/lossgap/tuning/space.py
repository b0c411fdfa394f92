"""The recipes that a search tries, the most promising first: the recipe as it stands, known good ones, drawn ones."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from lossgap.config import TrainConfig
from lossgap.errors import ConfigError

_MODERN: Mapping[str, object] = {"rotary": True, "qk_norm": True, "relu2": True, "zero_proj": True}
_MUON: Mapping[str, object] = {"optimizer": "muon", "muon_lr": 0.01}
_LINEAR: Mapping[str, object] = {"lr_schedule": "linear", "min_lr": 0.0}

KNOWN: tuple[Mapping[str, object], ...] = (
    {**_MUON, **_MODERN, **_LINEAR, "learning_rate": 1e-2},
    {**_MUON, **_MODERN, **_LINEAR, "learning_rate": 1e-2, "batch_size": 24},
    {**_MUON, **_MODERN, **_LINEAR, "learning_rate": 4e-3},
    {**_MUON, **_LINEAR, "learning_rate": 4e-3},
    {**_LINEAR, "learning_rate": 4e-3},
)
"""Recipes that gave the lowest losses on Tiny Shakespeare (the laptop's shape, 384,000 tokens, one seed), as changes to
the one that a search begins with. docs/tune.md has the figures."""

SPACE: Mapping[str, tuple[Mapping[str, object], ...]] = {
    "rate": tuple({"learning_rate": rate, "min_lr": 0.0} for rate in (2e-3, 4e-3, 1e-2)),
    "optimizer": ({"optimizer": "adamw"}, _MUON, {"optimizer": "muon", "muon_lr": 0.02}),
    "shape": ({}, *({"n_layer": layers, "n_head": 4, "n_embd": width} for layers, width in ((3, 128), (6, 192)))),
    "context": tuple({"block_size": context} for context in (64, 128)),
    "batch": tuple({"batch_size": size} for size in (12, 24, 48)),
    "schedule": ({"lr_schedule": "cosine"}, {"lr_schedule": "linear"}, {"lr_schedule": "wsd"}),
    "architecture": ({}, {"rotary": True, "qk_norm": True}, _MODERN),
}
"""The choices of the other recipes: one of each row is drawn. Iterations follow from the time."""


def candidates(base: TrainConfig, count: int, seed: int = 1) -> list[dict[str, object]]:
    """So many different recipes as changes to `base`: {} for itself, `KNOWN`, then drawn ones.

    Equal for equal arguments: a search that goes on must have the same arms.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    found: list[dict[str, object]] = [{}]
    trained = [base]
    left = 100 * count

    def take(settings: dict[str, object]) -> None:
        try:
            config = TrainConfig.from_dict({**base.to_dict(), **settings})
        except ConfigError:  # e.g. rotary positions with an odd head
            return
        if config not in trained:
            found.append(settings)
            trained.append(config)

    for known in KNOWN:
        take(dict(known))
    most = len(found) + math.prod(len(choices) for choices in SPACE.values())
    while len(found) < min(count, most) and left:
        left -= 1  # the space may hold fewer recipes than are asked for
        settings: dict[str, object] = {}
        for choices in SPACE.values():
            settings |= choices[int(generator.integers(len(choices)))]
        take(settings)
    return found[:count]
