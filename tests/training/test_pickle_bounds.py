"""A checkpoint's pickle is looked through before torch reads it: a small file must not cost much memory or time."""

from __future__ import annotations

import io
import pickle
import resource
import time
import zipfile
from pathlib import Path

import pytest
import torch

from lossgap.errors import CheckpointError
from lossgap.training import checkpoint, verification

BYTES_OF_NOTHING = b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."
"""`bytearray(2**31 - 1)`, which torch's `weights_only` carries out."""


def archive(path: Path, *pickles: bytes) -> Path:
    """A zip file as torch writes it, with these bytes as its pickle."""
    torch.save({"a": torch.zeros(3)}, path)
    with zipfile.ZipFile(path) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as made:
        for name, content in parts.items():
            made.writestr(name, pickles[0] if name.endswith("/data.pkl") else content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    assert caught.value.slug == "bad-checkpoint"
    assert str(caught.value).isprintable()
    assert checkpoint.iteration_of(path) is None
    return str(caught.value)


def peak() -> int:
    """The most memory that this process has had, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_bytes_of_nothing_are_never_made(tmp_path: Path) -> None:
    path = archive(tmp_path / "ckpt.pt", BYTES_OF_NOTHING)
    before = peak()
    assert "its pickle names 'builtins bytearray'" in refusal(path)
    assert peak() - before < 100 * 1024


@pytest.mark.parametrize("instruction", [b"0", b"K\x00", b"}"], ids=["pop", "number", "dict"])
def test_millions_of_instructions_are_not_waited_for(instruction: bytes, tmp_path: Path) -> None:
    path = archive(tmp_path / "ckpt.pt", b"\x80\x02" + instruction * 8_000_000 + b".")
    start = time.thread_time()
    assert "its pickle has more than 1,000,000 instructions" in refusal(path)
    assert time.thread_time() - start < 15


@pytest.mark.parametrize(
    "named", ["os system", "builtins set", "_codecs encode", "torch.storage _load_from_bytes", "torch Storagex"]
)
def test_a_name_that_no_tensor_needs(named: str, tmp_path: Path) -> None:
    module, name = named.split()
    path = archive(tmp_path / "ckpt.pt", f"\x80\x02c{module}\n{name}\n)R.".encode("latin-1"))
    assert f"its pickle names {named!r}" in refusal(path)


def test_a_name_from_the_stack(tmp_path: Path) -> None:
    path = archive(tmp_path / "ckpt.pt", pickle.dumps(pickle.Unpickler, protocol=4))
    assert "STACK_GLOBAL" in refusal(path)


def test_a_zip_file_behind_another_pickle(tmp_path: Path) -> None:
    """zipfile finds an archive at the end of any file; torch would read the pickle at its head."""
    whole = archive(tmp_path / "whole.pt", BYTES_OF_NOTHING).read_bytes()
    path = tmp_path / "ckpt.pt"
    path.write_bytes(BYTES_OF_NOTHING + whole)
    assert "does not begin as a zip file does" in refusal(path)


def test_parts_that_overlap(tmp_path: Path) -> None:
    """Many names for the same bytes: each of them would be read."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as made:
        made.writestr("archive/data.pkl", b"\x80\x02}." + bytes(10_000))
        made.filelist += made.filelist * 50
        made._didModify = True  # type: ignore[attr-defined]
    path = tmp_path / "ckpt.pt"
    path.write_bytes(packed.getvalue())
    assert "its parts overlap" in refusal(path)


def test_all_that_a_checkpoint_is_made_of_is_let_through(tmp_path: Path) -> None:
    state = {
        "tensors": [torch.zeros(2, dtype=dtype) for dtype in verification.DTYPES],
        "parameter": torch.nn.Parameter(torch.zeros(2)),
        "module": torch.nn.Linear(2, 2).state_dict(),
        "size": torch.Size([1, 2]),
        "plain": {"a": (1, 2.5, None, True, "text", [])},
    }
    torch.save(state, tmp_path / "a.pt")
    verification.check_archive(tmp_path / "a.pt", checksums=True)
