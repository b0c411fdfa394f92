"""Pairs that differ in nothing that matters: how often a verdict is `different` all the same.

A seed that poses as a factor switches every arm to another repetition. So its truth is exactly 0, and the bank has its
arms: of two seeds drawn from it, the one is luck at the control's level, the other at the test's. No seed is drawn
twice in an experiment.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import numpy as np

from attribution.truth.bank import Bank
from attribution.truth.calibrate import ALIGNMENTS, REPETITIONS, generator_of
from lossgap.attribution.design import Design, Kind, Switched, design, together
from lossgap.attribution.effects import Effects, Floats, Game, effects, mean, verdict
from lossgap.attribution.explanation import At
from lossgap.comparison.verdict import MARGIN

Beside = Literal["nothing", "a setting without effect", "all real factors"]
BESIDES: tuple[Beside, ...] = ("nothing", "a setting without effect", "all real factors")
LUCK = "luck"
WATCHING = "watching"
"""eval_interval or log_interval: its arms are the same arms."""


@dataclass(frozen=True, kw_only=True)
class Null:
    """One kind of experiment in which luck is a factor."""

    bank: Bank
    beside: Beside
    kind: Kind
    seeds: int

    @property
    def factors(self) -> tuple[str, ...]:
        """Luck is the last."""
        beside = {"nothing": (), "a setting without effect": (WATCHING,), "all real factors": self.bank.factors}
        return (*beside[self.beside], LUCK)

    @property
    def runs(self) -> int:
        """Arms."""
        return self.seeds * Design(kind=self.kind, factors=self.factors, seeds=()).arms_per_seed

    def once(self, generator: np.random.Generator) -> dict[At, Effects]:
        """By the project's own design."""
        made = design(self.factors, self.runs, int(generator.integers(1, 1 << 31)), self.kind)
        drawn = self.drawn(generator)
        return {
            at: effects(made, {seed: self.game(*pair, at) for seed, pair in zip(made.seeds, drawn, strict=True)})
            for at in ALIGNMENTS
        }

    def game(self, control: int, test: int, at: At) -> Game:
        """Without luck the arms of one seed of the bank, with luck those of another."""
        return {**self._half(control, at, frozenset()), **self._half(test, at, frozenset({LUCK}))}

    def _half(self, place: int, at: At, luck: Switched) -> dict[Switched, float]:
        game = self.bank.games[at][place]
        if self.beside == "all real factors":
            return {arm | luck: loss for arm, loss in game.items()}
        same = game[frozenset()]
        return {arm | luck: same for arm in (frozenset[str](), frozenset(self.factors) - {LUCK})}

    def drawn(self, generator: np.random.Generator) -> list[tuple[int, int]]:
        drawn = generator.permutation(len(self.bank.seeds)).tolist()
        return list(zip(drawn[: self.seeds], drawn[self.seeds : 2 * self.seeds], strict=True))

    def alarms(self, repetitions: int) -> Alarms:
        """Up to 200 repetitions in full; more from a table, of luck alone."""
        key = zlib.crc32(f"{self.bank.name} {self.beside} {self.kind} {self.seeds} {repetitions}".encode())
        counted = dict.fromkeys(ALIGNMENTS, 0)
        either = 0
        tables = self.tables() if repetitions > REPETITIONS else None
        for number in range(repetitions):
            generator = generator_of(key, number)
            found = self._quickly(generator, tables) if tables else self._columns(self.once(generator))
            called = {at: any(self._different(values) for values in columns) for at, columns in found.items()}
            for at in ALIGNMENTS:
                counted[at] += called[at]
            either += any(called.values())
        return Alarms(last=counted["last"], best=counted["best"], either=either, repetitions=repetitions)

    def _different(self, values: Floats) -> bool:
        return verdict(mean(values, together(len(self.factors))), MARGIN) == "different"

    def _columns(self, found: dict[At, Effects]) -> dict[At, list[Floats]]:
        """The contributions of the factors whose truth is 0."""
        null = [place for place, name in enumerate(self.factors) if name in (LUCK, WATCHING)]
        return {at: [item.contributions[:, place] for place in null] for at, item in found.items()}

    def tables(self) -> dict[At, Floats]:
        """(orders, seeds): luck's value where this seed is its test's level and the control's losses are 0.

        A contribution is linear in the losses: that of two seeds is the difference of their entries.
        """
        numbers = tuple(range(len(self.bank.seeds)))
        orders = list(permutations(self.factors)) if self.kind == "permutations" else [()]
        found = {}
        for at in ALIGNMENTS:
            games = {}
            for place in numbers:
                with_luck = self._half(place, at, frozenset({LUCK}))
                games[place] = {**{arm - {LUCK}: 0.0 for arm in with_luck}, **with_luck}
            made = [
                Design(
                    kind=self.kind, factors=self.factors, seeds=numbers, orders=(order,) * len(numbers) if order else ()
                )
                for order in orders
            ]
            found[at] = np.array([effects(item, games).contributions[:, -1] for item in made])
        return found

    def _quickly(self, generator: np.random.Generator, tables: dict[At, Floats]) -> dict[At, list[Floats]]:
        orders = generator.integers(0, len(tables["last"]), self.seeds)
        control, test = np.array(self.drawn(generator)).T
        return {at: [table[orders, test] - table[orders, control]] for at, table in tables.items()}


@dataclass(frozen=True, kw_only=True)
class Alarms:
    """Repetitions with any `different` among the factors without effect."""

    last: int
    best: int
    either: int
    repetitions: int
