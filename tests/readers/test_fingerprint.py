"""A recipe is named by its figures, and by no others."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossgap.runs.readers.recipe_match import references
from lossgap.runs.readers.source import load_run
from lossgap.runs.run import Run

GPU = {"iteration": "5000", "train_loss": "0.62", "val_loss": "1.70", "iter_loss": "0.82", "mfu": "9.99", "ms": "4447"}
LAPTOP = {
    "iteration": "2000",
    "train_loss": "1.76",
    "val_loss": "1.89",
    "iter_loss": "1.70",
    "mfu": "0.01",
    "ms": "116",
}


def figures(folder: Path, values: dict[str, str]) -> Run:
    path = folder / "figures.toml"
    path.write_text("[run]\n" + "".join(f"{name} = {value}\n" for name, value in values.items()))
    return load_run(path)


def recipe(run: Run) -> object | None:
    return next((item.value for item in run.inferred if item.name == "recipe"), None)


def test_references_are_the_documented_recipes() -> None:
    gpu, laptop, longer = references()
    assert (gpu.parameters, laptop.parameters, longer.parameters) == (10_646_784, 795_904, 795_904)
    assert (gpu.tokens_per_iter, laptop.tokens_per_iter) == (16_384, 768)
    assert gpu.flops_per_iter * 5000 == pytest.approx(5.81e15, rel=2e-3)
    assert laptop.flops_per_iter * 2000 == pytest.approx(7.94e12, rel=2e-3)
    assert all(item.sources for item in references())


def test_both_ends_of_the_note(tmp_path: Path) -> None:
    gpu, laptop = figures(tmp_path, GPU), figures(tmp_path, LAPTOP)
    assert (recipe(gpu), recipe(laptop)) == ("shakespeare_char", "shakespeare_char_cpu")
    assert gpu.config == laptop.config == {}
    assert (gpu.setting("n_embd"), laptop.setting("n_embd")) == (384, 128)
    assert (gpu.tokens_per_iter, laptop.tokens_per_iter) == (16_384, 768)
    named = next(item for item in laptop.inferred if item.name == "recipe")
    assert "shakespeare_char_cpu, 5,000 iterations" in named.alternatives
    assert "a recipe that is not among the references" in named.alternatives


@settings(max_examples=80, deadline=None)
@given(
    which=st.sampled_from(["train_loss", "val_loss"]),
    off=st.floats(0.075, 1.5),
    up=st.booleans(),
    base=st.sampled_from([GPU, LAPTOP]),
)
def test_changed_losses_are_not_named(
    tmp_path_factory: pytest.TempPathFactory, which: str, off: float, up: bool, base: dict[str, str]
) -> None:
    value = float(base[which]) + (off if up else -off)
    if value > 0:
        assert recipe(figures(tmp_path_factory.mktemp("f"), base | {which: f"{value:.4f}"})) is None


@pytest.mark.parametrize("base", [GPU, LAPTOP])
@pytest.mark.parametrize("iteration", ["250", "1000", "4000", "10000"])
def test_changed_iterations_are_not_named(tmp_path: Path, base: dict[str, str], iteration: str) -> None:
    assert recipe(figures(tmp_path, base | {"iteration": iteration})) is None


def test_too_few_figures_are_not_named(tmp_path: Path) -> None:
    assert recipe(figures(tmp_path, {"iteration": "2000", "val_loss": "1.89"})) is None
    assert (
        recipe(figures(tmp_path, {"iteration": "0", "train_loss": "4.2", "val_loss": "4.2", "iter_loss": "4.2"}))
        is None
    )


def test_impossible_speed_contradicts(tmp_path: Path) -> None:
    assert recipe(figures(tmp_path, GPU | {"mfu": "0.01", "ms": "100"})) is None


def test_a_stated_setting_contradicts(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text(
        "[run]\n" + "".join(f"{name} = {value}\n" for name, value in GPU.items()) + "[config]\ndropout = 0.0\n"
    )
    assert recipe(load_run(path)) is None


def long_log(folder: Path, change: dict[int, float], extra: str = "") -> Run:
    """Every evaluation of the GPU recipe's reference, with some val losses moved."""
    rows = "".join(
        f"[[evals]]\niteration = {at}\ntrain_loss = {train}\nval_loss = {val + change.get(at, 0):.4f}\n"
        for at, (train, val) in references()[0].evals.items()
    )
    path = folder / "long.toml"
    path.write_text(f"[run]\nname = 'long'\n{rows}{extra}")
    return load_run(path)


def test_one_outlier_in_many_is_noise_and_one_far_off_is_not(tmp_path: Path) -> None:
    assert recipe(long_log(tmp_path, {})) == "shakespeare_char"
    assert recipe(long_log(tmp_path, {2500: 0.045})) == "shakespeare_char"
    assert recipe(long_log(tmp_path, {2500: 0.3})) is None
    assert recipe(long_log(tmp_path, dict.fromkeys((2000, 2500, 3000), 0.045))) is None


def test_a_run_longer_than_the_recipe_is_another(tmp_path: Path) -> None:
    assert recipe(long_log(tmp_path, {}, "[[evals]]\niteration = 6000\nval_loss = 1.8\n")) is None
