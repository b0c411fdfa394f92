"""The rows of a text made into one series: summaries left out, evaluations' bars to their last row, epochs in a row.

A counter that begins again in every epoch goes on over them: iter is (epoch - first) x rows of an epoch + counter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from lossgap.runs.readers.base import whole
from lossgap.runs.readers.printed_names import Named, named
from lossgap.runs.readers.printed_rows import PrintedRow, PrintedRows


def losses_of(row: PrintedRow) -> dict[str, Named]:
    """The losses, perplexities and bits of a row."""
    found = {name: named(name) for name in row.values}
    return {name: item for name, item in found.items() if item.what in ("loss", "perplexity", "bits")}


def series_of(seen: PrintedRows, *, epochs: bool = False) -> list[PrintedRow]:
    """The rows that count, in their order; only the last of each epoch if `epochs`."""
    rows = _last_of_bars(_counted([row for row in seen.rows if _counts(row, seen)]))
    return _ends(rows) if epochs else _over_epochs(rows)


def _counts(row: PrintedRow, seen: PrintedRows) -> bool:
    """False for a row that only repeats a loss outside of any series: a summary, a line of settings."""
    found = losses_of(row)
    if not found:
        return False
    times = seen.kinds[row.shape].tally.count if row.shape >= 0 else 1
    if any(item.clean for item in found.values()):
        return row.own or times > 1 or len(seen.rows) < 8
    return times >= 3


def _counted(rows: Sequence[PrintedRow]) -> list[PrintedRow]:
    """The rows without those that name no split and no counter, where most others have a counter: summaries."""
    shapes = Counter(row.shape for row in rows if row.own)
    if not shapes or sum(shapes.values()) * 10 < len(rows) * 6:
        return list(rows)
    return [row for row in rows if row.own or any(named(name).split for name in losses_of(row))]


def _last_of_bars(rows: Sequence[PrintedRow]) -> list[PrintedRow]:
    """The rows, but of one evaluation's progress only the last, without its counter, which is not the training's."""
    total = Counter(row.total for row in rows if row.split in ("", "train") and row.total)
    usual = total.most_common(1)[0][0] if total else ""
    kept: list[PrintedRow] = []
    top, within = -1, None
    for row in rows:
        at = whole(row.iter)
        if row.split not in ("val", "test") or any(named(name).split == "train" for name in losses_of(row)):
            top, within = (at if at is not None else top), row.epoch
            kept.append(row)
            continue
        behind = at is not None and row.own and at < top and row.epoch == within and row.epoch is not None
        if not behind and (not row.total or row.total == usual or not usual):
            kept.append(row)
            continue
        last = kept[-1] if kept else None
        if last is not None and last.shape == row.shape and last.iter is None and last.total == row.total:
            kept.pop()
        kept.append(replace(row, iter=None))
    return kept


def _ends(rows: Sequence[PrintedRow]) -> list[PrintedRow]:
    """The last row of each epoch, without the counter within it."""
    kept: list[PrintedRow] = []
    for row in rows:
        last = kept[-1] if kept else None
        if last is not None and last.epoch == row.epoch and "val" not in "".join(last.values):
            kept.pop()
        kept.append(replace(row, iter=None, total=""))
    return kept


def _over_epochs(rows: Sequence[PrintedRow]) -> list[PrintedRow]:
    """The rows with a counter that goes on, where it begins again in every epoch and says up to where it runs."""
    places = [(whole(row.epoch), whole(row.iter), whole(row.total)) for row in rows]
    totals = Counter(total for _, _, total in places if total)
    if not totals:
        return list(rows)
    total = totals.most_common(1)[0][0]
    known = [(epoch, at) for epoch, at, end in places if epoch is not None and at is not None and end == total]
    risen = [(before, after) for before, after in pairwise(known) if after[0] > before[0]]
    if not risen or sum(after[1] < before[1] for before, after in risen) * 2 <= len(risen):
        return list(rows)
    first = min(min(epoch for epoch, _ in known), 1)
    found = []
    for row, (epoch, at, end) in zip(rows, places, strict=True):
        if epoch is not None and at is not None and end == total:
            row = replace(row, iter=str((epoch - first) * total + at), total="", epoch=None)
        elif row.iter is not None:
            row = replace(row, iter=None)
        found.append(row)
    return found


def rising_name(rows: Sequence[PrintedRow]) -> str | None:
    """The name of whole numbers that rise from nearly every row to the next: a counter by its behaviour."""
    names = Counter(name for row in rows for name in row.values if named(name).what == "other")
    for name, times in names.most_common(8):
        if times * 10 < len(rows) * 9 or times < 5:
            return None
        values = [whole(row.values[name]) for row in rows if name in row.values]
        numbers = [value for value in values if value is not None and value >= 0]
        rises = sum(after > before for before, after in pairwise(numbers))
        if len(numbers) == len(values) and rises * 10 >= (len(numbers) - 1) * 9:
            return name
    return None
