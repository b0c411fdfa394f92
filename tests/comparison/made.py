"""Runs made by hand, whose gap is known because it was put there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from lossgap.comparison.spread import Bound, Spread, SpreadTable, WindowSpread
from lossgap.runs.run import EVAL_COLUMNS, ITER_COLUMNS, Run, Series

LAPTOP: dict[str, object] = {
    "n_layer": 4,
    "n_head": 4,
    "n_embd": 128,
    "bias": False,
    "block_size": 64,
    "batch_size": 12,
    "gradient_accumulation_steps": 1,
    "max_iters": 2000,
    "lr_decay_iters": 2000,
    "decay_lr": True,
    "warmup_iters": 100,
    "learning_rate": 1e-3,
    "min_lr": 1e-4,
    "dropout": 0.0,
    "weight_decay": 0.1,
    "eval_iters": 20,
    "eval_interval": 250,
    "dataset": "shakespeare_char",
    "device": "cpu",
    "dtype": "float16",
}
GPU: dict[str, object] = LAPTOP | {
    "n_layer": 6,
    "n_head": 6,
    "n_embd": 384,
    "block_size": 256,
    "batch_size": 64,
    "max_iters": 5000,
    "lr_decay_iters": 5000,
    "dropout": 0.2,
    "eval_iters": 200,
    "device": "cuda",
}
PRINTED = {
    "iters.loss": Series(kind="micro-batch", split="train", mode="train", unit="nats/token", digits=4),
    "evals.train_loss": Series(kind="eval-mean", split="train", mode="eval", unit="nats/token", digits=4),
    "evals.val_loss": Series(kind="eval-mean", split="val", mode="eval", unit="nats/token", digits=4),
}

SPREADS = SpreadTable(
    spreads=(
        Spread(
            id="laptop",
            recipe={"n_layer": 4, "n_embd": 128, "block_size": 64, "batch": 12, "max_iters": 2000, "dropout": 0.0},
            format=None,
            sd=0.008,
            df=9,
            n=10,
            source="a test",
        ),
        Spread(id="narrow", recipe={}, format="modded-nanogpt", sd=0.002, df=37, n=38, source="a test"),
        Spread(id="speedrun", recipe={}, format="modded-nanogpt", sd=0.004, df=37, n=38, source="a test"),
    ),
    windows=(WindowSpread(context=64, sd=0.24, source="a test"),),
    seed_bound=Bound(value=0.05, reason="a test"),
    evaluation_bound=Bound(value=0.04, reason="a test"),
    paired_fraction=1.0,
)


def table(columns: Mapping[str, type[pl.DataType]], rows: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    """Rows with some of the columns."""
    return pl.DataFrame({name: [row.get(name) for row in rows] for name in columns}, schema=dict(columns))


def run(
    vals: Mapping[int, float | None],
    *,
    config: Mapping[str, object] = LAPTOP,
    name: str = "made",
    format: str = "nanogpt",
    ms: float | None = None,
    losses: Mapping[int, float] | None = None,
    kind: str = "eval",
    series: Mapping[str, Series] = PRINTED,
    **fields: object,
) -> Run:
    """A run with these val losses by iteration (train losses 0.1 lower), and `losses` that its iterations printed."""
    evals: list[dict[str, object]] = [
        {"kind": kind, "iter": at, "val_loss": value, "train_loss": None if value is None else value - 0.1, "line": n}
        for n, (at, value) in enumerate(vals.items(), 1)
    ]
    iters: list[dict[str, object]] = [
        {"iter": at, "loss": value, "ms": ms, "line": 1000 + at} for at, value in (losses or {}).items()
    ]
    made = Run(
        path=Path(f"{name}.log"),
        name=name,
        format=format,
        config=dict(config),
        evals=table(EVAL_COLUMNS, evals),
        iters=table(ITER_COLUMNS, iters),
        series=dict(series),
    )
    return replace(made, **fields)  # type: ignore[arg-type]  # a test names the fields it means


def curve(end: float, *, last: int = 2000, step: int = 250, start: float = 4.17) -> dict[int, float]:
    """A falling curve that ends at exactly `end`."""
    iters = range(0, last + 1, step)
    return {at: round(end + (start - end) * (1 - at / last) ** 3, 4) for at in iters}
