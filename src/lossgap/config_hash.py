"""A config's hash: equal for trainings that are the same but for output, logging and measurement."""

from __future__ import annotations

import hashlib
import json

from lossgap.config import ARCHITECTURE, TrainConfig, describe

RECIPE_FIELDS = (
    *ARCHITECTURE,
    *("optimizer", "muon_lr", "muon_momentum", "momentum_warmup_iters"),
    *("lr_schedule", "decay_fraction", "weight_decay_schedule", "context_warmup_iters"),
)
"""Settings of recipes other than nanoGPT's, which came after the first hashes were recorded."""
_DRAWS = ("eval_interval", "eval_iters", "eval_mode")


def config_hash(config: TrainConfig) -> str:
    """SHA-256 (hex) over the canonical JSON of the settings that change the training.

    Equal for configs that differ in output, logging and measurement only, and for a config of before a recipe field
    existed and one with that field at its default. With `rng=nanogpt`, evaluation
    draws from the generator of the training, so `eval_interval`, `eval_iters` and `eval_mode` count too.
    """
    names = [item.name for item in describe() if item.meaning]
    if config.rng == "nanogpt":
        names += _DRAWS
    values = config.to_dict()
    names = [name for name in names if name not in RECIPE_FIELDS or values[name] != getattr(TrainConfig, name)]
    canonical = json.dumps({name: values[name] for name in names}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
