"""How a run computes: device, dtype, kernels, threads. Resolved from the config once, recorded, reused on resume."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Literal

import torch
from torch.utils import deterministic as torch_deterministic

from lossgap.config import TrainConfig
from lossgap.errors import ConfigError, warn
from lossgap.gpt import Attention
from lossgap.machine.compiler import compile_support
from lossgap.machine.device import resolve_dtype

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
FUSED_FROM = {"float32": 1, "bfloat16": 512, "float16": 512}
"""On a CPU, contexts shorter than this are faster in plain attention (benchmarks/attention.py)."""
MOST_THREADS = 1024
"""More than a machine can start end the process with a fault, and nobody has more cores in one."""


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """The choices that fix the bits of a run beside its recipe: runs equal in both, on one machine, are bit-equal."""

    device: str
    dtype: str
    tf32: bool
    compile: bool
    attention: Attention
    adamw: Literal["fused", "loop"]
    threads: int
    deterministic: bool
    cpu_capability: str

    @property
    def device_type(self) -> str:
        """cpu, cuda or mps."""
        return torch.device(self.device).type

    def autocast(self) -> AbstractContextManager[object]:
        """The context of a forward pass: autocast for bfloat16 and float16, nothing for float32."""
        if self.dtype == "float32":
            return nullcontext()
        return torch.autocast(self.device_type, dtype=DTYPES[self.dtype])

    def to_dict(self) -> dict[str, str | int | bool]:
        """JSON-safe."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Departure:
    """A setting that ran otherwise than asked, and why."""

    setting: str
    asked: object
    ran: object
    why: str


def resolve(
    config: TrainConfig, device: str, world_size: int, before: Mapping[str, object]
) -> tuple[Numerics, list[Departure]]:
    """Turn what `config` asks for into what this machine runs, and list each difference with its reason.

    `device` is the process's resolved device; `before` are the numerics of the checkpoint being resumed (or
    nothing): where `config` leaves the choice open, they win, because a resume must compute as the run did.
    Raises ConfigError, MachineError.
    """
    if config.threads > MOST_THREADS:
        raise ConfigError(
            "too-many-threads",
            f"--threads={config.threads}: at most {MOST_THREADS} can be started; take the number of cores, or 0 for "
            "torch's choice",
        )
    departures: list[Departure] = []
    device_type = torch.device(device).type
    dtype = _open_choice(config.dtype, before, "dtype", device_type, tuple(DTYPES))
    dtype = dtype or resolve_dtype(config.dtype, device).value
    compiled = config.compile
    if compiled:
        support = compile_support(device)
        if not support.value:
            compiled = False
            departures.append(Departure("compile", True, False, support.why))
    if config.tf32 and device_type != "cuda":
        departures.append(Departure("tf32", True, False, f"TF32 exists on CUDA only, the device is {device}"))
    numerics = Numerics(
        device=device,
        dtype=dtype,
        tf32=config.tf32 and device_type == "cuda",
        compile=compiled,
        attention=_attention(config, dtype, device_type, before),
        adamw=_adamw(config, device_type, before),
        threads=config.threads or _threads(before) or torch.get_num_threads(),
        deterministic=config.deterministic,
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
    )
    if config.attention == "fused" and training_attention(config, numerics) == "plain":
        why = "fused attention takes no mask from outside; --dropout_rng=device allows it, or --dropout=0"
        departures.append(Departure("attention", "fused", "plain in training, fused in evaluation", why))
    if config.rng == "nanogpt":
        _check_nanogpt(config, numerics, world_size)
    return numerics, departures


def warn_slow(numerics: Numerics) -> None:
    """Warn of a choice that makes a training many times as slow as another. Called once, where a training starts."""
    if numerics.dtype == "float16" and numerics.device_type == "cpu":
        warn(
            "float16-on-cpu",
            "few CPUs compute in float16, and the others take many times as long as in float32; --dtype=float32 is the "
            "usual choice there, --dtype=bfloat16 where the CPU has it",
        )


def training_attention(config: TrainConfig, numerics: Numerics) -> Attention:
    """The kernel that the updates run: plain where dropout has masks of ours, whatever evaluations run."""
    keyed = config.rng == "counter" and config.dropout_rng == "counter"
    return "plain" if config.dropout > 0 and keyed else numerics.attention


def _open_choice(
    asked: str, before: Mapping[str, object], name: str, device_type: str, known: tuple[str, ...]
) -> str | None:
    """The checkpoint's choice, if the config says auto, the kind of device is the same, and it is a known one."""
    chosen = str(before.get(name))
    same_device = str(before.get("device")).partition(":")[0] == device_type
    return chosen if asked == "auto" and same_device and chosen in known else None


def _threads(before: Mapping[str, object]) -> int:
    """The checkpoint's thread count, 0 where it tells none that a machine can have."""
    value = before.get("threads")
    return value if type(value) is int and 0 < value <= MOST_THREADS else 0


def _attention(config: TrainConfig, dtype: str, device_type: str, before: Mapping[str, object]) -> Attention:
    if config.attention != "auto":
        return config.attention
    if config.rng == "nanogpt":
        return "fused"
    chosen = _open_choice(config.attention, before, "attention", device_type, ("plain", "fused"))
    if chosen is not None:
        return "fused" if chosen == "fused" else "plain"
    return "plain" if device_type == "cpu" and config.block_size < FUSED_FROM[dtype] else "fused"


def _adamw(config: TrainConfig, device_type: str, before: Mapping[str, object]) -> Literal["fused", "loop"]:
    if config.adamw != "auto":
        return config.adamw
    if config.rng == "nanogpt":
        return "loop"
    chosen = _open_choice(config.adamw, before, "adamw", device_type, ("fused", "loop"))
    if chosen is not None:
        return "fused" if chosen == "fused" else "loop"
    return "fused" if device_type in ("cpu", "cuda") else "loop"


def _check_nanogpt(config: TrainConfig, numerics: Numerics, world_size: int) -> None:
    """`rng=nanogpt` reproduces nanoGPT on a CPU, and nothing else: refuse what would break the equality."""
    wanted = {
        "device": ("cpu", numerics.device),
        "dtype": ("float32", numerics.dtype),
        "compile": (False, config.compile),
        "attention": ("fused", numerics.attention),
        "adamw": ("loop", numerics.adamw),
        "nproc_per_node": (1, world_size),
        "eval_mode": ("sampled", config.eval_mode),
        "init_from": ("scratch", "scratch" if not config.init_from.startswith("gpt2") else config.init_from),
    }
    wrong = [f"--{name}={value}" for name, (value, found) in wanted.items() if found != value]
    if wrong:
        raise ConfigError(
            "nanogpt-rng-limits",
            "--rng=nanogpt reproduces nanoGPT in one process on a CPU, in float32, eager, with torch's own attention "
            f"and dropout; it needs {' '.join(wrong)}",
        )


def before_cuda(deterministic: bool, device: str) -> None:
    """To be called before the first product on a device: cuBLAS reads its workspace setting once, at its start.

    Without it, it is not deterministic, and torch refuses to compute.
    """
    if deterministic and device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def applied(numerics: Numerics) -> Iterator[None]:
    """Set torch's global switches for the time of the block, and put them back."""
    before = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch_deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]  # set by a module subclass
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
    )
    if numerics.compile:
        import_module("torch._inductor.config")  # so that the compiler, too, is told to be deterministic
    _switch(
        numerics.threads,
        numerics.deterministic,
        False,  # an algorithm that does not repeat is an error, not a warning
        False,  # filling memory with NaN guards against reading it unset; it costs a pass over every tensor
        numerics.tf32,
        numerics.tf32,
    )
    try:
        yield
    finally:
        _switch(*before)


def _switch(
    threads: int, deterministic: bool, warn_only: bool, fill: bool, matmul_tf32: bool, cudnn_tf32: bool
) -> None:
    torch.set_num_threads(threads)
    # Not use_deterministic_algorithms: that imports torch's compiler, seconds that a run without it must not wait for.
    torch.set_deterministic_debug_mode(("warn" if warn_only else "error") if deterministic else "default")
    if "torch._inductor" in sys.modules:
        import torch._inductor.config as inductor

        inductor.deterministic = deterministic
    torch_deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]  # as above
    torch.backends.cuda.matmul.allow_tf32 = matmul_tf32
    torch.backends.cudnn.allow_tf32 = cudnn_tf32
