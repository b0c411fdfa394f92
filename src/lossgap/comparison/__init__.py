"""Two runs side by side: aligned, measured against the noise, and explained as far as the evidence goes."""

from __future__ import annotations

from lossgap.comparison.compare import compare
from lossgap.comparison.comparison import Comparison

__all__ = ["Comparison", "compare"]
