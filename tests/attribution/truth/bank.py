"""The stored bank: of every pair the loss of every arm with every seed, and draws of experiments from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, permutations
from pathlib import Path

import numpy as np

from lossgap.attribution.design import Design, Switched
from lossgap.attribution.effects import Effects, Floats, Game, effects
from lossgap.attribution.explanation import At

PATH = Path(__file__).parent / "bank.json"
HELD_OUT_PATH = Path(__file__).parent / "held_out.json"
OVERFIT_PATH = Path(__file__).parent / "overfit.json"
SCHEMA = "lossgap.truth/1"


@dataclass(frozen=True, eq=False, kw_only=True)
class Bank:
    """All arms of one pair."""

    name: str
    control: Mapping[str, object]
    test: Mapping[str, object]
    factors: tuple[str, ...]
    seeds: tuple[int, ...]
    losses: Mapping[At, Floats]
    """(seeds, 2^k) nats per token, in the order of `arms`."""

    @property
    def arms(self) -> list[Switched]:
        """All subsets of the factors, by size."""
        return all_arms(self.factors)

    def game(self, place: int, at: At) -> Game:
        """Of one seed, by its place."""
        return dict(zip(self.arms, self.losses[at][place].tolist(), strict=True))

    @cached_property
    def games(self) -> Mapping[At, Sequence[Game]]:
        """Of every seed."""
        return {at: [self.game(place, at) for place in range(len(self.seeds))] for at in self.losses}

    def truth(self, at: At) -> Floats:
        """(factors,) Shapley values of the mean game, by their definition: the mean over all k! orders."""
        game = dict(zip(self.arms, self.losses[at].mean(axis=0).tolist(), strict=True))
        orders = list(permutations(self.factors))
        found = np.zeros(len(self.factors))
        for order in orders:
            for place, name in enumerate(order):
                change = game[frozenset(order[: place + 1])] - game[frozenset(order[:place])]
                found[self.factors.index(name)] += change / len(orders)
        return found

    def draw(self, design: Design, places: Sequence[int], at: At) -> Effects:
        """What `design` finds if its seeds, in their order, are these of the bank."""
        games = self.games[at]
        return effects(design, {seed: games[place] for seed, place in zip(design.seeds, places, strict=True)})


def all_arms(factors: Sequence[str]) -> list[Switched]:
    """All subsets, by size."""
    return [frozenset(chosen) for size in range(len(factors) + 1) for chosen in combinations(factors, size)]


def save(banks: Sequence[Bank], text_sha256: str, path: Path) -> None:
    """Write the bank: the same bytes for the same losses, one line a seed."""
    pairs = [
        {
            "name": bank.name,
            "control": dict(bank.control),
            "test": dict(bank.test),
            "factors": list(bank.factors),
            "arms": [[name for name in bank.factors if name in arm] for arm in bank.arms],
            "seeds": list(bank.seeds),
            "val_loss": bank.losses["last"].tolist(),
            "best_val_loss": bank.losses["best"].tolist(),
        }
        for bank in banks
    ]
    content = json.dumps({"schema": SCHEMA, "text_sha256": text_sha256, "pairs": pairs})
    path.write_text(content.replace("], [", "],\n[").replace('}, {"name"', '},\n{"name"') + "\n", encoding="utf-8")


def load(path: Path = PATH) -> tuple[Bank, ...]:
    """The stored pairs."""
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["schema"] == SCHEMA
    found = []
    for pair in content["pairs"]:
        factors = tuple(pair["factors"])
        assert [frozenset(arm) for arm in pair["arms"]] == all_arms(factors)
        found.append(
            Bank(
                name=pair["name"],
                control=pair["control"],
                test=pair["test"],
                factors=factors,
                seeds=tuple(pair["seeds"]),
                losses={"last": np.array(pair["val_loss"]), "best": np.array(pair["best_val_loss"])},
            )
        )
    return tuple(found)
