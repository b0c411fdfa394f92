"""Which device and which dtype a run uses, and why.

Names are torch's: `cpu`, `cuda`, `cuda:1`, `mps`, and `auto`. torch is imported only when a device is
really looked for.
"""

from __future__ import annotations

import difflib
import re
import warnings
from dataclasses import dataclass

from lossgap.errors import MachineError
from lossgap.machine.choice import Choice

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Accelerators:
    """The accelerators that torch can use on this machine.

    `cuda_count`: usable CUDA (or ROCm) devices. `mps`: whether Apple's GPU is usable. `cuda_reason` and
    `mps_reason`: one clause that says why there is none, empty where there is one.
    """

    cuda_count: int
    mps: bool
    cuda_reason: str = ""
    mps_reason: str = ""


def accelerators() -> Accelerators:
    """Ask torch what it can use here; a driver's complaint becomes the reason, not a warning."""
    import torch

    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cuda_reason = ""
    if not count:
        if torch.version.cuda is None and torch.version.hip is None:
            cuda_reason = f"torch {torch.__version__} is built without CUDA"
        elif complaints:
            cuda_reason = str(complaints[0].message).strip().splitlines()[0]
        else:
            cuda_reason = "torch finds no CUDA driver or no GPU"
    mps = torch.backends.mps.is_available()
    mps_reason = ""
    if not mps:
        built = torch.backends.mps.is_built()
        mps_reason = "torch finds no Apple GPU" if built else f"torch {torch.__version__} is built without MPS"
    return Accelerators(count, mps, cuda_reason, mps_reason)


def resolve_device(asked: str, found: Accelerators | None = None) -> Choice[str]:
    """The torch device for a run: `auto` takes CUDA, then MPS, then the CPU.

    `found` replaces the look at this machine. Raises MachineError `unknown-device` for a name that is not a
    device, `no-cuda` or `no-mps` for one that is not here: a device that was asked for is never replaced.
    """
    kind, index = _parse(asked)
    if kind == "cpu":
        return Choice("cpu", "as asked")
    have = found if found is not None else accelerators()
    if kind == "auto":
        if have.cuda_count:
            return Choice("cuda", "auto: torch finds a CUDA device")
        if have.mps:
            return Choice("mps", "auto: no CUDA device, torch finds an Apple GPU")
        return Choice("cpu", f"auto: {have.cuda_reason or 'no CUDA device'}; {have.mps_reason or 'no Apple GPU'}")
    if kind == "mps":
        if not have.mps:
            raise MachineError("no-mps", _absent(asked, have.mps_reason or "torch finds no Apple GPU"))
        return Choice("mps", "as asked")
    if not have.cuda_count:
        raise MachineError("no-cuda", _absent(asked, have.cuda_reason or "torch finds no CUDA device"))
    if index is not None and index >= have.cuda_count:
        known = f"cuda:0 to cuda:{have.cuda_count - 1}" if have.cuda_count > 1 else "cuda:0"
        raise MachineError("no-cuda", f"device={asked!r}: there is no such GPU; here are {known}")
    return Choice(asked, "as asked")


def _parse(asked: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"cuda:(0|[1-9][0-9]{0,2})", asked)
    if match:
        return "cuda", int(match.group(1))
    if asked in DEVICES:
        return asked, None
    raise MachineError("unknown-device", _unknown("device", asked, (*DEVICES, "cuda:0")))


def _absent(asked: str, reason: str) -> str:
    return f"device={asked!r} is not usable here: {reason}; use --device=auto or --device=cpu"


def _unknown(key: str, asked: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(asked.lower(), known, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else ""
    return f"{key}={asked!r} is not one of {', '.join(known)}" + (f"; {hint}" if hint else "")


def resolve_dtype(asked: str, device: str, bf16: bool | None = None) -> Choice[str]:
    """The dtype of a run on `device` (a resolved name): `float32`, `bfloat16` or `float16`.

    `auto` is float32 on a CPU and on MPS; on CUDA it is nanoGPT's default, bfloat16 where the GPU has it in
    hardware and float16 elsewhere. An explicit dtype stays. `bf16` replaces the question to the GPU.
    Raises MachineError `unknown-dtype`.
    """
    if asked not in DTYPES:
        raise MachineError("unknown-dtype", _unknown("dtype", asked, DTYPES))
    if asked != "auto":
        return Choice(asked, "as asked")
    if not device.startswith("cuda"):
        return Choice("float32", f"auto: float32 on {device}")
    if bf16 if bf16 is not None else _has_bf16(device):
        return Choice("bfloat16", "auto: nanoGPT's default on a GPU with bfloat16 in hardware")
    return Choice("float16", "auto: nanoGPT's default on a GPU without bfloat16 in hardware")


def _has_bf16(device: str) -> bool:
    import torch

    # Emulated bfloat16 does not count: torch 2.4 and newer report it as supported, when nanoGPT was written
    # torch did not, and on such a GPU it is slower than float32.
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
