"""The peak of a GPU that a person names: `RTX 4070 Ti`, where its driver says `NVIDIA GeForce RTX 4070 Ti`."""

from __future__ import annotations

from dataclasses import dataclass

from lossgap.machine.peak import peak_flops
from lossgap.machine.peak_table import CARDS


@dataclass(frozen=True, kw_only=True)
class GPUPeak:
    """Dense FLOP/s, and the document that says so."""

    flops: float
    source: str


def gpu_peak(name: str, dtype: str) -> GPUPeak | None:
    """The peak in `dtype`, float32 with TF32 (nanoGPT allows it); None for a name of no card or of several.

    A name is completed (`A100` to `NVIDIA A100-SXM4-40GB`) only if all cards whose names begin so are one row.
    """
    for spelling in _spellings(" ".join(name.split())):
        found = peak_flops(spelling, dtype, tf32=True)
        if found.flops is not None:
            return GPUPeak(flops=found.flops, source=found.source.removeprefix(f"{spelling}, "))
    return None


def _spellings(name: str) -> list[str]:
    bare = _bare(name)
    begin = [card for card in CARDS if any(_bare(full).startswith((f"{bare}-", f"{bare} ")) for full in card.names)]
    exact = [card for card in CARDS if bare in map(_bare, card.names)]
    # "RTX 4070" is a card, whatever other names begin with it; "H100" is three.
    alone = begin if len(begin) == 1 and not exact else []
    return [name, *(card.names[0] for card in exact), *(card.names[0] for card in alone)]


def _bare(name: str) -> str:
    """Without the words in front by which people leave names short."""
    words = name.lower().split()
    while len(words) > 1 and words[0] in ("nvidia", "geforce", "tesla", "amd", "instinct"):
        words = words[1:]
    return " ".join(words)
