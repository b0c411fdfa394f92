"""Commands that would settle a finding: the run again, with one thing changed."""

from __future__ import annotations

import os
from collections.abc import Mapping

from lossgap import suggestion
from lossgap.comparison.facts import Facts
from lossgap.config import TrainConfig
from lossgap.presets import preset
from lossgap.settings import settings_of

_NEEDED = ("n_layer", "n_head", "n_embd", "block_size", "batch_size", "max_iters")
_MEASURED = ("eval_interval", "eval_iters")
"""Settings of the measurement, which stay those of the log, so that the two can be compared."""
_CORPORA = ("shakespeare_char", "shakespeare", "tinyshakespeare", "openwebtext")


def retrain(facts: Facts, beside: Facts | None = None, /, **changes: object) -> str:
    """`lossgap train ...` for the run's settings with `changes`; empty where too little of them is known.

    Empty, too, where the run `beside` it is that training already. The model, the recipe and the evaluations are the
    log's; the run gets a folder of its own.
    """
    recipe = recipe_of(facts, **changes)
    if recipe is None or (beside is not None and _is_run(recipe, beside)):
        return ""
    return suggestion.train(recipe, out_dir=_folder(recipe, changes))


def is_trained(facts: Facts, beside: Facts, /, **changes: object) -> bool:
    """True if the run `beside` is the run's recipe with `changes` already."""
    recipe = recipe_of(facts, **changes)
    return recipe is not None and _is_run(recipe, beside)


def recipe_of(facts: Facts, **changes: object) -> suggestion.Recipe | None:
    """The run's settings with `changes`; None for another trainer's run, or where too little of them is known."""
    if not (facts.is_nanogpt or facts.is_own) or any(not facts.setting(name).known for name in _NEEDED):
        return None
    known = {
        name: facts.setting(name).value
        for name, item in settings_of(TrainConfig).items()
        if (item.factor not in (None, "device", "numerics") or name in _MEASURED) and facts.setting(name).known
    }
    recipe = suggestion.recipe({**known, **changes})
    dataset = {**known, **changes}.get("dataset")
    if dataset is not None and dataset not in _CORPORA:
        recipe = suggestion.Recipe(recipe.presets, {**recipe.settings, "dataset": dataset})
    return recipe


def retrain_settings(settings: Mapping[str, object], beside: Facts | None = None) -> str:
    """`lossgap train ...` for these settings, unless the run `beside` is that training already."""
    recipe = suggestion.recipe(settings)
    if beside is not None and _is_run(recipe, beside):
        return ""
    return suggestion.train(recipe, out_dir=_folder(recipe, recipe.settings))


def _is_run(recipe: suggestion.Recipe, facts: Facts) -> bool:
    """True if the run has all of the recipe's settings, as far as both say them."""
    if any(not facts.setting(name).known for name in _NEEDED):
        return False
    said: dict[str, object] = {key: value for name in recipe.presets for key, value in preset(name).items()}
    said.update(recipe.settings)
    trains = [
        name for name, item in settings_of(TrainConfig).items() if item.factor not in (None, "device", "numerics")
    ]
    return all(facts.setting(name).value == said[name] for name in trains if name in said and facts.setting(name).known)


def _folder(recipe: suggestion.Recipe, changes: Mapping[str, object]) -> str:
    """A folder called after the recipe and what is changed in it."""
    base = os.path.basename(recipe.presets[0]) if recipe.presets else "recipe"
    said = [f"{name}-{value}" for name, value in changes.items() if value is not None][:2]
    return suggestion.new_folder("-".join([base.replace("_", "-"), *said]).replace("_", "-"))
