"""Devices and dtypes: what `auto` takes, what is refused and how that is said."""

from __future__ import annotations

import pytest
import torch

from lossgap.errors import MachineError
from lossgap.machine import Accelerators, accelerators, resolve_device, resolve_dtype

NOTHING = Accelerators(0, False, "no driver here", "no Apple GPU here")
TWO_GPUS = Accelerators(2, False, "", "no Apple GPU here")
APPLE = Accelerators(0, True, "no driver here", "")


@pytest.mark.parametrize(
    ("asked", "found", "expected"),
    [
        ("auto", NOTHING, "cpu"),
        ("auto", APPLE, "mps"),
        ("auto", TWO_GPUS, "cuda"),
        ("auto", Accelerators(1, True), "cuda"),
        ("cpu", TWO_GPUS, "cpu"),
        ("cuda", TWO_GPUS, "cuda"),
        ("cuda:1", TWO_GPUS, "cuda:1"),
        ("mps", APPLE, "mps"),
    ],
)
def test_device(asked: str, found: Accelerators, expected: str) -> None:
    choice = resolve_device(asked, found)
    assert choice.value == expected
    assert choice.why
    assert "\n" not in choice.why


def test_auto_on_a_cpu_says_why_there_is_no_gpu() -> None:
    why = resolve_device("auto", NOTHING).why
    assert "no driver here" in why
    assert "no Apple GPU here" in why


@pytest.mark.parametrize(
    ("asked", "found", "slug", "words"),
    [
        ("cuda", NOTHING, "no-cuda", ["'cuda'", "no driver here", "--device=cpu"]),
        ("cuda:0", APPLE, "no-cuda", ["'cuda:0'", "no driver here"]),
        ("cuda:2", TWO_GPUS, "no-cuda", ["'cuda:2'", "cuda:0 to cuda:1"]),
        ("mps", TWO_GPUS, "no-mps", ["'mps'", "no Apple GPU here", "--device=cpu"]),
        ("cdua", NOTHING, "unknown-device", ["'cdua'", "did you mean cuda"]),
        ("CPU", NOTHING, "unknown-device", ["did you mean cpu"]),
        ("cuda:", TWO_GPUS, "unknown-device", ["'cuda:'"]),
        ("cuda:-1", TWO_GPUS, "unknown-device", ["'cuda:-1'"]),
        ("cuda:01", TWO_GPUS, "unknown-device", ["'cuda:01'"]),
        ("cpu\n", NOTHING, "unknown-device", [r"'cpu\n'"]),
        ("", NOTHING, "unknown-device", ["auto, cpu, cuda, mps"]),
    ],
)
def test_refused_device(asked: str, found: Accelerators, slug: str, words: list[str]) -> None:
    with pytest.raises(MachineError) as caught:
        resolve_device(asked, found)
    assert caught.value.slug == slug
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_this_machine() -> None:
    found = accelerators()
    assert found.cuda_count == (torch.cuda.device_count() if torch.cuda.is_available() else 0)
    assert found.mps == torch.backends.mps.is_available()
    # A reason stands exactly where something is missing.
    assert bool(found.cuda_reason) == (found.cuda_count == 0)
    assert bool(found.mps_reason) == (not found.mps)
    torch.zeros(1, device=resolve_device("auto").value)


@pytest.mark.parametrize(
    ("asked", "device", "bf16", "expected"),
    [
        ("auto", "cpu", None, "float32"),
        ("auto", "mps", None, "float32"),
        ("auto", "cuda", True, "bfloat16"),
        ("auto", "cuda:1", False, "float16"),
        ("float16", "cpu", None, "float16"),
        ("float32", "cuda", True, "float32"),
        ("bfloat16", "cuda", False, "bfloat16"),
    ],
)
def test_dtype(asked: str, device: str, bf16: bool | None, expected: str) -> None:
    choice = resolve_dtype(asked, device, bf16)
    assert choice.value == expected
    assert isinstance(getattr(torch, choice.value), torch.dtype)
    assert choice.why


def test_unknown_dtype_names_the_nearest() -> None:
    with pytest.raises(MachineError, match="did you mean bfloat16") as caught:
        resolve_dtype("bf16loat", "cpu")
    assert caught.value.slug == "unknown-dtype"
