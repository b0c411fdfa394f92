"""The last screen of `make run`: healthy or not, why the GPU is lower, what reaches it, in a few lines."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from comparison.made import curve, run

import lossgap
from lossgap import suggestion
from lossgap.cli.demo import GPU_FIGURES
from lossgap.comparison import compare
from lossgap.config import TrainConfig
from lossgap.presets import preset
from lossgap.report.demo_words import last_screen
from lossgap.runs.run import Run

LAPTOP = TrainConfig.from_dict(preset("shakespeare_char_cpu")).to_dict()


def screen(laptop: Run) -> tuple[str, ...]:
    return last_screen(laptop, compare(laptop, lossgap.load_run(GPU_FIGURES), sources=("mine", str(GPU_FIGURES))))


def test_a_healthy_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    healthy, why, reach, command = screen(run(curve(1.8857), config=LAPTOP))
    assert healthy == "Your run is healthy: val loss 1.886; this recipe gives 1.836 to 1.936."
    assert "lower" in why
    assert "13x the parameters" in why
    assert "Nothing here is evidence against the CPU" in why
    assert "train the same model for 5,000 iterations" in reach
    assert "near 1.68" in reach
    _, _, verb, *words = shlex.split(command)
    suggestion.check(verb, words)
    assert "--max_iters=5000" in words
    assert not Path(words[-1].partition("=")[2]).exists()


def test_a_run_that_is_off_is_not_called_healthy() -> None:
    first = screen(run(curve(2.2), config=LAPTOP))[0]
    assert first.startswith("Your run is not what its recipe gives: val loss 2.200; this recipe gives 1.836 to 1.936.")


def test_a_run_of_no_known_recipe_is_not_judged() -> None:
    said = screen(run(curve(1.8857), config=LAPTOP | {"n_embd": 64}))
    assert not [line for line in said if "healthy" in line or "recipe gives" in line]
