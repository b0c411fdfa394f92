"""The peak FLOP/s of a device and dtype, the denominator of MFU: from a sourced table, or measured on a CPU.

A peak is dense (no sparsity) and counts a multiply-add as two operations, as nanoGPT's 6N + 12LHQT does.
A device that is not in the table has no peak and no MFU. A peak measured on a CPU is what one large matrix
product reaches there, so MFU relative to it says how much of the reachable speed a training uses.
"""

from __future__ import annotations

import functools
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossgap.machine.peak_table import CARDS, Card

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Peak:
    """`flops`: FLOP/s, None where unknown. `source`: one line that says where the number is from, or why none is."""

    flops: float | None
    source: str


def peak_flops(device_name: str, dtype: str, tf32: bool, multiprocessors: int | None = None) -> Peak:
    """The dense peak of the GPU that the driver calls `device_name`, for `float32`, `bfloat16` or `float16`.

    Names must match a table row exactly but for case, spaces and the words NVIDIA and Tesla in front:
    a laptop, a partitioned (MIG) or a cut-down GPU has another name and no peak here. `multiprocessors`
    (torch's multi_processor_count) must agree with the row where given; it is needed where two GPUs share a name.
    `tf32`: whether float32 products may use TF32; a GPU without TF32 runs them in float32 either way.
    """
    card = _BY_NAME.get(_normal(device_name))
    if card is None:
        return Peak(None, f"no peak FLOP/s known for {device_name}")
    if multiprocessors is None and card.shared_name:
        return Peak(None, f"{device_name} names more than one GPU and the number of multiprocessors is not known")
    if multiprocessors is not None and multiprocessors != card.multiprocessors:
        return Peak(
            None, f"this {device_name} has {multiprocessors} multiprocessors, the one known has {card.multiprocessors}"
        )
    kind, teraflops = _rate(card, dtype, tf32)
    if teraflops is None:
        return Peak(None, f"no {kind} peak known for {device_name}")
    return Peak(teraflops * 1e12, f"{device_name}, {kind} dense, {card.document}")


def _rate(card: Card, dtype: str, tf32: bool) -> tuple[str, float | None]:
    if dtype == "bfloat16":
        return "bfloat16", card.bfloat16
    if dtype == "float16":
        return "float16", card.float16
    if dtype == "float32" and tf32 and card.tf32 is not None:
        return "TF32", card.tf32
    return dtype, card.float32 if dtype == "float32" else None


def _normal(name: str) -> str:
    words = re.sub(r"\s+", " ", name.strip()).lower()
    return re.sub(r"^(nvidia )?(tesla )?", "", words)


_BY_NAME = {_normal(name): card for card in CARDS for name in card.names}


def device_peak(device: str, dtype: str, tf32: bool, threads: int) -> Peak:
    """The peak of a resolved `device`: the table for CUDA, a measurement for a CPU with `threads`, unknown for MPS.

    Imports torch; on a CPU it computes for about a quarter of a second, once per process.
    """
    if device.startswith("cuda"):
        import torch

        properties = torch.cuda.get_device_properties(device)
        return peak_flops(properties.name, dtype, tf32, properties.multi_processor_count)
    if device == "cpu":
        return measured_cpu_peak(dtype, threads)
    return Peak(None, f"no peak FLOP/s known for {device}: no vendor figure by dtype for Apple's GPUs is in the table")


@functools.cache
def measured_cpu_peak(dtype: str, threads: int) -> Peak:
    """The best of repeated square matrix products in `dtype` on `threads` threads, about 0.25 s in all.

    Draws no random numbers, and puts torch's thread count back.
    """
    import torch

    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in kinds:
        return Peak(None, f"no product measured for {dtype}")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        end = time.perf_counter() + 0.25
        # A dtype that this CPU emulates can take seconds at 1024: the small size tells beforehand.
        size = 1024 if _product_seconds(256, kinds[dtype], end - 0.2) < 0.004 else 256
        best = _product_seconds(size, kinds[dtype], end)
    finally:
        torch.set_num_threads(before)
    count = f"{threads} thread{'' if threads == 1 else 's'}"
    found = Peak(product_flops(size) / best, f"measured: {size}x{size} {dtype} product on this CPU, {count}")
    # Autocast leaves what a CPU has no 16-bit kernel for in float32, which may be the faster one there.
    wide = found if dtype == "float32" else measured_cpu_peak("float32", threads)
    if wide.flops is not None and found.flops is not None and wide.flops > found.flops:
        return Peak(wide.flops, f"{wide.source}, faster here than {dtype}")
    return found


def product_flops(size: int) -> int:
    """Operations of a size x size matrix product: size^3 multiply-adds of two operations each."""
    return 2 * size**3


def _product_seconds(size: int, dtype: torch.dtype, end: float) -> float:
    """Seconds of the fastest size x size product until `end` (perf_counter); at least two, the first to warm up."""
    import torch

    left = torch.ones(size, size, dtype=dtype)
    right = torch.ones(size, size, dtype=dtype)
    out = torch.zeros(size, size, dtype=dtype)
    torch.mm(left, right, out=out)
    best = float("inf")
    while True:
        start = time.perf_counter()
        torch.mm(left, right, out=out)
        now = time.perf_counter()
        best = min(best, now - start)
        if now >= end:
            return best
