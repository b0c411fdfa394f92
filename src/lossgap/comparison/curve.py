"""One series of losses over iterations, and the scales on which two of them are compared.

A `Curve` holds each iteration once: where a resumed leg repeats iterations, its later rows replace the earlier ones,
which are counted. Values are never extrapolated; between two logged points they are interpolated, and say so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from lossgap.runs.run import Series

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
LARGEST = 1e60
"""A number beyond this in a column of losses is damage, and left out as null is."""


@dataclass(frozen=True, kw_only=True)
class Value:
    """A value on a curve: `interpolated` if no row says it; `iter` is where on the curve (a fraction if between)."""

    value: float
    iter: float
    interpolated: bool = False
    standard_error: float | None = None
    """As the record gives it; None if it does not, or if the value is interpolated."""
    line: int | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Curve:
    """`values` (n,) over `iters` (n,), strictly increasing; `errors` (n,) standard errors, NaN where unknown."""

    name: str
    """The column: evals.val_loss, evals.train_loss, iters.loss, evals.val_bpb."""
    iters: Ints
    values: Floats
    errors: Floats
    lines: Ints
    """Line of the file, 0 where unknown."""
    meaning: Series
    superseded: int = 0
    """Rows that a later row at the same iteration replaced."""
    block: int = 1
    """Rows that one point is the mean of."""

    def __len__(self) -> int:
        return len(self.iters)

    def point(self, index: int) -> Value:
        """The value at position `index` of the arrays."""
        error, line = float(self.errors[index]), int(self.lines[index])
        return Value(
            value=float(self.values[index]),
            iter=float(self.iters[index]),
            standard_error=None if np.isnan(error) else error,
            line=line or None,
        )

    @property
    def first(self) -> Value:
        """The first point."""
        return self.point(0)

    @property
    def last(self) -> Value:
        """The last point."""
        return self.point(len(self) - 1)

    @property
    def best(self) -> Value:
        """The lowest point, the earliest of equals."""
        return self.point(int(self.values.argmin()))

    def at(self, iteration: float) -> Value | None:
        """The value at an iteration: logged, or linear between its two neighbours; None outside the logged range."""
        index = int(np.searchsorted(self.iters, iteration))
        if index < len(self) and self.iters[index] == iteration:
            return self.point(index)
        if index == 0 or index == len(self):
            return None
        before, after = self.iters[index - 1], self.iters[index]
        weight = (iteration - before) / (after - before)
        value = (1 - weight) * self.values[index - 1] + weight * self.values[index]
        return Value(value=float(value), iter=float(iteration), interpolated=True)

    def until(self, iteration: float) -> Curve:
        """The points up to an iteration, itself included."""
        n = int(np.searchsorted(self.iters, iteration, side="right"))
        return replace(self, iters=self.iters[:n], values=self.values[:n], errors=self.errors[:n], lines=self.lines[:n])


def curve(
    table: pl.DataFrame, column: str, name: str, meaning: Series, *, error: str | None = None, factor: float = 1.0
) -> Curve | None:
    """The curve of one column of a table, null values left out; None without any. Values are times `factor`."""
    # Squares of losses beyond the bound overflow; no loss of a training comes near it.
    rows = table.filter((pl.col(column).abs() <= LARGEST) & pl.col("iter").is_not_null())
    if rows.is_empty():
        return None
    # A later row at the same iteration is a resumed leg's, or a print of another process; the last word counts.
    kept = rows.unique(subset="iter", keep="last", maintain_order=True).sort("iter")
    errors = kept[error].to_numpy().astype(float) if error else np.full(kept.height, np.nan)
    return Curve(
        name=name,
        iters=kept["iter"].to_numpy().astype(np.int64),
        values=kept[column].to_numpy().astype(float) * factor,
        errors=errors * factor,
        lines=kept["line"].fill_null(0).to_numpy().astype(np.int64),
        meaning=meaning,
        superseded=rows.height - kept.height,
    )


def blocks(source: Curve, points: int) -> Curve:
    """Means of equal blocks of rows, at most `points` of them, each at its last iteration, with its standard error.

    The error is sd / sqrt(rows) within the block; a trend inside it makes that too large, never too small.
    Rows that fill no block are left out at the beginning, where the loss falls fastest.
    """
    size = max(1, len(source) // points)
    if size == 1:
        return source
    count = len(source) // size
    skip = len(source) - count * size
    values = source.values[skip:].reshape(count, size)
    return Curve(
        name=source.name,
        iters=source.iters[skip:].reshape(count, size)[:, -1],
        values=values.mean(axis=1),
        errors=values.std(axis=1, ddof=1) / np.sqrt(size),
        lines=source.lines[skip:].reshape(count, size)[:, -1],
        meaning=source.meaning,
        superseded=source.superseded,
        block=size * source.block,
    )


@dataclass(frozen=True, eq=False)
class IterScale:
    """Where an iteration lies on another scale (tokens, FLOPs, ...): non-decreasing, NaN where it is not known."""

    name: str
    unit: str
    at: Callable[[Floats], Floats]


def linear(name: str, unit: str, per_iter: float) -> IterScale:
    """`per_iter` for each iteration."""
    return IterScale(name, unit, lambda iters: iters * per_iter)


def tabulated(name: str, unit: str, iters: Floats, values: Floats) -> IterScale:
    """Linear between the entries of a table, NaN outside it."""
    return IterScale(name, unit, lambda at: np.interp(at, iters, values, left=np.nan, right=np.nan))
