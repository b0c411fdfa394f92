"""Reading: live, damaged and hostile folders."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossgap.errors import RunFolderError
from lossgap.runs.listing import list_runs
from lossgap.runs.lock import FolderLock
from lossgap.runs.rows import MAX_LINE_BYTES, walk
from lossgap.runs.run import EVAL_COLUMNS, ITER_COLUMNS, read_run
from lossgap.runs.run_json import MAX_RUN_BYTES

from .example import eval_row, final_row, iter_row, new_record


def folder_with(folder: Path, metrics: bytes, status: str = "finished") -> Path:
    new_record(folder, status=status).close()
    (folder / "metrics.jsonl").write_bytes(metrics)
    return folder


def test_whole_run(tmp_path: Path) -> None:
    with new_record(tmp_path) as record:
        for at, loss in ((0, 4.2), (250, 2.4), (500, 2.1), (750, 2.2)):
            record.append(eval_row(at, loss))
            record.append(iter_row(at))
        record.append(final_row(1000))
        record.finish("finished", {"train_loss": 1.76, "val_loss": 1.89})
    run = read_run(tmp_path)
    assert (run.name, run.format, run.status, run.path) == ("laptop", "lossgap", "finished", tmp_path)
    assert run.final == {"train_loss": 1.76, "val_loss": 1.89}
    assert run.iters.columns == list(ITER_COLUMNS)
    assert run.evals.columns == list(EVAL_COLUMNS)
    assert run.iters.height == 4
    assert run.evals["kind"].to_list() == ["eval"] * 4 + ["final"]
    assert run.iters["mfu"].null_count() == 4
    assert run.best_eval is not None
    assert run.last_eval is not None
    assert (run.best_eval["iter"], run.best_eval["val_loss"]) == (500, 2.1)
    assert (run.last_eval["iter"], run.last_eval["val_loss"]) == (750, 2.2)
    assert run.parameters["nanogpt_count"] == 795_904
    assert run.effective["threads"] == 2
    assert run.peak == {"flops": None, "source": "unknown"}
    assert run.damaged_lines == 0


def test_no_rows_yet(tmp_path: Path) -> None:
    new_record(tmp_path).close()
    (tmp_path / "metrics.jsonl").unlink()
    run = read_run(tmp_path)
    assert (run.iters.height, run.evals.height, run.last_eval, run.best_eval) == (0, 0, None, None)


def test_torn_line_of_a_live_run_is_no_damage(tmp_path: Path) -> None:
    torn = json.dumps(iter_row(0)).encode() + b'\n{"kind":"iter","iter":1,"lo'
    live = folder_with(tmp_path / "live", torn, "running")
    with FolderLock(live).acquire():
        run = read_run(live)
        assert (run.status, run.iters.height, run.damaged_lines) == ("running", 1, 0)
    run = read_run(live)
    assert (run.status, run.damaged_lines) == ("interrupted", 0)
    run = read_run(folder_with(tmp_path / "done", torn))
    assert (run.status, run.iters.height, run.damaged_lines) == ("finished", 1, 1)


def test_a_line_that_grows_while_it_is_read_is_torn_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"kind":"iter","iter":0}\n{"kind":"it')
    with path.open("rb") as stream, path.open("ab", buffering=0) as writer:
        lines = walk(stream)
        assert [next(lines), next(lines)] == [b'{"kind":"iter","iter":0}\n', b'{"kind":"it']
        writer.write(b'er","iter":1}\n{"kind":"iter","iter":2}\n')
        assert list(lines) == []


def test_reading_while_another_thread_writes(tmp_path: Path) -> None:
    stop = threading.Event()
    record = new_record(tmp_path)

    def write() -> None:
        at = 0
        while not stop.is_set():
            record.append(iter_row(at))
            if at % 41 == 40:
                record.update(notices=[f"at {at}"])
                at = max(at - 10, 0)
                record.cut(at, None)
            at += 1

    with FolderLock(tmp_path).acquire():
        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(40):
                run = read_run(tmp_path)
                assert run.damaged_lines == 0
                assert run.status == "running"
        finally:
            stop.set()
            writer.join()
            record.close()


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
STRANGE_ROW = st.fixed_dictionaries(
    {"kind": st.sampled_from(["iter", "eval", "final", "other", 3, None]), "iter": st.integers() | ANYTHING},
    optional={name: ANYTHING for name in {**ITER_COLUMNS, **EVAL_COLUMNS} if name not in ("kind", "iter")},
).map(lambda row: json.dumps(row).encode() + b"\n")


@given(data=st.lists(st.binary(max_size=60) | STRANGE_ROW, max_size=8).map(b"".join), status=st.text(max_size=8))
@settings(max_examples=200, deadline=None)
def test_any_bytes_in_the_metrics(data: bytes, status: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = folder_with(Path(name), data, status)
        run = read_run(folder)
        assert run.iters.height + run.evals.height + run.damaged_lines <= data.count(b"\n") + 1
        assert run.iters["loss"].is_finite().all()
        list_runs(folder)
        json.dumps(run.iters.to_dicts(), ensure_ascii=False).encode()


@given(
    document=st.dictionaries(
        st.sampled_from(
            [
                "name",
                "config",
                "given",
                "effective",
                "differences",
                "environment",
                "corpus",
                "parameters",
                "tokens_per_iter",
                "flops_per_iter",
                "peak",
                "seams",
                "notices",
                "created",
                "status",
                "final",
            ]
        ),
        ANYTHING,
    )
)
@settings(max_examples=200, deadline=None)
def test_any_types_in_run_json(document: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "run.json").write_text(json.dumps({**document, "schema": "lossgap.run/1"}))
        run = read_run(name)
        assert isinstance(run.config, dict)
        assert isinstance(run.seams, list)
        json.dumps([run.config, run.seams, run.name, run.final], ensure_ascii=False, allow_nan=False).encode()
        list_runs(name)


@given(data=st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_in_run_json(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "run.json").write_bytes(data)
        with pytest.raises(RunFolderError) as caught:
            read_run(name)
        assert caught.value.slug == "run-json-corrupt"
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[" * 2_000_000, "nested deeper"),
        (b'{"a":' * 1000 + b"1" + b"}" * 1000, "nested deeper"),
        (b'{"schema":"lossgap.run/1","a":' + b"[" * 70 + b"]" * 70 + b"}", "nested deeper"),
        (b"[]", "not a JSON object"),
        (b'{"schema": 1}', "no schema"),
        (b'{"schema": "lossgap.run/1", "a": ' + b"1" * 5000 + b"}", "number"),
        (b'{"schema": "lossgap.run/1"', "not JSON at line 1"),
        (b"\xff", "not UTF-8"),
        (b" " * (MAX_RUN_BYTES + 1), "larger than 16 MB"),
        (b"", "not JSON"),
    ],
)
def test_corrupt_run_json_is_one_line(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "run.json").write_bytes(data)
    with pytest.raises(RunFolderError, match=said) as caught:
        read_run(tmp_path)
    assert caught.value.slug == "run-json-corrupt"
    assert len(str(caught.value).splitlines()) == 1
    assert list_runs(tmp_path)[0].problem == str(caught.value)


def test_newer_schema(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"schema": "lossgap.run/2\\u001b[31m"}')
    with pytest.raises(RunFolderError, match="use the lossgap that wrote it") as caught:
        read_run(tmp_path)
    assert str(caught.value).isprintable()


def test_missing_and_unreadable(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError) as caught:
        read_run(tmp_path / "a\nb")
    assert caught.value.slug == "run-json-missing"
    assert "\n" not in str(caught.value)
    os.mkfifo(tmp_path / "run.json")  # a pipe without a writer: an ordinary open would wait for ever
    with pytest.raises(RunFolderError, match="not a regular file"):
        read_run(tmp_path)
    (tmp_path / "run.json").unlink()
    new_record(tmp_path).close()
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").symlink_to("/dev/zero")
    with pytest.raises(RunFolderError) as caught:
        read_run(tmp_path)
    assert caught.value.slug == "metrics-unreadable"


def test_endless_line_costs_one_line(tmp_path: Path) -> None:
    row = json.dumps(iter_row(0)).encode() + b"\n"
    long = b'{"kind":"iter","iter":1,"x":"' + b"x" * (3 * MAX_LINE_BYTES) + b'"}\n'
    deep = b'{"kind":"iter","iter":1,"x":' + b"[" * 500_000 + b"\n"
    padded = b'{"kind":"iter","iter":1}' + b" " * (3 * MAX_LINE_BYTES) + b"x\n"
    run = read_run(folder_with(tmp_path, row + long + row + deep + row + padded + row))
    assert (run.iters.height, run.damaged_lines) == (4, 3)


@pytest.mark.parametrize("at", ["true", "-1", str(2**63), '"1"', "1.0", "null", "[]", "9" * 5000])
def test_row_without_an_iteration_is_damaged(tmp_path: Path, at: str) -> None:
    run = read_run(folder_with(tmp_path, f'{{"kind":"iter","iter":{at},"loss":1.0}}\n'.encode()))
    assert (run.iters.height, run.damaged_lines) == (0, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("loss", text) for text in ("NaN", "-Infinity", "1e999", "1" + "0" * 400, "true", '"2.1"', "[2.1]", "null")],
        *[("tokens", text) for text in (str(2**63), "-" + str(2**80), "false", "1.5", '"7"', "{}")],
    ],
)
def test_value_of_a_wrong_type_is_null(tmp_path: Path, name: str, value: str) -> None:
    run = read_run(folder_with(tmp_path, f'{{"kind":"iter","iter":1,"{name}":{value},"lr":0.5}}\n'.encode()))
    assert run.iters[name].to_list() == [None]
    assert run.iters["lr"].to_list() == [0.5]
    assert run.damaged_lines == 0


def test_text_that_cannot_be_printed(tmp_path: Path) -> None:
    run = read_run(folder_with(tmp_path, b'{"kind":"iter","iter":1,"why":"\\ud800"}\n'))
    assert run.iters["why"].to_list() == ["?"]
    document = {"schema": "lossgap.run/1", "name": "\ud800", "config": {"\udfff": ["\ud800"]}}
    (tmp_path / "run.json").write_text(json.dumps(document))
    run = read_run(tmp_path)
    assert (run.name, run.config) == ("?", {"?": ["?"]})
    assert list_runs(tmp_path)[0].name == "?"


def test_reading_and_listing_import_no_torch(tmp_path: Path) -> None:
    new_record(tmp_path).close()
    code = (
        "import sys; from lossgap.runs.run import read_run; from lossgap.runs.folder import list_runs; "
        "import lossgap.runs.run_record; "
        "read_run(sys.argv[1]); list_runs(sys.argv[1]); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)


def test_row_order_and_duplicates_stay(tmp_path: Path) -> None:
    at = random.Random(0).choices(range(5), k=20)
    run = read_run(folder_with(tmp_path, b"".join(json.dumps(iter_row(i)).encode() + b"\n" for i in at)))
    assert run.iters["iter"].to_list() == at
