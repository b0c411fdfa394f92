"""The page of the note's claims: twelve of them, decided by the runs that there are and by nothing else."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from references.test_placement import reference

PATH = Path(__file__).parents[2] / "benchmarks" / "claims.py"


@pytest.fixture(scope="module")
def claims() -> ModuleType:
    spec = importlib.util.spec_from_file_location("claims", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["claims"] = module
    spec.loader.exec_module(module)
    return module


def verdicts(claims: ModuleType, *ends: tuple[str, float]) -> list[str]:
    evidence = claims.Evidence()
    evidence.curves = {}
    for name, end in ends:
        item = reference(name)
        shift = end - 1.89
        seeds = tuple(replace(seed, final_val=seed.final_val + shift, val=seed.val + shift) for seed in item.seeds)
        evidence.curves[name] = replace(item, seeds=seeds)
    return [claim(evidence).verdict for claim in claims.CLAIMS]


def test_there_are_twelve_and_what_no_run_measured_has_no_verdict(claims: ModuleType, tmp_path: Path) -> None:
    found = verdicts(claims)
    assert len(found) == 12
    assert "not measured yet" in found[2]
    assert "not measured yet" in found[11]
    assert claims.main([str(tmp_path / "claims.md")]) == 0
    page = (tmp_path / "claims.md").read_text()
    assert len(re.findall(r"^## \d+\. ", page, re.MULTILINE)) == 12


def test_the_runs_decide(claims: ModuleType) -> None:
    better = verdicts(claims, ("laptop2000", 1.89), ("batch24", 1.80), ("resumed5000", 1.68), ("horizon1000", 1.95))
    assert "the batch: true" in better[2]
    assert "val about 1.0: false" in better[9]
    assert better[11] == "a horizon of 1,000 decays too far: true"
    worse = verdicts(claims, ("laptop2000", 1.89), ("batch24", 1.95), ("resumed5000", 1.02), ("horizon1000", 1.85))
    assert "the batch: false" in worse[2]
    assert "val about 1.0: true" in worse[9]
    assert worse[11] == "a horizon of 1,000 decays too far: false"
    level = verdicts(claims, ("laptop2000", 1.89), ("batch24", 1.89))
    assert "the batch: undecided" in level[2]
    assert np.isfinite(claims.Evidence().window)
