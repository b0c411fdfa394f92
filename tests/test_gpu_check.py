"""`make gpu-check`: the same code path on a CPU at a tiny scale, and a machine without CUDA."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_check.py"


def test_every_stage_runs_on_a_cpu(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--device=cpu", "--tiny", f"--out={tmp_path}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "gpu-check.json").read_text(encoding="utf-8"))
    stages = facts["stages"]
    assert [name for name, stage in stages.items() if "why" in stage] == ["explain"]  # left out at this scale
    assert all(found["faults"] == [] for name, found in stages["canary"].items() if name != "seconds")
    verdicts = {name: found["verdict"] for name, found in stages["replay"].items() if name != "seconds"}
    assert verdicts["cpu to cpu, float32, eager"] == "equivalent"
    assert set(verdicts) == {"cpu to cpu, float32, eager", "cpu to cpu, bfloat16, eager"}
    assert stages["speed"].keys() == {"float32, eager", "bfloat16, eager", "seconds"}
    assert stages["train"]["iterations"] == 20
    assert 2.0 < stages["train"]["val_loss"] < 4.5
    page = (tmp_path / "gpu-check.md").read_text(encoding="utf-8")
    assert all(f"## {name}" in page for name in stages)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_cuda_it_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), f"--out={tmp_path}"], capture_output=True, text=True, check=True
    )
    assert "no CUDA device" in done.stdout
    assert list(tmp_path.iterdir()) == []
