"""The gate's readings of a run: one number for each signal.

final      the exact val loss of the final state
last       the last val loss that the run logged
curve      the mean val loss over the last quarter of the evaluations (by iteration)
train      the mean train loss over the last quarter of the iterations that were logged
grad_norm  the mean logarithm of the gradient norm over the last quarter of the iterations

Each is one number of one run, so that runs, and not the correlated points of a curve, are what is counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, cast, get_args

import numpy as np
import polars as pl

from lossgap.comparison.curve import Curve, Floats
from lossgap.comparison.facts import Facts
from lossgap.runs.readers.origin import SourceError

Signal = Literal["final", "last", "curve", "train", "grad_norm"]
SIGNALS: tuple[Signal, ...] = get_args(Signal)
PRIMARY: tuple[Signal, ...] = ("final", "last", "train")
"""Signals that a verdict can stand on: the first that the baseline and all runs have."""
TAIL = 0.25
"""The share of a run, at its end, over which curves are averaged: the point where most recipes have decayed."""

Signals = Mapping[Signal, float]


def signals(facts: Facts) -> Signals:
    """The signals that a run has; a loss that is not finite is infinity. Raises SourceError `no-losses`."""
    found: dict[Signal, float | None] = {
        "final": None if facts.final is None else facts.final.value,
        "last": None if facts.val is None else facts.val.last.value,
        "curve": _tail_of_curve(facts.val),
        "train": _tail_of_curve(facts.train) if facts.train is not None else _tail_of_curve(facts.train_eval),
        "grad_norm": _grad_norm(facts.run.iters),
    }
    known = {name: value for name, value in found.items() if value is not None}
    if _diverged(facts.run.evals, "val_loss") or _diverged(facts.run.iters, "loss"):
        known = {name: math.inf if name != "grad_norm" else value for name, value in known.items()}
    if not any(name in known for name in PRIMARY):
        raise SourceError(
            "no-losses", f"{facts.run.name}: no val loss and no train loss in the record; give a log with losses"
        )
    return cast("Signals", {name: value if math.isfinite(value) else math.inf for name, value in known.items()})


def _diverged(rows: pl.DataFrame, column: str) -> bool:
    """True if the last loss in a column is not finite; curves leave such a value out."""
    values = rows[column].drop_nulls() if column in rows.columns else pl.Series([], dtype=pl.Float64)
    return len(values) > 0 and not math.isfinite(values[-1])


def _tail_of_curve(curve: Curve | None) -> float | None:
    if curve is None or len(curve) < 4:
        return None
    iters = curve.iters.astype(float)
    return float(_tail(iters, curve.values).mean())


def _grad_norm(iters: pl.DataFrame) -> float | None:
    if "grad_norm" not in iters.columns:
        return None
    rows = iters.filter(pl.col("grad_norm").is_not_null() & (pl.col("grad_norm") > 0))
    if rows.height < 4:
        return None
    norms = _tail(rows["iter"].to_numpy().astype(float), rows["grad_norm"].to_numpy().astype(float))
    return float(np.log(norms).mean())


def _tail(iters: Floats, values: Floats) -> Floats:
    late = iters >= iters[0] + (1 - TAIL) * (iters[-1] - iters[0])
    return np.asarray(values[late], dtype=float)
