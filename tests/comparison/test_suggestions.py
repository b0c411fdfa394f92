"""Commands that a comparison suggests: they parse, train the log's own model, and are not runs that exist."""

from __future__ import annotations

import shlex

import pytest

from lossgap import suggestion
from lossgap.comparison.findings.command import retrain_settings
from lossgap.config import TrainConfig
from lossgap.config_file import resolve_arguments, train_config
from lossgap.presets import PRESETS, preset


def trained(command: str) -> TrainConfig:
    assert command.startswith("lossgap train ")
    return train_config(resolve_arguments(shlex.split(command)[2:]))


@pytest.mark.parametrize("name", PRESETS)
def test_a_longer_run_of_a_recipe_trains_its_own_model(name: str) -> None:
    """A name that begins like another's once made the laptop's recipe the GPU's."""
    longer = {**preset(name), "max_iters": 7000, "lr_decay_iters": 7000}
    config = trained(retrain_settings(longer))
    assert {key: getattr(config, key) for key in longer if key != "out_dir"} == {
        key: value for key, value in longer.items() if key != "out_dir"
    }
    assert config.out_dir != longer["out_dir"]


@pytest.mark.parametrize("run", ["a b.log", "$(rm x)", "-x.log", "it's"])
def test_names_are_quoted_and_never_flags(run: str) -> None:
    words = shlex.split(suggestion.compare(run, "other.log", reevaluate=True))
    assert words[:2] == ["lossgap", "compare"]
    assert words[2].removeprefix("./") == run
    assert words[3:] == ["other.log", "--reevaluate"]
    suggestion.check("compare", words[2:])


def test_what_cannot_be_trained_is_not_suggested() -> None:
    assert suggestion.train(suggestion.recipe({"n_layer": 4, "n_head": 3, "n_embd": 128})) == ""
