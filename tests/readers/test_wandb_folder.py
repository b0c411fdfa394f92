"""W&B folders: records framed by hand, a folder that wandb makes offline (if installed), files without records."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossgap.runs.readers.base import NO, SURE, Run, Source
from lossgap.runs.readers.formats.wandb_folder import READER
from lossgap.runs.readers.stores.wandb_records import BLOCK

from .hostile import damaged, losses, notes, read, sound, source, survives, vals
from .test_tensorboard import part

ID = "run-abc12345.wandb"


def chunk(kind: int, data: bytes) -> bytes:
    return struct.pack("<IHB", zlib.crc32(bytes([kind]) + data), len(data), kind) + data


def written(*records: bytes) -> bytes:
    """The records framed as LevelDB's log."""
    out = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
    for record in records:
        first = True
        while True:
            room = BLOCK - len(out) % BLOCK
            if room < 7:
                out += bytes(room)
                room = BLOCK
            piece, record = record[: room - 7], record[room - 7 :]
            out += chunk((1 if first else 4) if not record else (2 if first else 3), piece)
            first = False
            if not record:
                break
    return out


def item(key: str, value: object, *, nested: bool = False) -> bytes:
    names = b"".join(part(2, name) for name in key.split("/")) if nested else part(1, key)
    return part(1, names + part(16, json.dumps(value)))


def history(step: int, **values: object) -> bytes:
    items = b"".join(item(key.replace("__", "/"), value) for key, value in values.items())
    return part(2, items + part(2, part(1, step)))


RUN = part(17, part(1, "abc12345") + part(8, "tiny") + part(4, item("lr", 6e-4) + item("batch_size", 12)))
RECORDS = (
    RUN,
    history(0, train__loss=4.5, _runtime=1.5, _timestamp=1.7e9),
    history(1, train__loss=float("nan"), val__loss=4.25),
    history(2, train__loss=4.0, lr=1e-3, note="text"),
    part(18, part(1, 0)),
)


def test_every_row_of_the_records() -> None:
    data = written(*RECORDS)
    assert READER.score(source(data, ID).head()) == SURE
    (run,) = read(READER, data, ID)
    assert run.iters["iter"].to_list() == [0, 1, 2]
    assert losses(run) == [(0, 4.5), (2, 4.0)]
    assert run.iters["why"].to_list() == [None, "loss is nan", None]
    assert vals(run) == [(1, 4.25)]
    assert run.config == {"learning_rate": 6e-4, "batch_size": 12}
    assert (run.name, run.status) == ("tiny", "finished")
    assert run.iters["line"].to_list() == [2, 3, 4]


def test_a_counter_of_the_program_goes_before_the_count_of_calls() -> None:
    records = [history(at, iter=at * 10, loss=4.0 - at) for at in range(3)]
    (run,) = read(READER, written(*records), ID)
    assert losses(run) == [(0, 4.0), (10, 3.0), (20, 2.0)]
    assert run.others.is_empty()


def test_values_in_fields_of_their_own_and_nested_keys() -> None:
    number = part(1, part(1, "loss") + part(6, 2.5))
    count = part(1, part(1, "step") + part(5, 7))
    (run,) = read(READER, written(part(2, number + count + item("val/loss", 2.75, nested=True))), ID)
    assert (losses(run), vals(run)) == ([(7, 2.5)], [(7, 2.75)])


def test_records_over_several_blocks_and_damage_within() -> None:
    long = history(1, loss=3.0, blob="x" * (2 * BLOCK))
    data = written(history(0, loss=4.0), long, history(2, loss=2.0))
    (run,) = read(READER, data, ID)
    assert losses(run) == [(0, 4.0), (1, 3.0), (2, 2.0)]
    broken = bytearray(data)
    broken[BLOCK + 100] ^= 1
    (run,) = read(READER, bytes(broken), ID)
    assert losses(run) == [(0, 4.0), (2, 2.0)]
    assert run.damaged_lines == 1
    (run,) = read(READER, data[:-3], ID)
    assert losses(run) == [(0, 4.0), (1, 3.0)]
    assert run.damaged_lines == 1


CONFIG = (
    "wandb_version: 1\n_wandb:\n  desc: null\n  value:\n    cli_version: 0.14\nbatch_size:\n  desc: null\n  value: 8\n"
)


def folder(path: Path, *, log: str = "", records: bytes = b"") -> Path:
    files = path / "files"
    files.mkdir(parents=True)
    (files / "config.yaml").write_text(CONFIG)
    (files / "wandb-summary.json").write_text(
        '{"train_loss": 2.5, "val_loss": 2.75, "_step": 49, "_wandb": {"runtime": 2}}'
    )
    (files / "wandb-metadata.json").write_text('{"gpu": "NVIDIA A100", "email": "someone@example.org", "host": "x"}')
    if log:
        (files / "output.log").write_text(log)
    if records:
        (path / ID).write_bytes(records)
    return path


def read_folder(path: Path) -> list[Run]:
    given = Source(path=path, name=path.name)
    assert READER.score(given.head()) > 0.5
    runs = READER.read(given)
    sound(runs)
    return runs


def test_without_records_the_summary_is_all_there_is(tmp_path: Path) -> None:
    (run,) = read_folder(folder(tmp_path / "run-1", log="hello\n"))
    assert (losses(run), vals(run)) == ([(49, 2.5)], [(49, 2.75)])
    assert "summary only" in notes(run)
    assert run.config == {"batch_size": 8}
    assert run.device == "NVIDIA A100"
    assert "someone" not in repr(run)


def test_with_records_the_files_add_what_they_lack(tmp_path: Path) -> None:
    (run,) = read_folder(folder(tmp_path / "run-1", records=written(*RECORDS)))
    assert losses(run) == [(0, 4.5), (2, 4.0)]
    assert run.config == {"learning_rate": 6e-4, "batch_size": 12}
    assert run.device == "NVIDIA A100"
    assert "summary only" not in notes(run)


def test_the_printed_log_is_read_with_its_own_format(tmp_path: Path) -> None:
    log = "Ep 1 (Step 000000): Train loss 9.781, Val loss 9.933\nEp 1 (Step 000005): Train loss 8.111, Val loss 8.339\n"
    (run,) = read_folder(folder(tmp_path / "run-1", log=log))
    assert run.format == "llms-from-scratch"
    assert vals(run) == [(0, 9.933), (5, 8.339)]
    assert run.config == {"batch_size": 8}
    assert "read from output.log" in notes(run)


def test_a_folder_of_runs(tmp_path: Path) -> None:
    for name in ("run-20260101_000000-aaaa1111", "offline-run-20260101_000001-bbbb2222"):
        folder(tmp_path / name, records=written(*RECORDS))
    (tmp_path / "latest-run").symlink_to("run-20260101_000000-aaaa1111")
    runs = read_folder(tmp_path)
    assert [run.number for run in runs] == [1, 2]


def test_what_is_not_wandb(tmp_path: Path) -> None:
    assert READER.score(Source(path=tmp_path, name="x").head()) == NO
    assert READER.score(source("hello\n").head()) == NO


OFFLINE = """
import sys, wandb
run = wandb.init(project="demo", name="tiny", dir=sys.argv[1], config={"batch_size": 12, "model": {"n_layer": 4}})
for at in range(0, 101, 10):
    row = {"iter": at, "train/loss": 4.0 - at / 64}
    if at % 50 == 0:
        row["val/loss"] = 4.25 - at / 64
    run.log(row)
run.finish()
"""


@pytest.mark.skipif(find_spec("wandb") is None, reason="needs the extra lossgap[wandb]")
def test_a_folder_that_wandb_made_offline(tmp_path: Path) -> None:
    environment = os.environ | {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", OFFLINE, str(tmp_path)], check=True, env=environment, timeout=120)
    (run,) = read_folder(tmp_path / "wandb")
    assert losses(run) == [(at, 4.0 - at / 64) for at in range(0, 101, 10)]
    assert vals(run) == [(at, 4.25 - at / 64) for at in (0, 50, 100)]
    assert run.config == {"batch_size": 12, "n_layer": 4}
    assert (run.name, run.status, run.damaged_lines) == ("tiny", "finished", 0)


@given(
    damaged(written(*RECORDS))
    | st.binary(max_size=200)
    | st.lists(st.binary(max_size=40)).map(lambda all: written(*all))
)
def test_any_bytes(data: bytes) -> None:
    survives(READER, source(data, ID))


def test_any_folder(tmp_path: Path) -> None:
    path = folder(tmp_path / "run-1", records=b":W&B")
    (path / "files" / "wandb-summary.json").write_text("[" * 100_000)
    (path / "files" / "config.yaml").write_bytes(b"\xff\xfe\0" * 100)
    (path / "files" / "wandb-metadata.json").unlink()
    (path / "files" / "wandb-metadata.json").mkdir()
    survives(READER, Source(path=path, name="x"))
