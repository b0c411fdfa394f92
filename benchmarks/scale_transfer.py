"""Does an experiment at a smaller scale tell what the true one would? Measured on ten small pairs.

    PYTHONPATH=src:tests python benchmarks/scale_transfer.py WORK [RESULTS.json]

Each pair differs in three factors; its two recipes read between a quarter of the text once and a short piece of it many
times. All 8 arms are trained at the true scale (2 seeds), and at 4:1, with the train split cut in proportion (what
`--scale` does) and whole (what it did before). Told are, for the contributions at last and at best: signs that
agree with the true scale's among those beyond 0.03 nats, the rank correlation of the sizes with sign (Spearman's),
and whether the largest factor is the same. One process; half an hour of one core.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from attribution.truth.recipes import BASE, TEXT, text
from scipy import stats

from lossgap.attribution.arm import Measurement
from lossgap.attribution.effects import shapley
from lossgap.attribution.explanation import Scale
from lossgap.attribution.factor import factors
from lossgap.attribution.measure import our_arm, run_arm
from lossgap.attribution.scale import made, scaled, with_corpus
from lossgap.config import TrainConfig
from lossgap.corpus import Corpus, open_corpus

SEEDS = (1, 2)
SCALE = (4, 1)
SMALL = 0.03
"""Nats per token: below it a sign at the true scale is chance, two seeds being all that there is."""
EVALUATIONS = 10
HOWS = ("true", "cut", "whole")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two recipes and the train tokens that both read at the true scale."""

    name: str
    train_tokens: int
    control: dict[str, object]
    test: dict[str, object]


def _horizon(iters: int) -> dict[str, object]:
    return {"max_iters": iters, "lr_decay_iters": iters, "warmup_iters": iters // 10}


COMMON = {"n_embd": 16, "batch_size": 4, "block_size": 16, "learning_rate": 1e-2, "min_lr": 1e-3, **_horizon(80)}
CHANGES: dict[str, dict[str, object]] = {
    "capacity": {"n_embd": 48},
    "length": _horizon(240),
    "dropout": {"dropout": 0.2},
    "batch": {"batch_size": 12},
    "rate": {"learning_rate": 3e-2},
}
MIXES = (
    ("capacity", "length", "dropout"),
    ("capacity", "batch", "rate"),
    ("length", "batch", "dropout"),
    ("capacity", "length", "rate"),
    ("batch", "rate", "dropout"),
)
LENGTHS = (300, 20_000)
"""Characters: one that the longer training passes over a dozen times or more, and one that it reads in part."""


def pairs() -> list[Pair]:
    """Five mixtures of changes, each on a short and on a long text."""
    return [
        Pair(
            name=f"{'+'.join(mix)}, {length:,} characters",
            train_tokens=length,
            control=dict(COMMON),
            test={**COMMON, **{key: value for name in mix for key, value in CHANGES[name].items()}},
        )
        for length in LENGTHS
        for mix in MIXES
    ]


def losses(pair: Pair, how: str, corpus: Corpus, work: Path) -> dict[str, dict[str, float]]:
    """Contributions of the pair's factors at last and at best, at one scale."""
    config = {**BASE, "dataset": corpus.name}
    ends = [TrainConfig.from_dict({**config, **side}) for side in (pair.control, pair.test)]
    scale = Scale() if how == "true" else made(*SCALE)
    train_tokens = pair.train_tokens
    if how == "cut":
        train_tokens = with_corpus(scale, ends[0], ends[1], pair.train_tokens).train_tokens
    plan = factors(*(scaled(end, scale) for end in ends))
    measurement = Measurement(context=min(plan.control.block_size, plan.test.block_size), evaluations=EVALUATIONS)
    names = plan.names
    games: dict[str, dict[frozenset[str], list[float]]] = {"last": {}, "best": {}}
    for switched in (frozenset(chosen) for size in range(len(names) + 1) for chosen in combinations(names, size)):
        for seed in SEEDS:
            arm = our_arm(plan.settings(switched), seed, measurement, corpus, "cpu", 1, train_tokens)
            result = run_arm(arm, work)
            games["last"].setdefault(switched, []).append(result.val_loss)
            games["best"].setdefault(switched, []).append(result.best_val_loss)
    means = {at: {arm: float(np.mean(values)) for arm, values in game.items()} for at, game in games.items()}
    return {at: {name: shapley(game, names, name) for name in names} for at, game in means.items()}


def agreement(true: dict[str, float], other: dict[str, float]) -> tuple[int, int, float, bool]:
    """(signs that agree, signs that count, Spearman's rank correlation, whether the largest factor is the same)."""
    names = list(true)
    count = [name for name in names if abs(true[name]) > SMALL]
    same = sum(true[name] * other[name] > 0 for name in count)
    rank = float(stats.spearmanr([true[name] for name in names], [other[name] for name in names]).statistic)
    top = [max(names, key=lambda name, of=side: abs(of[name])) for side in (true, other)]
    return same, len(count), rank, top[0] == top[1]


def table(found: dict[str, dict[str, dict[str, dict[str, float]]]]) -> str:
    """The page's table, and the sums below it."""
    rows = [
        "| pair | at | train split | signs | rank correlation | same largest |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    sums: dict[tuple[str, str], list[tuple[int, int, float, bool]]] = {}
    for name, by_how in found.items():
        for at in ("last", "best"):
            for how in HOWS[1:]:
                one = agreement(by_how["true"][at], by_how[how][at])
                sums.setdefault((at, how), []).append(one)
                rows.append(
                    f"| {name} | {at} | {how} | {one[0]} of {one[1]} | {one[2]:+.2f} | {'yes' if one[3] else 'no'} |"
                )
    for (at, how), ones in sums.items():
        signs, count = sum(one[0] for one in ones), sum(one[1] for one in ones)
        mean, same = np.mean([one[2] for one in ones]), sum(one[3] for one in ones)
        rows.append(
            f"| all {len(ones)} | {at} | {how} | {signs} of {count} | {mean:+.2f} (mean) | {same} of {len(ones)} |"
        )
    return "\n".join(rows)


def main(argv: list[str]) -> int:
    """Train what is missing, print the table, keep the contributions."""
    work = Path(argv[0]).absolute()
    work.mkdir(parents=True, exist_ok=True)
    (work / TEXT).write_text(text(), encoding="utf-8")
    corpus = open_corpus(str(work / TEXT))
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for pair in pairs():
        found[pair.name] = {how: losses(pair, how, corpus, work) for how in HOWS}
        print(pair.name, json.dumps(found[pair.name]), flush=True)
        if argv[1:]:
            Path(argv[1]).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
