"""The scenario: one checkpoint, continued on two machines to another horizon, compared, recorded and replayed."""

from __future__ import annotations

import shlex
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

import lossgap
from lossgap.cli.main import main
from lossgap.errors import LossgapWarning

from .small import SETTINGS

SCHEDULE = {"max_iters": 20, "lr_decay_iters": 20, "checkpoint_at": (20,), "eval_interval": 5, "final_eval": True}
LONGER: dict[str, Any] = {"max_iters": 50, "lr_decay_iters": 50}


def continued(**settings: object) -> list[str]:
    """Slugs of the warnings of a longer continuation, in their order."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        lossgap.train(**settings, **LONGER)
    return [item.message.slug for item in said if isinstance(item.message, LossgapWarning)]


@pytest.fixture
def machines(here: Path) -> tuple[Path, Path]:
    """Two folders that continued one checkpoint: the first machine's own, and what a copied checkpoint became."""
    lossgap.train(**{**SETTINGS, **SCHEDULE, "out_dir": "first"})
    (here / "second").mkdir()
    shutil.copy("first/ckpt-000020.pt", "second/ckpt-000020.pt")
    assert continued(resume="first/ckpt-000020.pt", out_dir="longer") == ["rate-rises-again"]
    slugs = continued(resume="second/ckpt-000020.pt", threads=2, attention="plain")
    assert slugs == ["rate-rises-again", "resume-not-exact"]
    return here / "longer", here / "second"


def test_compare_tells_the_machines_from_the_iterations(machines: tuple[Path, Path]) -> None:
    found = lossgap.compare(*machines)
    first, *further = [item for item in found.findings if item.id == "continuations"]
    assert first.numbers["iteration"] == 20
    assert "both records have its digest" in first.text
    assert first.numbers["over"] == 31
    assert float(str(first.numbers["largest"])) < 1e-3
    assert "attention" in first.text
    assert [item.numbers["run"] for item in further] == ["control", "test"]
    assert all("learning rate went" in item.text for item in further[:1])
    assert all(item.role == "remark" for item in (first, *further))


def test_the_stretch_after_the_checkpoint_gives_the_hardware_s_part(machines: tuple[Path, Path]) -> None:
    [command] = {item.command for item in lossgap.compare(*machines).findings if item.command.startswith("lossgap rec")}
    assert main([*shlex.split(command)[1:], "--iters=8", "--out=after.lossgap"]) == 0
    found = lossgap.replay("after.lossgap", device="cpu", threads=2, attention="plain")
    assert (found.first, found.verdict) == (20, "equivalent")
    assert found.hardware_bound is not None
    assert "record" in found.beyond.why
