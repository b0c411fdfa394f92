"""Made explanations: of known numbers, which add up unless a test breaks them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Literal

from lossgap.attribution.design import LEAST_SEEDS, quantile
from lossgap.attribution.explanation import (
    ArmRow,
    At,
    Budget,
    Contribution,
    DesignSummary,
    Division,
    Explanation,
    FailedArm,
    Interaction,
    Interval,
    Quantity,
    Scale,
)
from lossgap.attribution.factor import Factor, NotSwitched
from lossgap.attribution.price import Price, ShapeTiming
from lossgap.attribution.scale import made
from lossgap.comparison.verdict import Word

SETTINGS: dict[str, dict[str, tuple[object, object]]] = {
    "capacity": {"n_layer": (4, 6), "n_head": (4, 6), "n_embd": (128, 384)},
    "context": {"block_size": (64, 256)},
    "batch": {"batch_size": (12, 64)},
    "length": {"max_iters": (2000, 5000)},
    "schedule": {"learning_rate": (0.001, 0.0006), "min_lr": (0.0001, 0.00006), "warmup_iters": (100, 0)},
    "regularisation": {"dropout": (0.0, 0.2), "weight_decay": (0.1, 0.01)},
    "optimizer": {"beta2": (0.99, 0.95)},
}
VALUES = {
    "capacity": -0.14,
    "length": -0.11,
    "context": -0.0604,
    "regularisation": 0.06,
    "batch": -0.0203,
    "schedule": 0.0081,
    "optimizer": -0.0012,
}
"""Nats per token; from the fourth digit on within the noise, or the margin, of `explanation`."""
NOISE = 0.004
MARGIN = 0.01
DEVICE = NotSwitched(
    name="device",
    settings={"device": ("cpu", "cuda"), "dtype": ("float32", "bfloat16")},
    why="all arms run on this machine: a replay on the other machine bounds what it does",
)
OTHER_SCALE = "the reported gap is of the true scale, the arms are of a smaller one"
CONTROL_LOSS = 1.9
SEED_LOSS = 0.01


def explanation(
    factors: int | Sequence[str] = 4,
    *,
    seeds: int = 5,
    control: str = "runs/laptop",
    test: str = "logs/gpu.txt",
    scale: Scale | None = None,
    screened: Sequence[str] = (),
    held: Sequence[NotSwitched] = (DEVICE,),
    kind: Literal["factorial", "permutations"] = "factorial",
    failed: int = 0,
    complete: bool = True,
    seeded: bool = True,
    values: Mapping[str, float] = VALUES,
    noise: float = NOISE,
    points: int = 12,
    notes: Sequence[str] = (),
    best_differs: bool = True,
    command: str = "lossgap explain runs/laptop logs/gpu.txt",
) -> Explanation:
    """`factors` by number or by name; a name that is not in SETTINGS has a setting of its own name."""
    names = tuple(list(VALUES)[:factors]) if isinstance(factors, int) else tuple(factors)
    numbers: tuple[int | None, ...] = tuple(range(1, seeds + 1)) if seeded else (None,) * seeds
    last = division("last", names, seeds, values, noise, screened, kind)
    best = division("best", names, seeds, values, noise, screened, kind, factor=0.8 if best_differs else 1.0)
    small = scale or Scale()
    if not small.true:
        last, best = (replace(item, not_reproduced=unknown(OTHER_SCALE)) for item in (last, best))
    per_seed = 2 ** len(names) if kind == "factorial" else max(2, 2 * len(names))
    rows = [
        arm(subset, seed, place, small, points)
        for place, seed in enumerate(numbers)
        for subset in subsets(names, per_seed)
    ]
    return Explanation(
        control=control,
        test=test,
        coordinates="iterations",
        margin=MARGIN,
        factors=tuple(factor(name) for name in (*names, *screened)),
        screened_out=tuple(screened),
        not_switched=tuple(held),
        last=last,
        best=best,
        scale=small,
        design=DesignSummary(
            kind=kind,
            seeds=numbers,
            arms_per_seed=per_seed,
            screening_seeds=(101, 102) if screened else (),
            replaced_seeds=tuple(range(900, 900 + failed)),
        ),
        budget=Budget(
            asked="20m",
            runs=per_seed * seeds,
            spent_runs=len(rows) - sum(row.cached for row in rows),
            spent_seconds=17.4 * 60,
            resolvable=0.0042,
            resolvable_why="seeds of a like recipe lie 0.006 apart",
        ),
        arms=tuple(rows),
        failed=tuple(
            FailedArm(factors=names[:1], seed=900 + n, failure="not-finite", why="the loss was nan at iteration 40")
            for n in range(failed)
        ),
        notes=tuple(notes),
        complete=complete,
        command=command,
    )


def factor(name: str) -> Factor:
    """With the settings of the two recipes."""
    return Factor(name=name, settings=SETTINGS.get(name, {name: (name, f"{name}'")}))


def division(
    at: At,
    names: Sequence[str],
    seeds: int,
    values: Mapping[str, float],
    noise: float,
    screened: Sequence[str],
    kind: str = "factorial",
    factor: float = 1.0,
) -> Division:
    """Contributions of `factor` x `values` (0.02 less for each further name), with seeds that lie `noise` apart."""
    per_seed = [
        [
            factor * values.get(name, 0.05 - 0.02 * place) + noise * math.sin(7 * place + 3 * seed)
            for seed in range(seeds)
        ]
        for place, name in enumerate(names)
    ]
    found = [contribution(name, row, len(names)) for name, row in zip(names, per_seed, strict=True)]
    dropped = [0.0011 + noise * math.sin(5 * seed) for seed in range(seeds)] if screened else [0.0] * seeds
    gaps = [sum(row[seed] for row in per_seed) + dropped[seed] for seed in range(seeds)]
    common = math.fsum([*(item.value for item in found), math.fsum(dropped) / seeds])
    ends = (CONTROL_LOSS, CONTROL_LOSS + common)
    own_context = (0.0, -0.0213)
    missed = 0.0175
    reported = missed + (own_context[1] - own_context[0]) + common
    return Division(
        at=at,
        reported=Quantity(value=reported, why="the logs give no interval"),
        measurement=Quantity(value=own_context[1] - own_context[0], ci=interval([-0.02, -0.022, -0.021], 1)),
        common=Quantity(value=common, ci=interval(gaps, 1), why="" if seeds >= LEAST_SEEDS else few(seeds)),
        ends=ends,
        own_context=own_context,
        contributions=tuple(sorted(found, key=lambda item: -abs(item.value))),
        interactions=tuple(
            Interaction(factors=pair, value=0.01 * math.sin(place), ci=(-0.02, 0.03))
            for place, pair in enumerate(combinations(names, 2))
        )
        if kind == "factorial"
        else (),
        not_reproduced=Quantity(value=missed, why="the logs give no interval"),
        screened_out=Quantity(value=math.fsum(dropped) / seeds, ci=interval(dropped, 1))
        if screened
        else Quantity(value=0.0, ci=(0.0, 0.0)),
    )


def contribution(name: str, per_seed: Sequence[float], factors: int) -> Contribution:
    """Judged as an experiment judges it."""
    value, ci = math.fsum(per_seed) / len(per_seed), interval(per_seed, factors)
    word: Word = "inconclusive"
    if ci is not None and max(map(abs, ci)) <= MARGIN:
        word = "equivalent"
    elif ci is not None and not ci[0] <= 0 <= ci[1]:
        word = "different"
    return Contribution(
        factor=factor(name),
        value=value,
        ci=ci,
        verdict=word,
        per_seed=tuple(per_seed),
        why="" if ci is not None else few(len(per_seed)),
    )


def interval(values: Sequence[float], intervals: int) -> Interval | None:
    """Student's t."""
    n = len(values)
    if n < LEAST_SEEDS:
        return None
    mean = math.fsum(values) / n
    half = quantile(n, intervals) * math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)
    return mean - half, mean + half


def few(seeds: int) -> str:
    """Why there is no interval."""
    return f"an interval takes {LEAST_SEEDS} seeds; there are {seeds}"


def subsets(names: Sequence[str], count: int) -> list[tuple[str, ...]]:
    """The ends first."""
    found = [tuple(name for place, name in enumerate(names) if bits >> place & 1) for bits in range(2 ** len(names))]
    return [found[0], found[-1], *found[1:-1]][:count]


def arm(switched: Sequence[str], seed: int | None, place: int, scale: Scale, points: int) -> ArmRow:
    """With a curve that falls to its last loss."""
    last = CONTROL_LOSS + sum(VALUES.get(name, -0.02) for name in switched) + SEED_LOSS * math.sin(place)
    iters = (5000 if "length" in switched else 2000) // scale.iterations
    steps = [round(iters * at / max(1, points - 1)) for at in range(points)]
    curve = [(at, last + (4.17 - last) * math.exp(-6 * at / iters)) for at in steps]
    return ArmRow(
        factors=tuple(switched),
        seed=seed,
        stage="confirmation",
        val_loss=curve[-1][1] if curve else last,
        best_val_loss=min((y for _, y in curve), default=last) - 0.001,
        seconds=12.5 + len(switched),
        run=f"explain/arms/{'-'.join(switched) or 'none'}-{seed}",
        exact=True,
        cached=place == 0,
        curve=tuple(curve),
    )


def unknown(why: str = "the log has no loss at its end") -> Quantity:
    """Nothing known."""
    return Quantity(value=None, why=why)


SCALED = made(8, 4)


def price(**fields: object) -> Price:
    """Of four factors and five seeds."""
    values: dict[str, object] = {
        "kind": "factorial",
        "factors": tuple(list(VALUES)[:4]),
        "seeds": 5,
        "arms_per_seed": 16,
        "arms": 80,
        "cached": 16,
        "seconds": 1044.0,
        "at_once": 2,
        "threads": 1,
        "resolvable": 0.0042,
        "resolvable_why": "seeds of a like recipe lie 0.006 apart",
        "asked": "20m",
        "scale": Scale(),
        "timings": (
            ShapeTiming(
                shape="4 layers, 128 channels, context 64, batch 12", arms=32, iterations=2000, seconds_per_iter=0.0213
            ),
            ShapeTiming(
                shape="6 layers, 384 channels, context 256, batch 64", arms=32, iterations=5000, seconds_per_iter=3.21
            ),
        ),
        "notes": ("arms run on the CPU",),
    }
    return Price(**(values | fields))  # type: ignore[arg-type]  # of `Price`
