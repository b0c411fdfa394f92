"""Thinning: whatever comes in between, the blocks are those of the plain rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossgap.runs.readers.iter_table import Columns, IterTable, frame


def rows(start: int, losses: list[float]) -> Columns:
    at = np.arange(start, start + len(losses))
    values = np.array(losses, np.float64)
    return {"iter": at, "line": at + 1, "loss": values, "ms": values * 2, "mfu": np.full(len(losses), np.nan)}


@settings(max_examples=150, deadline=None)
@given(
    parts=st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=12),
    nan=st.sets(st.integers(0, 200), max_size=30),
)
def test_blocks_of_any_history(parts: list[tuple[int, bool]], nan: set[int]) -> None:
    losses: list[float] = []
    table, size = IterTable(), 1
    for count, thin in parts:
        new = [math.nan if at in nan else 1.0 + at % 17 for at in range(len(losses), len(losses) + count)]
        table.append(rows(len(losses), new))
        losses += new
        if thin:
            size = 8 if size == 1 else size * 2
            table.thin(size)
    found, starts = frame([table])
    assert starts == []
    assert table.rows == len(losses)
    if size == 1:
        assert found["iter"].to_list() == list(range(len(losses)))
        return
    blocks = [losses[at : at + size] for at in range(0, len(losses), size)]
    finite = [[value for value in block if math.isfinite(value)] for block in blocks]
    assert found["iter"].to_list() == list(range(0, len(losses), size))
    assert found["line"].to_list() == list(range(1, len(losses) + 1, size))
    assert found["count"].to_list() == [len(block) for block in blocks]
    assert found["loss_min"].to_list() == [min(block, default=None) for block in finite]
    assert found["loss_max"].to_list() == [max(block, default=None) for block in finite]
    for mean, block, ms in zip(found["loss"], finite, found["ms"], strict=True):
        assert mean == (pytest.approx(sum(block) / len(block)) if block else None)
        assert ms == (pytest.approx(2 * sum(block) / len(block)) if block else None)
    assert found["mfu"].null_count() == found.height
