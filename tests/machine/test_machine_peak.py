"""Peak FLOP/s: the table against published figures, names that must not match, and the measurement."""

from __future__ import annotations

import time

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lossgap.machine import device_peak, measured_cpu_peak, peak_flops
from lossgap.machine.peak import _normal, product_flops
from lossgap.machine.peak_table import CARDS

# (name, dtype, tf32, TFLOP/s as the vendor prints it), independent of how the table computes its rows.
PUBLISHED = [
    ("NVIDIA A100-SXM4-40GB", "bfloat16", False, 312),
    ("NVIDIA A100-SXM4-40GB", "float32", True, 156),
    ("NVIDIA A100 80GB PCIe", "float32", False, 19.5),
    ("Tesla V100-SXM2-16GB", "float16", False, 125),
    ("Tesla T4", "float16", False, 65),
    ("NVIDIA H100 80GB HBM3", "bfloat16", False, 989.4),
    ("NVIDIA H100 PCIe", "bfloat16", False, 756),
    ("NVIDIA RTX A6000", "bfloat16", False, 154.8),
    ("NVIDIA A40", "bfloat16", False, 149.7),
    ("NVIDIA B200", "bfloat16", False, 2250),
    ("AMD Instinct MI300X", "bfloat16", False, 1307.4),
    ("NVIDIA GeForce RTX 2080 Ti", "float16", False, 53.8),
    ("NVIDIA GeForce RTX 3090", "bfloat16", False, 71),
    ("NVIDIA GeForce RTX 3090", "float32", True, 35.6),
    ("NVIDIA GeForce RTX 3090 Ti", "float32", False, 40.0),
    ("NVIDIA GeForce RTX 4080", "float32", False, 48.7),
    ("NVIDIA GeForce RTX 4080 SUPER", "float32", False, 52.2),
    ("NVIDIA GeForce RTX 4070 Ti", "float32", False, 40.1),
    ("NVIDIA GeForce RTX 4070", "float32", False, 29.1),
    ("NVIDIA GeForce RTX 4060", "float32", False, 15.1),
    ("NVIDIA GeForce RTX 4090", "float32", False, 82.6),
    ("NVIDIA GeForce RTX 4090", "float16", False, 165.2),
    ("NVIDIA GeForce RTX 5080", "float32", False, 56.3),
    ("NVIDIA GeForce RTX 5090", "bfloat16", False, 209.5),
    ("NVIDIA GeForce RTX 5090", "float32", False, 104.8),
]


@pytest.mark.parametrize(("name", "dtype", "tf32", "teraflops"), PUBLISHED)
def test_published(name: str, dtype: str, tf32: bool, teraflops: float) -> None:
    peak = peak_flops(name, dtype, tf32)
    assert peak.flops == pytest.approx(teraflops * 1e12, rel=0.003)
    assert name in peak.source


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA GeForce RTX 4070 Ti SUPER X",
        "NVIDIA GeForce RTX 4070 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 3090Ti",
        "NVIDIA GeForce GTX 1080 Ti",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "NVIDIA A1000",
        "NVIDIA A100X",
        "NVIDIA L40",
        "NVIDIA H100",
        "NVIDIA H100 80GB HBM2e",
        "NVIDIA GB200",
        "RTX 4090",
        "Tesla",
        "NVIDIA",
        "cpu",
        "",
    ],
)
def test_unknown_names_have_no_peak(name: str) -> None:
    for dtype in ("float32", "bfloat16", "float16"):
        assert peak_flops(name, dtype, True).flops is None


def test_similar_names_are_different_cards() -> None:
    names = ["RTX 4070", "RTX 4070 SUPER", "RTX 4070 Ti", "RTX 4070 Ti SUPER"]
    rates = [peak_flops(f"NVIDIA GeForce {name}", "float32", False).flops for name in names]
    assert [round(rate / 1e11) for rate in rates if rate] == [291, 355, 401, 441]


@pytest.mark.parametrize("name", ["geforce rtx 3090", "NVIDIA  GeForce RTX 3090 ", "GeForce RTX 3090"])
def test_old_drivers_leave_the_maker_out(name: str) -> None:
    assert peak_flops(name, "float32", False).flops is not None


def test_two_cards_of_one_name_need_the_multiprocessors() -> None:
    name = "NVIDIA GeForce RTX 3080"
    assert peak_flops(name, "float32", False).flops is None
    known = peak_flops(name, "float32", False, multiprocessors=68)
    assert known.flops == pytest.approx(29.8e12, rel=0.003)
    assert peak_flops(name, "float32", False, multiprocessors=70).flops is None


def test_a_partition_of_a_gpu_has_no_peak() -> None:
    peak = peak_flops("NVIDIA A100-SXM4-40GB", "bfloat16", False, multiprocessors=14)
    assert peak.flops is None
    assert "14 multiprocessors" in peak.source


def test_what_a_card_cannot_do() -> None:
    assert peak_flops("Tesla V100-SXM2-16GB", "bfloat16", False).flops is None
    assert peak_flops("NVIDIA GeForce RTX 2080 Ti", "bfloat16", False).flops is None
    # No TF32 in hardware: the setting changes nothing.
    assert peak_flops("Tesla T4", "float32", True) == peak_flops("Tesla T4", "float32", False)
    assert peak_flops("NVIDIA A100-SXM4-40GB", "float64", False).flops is None


def test_rows() -> None:
    names = [_normal(name) for card in CARDS for name in card.names]
    assert len(names) == len(set(names))
    for card in CARDS:
        assert "whitepaper" in card.document or "datasheet" in card.document
        rates = [rate for rate in (card.float32, card.tf32, card.float16) if rate is not None]
        assert rates == sorted(rates), card.names
        assert card.bfloat16 in (None, card.float16)


def test_mps_is_unknown() -> None:
    assert device_peak("mps", "float32", False, 1).flops is None


def test_measured() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    start = time.perf_counter()
    peak = measured_cpu_peak("float32", 1)
    seconds = time.perf_counter() - start
    assert peak.source == "measured: 1024x1024 float32 product on this CPU, 1 thread"
    assert peak.flops is not None
    assert seconds < 5
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert device_peak("cpu", "float32", True, 1) is peak
    assert measured_cpu_peak("float64", 1).flops is None


def seconds_of_a_product(size: int) -> float:
    """The fastest product of half a second, of another kind of matrix than the probe uses, on one thread."""
    left, right = torch.rand(size, size), torch.rand(size, size)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    best, end = float("inf"), time.perf_counter() + 0.5
    while time.perf_counter() < end:
        start = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - start)
    torch.set_num_threads(threads)
    return best


def test_operations_are_counted_as_torch_counts_them() -> None:
    with FlopCounterMode(display=False) as counter:
        torch.ones(48, 48) @ torch.ones(48, 48)
    assert product_flops(48) == counter.get_total_flops()


def test_measured_agrees_with_a_product_timed_here() -> None:
    ratios: list[float] = []
    # Only the order of magnitude: others may use this machine, and then one of three pairs is enough.
    while len(ratios) < 3:
        peak = measured_cpu_peak.__wrapped__("float32", 1).flops
        assert peak is not None
        ratios.append(product_flops(1024) / seconds_of_a_product(1024) / peak)
        if 0.3 < ratios[-1] < 3:
            return
    pytest.fail(f"peak and product differ by the factors {ratios}")
