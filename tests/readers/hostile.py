"""What every reader of this folder must stand: damaged and hostile bytes. Runs that come back must be sound."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from hypothesis import strategies as st

from lossgap.runs.readers.base import Reader, Run, Source, SourceError
from lossgap.runs.run import EVAL_COLUMNS, ITER_COLUMNS, OTHER_COLUMNS


def source(data: bytes | str, name: str = "log.txt", columns: Mapping[str, str] | None = None) -> Source:
    raw = data.encode() if isinstance(data, str) else data
    return Source(path=Path(name), name=name, data=raw, columns=columns or {})


def read(
    reader: Reader, data: bytes | str, name: str = "log.txt", columns: Mapping[str, str] | None = None
) -> list[Run]:
    runs = reader.read(source(data, name, columns))
    sound(runs)
    return runs


def survives(reader: Reader, given: Source) -> None:
    """Neither `score` nor `read` raises anything but SourceError, and what is read is sound."""
    assert 0.0 <= reader.score(given.head()) <= 1.0
    try:
        runs = reader.read(given)
    except SourceError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
        return
    sound(runs)


def sound(runs: list[Run]) -> None:
    assert [run.number for run in runs] == list(range(1, len(runs) + 1))
    for run in runs:
        for table, columns in ((run.iters, ITER_COLUMNS), (run.evals, EVAL_COLUMNS), (run.others, OTHER_COLUMNS)):
            assert dict(table.schema) == columns
            assert table["iter"].null_count() == 0
            assert all(line is None or line >= 1 for line in table["line"])
            for name in table.columns:
                if columns[name].is_float():
                    assert all(value is None or math.isfinite(value) for value in table[name])
        for text in (run.name, *run.config, *run.others["metric"], *(note.text for note in run.notes)):
            text.encode("utf-8")


def losses(run: Run) -> list[tuple[int, float | None]]:
    table = run.iters.filter(run.iters["loss"].is_not_null())
    return list(zip(table["iter"], table["loss"], strict=True))


def vals(run: Run) -> list[tuple[int, float | None]]:
    table = run.evals.filter(run.evals["val_loss"].is_not_null())
    return list(zip(table["iter"], table["val_loss"], strict=True))


def metric(run: Run, name: str) -> list[tuple[int, float | None]]:
    table = run.others.filter(run.others["metric"] == name)
    return list(zip(table["iter"], table["value"], strict=True))


def notes(run: Run) -> str:
    return "\n".join(note.text for note in run.notes)


@st.composite
def damaged(draw: st.DrawFn, sample: bytes) -> bytes:
    """`sample` with bytes changed, cut out, doubled or put in."""
    data = bytearray(sample)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.sampled_from(["byte", "cut", "double", "insert", "tear"]))
        if kind == "byte" and data:
            data[at] = draw(st.integers(0, 255))
        elif kind == "cut":
            del data[at : at + draw(st.integers(1, 40))]
        elif kind == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 60))]
        elif kind == "insert":
            data[at:at] = draw(
                st.binary(max_size=12) | st.sampled_from([b"1e999", b"-1", b"NaN", b"9" * 400, b"{", b'"'])
            )
        elif kind == "tear":
            del data[at:]
    return bytes(data)
