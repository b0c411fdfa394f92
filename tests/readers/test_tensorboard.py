"""TensorBoard event files: framed by hand, and by TensorBoard's own writer where that is installed."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossgap.runs.readers.base import NO, SURE, Run, Source
from lossgap.runs.readers.formats.tensorboard import READER
from lossgap.runs.readers.stores.tfrecord import MAX_RECORD, masked_crc

from .hostile import damaged, losses, notes, read, sound, source, survives, vals

NAME = "events.out.tfevents.1700000000.host.1.0"


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def part(number: int, data: bytes | str | int | float) -> bytes:
    """A field: text and bytes with a length, ints as varints, floats as doubles."""
    if isinstance(data, int):
        return varint(number << 3) + varint(data)
    if isinstance(data, float):
        return varint(number << 3 | 1) + struct.pack("<d", data)
    raw = data.encode() if isinstance(data, str) else data
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def frame(data: bytes) -> bytes:
    head = struct.pack("<Q", len(data))
    return head + struct.pack("<I", masked_crc(head)) + data + struct.pack("<I", masked_crc(data))


def scalar(tag: str, value: float) -> bytes:
    return part(1, part(1, tag) + varint(2 << 3 | 5) + struct.pack("<f", value))


def event(step: int, *values: bytes, wall: float = 1700000000.0) -> bytes:
    return frame(part(1, wall + step) + part(2, step) + part(5, b"".join(values)))


VERSION = frame(part(1, 1700000000.0) + part(3, "brain.Event:2"))
FILE = VERSION + b"".join(event(step, scalar("train_loss", 4 - step / 8), scalar("lr", 0.5)) for step in (1, 2, 3))


def read_folder(folder: Path) -> list[Run]:
    given = Source(path=folder, name=folder.name)
    assert READER.score(given.head()) > 0.5
    runs = READER.read(given)
    sound(runs)
    return runs


def test_the_checksum_is_crc32c() -> None:
    # RFC 3720, appendix B.4: CRC-32C of 32 zero bytes is 0x8A9136AA, and of 0 to 31 0x46DD794E.
    for data, crc in ((bytes(32), 0x8A9136AA), (bytes(range(32)), 0x46DD794E)):
        assert masked_crc(data) == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_scalars_with_their_steps_and_seconds() -> None:
    assert READER.score(source(FILE, "anything").head()) == SURE
    (run,) = read(READER, FILE, NAME)
    assert losses(run) == [(1, 3.875), (2, 3.75), (3, 3.625)]
    assert run.iters["lr"].to_list() == [0.5] * 3
    assert run.iters["seconds"].to_list() == [1.0, 2.0, 3.0]
    assert run.iters["line"].to_list() == [2, 3, 4]


def test_a_float_is_shown_in_full() -> None:
    (run,) = read(READER, VERSION + event(1, scalar("loss", 0.1)), NAME)
    assert losses(run) == [(1, struct.unpack("<f", struct.pack("<f", 0.1))[0])]


def test_tensor_scalars_of_every_kind() -> None:
    shape = part(2, b"")
    tensors = {
        "a": part(1, 1) + shape + part(4, struct.pack("<f", 2.5)),
        "b": part(1, 1) + shape + part(5, struct.pack("<f", 2.25)),
        "c": part(1, 2) + shape + part(6, struct.pack("<d", 2.125)),
        "d": part(1, 9) + shape + part(10, varint(-7)),
        "e": part(1, 3) + shape + part(7, 12),
        "vector": part(1, 1) + part(2, part(2, part(1, 2))) + part(4, struct.pack("<2f", 1, 2)),
        "constant": part(1, 1) + part(2, part(2, part(1, 2))) + part(5, struct.pack("<f", 2.0)),
        "text": part(1, 7) + shape + part(8, "hello"),
    }
    values = [part(1, part(1, tag) + part(8, tensor)) for tag, tensor in tensors.items()]
    (run,) = read(READER, VERSION + event(1, *values), NAME)
    assert dict(zip(run.others["metric"], run.others["value"], strict=True)) == {
        "a": 2.5,
        "b": 2.25,
        "c": 2.125,
        "d": -7.0,
        "e": 12.0,
    }


def test_a_torn_last_record_costs_that_record() -> None:
    for cut in (1, 5, 20):
        (run,) = read(READER, FILE[:-cut], NAME)
        assert losses(run) == [(1, 3.875), (2, 3.75)]
        assert run.damaged_lines == 1


def test_a_damaged_record_costs_that_record() -> None:
    data = bytearray(FILE)
    data[len(VERSION) + 20] ^= 1  # in the data of the second record
    (run,) = read(READER, bytes(data), NAME)
    assert losses(run) == [(2, 3.75), (3, 3.625)]
    data = bytearray(FILE)
    data[len(VERSION)] ^= 1  # in its length: the next record is found again
    (run,) = read(READER, bytes(data), NAME)
    assert losses(run) == [(2, 3.75), (3, 3.625)]
    assert run.damaged_lines == 1


def test_large_records_are_passed_over() -> None:
    large = frame(part(1, 1700000000.0) + part(4, bytes(MAX_RECORD)))
    (run,) = read(READER, VERSION + large + FILE[len(VERSION) :], NAME)
    assert len(losses(run)) == 3
    assert run.damaged_lines == 0


def test_a_pointer_of_git_lfs_is_said_to_be_one() -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 124479\n"
    assert READER.score(source(pointer, NAME).head()) > 0.5
    (run,) = read(READER, pointer, NAME)
    assert "git lfs pull" in notes(run)
    assert run.not_understood.count == 1


def test_files_of_one_folder_are_one_run_and_the_newest_counts(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(FILE)
    later = VERSION + b"".join(event(step, scalar("train_loss", 1.0)) for step in (3, 4))
    (tmp_path / "events.out.tfevents.1700000099.host.1.0").write_bytes(later)
    (run,) = read_folder(tmp_path)
    assert losses(run) == [(1, 3.875), (2, 3.75), (3, 1.0), (4, 1.0)]
    assert "1 older points left out" in notes(run)


def test_a_start_takes_back_what_was_written_from_there() -> None:
    start = frame(part(1, 1700000009.0) + part(2, 2) + part(7, part(1, 1)))
    (run,) = read(READER, FILE + start + event(5, scalar("train_loss", 1.0)), NAME)
    assert losses(run) == [(1, 3.875), (5, 1.0)]
    assert "taken back" in notes(run)


def test_folders_are_runs_but_train_and_validation_are_parts_of_one(tmp_path: Path) -> None:
    for folder, tag, value in (
        ("one/train", "epoch_loss", 2.5),
        ("one/validation", "epoch_loss", 2.75),
        ("two", "loss", 3.5),
    ):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / NAME).write_bytes(VERSION + event(1, scalar(tag, value)))
    runs = read_folder(tmp_path)
    assert [(run.name, losses(run), vals(run)) for run in runs] == [
        ("one", [(1, 2.5)], [(1, 2.75)]),
        ("two", [(1, 3.5)], []),
    ]
    assert runs[0].series["iters.loss"].kind == "interval-mean"


def test_hyperparameters_are_settings(tmp_path: Path) -> None:
    def entry(name: str, value: bytes) -> bytes:
        return part(1, part(1, name) + part(2, value))

    info = (
        entry("lr", part(2, 0.5))
        + entry("n_layer", part(2, 4.0))
        + entry("opt", part(3, "adam"))
        + entry("ok", part(4, 1))
    )
    metadata = part(1, part(1, "hparams") + part(2, part(3, info)))
    hparams = part(1, part(1, "_hparams_/session_start_info") + part(9, metadata))
    (tmp_path / NAME).write_bytes(VERSION + event(0, hparams) + event(1, scalar("loss", 2.5)))
    (tmp_path / "hparams.yaml").write_text("lr: 0.25\nblock_size: 8\n")
    (run,) = read_folder(tmp_path)
    assert run.config == {"learning_rate": 0.5, "block_size": 8, "n_layer": 4, "opt": "adam", "ok": True}


def test_hostile_messages() -> None:
    for message in (b"\xff" * 30, part(5, b"\x0a\xff\xff\xff\xff\x0f"), part(5, part(1, b"\x0b")), part(1, "short")):
        (run,) = read(READER, VERSION + frame(message) + FILE[len(VERSION) :], NAME)
        assert len(losses(run)) == 3
    endless = struct.pack("<Q", 1 << 33)
    assert READER.read(source(VERSION + endless + struct.pack("<I", masked_crc(endless)), NAME))[0].damaged_lines == 1
    assert READER.score(source(b"\0" * 40, "x").head()) == NO


def test_what_tensorboard_itself_writes(tmp_path: Path) -> None:
    writer = pytest.importorskip("tensorboard.summary.writer.event_file_writer")
    event_pb2 = pytest.importorskip("tensorboard.compat.proto.event_pb2")
    summary_pb2 = pytest.importorskip("tensorboard.compat.proto.summary_pb2")
    out = writer.EventFileWriter(str(tmp_path))
    for step in range(50):
        value = summary_pb2.Summary.Value(tag="Loss/train", simple_value=4.0 - step / 16)
        out.add_event(event_pb2.Event(wall_time=1e9 + step, step=step, summary=summary_pb2.Summary(value=[value])))
    out.close()
    (run,) = read_folder(tmp_path)
    assert losses(run) == [(step, 4.0 - step / 16) for step in range(50)]
    assert run.damaged_lines == 0


@given(damaged(FILE) | st.binary(max_size=200) | st.binary(max_size=60).map(lambda data: VERSION + frame(data)))
def test_any_bytes(data: bytes) -> None:
    survives(READER, source(data, NAME))


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_any_message(one: bytes, other: bytes) -> None:
    data = VERSION + event(1, part(1, one), one) + event(2, part(1, part(1, "a") + part(8, other) + part(9, one)))
    survives(READER, source(data, NAME))


def test_any_folder() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / NAME).mkdir()
        (folder / "tfevents.sock").symlink_to("/nonexistent")
        (folder / "events.out.tfevents.2").write_bytes(b"")
        survives(READER, Source(path=folder, name="x"))
