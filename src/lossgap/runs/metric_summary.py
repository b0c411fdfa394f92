"""The metrics of a run, each with its first, last, best, lowest and highest value: what `lossgap read` shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from lossgap.runs.run import Run, Series

ITER_METRICS = ("loss", "lr", "grad_norm", "tokens", "seconds", "ms", "mfu")
EVAL_METRICS = ("train_loss", "val_loss", "val_bpb", "train_se", "val_se")
SMALLEST_IS_BEST = ("loss", "bpb", "ppl", "perplexity")


@dataclass(frozen=True, kw_only=True)
class MetricPoint:
    """One value, where it stands."""

    iter: int | None
    line: int | None
    """From 1; None where the record has no lines of text."""
    value: float


@dataclass(frozen=True, kw_only=True)
class MetricSummary:
    """One metric of a run, named by its table: `iters.loss`, `evals.val_loss`, `others.accuracy`."""

    name: str
    first: MetricPoint
    last: MetricPoint
    best: MetricPoint | None
    """The lowest of a loss; None for a metric where it is unknown whether high or low is good."""
    lowest: float
    highest: float
    count: int
    means: Series | None
    """The meaning of its values; None where the reader does not give one."""


def metric_summaries(run: Run) -> list[MetricSummary]:
    """Every metric of the run that has a value, in the order of the tables."""
    found: list[MetricSummary] = []
    for table, frame, names in (("iters", run.iters, ITER_METRICS), ("evals", run.evals, EVAL_METRICS)):
        for name in names:
            found += _summary(run, f"{table}.{name}", frame.select("iter", "line", value=pl.col(name)))
    for (name,), frame in run.others.group_by(["metric"], maintain_order=True):
        found += _summary(run, f"others.{name}", frame.select("iter", "line", "value"))
    return found


def _summary(run: Run, name: str, frame: pl.DataFrame) -> Iterator[MetricSummary]:
    frame = frame.filter(pl.col("value").is_not_null())
    if frame.is_empty():
        return
    values = frame["value"]
    best = values.arg_min() if any(word in name.lower() for word in SMALLEST_IS_BEST) else None
    yield MetricSummary(
        name=name,
        first=_point(frame, 0),
        last=_point(frame, -1),
        best=None if best is None else _point(frame, best),
        lowest=values.min(),  # type: ignore[arg-type]  # a number, as the column is one
        highest=values.max(),  # type: ignore[arg-type]  # as above
        count=frame.height,
        means=run.series.get(name),
    )


def _point(frame: pl.DataFrame, at: int) -> MetricPoint:
    iteration, line, value = frame.select("iter", "line", "value").row(at)
    return MetricPoint(iter=iteration, line=line, value=value)
