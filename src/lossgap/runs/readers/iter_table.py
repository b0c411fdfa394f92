"""Columns of iteration rows in bounded memory: kept as they are up to a limit, then thinned to equal blocks.

`IterTable` holds one leg. When the rows of a log pass the limit, all its tables are thinned: `block` rows become
one, with the first iteration and line, the means of loss, ms and mfu over their finite values, the lowest and
highest loss and the count. When that is too many again, two blocks become one, so that all blocks are equal but
the last of a leg.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from lossgap.runs.run import ITER_COLUMNS

Columns = dict[str, np.ndarray]
"""`iter`, `line`: int64; `loss`, `ms`, `mfu`: float64, NaN where there is no value."""

FIRST_BLOCK = 8
PIECE = 1 << 17
"""Rows that are thinned at a time."""
MEANS = ("loss", "ms", "mfu")
RAW = ("iter", "line", *MEANS)


class IterTable:
    """The iteration rows of one leg, from `block` on in blocks of so many where the log is thinned already."""

    def __init__(self, block: int = 1) -> None:
        self.rows = 0
        """All rows that came in."""
        self._raw: list[Columns] = []
        self._raw_rows = 0
        self._done: list[Columns] = []
        self._spare: Columns | None = None
        """The beginning of a block, thinned already, that the next rows fill."""
        self._block = block

    @property
    def blocks(self) -> int:
        """Thinned rows in memory."""
        return sum(len(part["iter"]) for part in self._done)

    @property
    def held(self) -> int:
        """Rows in memory."""
        return self._raw_rows + self.blocks

    def append(self, columns: Columns) -> None:
        """More rows, in their order."""
        self._raw.append(columns)
        self._raw_rows += len(columns["iter"])
        self.rows += len(columns["iter"])

    def thin(self, block: int) -> None:
        """Make blocks of `block` rows, a power of two times the present block; rows that fill no block wait."""
        while self._done and self._block < block:
            self._double()
        self._block = block
        # Piece by piece, so that the rows are not in memory twice.
        waiting, self._raw, self._raw_rows = self._raw[::-1], [], 0
        rest = _joined([])
        while waiting:
            piece = [rest]
            while waiting and sum(len(part["iter"]) for part in piece) < PIECE:
                piece.append(waiting.pop())
            rest = self._filled(_joined(piece))
        self._raw, self._raw_rows = [rest], len(rest["iter"])

    def _double(self) -> None:
        """Two blocks become one; an odd one at the end becomes the beginning of the next."""
        done = _concatenated(self._done)
        even = len(done["iter"]) // 2 * 2
        if even < len(done["iter"]):
            last = {name: column[even:] for name, column in done.items()}
            self._spare = last if self._spare is None else _merged(last, self._spare)
        self._done = [_blocks({name: column[:even] for name, column in done.items()}, 2)] if even else []
        self._block *= 2

    def _filled(self, rows: Columns) -> Columns:
        """Make blocks of the rows; returns those that fill none."""
        start = 0
        if self._spare is not None:
            start = self._block - int(self._spare["count"][0])
            if len(rows["iter"]) < start:
                return rows
            self._done.append(_merged(self._spare, {name: column[:start] for name, column in rows.items()}))
            self._spare = None
        end = start + (len(rows["iter"]) - start) // self._block * self._block
        if end > start:
            self._done.append(_blocks({name: column[start:end] for name, column in rows.items()}, self._block))
        return {name: column[end:].copy() for name, column in rows.items()}

    def columns(self) -> Columns:
        """All rows as they stand, thinned or not."""
        rest = _joined(self._raw)
        if self._block > 1:
            rest = self._filled(rest)
        parts = self._done
        if self._spare is not None:
            parts = [*parts, _merged(self._spare, rest)]
        elif self._block > 1 and len(rest["iter"]):
            parts = [*parts, _blocks(rest, self._block)]
        return _concatenated(parts) if parts else rest


def frame(tables: Sequence[IterTable]) -> tuple[pl.DataFrame, list[int]]:
    """The rows of all legs, and the rows at which the later legs begin.

    NaN is null, and a loss that was not finite is named in `why`.
    """
    parts = [table.columns() for table in tables]
    ends = np.cumsum([len(part["iter"]) for part in parts]).tolist()
    held = _concatenated([part for part in parts if len(part["iter"])])
    return pl.DataFrame([_series(name, kind, held) for name, kind in ITER_COLUMNS.items()]), ends[:-1]


def _series(name: str, kind: type[pl.DataType], columns: Columns) -> pl.Series:
    """One column of a run's table. Without a query of polars, which costs a millisecond: a log may hold 1,000 runs."""
    rows = len(columns["iter"])
    if name == "why":
        loss = columns["loss"]
        bad = np.flatnonzero(~np.isfinite(loss)).tolist()
        if not bad:
            return pl.Series(name, [None], dtype=kind).new_from_index(0, rows) if rows else pl.Series(name, [], kind)
        said: list[str | None] = [None] * rows
        for at in bad:
            said[at] = "loss is nan" if np.isnan(loss[at]) else "loss is inf"
        return pl.Series(name, said, dtype=kind)
    if name not in columns:
        return pl.Series(name, [None], dtype=kind).new_from_index(0, rows) if rows else pl.Series(name, [], kind)
    values = columns[name]
    if values.dtype == np.float64:
        return pl.Series(name, np.where(np.isfinite(values), values, np.nan), nan_to_null=True)
    return pl.Series(name, values)


def _joined(parts: list[Columns]) -> Columns:
    if not parts:
        return {name: np.empty(0, np.int64 if name in ("iter", "line") else np.float64) for name in RAW}
    return {name: np.concatenate([part[name] for part in parts]) for name in RAW}


def _concatenated(parts: list[Columns]) -> Columns:
    """Thinned parts as one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else _joined([])


def _weighted(columns: Columns) -> Columns:
    """Plain rows as thinned rows of one; thinned rows as they are. `NAME_n` counts the finite values in a mean."""
    if "count" in columns:
        return columns
    found = columns | {"count": np.ones(len(columns["iter"]), np.int64)}
    finite = np.where(np.isfinite(columns["loss"]), columns["loss"], np.nan)
    found |= {"loss_min": finite, "loss_max": finite}
    return found | {f"{name}_n": np.isfinite(columns[name]).astype(np.int32) for name in MEANS}


def _merged(block: Columns, rows: Columns) -> Columns:
    """A thinned row and the rows behind it, thinned or not, as one."""
    rows = _weighted(rows)
    return _blocks({name: np.concatenate((block[name], rows[name])) for name in block}, 1 + len(rows["iter"]))


def _blocks(columns: Columns, size: int) -> Columns:
    """Every `size` rows as one; the last block may be smaller. A mean is over the finite values of all its rows."""
    columns = _weighted(columns)
    starts = np.arange(0, len(columns["iter"]), size)
    out: Columns = {name: columns[name][starts] for name in ("iter", "line")}
    for name in MEANS:
        weights = columns[f"{name}_n"]
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            total = np.add.reduceat(np.where(weights > 0, columns[name] * weights, 0.0), starts)
            out[f"{name}_n"] = np.add.reduceat(weights, starts)
            out[name] = np.where(out[f"{name}_n"] > 0, total / out[f"{name}_n"], np.nan)
    out["loss_min"] = np.fmin.reduceat(columns["loss_min"], starts)
    out["loss_max"] = np.fmax.reduceat(columns["loss_max"], starts)
    out["count"] = np.add.reduceat(columns["count"], starts)
    return out
