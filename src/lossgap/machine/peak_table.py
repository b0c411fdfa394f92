"""The sourced table behind `peak_flops`: one row for each GPU, with the vendor document it is from.

Rates are dense TFLOP/s. float16 and bfloat16 are tensor core rates *with float32 accumulation*, which is what
training uses. GeForce cards run that at half the rate of float16 accumulation, so their figure here is half of
the one on the box. A rate that no document tells, or on which documents disagree, is None.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """One GPU: the names that drivers give it, its multiprocessor count, its dense peaks in TFLOP/s, the document.

    `tf32` None: the GPU has no TF32. `shared_name`: another GPU answers to the same name.
    """

    names: tuple[str, ...]
    multiprocessors: int
    float32: float | None
    tf32: float | None
    float16: float | None
    bfloat16: float | None
    document: str
    shared_name: bool = False


GA102 = "NVIDIA Ampere GA102 whitepaper V2"
ADA = "NVIDIA Ada whitepaper V2"
BLACKWELL = "NVIDIA RTX Blackwell whitepaper"
HOPPER = "NVIDIA H100 whitepaper"
H200 = "NVIDIA H200 datasheet"


def _geforce(name: str, multiprocessors: int, boost_mhz: int, document: str, shared_name: bool = False) -> Card:
    """A GeForce card from the 30 series on, from its multiprocessors and boost clock.

    float32 = 2 x 128 cores x multiprocessors x clock; TF32 has that rate and float16/bfloat16 with float32
    accumulation twice that rate (appendix A of each whitepaper: 35.6, 35.6, 71 for the RTX 3090; 82.6, 82.6,
    165.2 for the 4090; 104.8, 104.8, 209.5 for the 5090). Clocks are those of NVIDIA's specification pages.
    """
    rate = 2 * 128 * multiprocessors * boost_mhz / 1e6
    source = f"float32 accumulation, {multiprocessors * 128} cores x {boost_mhz} MHz, rates of the {document}"
    return Card((f"NVIDIA GeForce {name}",), multiprocessors, rate, rate, 2 * rate, 2 * rate, source, shared_name)


_A100 = ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-80GB", "NVIDIA A100-PCIE-40GB", "NVIDIA A100 80GB PCIe")
_V100 = ("Tesla V100-SXM2-16GB", "Tesla V100-SXM2-32GB")
_V100_PCIE = ("Tesla V100-PCIE-16GB", "Tesla V100-PCIE-32GB")

# Columns: names, multiprocessors, float32, TF32, float16, bfloat16, document.
_DATA_CENTRE = (
    Card(_V100, 80, 15.7, None, 125.0, None, "NVIDIA V100 datasheet"),
    Card(_V100_PCIE, 80, 14.0, None, 112.0, None, "NVIDIA V100 datasheet"),
    Card(("Tesla T4",), 40, 8.1, None, 65.0, None, "NVIDIA T4 datasheet"),
    Card(_A100, 108, 19.5, 156.0, 312.0, 312.0, "NVIDIA A100 whitepaper"),
    Card(("NVIDIA A10",), 72, 31.2, 62.5, 125.0, 125.0, "NVIDIA A10 datasheet"),
    # Figures for the A10G's plain float32 rate differ from source to source.
    Card(("NVIDIA A10G",), 80, None, 35.0, 70.0, 70.0, "NVIDIA A10G for AWS datasheet"),
    Card(("NVIDIA A40",), 84, 37.4, 74.8, 149.7, 149.7, GA102),
    Card(("NVIDIA RTX A6000",), 84, 38.7, 77.4, 154.8, 154.8, GA102),
    Card(("NVIDIA L4",), 58, 30.3, 60.0, 121.0, 121.0, "NVIDIA L4 datasheet, half of the sparse rates"),
    Card(("NVIDIA L40S",), 142, 91.6, 183.0, 362.05, 362.05, "NVIDIA L40S datasheet"),
    Card(("NVIDIA RTX 6000 Ada Generation",), 142, 91.1, 182.1, 364.2, 364.2, ADA),
    Card(("NVIDIA H100 80GB HBM3",), 132, 66.9, 494.7, 989.4, 989.4, HOPPER),
    Card(("NVIDIA H100 PCIe",), 114, 51.2, 378.0, 756.0, 756.0, HOPPER),
    Card(("NVIDIA H100 NVL",), 132, 60.0, 417.5, 835.5, 835.5, "NVIDIA H100 datasheet, half of the sparse rates"),
    Card(("NVIDIA H200",), 132, 67.0, 494.5, 989.5, 989.5, f"{H200}, half of the sparse rates"),
    Card(("NVIDIA H200 NVL",), 132, 60.0, 417.5, 835.5, 835.5, f"{H200}, half of the sparse rates"),
    # NVIDIA's Blackwell brief and its later datasheet disagree on plain float32 (80 and 75).
    Card(("NVIDIA B200",), 148, None, 1100.0, 2250.0, 2250.0, "NVIDIA HGX B200 datasheet, half of the sparse rates"),
    # torch shows each of the two dies of an MI250X as a device: half of the datasheet's rates.
    Card(("AMD Instinct MI250X",), 110, 47.85, None, 191.5, 191.5, "AMD MI250X datasheet, one of two dies"),
    Card(("AMD Instinct MI300X",), 304, 163.4, 653.7, 1307.4, 1307.4, "AMD MI300X datasheet"),
)

_GEFORCE = (
    # Turing has 64 cores in a multiprocessor, no TF32 and no bfloat16; reference clock, not Founders Edition.
    Card(("NVIDIA GeForce RTX 2080 Ti",), 68, 13.4, None, 53.8, None, "float32 accumulation, NVIDIA Turing whitepaper"),
    _geforce("RTX 3060", 28, 1777, GA102),
    _geforce("RTX 3060 Ti", 38, 1665, GA102),
    _geforce("RTX 3070", 46, 1725, GA102),
    _geforce("RTX 3070 Ti", 48, 1770, GA102),
    # The 12 GB model of the RTX 3080 has 70 multiprocessors and the same name.
    _geforce("RTX 3080", 68, 1710, GA102, shared_name=True),
    _geforce("RTX 3080 Ti", 80, 1665, GA102),
    _geforce("RTX 3090", 82, 1695, GA102),
    _geforce("RTX 3090 Ti", 84, 1860, GA102),
    _geforce("RTX 4060", 24, 2460, ADA),
    _geforce("RTX 4060 Ti", 34, 2535, ADA),
    _geforce("RTX 4070", 46, 2475, ADA),
    _geforce("RTX 4070 SUPER", 56, 2475, ADA),
    _geforce("RTX 4070 Ti", 60, 2610, ADA),
    _geforce("RTX 4070 Ti SUPER", 66, 2610, ADA),
    _geforce("RTX 4080", 76, 2505, ADA),
    _geforce("RTX 4080 SUPER", 80, 2550, ADA),
    _geforce("RTX 4090", 128, 2520, ADA),
    _geforce("RTX 5070 Ti", 70, 2452, BLACKWELL),
    _geforce("RTX 5080", 84, 2617, BLACKWELL),
    _geforce("RTX 5090", 170, 2407, BLACKWELL),
)

CARDS: tuple[Card, ...] = _DATA_CENTRE + _GEFORCE
