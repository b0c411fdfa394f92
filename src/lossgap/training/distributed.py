"""One training over several processes: torchrun's environment, the process group, each one's share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

from lossgap.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """A process's part of every global batch of batch_size * gradient_accumulation_steps sequences.

    The parts are equal and contiguous. A part is cut into `micro_steps` micro-batches of `micro_batch`
    sequences, at most `batch_size` each.
    """

    rank: int
    world_size: int
    micro_batch: int
    micro_steps: int

    def sequences(self, micro_step: int) -> range:
        """Indices into the global batch of this process's micro-batch."""
        first = (self.rank * self.micro_steps + micro_step) * self.micro_batch
        return range(first, first + self.micro_batch)


def share(rank: int, world_size: int, batch_size: int, gradient_accumulation_steps: int) -> Share:
    """Divide the global batch among `world_size` processes.

    Raises ConfigError where it does not divide. Where the accumulation steps do not divide either, a
    micro-batch is split: into the largest equal pieces of at most `batch_size`.
    """
    total = batch_size * gradient_accumulation_steps
    if total % world_size:
        raise ConfigError(
            "batch-not-divisible",
            f"the global batch of batch_size * gradient_accumulation_steps = {total} sequences does not divide into "
            f"{world_size} equal parts; choose a product that is a multiple of {world_size}, or another number of "
            "processes",
        )
    part = total // world_size
    micro_batch = next(size for size in range(min(batch_size, part), 0, -1) if part % size == 0)
    return Share(rank, world_size, micro_batch, part // micro_batch)


def launched() -> bool:
    """Whether torchrun started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextmanager
def process_group(backend: str, device: str) -> Iterator[tuple[int, int, str]]:
    """Join torchrun's process group for the time of the block: (rank, world size, this process's device).

    Without torchrun: (0, 1, device). Small decisions (stop now?) travel over gloo on every device.
    """
    if not launched():
        yield 0, 1, device
        return
    if device.startswith("cuda"):
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    if backend == "auto":
        backend = "nccl" if device.startswith("cuda") else "gloo"
    dist.init_process_group("cpu:gloo,cuda:nccl" if backend == "nccl" else backend)
    try:
        yield dist.get_rank(), dist.get_world_size(), device
    finally:
        dist.destroy_process_group()


def any_process(flag: int) -> int:
    """The largest `flag` of all processes, so that all of them take the same decision."""
    if not dist.is_initialized():
        return flag
    tensor = torch.tensor([flag])
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return int(tensor.item())


def mean_over_processes(values: torch.Tensor) -> torch.Tensor:
    """Element-wise mean of `values` over the processes; every process gets it."""
    if not dist.is_initialized():
        return values
    dist.all_reduce(values, op=dist.ReduceOp.SUM)
    return values / dist.get_world_size()


def position() -> tuple[int, int]:
    """This process's rank and the number of processes."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def interleaved(mine: list[T]) -> list[T]:
    """The whole list of which each process holds every world-size-th item, from its rank on."""
    if not dist.is_initialized():
        return mine
    parts: list[list[T]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, mine)
    whole = []
    for index in range(sum(map(len, parts))):
        place, rank = divmod(index, len(parts))
        whole.append(parts[rank][place])
    return whole


def barrier() -> None:
    """Wait for all processes."""
    if dist.is_initialized():
        dist.barrier()
