"""different-recipes, recipe-result, below-what-is-possible, and the note that the project starts from."""

from __future__ import annotations

from pathlib import Path

import pytest

from comparison.findings.answer import ask, laptop
from comparison.made import LAPTOP, curve, run
from lossgap.comparison import Comparison, compare
from lossgap.config import TrainConfig
from lossgap.config_hash import RECIPE_FIELDS
from lossgap.runs.readers.recipe_match import references
from lossgap.runs.readers.source import load_run
from lossgap.runs.run import Run

NOTE_LAPTOP = """[run]
name = "laptop"
device = "a laptop's CPU"
iteration = 2000
train_loss = 1.76
val_loss = 1.89
iter_loss = 1.70
mfu = 0.01
ms = 1505.0
"""
NOTE_GPU = """[run]
name = "4070 Ti"
device = "RTX 4070 Ti"
iteration = 5000
train_loss = 0.62
val_loss = 1.70
iter_loss = 0.82
mfu = 9.99
ms = 4447.0
"""


def _reference(name: str, **changes: object) -> Run:
    found = next(item for item in references() if item.name == name)
    vals = {at: val for at, (_, val) in found.evals.items()}
    return run(vals, config=dict(found.settings) | changes)


def test_three_groups_of_settings_are_two_recipes() -> None:
    found = ask("different-recipes", laptop(), laptop(1.4, n_embd=384, block_size=256, batch_size=64)).cause
    assert (found.strength, found.evidence) == ("strong", "computed")
    assert found.numbers["tokens"] == pytest.approx(256 * 64 / 768)


def test_two_groups_are_not() -> None:
    assert ask("different-recipes", laptop(), laptop(1.4, n_embd=384, dropout=0.2)).silent
    assert ask("different-recipes", run(curve(1.9), config={}), run(curve(1.4), config=LAPTOP)).silent


def test_more_work_with_a_higher_loss_contradicts_what_is_expected() -> None:
    assert (
        ask("different-recipes", laptop(1.4), laptop(1.9, n_embd=384, block_size=256, batch_size=64)).cause.strength
        == "possible"
    )
    larger = laptop(1.6, n_embd=130, block_size=65, batch_size=13)
    assert ask("different-recipes", laptop(), larger).cause.strength == "possible", "far beyond what they make"


def test_a_run_that_gives_what_its_recipe_gives() -> None:
    laptop_run = _reference("shakespeare_char_cpu")
    answer = ask("recipe-result", laptop_run, run(curve(1.4), config={}))
    assert not answer.causes
    assert "gives: val loss 1.886 at iteration 2,000" in answer.findings[0].text
    assert "if that is its recipe" not in answer.findings[0].text


def test_a_run_that_does_not() -> None:
    off = run(
        {at: value + 0.3 for at, value in curve(1.8857).items()}, config=_reference("shakespeare_char_cpu").config
    )
    found = ask("recipe-result", _reference("shakespeare_char_cpu"), off).cause
    assert found.effect == pytest.approx(0.3)
    assert found.strength == "strong"
    assert "otherwise than its settings say" in found.text


def test_another_recipe_has_no_reference() -> None:
    assert ask("recipe-result", laptop(), laptop(1.5)).silent
    assert ask("recipe-result", _reference("shakespeare_char_cpu", n_head=2), laptop(1.5)).silent


@pytest.mark.parametrize("changed", [{"optimizer": "muon"}, {"rotary": True}, {"lr_schedule": "linear"}])
def test_a_recipe_of_ours_is_not_held_against_nanogpts(changed: dict[str, object]) -> None:
    """It was named as the strong cause that something ran otherwise than its settings say."""
    nanogpt = _reference("shakespeare_char_cpu")
    other = run(curve(1.6), config={**nanogpt.config, **changed})
    assert not ask("recipe-result", nanogpt, other).causes
    stated = {name: getattr(TrainConfig, name) for name in RECIPE_FIELDS}
    assert ask("recipe-result", nanogpt, run(curve(1.6), config={**nanogpt.config, **stated})).causes


def test_a_val_below_what_the_recipe_can_give() -> None:
    found = ask("below-what-is-possible", laptop(1.7), laptop(1.2164)).cause
    assert found.numbers["best"] == 1.2164
    assert "causal mask" in found.text


@pytest.mark.parametrize(
    "test",
    [laptop(1.4697), laptop(1.2, dataset="my_text"), laptop(1.2, init_from="gpt2"), laptop(1.2, without=("dataset",))],
)
def test_possible_or_unjudgeable_losses_are_not_suspected(test: Run) -> None:
    assert ask("below-what-is-possible", laptop(1.9), test).silent


# ---------------------------------------------------------------------------------------------
# The note


def _figures(folder: Path, text: str, name: str) -> Run:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return load_run(path)


@pytest.fixture(params=["figures", "log"])
def note(request: pytest.FixtureRequest, tmp_path: Path) -> Comparison:
    """The note's pair: the laptop by its figures, or by a log of nanoGPT's recipe."""
    control = _reference("shakespeare_char_cpu")
    if request.param == "figures":
        control = _figures(tmp_path, NOTE_LAPTOP, "laptop.toml")
    return compare(control, _figures(tmp_path, NOTE_GPU, "gpu.toml"))


def test_the_note_is_two_recipes(note: Comparison) -> None:
    first = note.causes[0]
    assert first.id == "different-recipes"
    assert first.evidence == "inferred"
    assert float(str(first.numbers["parameters"])) == pytest.approx(13.4, abs=0.1)
    assert float(str(first.numbers["tokens"])) == pytest.approx(53.3, abs=0.1)
    assert float(str(first.numbers["FLOPs"])) == pytest.approx(732, abs=1)
    assert "13.4x parameters, 53.3x tokens, 732x FLOPs" in first.text


def test_the_note_overfits_on_the_gpu(note: Comparison) -> None:
    texts = [item.text for item in note.remarks if item.id == "recipe-result"]
    assert any("is 0.23 above the best of that recipe, 1.4673" in text for text in texts)


def test_the_note_has_a_healthy_laptop_that_would_end_near_1_68(note: Comparison) -> None:
    texts = [item.text for item in note.remarks if item.id == "recipe-result"]
    assert any(text.startswith("The control shows what its recipe") for text in texts)
    assert any("At 5,000 iterations" in text and "ends near 1.68" in text for text in texts)


def test_the_note_blames_no_hardware(note: Comparison) -> None:
    for item in note.findings:
        if any(word in item.id for word in ("hardware", "device", "kernel")):
            assert item.evidence == "measured"
    assert not any("hardware" in item.text for item in note.causes)


def test_changed_figures_name_no_recipe(tmp_path: Path) -> None:
    changed = NOTE_GPU.replace("1.70", "2.60").replace("0.62", "2.40")
    found = compare(_reference("shakespeare_char_cpu"), _figures(tmp_path, changed, "gpu.toml"))
    assert not [item for item in found.findings if item.id in ("different-recipes",)]
    assert any(need.startswith("test.n_") or need == "test.n_layer" for item in found.findings for need in item.needs)
