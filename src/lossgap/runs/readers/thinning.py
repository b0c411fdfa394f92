"""Iteration rows above a limit are thinned to equal blocks; evaluations never are."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from lossgap.runs.readers.builder import filled
from lossgap.runs.run import ITER_COLUMNS, Note, Run, Thinned


def thin(run: Run, limit: int) -> Run:
    """`run` with at most `limit` rows of iterations: `count`, mean, `loss_min` and `loss_max` of equal blocks."""
    rows = run.iters.height
    if rows <= limit or run.thinned is not None:
        return run
    block = -(-rows // limit)
    means = [name for name in ("loss", "lr", "grad_norm", "ms", "mfu") if name in run.iters.columns]
    firsts = [name for name in ("iter", "tokens", "seconds", "line", "why") if name in run.iters.columns]
    table = (
        run.iters.with_row_index("row")
        .group_by(pl.col("row") // block, maintain_order=True)
        .agg(
            *(pl.col(name).first() for name in firsts),
            *(pl.col(name).mean() for name in means),
            pl.len().alias("count"),
            pl.col("loss").min().alias("loss_min"),
            pl.col("loss").max().alias("loss_max"),
        )
    )
    note = Note(text=f"{rows:,} iteration rows thinned to {table.height:,} blocks of {block} (--max_iter_rows={limit})")
    thinned = Thinned(rows=rows, kept=table.height, block=block)
    return replace(run, iters=filled(table, ITER_COLUMNS), thinned=thinned, notes=[*run.notes, note])
