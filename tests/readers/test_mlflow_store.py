"""MLflow: the plain-file store and the database, both made by hand."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lossgap.runs.readers.base import NO, SURE, Run, Source
from lossgap.runs.readers.formats.mlflow_store import READER

from .hostile import damaged, losses, metric, notes, read, sound, source, survives, vals


def store(folder: Path, name: str = "calm-hen-1", start: int = 1_700_000_000_000, stage: str = "active") -> Path:
    for part in ("metrics/train", "params", "tags"):
        (folder / part).mkdir(parents=True)
    (folder / "meta.yaml").write_text(
        f"end_time: {start + 9000}\nlifecycle_stage: {stage}\nrun_id: {folder.name}\nrun_name: {name}\n"
        f"start_time: {start}\nstatus: 3\ntags: []\n"
    )
    (folder / "metrics" / "train" / "loss").write_text(
        f"{start + 1000} 4.5 0\n{start + 2000} 3.5 10\n{start + 3000} nan 20\n"
    )
    (folder / "metrics" / "val_loss").write_text(f"{start + 2500} 3.75 10\n")
    (folder / "metrics" / "acc").write_text(f"{start + 2000} 0.5 10\n{start + 2000}\nx y z\n")
    (folder / "params" / "lr").write_text("0.001")
    (folder / "params" / "epochs").write_text("10")
    (folder / "tags" / "mlflow.user").write_text("someone")
    return folder


def read_path(path: Path) -> list[Run]:
    given = Source(path=path, name=path.name)
    assert READER.score(given.head()) > 0.5
    runs = READER.read(given)
    sound(runs)
    return runs


def test_a_run_of_the_plain_store(tmp_path: Path) -> None:
    (run,) = read_path(store(tmp_path / "abc"))
    assert losses(run) == [(0, 4.5), (10, 3.5)]
    assert vals(run) == [(10, 3.75)]
    assert metric(run, "acc") == [(10, 0.5)]
    assert run.iters["seconds"].to_list() == [1.0, 2.0, 3.0]
    assert run.iters["why"].to_list() == [None, None, "loss is nan"]
    assert run.config == {"learning_rate": 0.001, "epochs": 10}
    assert (run.name, run.status, run.damaged_lines) == ("calm-hen-1", "finished", 2)
    assert "someone" not in repr(run)


def test_an_experiment_and_mlruns_are_runs_by_their_start(tmp_path: Path) -> None:
    experiment = tmp_path / "mlruns" / "0"
    store(experiment / "bbb", "first", 1_600_000_000_000)
    store(experiment / "aaa", "second", 1_700_000_000_000)
    store(experiment / "ccc", "gone", stage="deleted")
    (experiment / "meta.yaml").write_text("experiment_id: '0'\n")
    for path in (experiment, tmp_path / "mlruns", tmp_path):
        assert [(run.number, run.name) for run in read_path(path)] == [(1, "first"), (2, "second")]


def test_values_without_steps_are_counted_by_their_time(tmp_path: Path) -> None:
    folder = store(tmp_path / "abc")
    (folder / "metrics" / "train" / "loss").write_text("3000 2.5 0\n1000 4.5 0\n2000 3.5 0\n")
    (folder / "metrics" / "val_loss").unlink()
    (folder / "metrics" / "acc").unlink()
    (run,) = read_path(folder)
    assert losses(run) == [(0, 4.5), (1, 3.5), (2, 2.5)]
    assert "every step is 0" in notes(run)


SCHEMA = """
CREATE TABLE runs (run_uuid TEXT, name TEXT, status TEXT, start_time BIGINT, lifecycle_stage TEXT);
CREATE TABLE metrics (key TEXT, value FLOAT, timestamp BIGINT, run_uuid TEXT, is_nan BOOLEAN, step BIGINT);
CREATE TABLE latest_metrics (key TEXT);
CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT);
INSERT INTO runs VALUES ('b', 'second', 'FAILED', 1700000001000, 'active'),
  ('a', 'first', 'FINISHED', 1700000000000, 'active'), ('c', 'gone', 'FINISHED', 0, 'deleted');
INSERT INTO metrics VALUES ('loss', 4.5, 1700000001000, 'a', 0, 0), ('loss', 0.0, 1700000002000, 'a', 1, 10),
  ('val_loss', 3.75, 1700000002000, 'a', 0, 10), ('loss', 2.5, 1700000002000, 'b', 0, 0), ('loss', 'x', 1, 'a', 0, 0),
  ('loss', 9.5, 1, 'c', 0, 0);
INSERT INTO params VALUES ('lr', '0.001', 'a'), ('batch_size', '12', 'a');
"""


def database(path: Path, schema: str = SCHEMA) -> Path:
    connection = sqlite3.connect(path)
    connection.executescript(schema)
    connection.close()
    return path


def test_the_database_is_read_and_not_touched(tmp_path: Path) -> None:
    path = database(tmp_path / "mlflow.db")
    before = path.read_bytes()
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        first, second = read_path(path)
        assert sorted(tmp_path.iterdir()) == [path]
    finally:
        tmp_path.chmod(0o755)
    assert path.read_bytes() == before
    assert (losses(first), vals(first)) == ([(0, 4.5)], [(10, 3.75)])
    assert first.iters["why"].to_list() == [None, "loss is nan"]
    assert first.config == {"learning_rate": 0.001, "batch_size": 12}
    assert (first.name, first.status, first.damaged_lines) == ("first", "finished", 1)
    assert (second.name, second.status, losses(second)) == ("second", "failed", [(0, 2.5)])


def test_the_database_from_the_standard_input_and_in_a_folder(tmp_path: Path) -> None:
    path = database(tmp_path / "mlflow.db")
    assert READER.score(source(path.read_bytes(), "-").head()) == SURE
    assert [run.name for run in read(READER, path.read_bytes(), "-")] == ["first", "second"]
    assert [run.name for run in read_path(tmp_path)] == ["first", "second"]


def test_names_with_signs_of_uris(tmp_path: Path) -> None:
    (tmp_path / "a?mode=rwc#%41 b").mkdir()
    path = database(tmp_path / "a?mode=rwc#%41 b" / "mlflow.db")
    assert len(read_path(path)) == 2


def test_rows_in_a_write_ahead_log_are_missed_and_said_to_be(tmp_path: Path) -> None:
    path = database(tmp_path / "mlflow.db")
    (tmp_path / "mlflow.db-wal").write_bytes(b"x")
    assert "mlflow.db-wal" in notes(read_path(path)[0])


def test_views_in_the_place_of_tables_are_not_asked(tmp_path: Path) -> None:
    views = "CREATE TABLE runs (run_uuid TEXT); CREATE VIEW metrics AS SELECT 1; CREATE TABLE latest_metrics (a)"
    survives(READER, Source(path=database(tmp_path / "mlflow.db", views), name="mlflow.db"))
    assert READER.score(source(b"SQLite format 3\0" + bytes(100), "other.db").head()) == NO


@given(st.data())
def test_any_database(data: st.DataObject) -> None:
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA)
    raw = connection.serialize()
    connection.close()
    survives(READER, source(data.draw(damaged(raw) | st.binary(max_size=200)), "mlflow.db"))


def test_any_folder(tmp_path: Path) -> None:
    folder = store(tmp_path / "abc")
    (folder / "meta.yaml").write_bytes(b"\xff\0: [")
    (folder / "metrics" / "loop").symlink_to(folder)
    (folder / "metrics" / "b").write_bytes(bytes(range(256)) * 4)
    (folder / "params" / "x").write_bytes(b"\xff" * 100)
    given = Source(path=folder, name="x")
    survives(READER, given)
    assert not any("loop" in name for run in READER.read(given) for name in run.others["metric"])
