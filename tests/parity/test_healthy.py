"""Healthy pairs by the hundred: see benchmarks/healthy_replays.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "healthy_replays.py"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_healthy_machines_are_equivalent(tmp_path: Path) -> None:
    """Seventeen combinations of instruction set, threads and kernels, five seeds, two dtypes: 99% or more of them."""
    command = [sys.executable, str(SCRIPT), f"--folder={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of 170 replays are equivalent" in done.stdout
