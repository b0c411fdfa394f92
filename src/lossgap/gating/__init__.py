"""The gate: runs of a change against a stored baseline, pass, fail or needs more, valid at any stopping time."""

from lossgap.gating.accepted import Baseline, make_baseline
from lossgap.gating.judge import GateResult, gate

__all__ = ["Baseline", "GateResult", "gate", "make_baseline"]
