"""Writing a record: precision, durability against kill -9, cutting."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossgap.errors import RunFolderError
from lossgap.runs.rows import Dropped
from lossgap.runs.run import read_run
from lossgap.runs.run_record import RunRecord

from .example import child, eval_row, final_row, iter_row, new_record


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@given(value=st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=50, deadline=None)
def test_floats_keep_every_bit(value: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with new_record(folder) as record:
            record.append(iter_row(0, loss=value))
        assert read_run(folder).iters["loss"].to_list() == [value]


def test_not_finite_is_null_with_a_reason(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        record.append(iter_row(3, loss=math.nan, grad_norm=np.float32("inf")))
        record.finish("failed", {"val_loss": math.nan, "train_loss": np.float32(0.5)})
    row = lines(tmp_path)[0]
    assert (row["loss"], row["grad_norm"], row["why"]) == (None, None, "loss is nan; grad_norm is inf")
    run = read_run(tmp_path)
    assert run.final == {"val_loss": None, "train_loss": 0.5, "why": "val_loss is nan"}
    assert run.iters["why"].to_list() == ["loss is nan; grad_norm is inf"]
    assert run.status == "failed"


def test_a_reason_that_is_there_stays(tmp_path: Path) -> None:
    difference = {"setting": "x", "asked": math.inf, "ran": [1.0, math.nan], "why": "no device"}
    with new_record(tmp_path, differences=[difference]) as record:
        assert record.document["differences"] == [
            {"setting": "x", "asked": None, "ran": [1.0, None], "why": "no device; asked is inf; ran holds nan"}
        ]


def test_each_row_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    write = os.write

    def watched(descriptor: int, data: bytes) -> int:
        written.append(data)
        return write(descriptor, data)

    with new_record(tmp_path) as record:
        monkeypatch.setattr(os, "write", watched)
        record.append(iter_row(0))
        record.append(eval_row(1))
        record.flush(fsync=True)
    assert written == (tmp_path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    assert len(written) == 2


def test_a_reader_beside_the_writer_sees_no_damage(tmp_path: Path) -> None:
    """Another process reads all the time: rows come in order and whole, at most the last one is torn."""
    watch = """
    import sys
    from pathlib import Path
    from lossgap.runs.run import read_run
    rows = 0
    for _ in range(30):
        run = read_run(Path(sys.argv[1]))
        assert run.damaged_lines == 0
        assert run.iters["iter"].to_list() == list(range(run.iters.height))
        assert run.iters.height >= rows
        rows = run.iters.height
    print("whole" if rows else "empty")
    """
    with new_record(tmp_path) as record, child(watch, tmp_path) as process:
        at = 0
        while process.poll() is None:
            record.append(iter_row(at, note="x" * 300))
            at += 1
            time.sleep(0.0005)
        assert process.stdout is not None
        assert process.stdout.read() == "whole\n"


ROWS = st.lists(
    st.one_of(
        st.builds(iter_row, st.integers(0, 30)),
        st.builds(eval_row, st.integers(0, 30)),
        st.builds(final_row, st.integers(0, 30)),
    ),
    max_size=30,
)


@given(rows=ROWS, before=st.integers(0, 31), keep=st.none() | st.integers(0, 31), torn=st.integers(0, 100))
@settings(max_examples=150, deadline=None)
def test_cut_keeps_exactly_the_rows_before(
    rows: list[dict[str, object]], before: int, keep: int | None, torn: int
) -> None:
    def stays(row: dict[str, object]) -> bool:
        at = row["iter"]
        assert isinstance(at, int)
        return at < before or (row["kind"] == "eval" and at == keep)

    with tempfile.TemporaryDirectory() as name, new_record(Path(name)) as record:
        path = Path(name) / "metrics.jsonl"
        for row in rows:
            record.append(row)
        whole = path.read_bytes()
        expected = b"".join(line for line, row in zip(whole.splitlines(True), rows, strict=True) if stays(row))
        with path.open("ab") as stream:
            stream.write(json.dumps(iter_row(99)).encode()[:torn])
        dropped = record.cut(before, keep)
        assert path.read_bytes() == expected
        assert dropped.kept == expected.count(b"\n")
        assert dropped.lines == len(rows) - dropped.kept + (torn > 0)
        assert dropped.torn == (torn > 0)
        assert record.cut(before, keep) == Dropped(kept=dropped.kept)
        assert path.read_bytes() == expected
        record.append(iter_row(before))
        assert lines(Path(name))[-1] == iter_row(before)


def test_cut_counts_by_kind(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        for row in (iter_row(0), eval_row(1), iter_row(1), iter_row(2), eval_row(2), final_row(2)):
            record.append(row)
        path = tmp_path / "metrics.jsonl"
        path.write_bytes(path.read_bytes().replace(b"\n", b"\n{broken\n", 1) + b'{"kind":"tune","iter":7}\n{"kin')
        dropped = record.cut(1, 1)
    assert dropped == Dropped(kept=2, iters=2, evals=1, finals=1, others=1, damaged=1, torn=True)
    assert str(dropped) == "2 iter, 1 eval, 1 final, 1 other, 1 damaged, 1 torn rows"
    assert str(Dropped(iters=1)) == "1 iter row"
    assert str(Dropped()) == "no rows"
    assert [row["kind"] for row in lines(tmp_path)] == ["iter", "eval"]


def test_whole_last_row_without_line_end_is_kept(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        record.append(iter_row(0))
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    with RunRecord.open(tmp_path) as record:
        assert record.cut(5, None) == Dropped(kept=1)
        assert path.read_bytes().endswith(b"\n")
        record.append(iter_row(1))
    assert [row["iter"] for row in lines(tmp_path)] == [0, 1]


def test_append_without_cut_is_not_glued_to_a_torn_line(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        record.append(iter_row(0))
    with (tmp_path / "metrics.jsonl").open("ab") as stream:
        stream.write(b'{"kind":"iter","it')
    with RunRecord.open(tmp_path) as record:
        record.append(iter_row(1))
        record.append(iter_row(2))
    run = read_run(tmp_path)
    assert run.iters["iter"].to_list() == [0, 1, 2]
    assert run.damaged_lines == 1


APPEND_UNTIL_KILLED = """
import sys
from pathlib import Path
from runs.example import eval_row, iter_row, new_record
record = new_record(Path(sys.argv[1]))
for at in range(10**9):
    if at % 50 == 0:
        record.append(eval_row(at))
        record.update(notices=[f"at {at}"])
    if at % 120 == 0:
        record.cut(at, at)
    record.append(iter_row(at))
    if at == 200:
        print("going", flush=True)
"""


@pytest.mark.parametrize("attempt", range(6))
def test_sigkill_while_appending(tmp_path: Path, attempt: int) -> None:
    tests = Path(__file__).resolve().parent.parent
    code = f"import sys; sys.path.insert(0, {os.fspath(tests)!r})\n" + APPEND_UNTIL_KILLED
    with child(code, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "going\n"
        time.sleep(random.Random(attempt).uniform(0, 0.2))
        process.kill()
    run = read_run(tmp_path)
    assert run.status == "interrupted"
    assert run.damaged_lines == 0
    at = run.iters["iter"].to_list()
    assert at == list(range(len(at)))
    assert len(at) > 200
    with RunRecord.open(tmp_path) as record:
        dropped = record.cut(150, 150)
        assert dropped.damaged == 0
        record.append(iter_row(150))
    again = read_run(tmp_path)
    assert again.iters["iter"].to_list() == list(range(151))
    assert again.evals["iter"].to_list() == [0, 50, 100, 150]
    assert again.iters["loss"].to_list() == [iter_row(i)["loss"] for i in range(151)]


def test_disk_that_takes_a_part_of_a_row(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: the row that does not fit leaves nothing behind."""
    code = """
    import resource, sys
    from pathlib import Path
    from lossgap.errors import RunFolderError
    from runs.example import iter_row, new_record
    record = new_record(Path(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
    count = 0
    try:
        while True:
            record.append(iter_row(count))
            count += 1
    except RunFolderError as error:
        print(error.slug, count, flush=True)
    try:
        record.update(notices=["x" * 5000])
    except RunFolderError as error:
        print(error.slug, record.document["notices"] == ["x" * 5000], flush=True)
    """
    pytest.importorskip("resource")
    tests = Path(__file__).resolve().parent.parent
    path = f"import sys; sys.path.insert(0, {os.fspath(tests)!r})\n"
    before = {"run.json", "metrics.jsonl"}
    done = subprocess.run(
        [sys.executable, "-c", path + textwrap.dedent(code), tmp_path], capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    slug, count = first.split()
    assert slug == "run-record-unwritable"
    assert second.startswith("run-record-unwritable")
    assert [row["iter"] for row in lines(tmp_path)] == list(range(int(count)))
    assert (tmp_path / "metrics.jsonl").read_bytes().endswith(b"\n")
    assert {path.name for path in tmp_path.iterdir()} == before  # no temporary file
    assert read_run(tmp_path).notices == []


def test_branch_begins_with_the_rows_of_its_parent(tmp_path: Path) -> None:
    with new_record(tmp_path / "a") as parent:
        for at in range(6):
            if at % 2 == 0:
                parent.append(eval_row(at))
            parent.append(iter_row(at))
        parent.append(final_row(6))
    original = (tmp_path / "a" / "metrics.jsonl").read_bytes()
    with new_record(tmp_path / "b") as branch:
        dropped = branch.copy_until(tmp_path / "a", 4, 4)
        assert (dropped.kept, dropped.iters, dropped.finals) == (7, 2, 1)
        branch.append(iter_row(4, loss=9.0))
        branch.add_seam(at=4, source="a", changed=[], why="branch", exact=False, note="another device")
    assert (tmp_path / "a" / "metrics.jsonl").read_bytes() == original
    run = read_run(tmp_path / "b")
    assert run.iters["iter"].to_list() == [0, 1, 2, 3, 4]
    assert run.evals["iter"].to_list() == [0, 2, 4]
    assert run.seams == [
        {"iter": 4, "from": "a", "changed": [], "why": "branch", "exact": False, "note": "another device"}
    ]
    with new_record(tmp_path / "c") as other:
        (tmp_path / "nanogpt").mkdir()
        assert other.copy_until(tmp_path / "nanogpt", 4, 4) == Dropped()


def test_open_continues(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        record.finish("interrupted")
    with RunRecord.open(tmp_path) as record:
        record.update(status="running")
        record.add_notice("resumed")
    document = json.loads((tmp_path / "run.json").read_text())
    assert (document["status"], document["notices"], document["name"]) == ("running", ["resumed"], "laptop")


def test_links_are_not_followed_when_writing(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.jsonl").symlink_to(outside)
    (folder / "run.json").symlink_to(outside)
    with pytest.raises(RunFolderError, match=r"metrics\.jsonl"):
        new_record(folder)
    (folder / "metrics.jsonl").unlink()
    new_record(folder).close()
    assert outside.read_text() == "mine"


def test_values_that_are_not_data_are_a_bug(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        with pytest.raises(TypeError, match="not object"):
            record.append(iter_row(0, loss=object()))
        with pytest.raises(AssertionError):
            record.append({"kind": "iter"})
        with pytest.raises(AssertionError):
            record.update(colour="red")
    assert lines(tmp_path) == []
