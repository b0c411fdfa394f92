"""The memory of a device: how much it has in all, and how much is free for a training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup/memory.max")
"""The limit of a container on Linux; `max` where there is none."""


@dataclass(frozen=True)
class Memory:
    """Bytes of a device; what can be had now, and what it has at all."""

    free: float
    total: float


def memory_of(device: str) -> Memory | None:
    """The memory of a resolved `device`; None for MPS, which shares the system's in a way of its own.

    Imports torch for CUDA.
    """
    if device.startswith("cuda"):
        import torch

        free, total = torch.cuda.mem_get_info(device)
        return Memory(float(free), float(total))
    if device != "cpu":
        return None
    system = psutil.virtual_memory()
    most = min(float(system.total), _container())
    return Memory(min(float(system.available), most), most)


def _container() -> float:
    """The limit that a container sets, infinite without one."""
    try:
        return float(CGROUP.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return float("inf")
