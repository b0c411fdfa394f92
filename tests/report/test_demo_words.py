"""The last screen of `make run`: healthy or not, why the GPU is lower, what reaches it, in a few lines."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from comparison.made import curve, run
from references.test_placement import seed

import lossgap
from lossgap import suggestion
from lossgap.cli.demo import GPU_FIGURES
from lossgap.comparison import compare
from lossgap.config import TrainConfig
from lossgap.presets import preset
from lossgap.references.curve_file import ReferenceCurve
from lossgap.report import demo_words
from lossgap.report.demo_words import last_screen
from lossgap.runs.run import Run

LAPTOP = TrainConfig.from_dict(preset("shakespeare_char_cpu")).to_dict()


def screen(laptop: Run) -> tuple[str, ...]:
    return last_screen(laptop, compare(laptop, lossgap.load_run(GPU_FIGURES), sources=("mine", str(GPU_FIGURES))))


def test_a_healthy_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    healthy, why, reach, command, *_ = screen(run(curve(1.8857), config=LAPTOP))
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


def test_a_recipe_that_gets_there_sooner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    short = ReferenceCurve(
        name="laptop", about="a test", settings=preset("laptop"), resumed_at=None, corpus={}, made={},
        seeds=tuple(seed(n, shift - 0.27) for n, shift in enumerate((0.0, 0.01, -0.01))),
    )  # fmt: skip
    far = replace(short, name="laptopbest", settings=preset("laptop_best"))
    for known, wanted in (((far, short), "laptop"), ((far,), "laptop_best"), ((), "")):
        monkeypatch.setattr(demo_words, "curves", lambda known=known: known)
        said, command = (*screen(run(curve(1.8857), config=LAPTOP))[4:], "", "")[:2]
        assert bool(said) == bool(wanted)
        if wanted:
            assert "sooner" in said
            assert "near 1.62" in said
            _, _, verb, *words = shlex.split(command)
            suggestion.check(verb, words)
            assert words[0] == wanted
    over = replace(short, seeds=(*short.seeds, seed(9, 0.0)))
    monkeypatch.setattr(demo_words, "curves", lambda: (over,))
    assert len(screen(run(curve(1.8857), config=LAPTOP))) == 4, "a recipe with a seed that misses the loss is not named"


def test_a_run_that_is_off_is_not_called_healthy() -> None:
    first = screen(run(curve(2.2), config=LAPTOP))[0]
    assert first.startswith("Your run is not what its recipe gives: val loss 2.200; this recipe gives 1.836 to 1.936.")


def test_a_run_of_no_known_recipe_is_not_judged() -> None:
    said = screen(run(curve(1.8857), config=LAPTOP | {"n_embd": 64}))
    assert not [line for line in said if "healthy" in line or "recipe gives" in line]
