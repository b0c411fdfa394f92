"""What an experiment says, held against the truth that the bank knows: coverage and ranks.

    make truth                                                          # the bank, then docs/explain-calibration.md
    PYTHONPATH=tests python -m attribution.truth.calibrate [PAGE]       # the page only

A repetition draws seeds from the bank and divides the gap as the project does: `design`, `effects`, `mean`. The truth
is the Shapley values of the mean game over all 60 seeds, by their definition and not by the project's formula.
`with`: every seed is drawn from all 60, so the bank is the population, and the seeds are independent of the truth, as
in an experiment. `without`: no seed twice; then the truth is partly the mean of the very seeds that were drawn, and
intervals hold it more often than they should.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Literal

import numpy as np

from attribution.truth.bank import HELD_OUT_PATH, Bank, load
from lossgap.attribution.design import Design, Kind, design, together
from lossgap.attribution.effects import Floats, mean
from lossgap.attribution.explanation import At

Draw = Literal["with", "without"]
Rows = Callable[[np.random.Generator], Floats]
"""One repetition: contributions (seeds, factors)."""
REPETITIONS = 200
MANY = 5_000
SHARE = 0.25
"""Of the bank's runs: the budget."""
FEW = (3, 4, 6)
ALIGNMENTS: tuple[At, ...] = ("last", "best")
DRAWS: tuple[Draw, ...] = ("with", "without")
KINDS: tuple[Kind, ...] = ("factorial", "permutations")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One kind of experiment on one pair."""

    bank: Bank
    kind: Kind
    seeds: int
    at: At
    draw: Draw = "with"

    @property
    def truth(self) -> Floats:
        """(factors,)"""
        return self.bank.truth(self.at)

    @property
    def runs(self) -> int:
        """Arms."""
        return self.seeds * Design(kind=self.kind, factors=self.bank.factors, seeds=()).arms_per_seed

    def once(self, generator: np.random.Generator) -> Floats:
        """By the project's own design with seeds, and so orders, that no other repetition has."""
        made = design(self.bank.factors, self.runs, int(generator.integers(1, 1 << 31)), self.kind)
        return self.bank.draw(made, self._places(generator), self.at).contributions

    def quickly(self) -> Rows:
        """The same, but read from a table of what each seed gives with each order."""
        table = contributions(self.bank, self.kind, self.at)

        def rows(generator: np.random.Generator) -> Floats:
            places = self._places(generator)
            return table[generator.integers(0, len(table), self.seeds), places]

        return rows

    def score(self, repetitions: int) -> Score:
        """Up to 200 repetitions in full, more from the table."""
        key = zlib.crc32(f"{self.bank.name} {self.kind} {self.seeds} {self.at} {self.draw} {repetitions}".encode())
        return score(self.once if repetitions <= REPETITIONS else self.quickly(), self.truth, repetitions, key)

    def _places(self, generator: np.random.Generator) -> list[int]:
        count = len(self.bank.seeds)
        if self.draw == "with":
            return [int(place) for place in generator.integers(0, count, self.seeds)]
        return [int(place) for place in generator.permutation(count)[: self.seeds]]


@dataclass(frozen=True, kw_only=True)
class Score:
    """How often all intervals held the truth, and the true top factor was first; and the mean half width."""

    covered: int
    first: int
    width: float
    repetitions: int


def contributions(bank: Bank, kind: Kind, at: At) -> Floats:
    """(orders, seeds, factors) of every seed with every order; factorial has a single row of orders."""
    numbers = tuple(range(len(bank.seeds)))
    orders = list(permutations(bank.factors)) if kind == "permutations" else [()]
    made = [
        Design(kind=kind, factors=bank.factors, seeds=numbers, orders=(order,) * len(numbers) if order else ())
        for order in orders
    ]
    return np.array([bank.draw(item, numbers, at).contributions for item in made])


def generator_of(key: int, number: int) -> np.random.Generator:
    """The random numbers of one repetition."""
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, number]))


def score(rows: Rows, truth: Floats, repetitions: int, key: int) -> Score:
    """Repeat, each time with random numbers of its own."""
    covered = first = 0
    width = 0.0
    top = int(np.argmax(np.abs(truth)))
    for number in range(repetitions):
        found = rows(generator_of(key, number))
        means = [mean(values, together(found.shape[1])) for values in found.T]
        intervals = [item.ci for item in means if item.ci is not None]
        covered += all(low <= value <= high for (low, high), value in zip(intervals, truth, strict=True))
        first += int(np.argmax([abs(item.value) for item in means])) == top
        width += sum((high - low) / 2 for low, high in intervals) / len(intervals) / repetitions
    return Score(covered=covered, first=first, width=width, repetitions=repetitions)


def budgeted(bank: Bank, kind: Kind | None = None) -> Design:
    """The design that the project makes of 25% of the bank's runs, and never fewer than 2^k."""
    k = len(bank.factors)
    return design(bank.factors, max(2**k, int(SHARE * 2**k * len(bank.seeds))), 1, kind)


def main(argv: list[str]) -> int:
    """Print the page; write it where it is wanted."""
    from attribution.truth.page import page

    written = page(load(), load(HELD_OUT_PATH))
    print(written)
    if argv:
        Path(argv[0]).write_text(written, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
