"""Coverage of explain's intervals on the bank that overfits: 4 factors, all 16 arms, 12 seeds, our own trainer.

    PYTHONPATH=src:tests python benchmarks/explain_bank_coverage.py

The truth is the Shapley values of the mean game; an experiment draws its seeds from the 12 with replacement, which
itself costs coverage. A minute of one core.
"""

from __future__ import annotations

import sys

import numpy as np
from attribution.truth.bank import OVERFIT_PATH, Bank, load

from lossgap.attribution.design import Design, design, together
from lossgap.attribution.effects import effects
from lossgap.attribution.explanation import At
from lossgap.attribution.orders import order

EXPERIMENTS = 400
ALIGNMENTS: tuple[At, ...] = ("last", "best")
RUNS = (28, 40, 48, 96)
ORDERS = (8, 16)


def drawn(bank: Bank, at: At, made: Design, generator: np.random.Generator) -> dict[int, dict[frozenset[str], float]]:
    """Every seed of the design, or every arm where each has its own, is one of the bank's."""
    losses, place = bank.losses[at], {arm: number for number, arm in enumerate(bank.arms)}
    games = {}
    for seed in made.seeds:
        row = int(generator.integers(0, len(losses)))
        games[seed] = {
            arm: float(losses[generator.integers(0, len(losses)) if made.single else row][place[arm]])
            for arm in made.arms(seed)
        }
    return games


def coverage(bank: Bank, at: At, made: Design, generator: np.random.Generator) -> tuple[float, float]:
    """(part of the experiments whose intervals hold all contributions, mean half width)."""
    k, held, widths = len(bank.factors), 0, 0.0
    for _ in range(EXPERIMENTS):
        one = made
        if made.kind == "permutations":  # other seeds have other orders
            first = int(generator.integers(1, 1000))
            seeds = tuple(range(first, first + len(made.seeds)))
            orders = tuple(order(made.factors, seed) for seed in seeds)
            one = Design(kind="permutations", factors=made.factors, seeds=seeds, orders=orders)
        found = effects(one, drawn(bank, at, one, generator))
        means = [found.mean("contributions", place, together(k)) for place in range(k)]
        intervals = [item.ci for item in means if item.ci is not None]
        held += all(low <= truth <= high for (low, high), truth in zip(intervals, bank.truth(at), strict=True))
        widths += sum(high - low for low, high in intervals) / 2 / k
    return held / EXPERIMENTS, widths / EXPERIMENTS


def main() -> int:
    """Print the table."""
    print("| at | design | runs | covered | half width |\n| --- | --- | --- | --- | --- |")
    for bank in load(OVERFIT_PATH):
        chosen = [design(bank.factors, runs) for runs in RUNS]
        chosen += [design(bank.factors, 2 * len(bank.factors) * n, kind="permutations") for n in ORDERS]
        for at in ALIGNMENTS:
            for made in chosen:
                held, width = coverage(bank, at, made, np.random.default_rng(0))
                words = "single factorial" if made.single else made.kind
                print(f"| {at} | {words}, {len(made.seeds)} | {made.runs} | {held:.1%} | {width:.4f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
