"""The rules of traces in bare curves: each finds its own trace, and none of them another seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from comparison.findings.answer import ask
from comparison.findings.losses import Losses, batches, falling, printed
from lossgap.comparison import compare
from lossgap.comparison.rules import rules
from lossgap.runs.run import Run

COUNT = 400
TRACES = tuple(item for item in rules() if item.id.startswith("looks-like-"))


def bare(
    seed: int,
    *,
    end: float = 1.9,
    losses: Losses | None = None,
    change: Callable[[pl.DataFrame], pl.DataFrame] = lambda rows: rows,
) -> Run:
    """A bare log: `losses` of its iterations, a healthy fall by default, and evaluations that follow their trend.

    Evaluations of the train split lie on the trend of a healthy fall, val 0.1 above.
    """
    trend = falling(COUNT, end=end)
    made = printed(trend + batches(COUNT, seed) if losses is None else losses, config={}, end=end)
    at = np.arange(0, COUNT, 21)
    draw = np.random.default_rng(seed + 1000).normal(0, 0.004, (2, len(at)))
    rows = pl.DataFrame(
        {
            "kind": "eval",
            "iter": at,
            "train_loss": (trend[at] + draw[0]).round(4),
            "val_loss": (trend[at] + 0.1 * (at > 0) + draw[1]).round(4),
        }
    )
    changed = change(rows)
    columns = {name: changed[name] if name in changed.columns else None for name in made.evals.columns}
    return replace(made, evals=pl.DataFrame(columns, schema=made.evals.schema))


def _val(by: float | pl.Expr) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda rows: rows.with_columns(val_loss=pl.col("val_loss") + by)


def _in_order() -> Losses:
    draw, values = np.random.default_rng(5), []
    step = 0.0
    for _ in range(COUNT):
        step = 0.8 * step + draw.normal(0, 0.03)
        values.append(step)
    return np.asarray(falling(COUNT, end=2.3) + np.array(values), dtype=np.float64)


def _averaged(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(val_loss=pl.col("val_loss").cum_sum() / pl.int_range(1, pl.len() + 1))


def _flat() -> Run:
    level = np.maximum(falling(COUNT), 2.45) + batches(COUNT, 2)
    floor = pl.max_horizontal(pl.col("val_loss"), 2.5)
    return bare(2, losses=level, change=lambda rows: rows.with_columns(val_loss=floor, train_loss=floor - 0.1))


def _slow() -> Run:
    late = np.interp(np.arange(COUNT), [0, 60, COUNT], [0, 120, 0])
    trend = np.interp(np.arange(COUNT) - 0.5 * late, np.arange(COUNT), falling(COUNT, end=2.2))
    at = np.arange(0, COUNT, 21)
    return bare(
        2,
        losses=trend + batches(COUNT, 2),
        change=lambda rows: rows.with_columns(train_loss=pl.Series(trend[at]), val_loss=pl.Series(trend[at] + 0.1)),
    )


PLANTED: dict[str, Callable[[], Run]] = {
    "looks-like-data-in-order": lambda: bare(2, end=2.3, losses=_in_order()),
    "looks-like-another-evaluation": lambda: bare(
        2, change=lambda rows: rows.with_columns(pl.col("train_loss", "val_loss") + 0.3)
    ),
    "looks-like-another-split": lambda: bare(2, change=_val(-0.4)),
    "looks-like-another-rate": _slow,
    "looks-like-stuck": _flat,
    "looks-like-a-leak": lambda: bare(2, end=0.2),
    "looks-like-a-scaled-loss": lambda: bare(2, losses=(falling(COUNT) + batches(COUNT, 2)) / 4, change=_val(0.3)),
    "looks-like-an-average": lambda: bare(2, change=_averaged),
}


@pytest.mark.parametrize("id", PLANTED)
def test_a_trace_is_found_in_the_run_that_has_it(id: str) -> None:
    healthy, odd = bare(1), PLANTED[id]()
    for pair in ((healthy, odd), (odd, healthy)):
        found = ask(id, *pair).cause
        assert (found.strength, found.evidence) == ("possible", "inferred")
        assert found.settle


def test_every_trace_is_planted() -> None:
    assert {item.id for item in TRACES} == set(PLANTED)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("end", [1.9, 1.97, 1.6])
def test_another_seed_or_a_better_run_leaves_no_trace(seed: int, end: float) -> None:
    found = compare(bare(1), bare(seed + 2, end=end), rules=TRACES, sources=("a.log", "b.log"))
    assert not found.causes, [item.id for item in found.causes]


def test_a_trace_stands_behind_every_other_cause() -> None:
    found = compare(bare(1), bare(2, end=0.2), sources=("a.log", "b.log"))
    ids = [item.id.startswith("looks-like-") for item in found.causes]
    assert any(ids)
    assert ids == sorted(ids)
