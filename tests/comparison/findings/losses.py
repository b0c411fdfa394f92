"""Printed losses whose batches are known, because they were put there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl

from comparison.made import LAPTOP, curve, run
from lossgap.runs.run import ITER_COLUMNS, Run

Losses = npt.NDArray[np.float64]


def batches(count: int, seed: int = 1, scatter: float = 0.05) -> Losses:
    """How much harder than the mean each batch is, (count,)."""
    return np.random.default_rng(seed).normal(0.0, scatter, count)


def falling(count: int, end: float = 1.9, start: float = 4.17) -> Losses:
    """A curve without scatter, (count,)."""
    return end + (start - end) * np.exp(-np.arange(count) / (count / 6))


def printed(
    values: Sequence[float] | Losses,
    *,
    end: float = 1.9,
    every: int = 1,
    config: Mapping[str, object] = LAPTOP,
    ms: Sequence[float] | None = None,
    mfu: Sequence[float | None] | None = None,
    rates: Sequence[float] | None = None,
    why: Mapping[int, str] | None = None,
    format: str = "nanogpt",
    **fields: object,
) -> Run:
    """A run whose iterations printed `values`, with evaluations that end at a val loss of `end`."""
    last = (len(values) - 1) * every
    made = run(curve(end, last=max(8, last), step=max(1, last // 8)), config=config, format=format)
    rows: dict[str, list[object]] = {name: [None] * len(values) for name in ITER_COLUMNS}
    rows["iter"] = [index * every for index in range(len(values))]
    rows["line"] = [10 + index for index in range(len(values))]
    rows["loss"] = [round(float(value), 4) for value in values]
    for name, column in (("ms", ms), ("mfu", mfu), ("lr", rates)):
        if column is not None:
            rows[name] = list(column)
    for index, text in (why or {}).items():
        rows["why"][index], rows["loss"][index] = text, None
    return replace(made, iters=pl.DataFrame(rows, schema=ITER_COLUMNS), **fields)  # type: ignore[arg-type]  # as `run`
