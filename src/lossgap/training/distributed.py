"""One training over several processes: torchrun's environment, the process group, each one's share."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from lossgap.errors import ConfigError, LossgapError, MachineError, TrainingError

T = TypeVar("T")
_LOST = re.compile(r"Connection (closed|reset) by|[Gg]loo|NCCL|Broken pipe")
"""Matches torch's message when a process of the group has ended."""


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
    """True if torchrun started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def rank() -> int:
    """This process's rank as torchrun set it, before the processes meet; 0 without torchrun."""
    return int(os.environ["RANK"]) if launched() else 0


@contextmanager
def process_group(backend: str, device: str) -> Iterator[tuple[int, int, str]]:
    """Join torchrun's process group for the time of the block: (rank, world size, this process's device).

    Without torchrun: (0, 1, device). Small decisions (stop now?) travel over gloo on every device. Errors are told as
    `one_voice` does. Raises ConfigError (`process-group`, `backend-unusable`), MachineError (`too-few-gpus`),
    TrainingError (`process-lost`).
    """
    try:
        with one_voice() as met:
            if met is None:
                yield 0, 1, device
                return
            store, rank, world_size = met
            device = _own_device(device)
            dist.init_process_group(_process_backend(backend, device), store=store, rank=rank, world_size=world_size)
            yield rank, world_size, device
    finally:  # after the error was told: leaving the group is what the others notice
        if dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def one_voice() -> Iterator[tuple[Store, int, int] | None]:
    """Among several processes, let the first that meets an error in the block raise it; the others raise SystemExit.

    Where a process waits for one that has ended, that is an error, too. Gives torchrun's store, this process's rank
    and the number of processes; None without torchrun. Raises ConfigError (`process-group`), TrainingError
    (`process-lost`).
    """
    if not launched():
        yield None
        return
    store, rank, world_size = _meet()
    try:
        yield store, rank, world_size
    except LossgapError as error:
        if not _first_to_tell(store):
            raise SystemExit(error.exit_code) from None
        raise
    except RuntimeError as error:
        if not _LOST.search(str(error)):
            raise
        if not _first_to_tell(store):
            raise SystemExit(1) from None
        raise TrainingError(
            "process-lost",
            f"process {rank} of {world_size} waited for another one, which has ended: it was killed (out of memory?) "
            "or says why itself; go on from the last checkpoint with --init_from=resume",
        ) from error


def _meet() -> tuple[Store, int, int]:
    """torchrun's store, this process's rank and the number of processes. The store outlives the processes."""
    try:
        store, rank, world_size = next(rendezvous("env://"))
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise ConfigError(
            "process-group",
            f"RANK and WORLD_SIZE are set, but the processes do not meet: {reason}; start them with torchrun, or unset "
            "both to train in one process",
        ) from error
    return store, rank, world_size


def _own_device(device: str) -> str:
    """The device of this process: on CUDA one GPU each, by torchrun's LOCAL_RANK."""
    if device == "mps":
        raise ConfigError(
            "backend-unusable",
            "--device=mps: torch has no process group on MPS; train in one process, or on several with --device=cpu",
        )
    if not device.startswith("cuda"):
        return device
    index, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if index >= count:
        raise MachineError(
            "too-few-gpus",
            f"process {index} of this machine has no GPU of its own: torch finds {count}; start at most "
            f"--nproc_per_node={count}, or use --device=cpu",
        )
    torch.cuda.set_device(index)
    return f"cuda:{index}"


def _process_backend(backend: str, device: str) -> str:
    """The backend, `auto` resolved. nccl takes only CUDA tensors; the small decisions beside it go over gloo."""
    if backend == "gloo" or (backend == "auto" and not device.startswith("cuda")):
        return "gloo"
    if not device.startswith("cuda"):
        raise ConfigError(
            "backend-unusable",
            f"--backend={backend}: nccl works on CUDA only, the device is {device}; take --backend=gloo",
        )
    return "cpu:gloo,cuda:nccl"


def _first_to_tell(store: Store) -> bool:
    """True if no other process has reported an error yet."""
    try:
        return int(store.add("lossgap/told", 1)) == 1
    except RuntimeError:  # the process that held the store has ended
        return True


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
    any_process(0)
