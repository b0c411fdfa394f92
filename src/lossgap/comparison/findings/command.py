"""Commands that would settle a finding: the run again, with one thing changed."""

from __future__ import annotations

import shlex

from lossgap.comparison.facts import Facts
from lossgap.config import TrainConfig
from lossgap.presets import PRESETS, preset
from lossgap.runs.values import as_text
from lossgap.settings import settings_of

_NEEDED = ("n_layer", "n_head", "n_embd", "block_size", "batch_size", "max_iters")


def retrain(facts: Facts, **changes: object) -> str:
    """`lossgap train ...` for the run's settings with `changes`; empty where too little of them is known.

    A preset with what differs from it, where one has the run's sizes, else all settings that are not the defaults.
    """
    if not (facts.is_nanogpt or facts.is_own) or any(not facts.setting(name).known for name in _NEEDED):
        return ""
    known = {
        name: facts.setting(name).value
        for name, item in settings_of(TrainConfig).items()
        if item.factor not in (None, "device", "numerics") and facts.setting(name).known
    }
    wanted = known | changes
    defaults = {name: item.default for name, item in settings_of(TrainConfig).items()}
    options: list[tuple[list[str], dict[str, object]]] = [
        ([], {name: value for name, value in wanted.items() if value != defaults[name]})
    ]
    for name in PRESETS:
        base = defaults | preset(name)
        if base["n_layer"] == wanted["n_layer"] and base["n_embd"] == wanted["n_embd"]:
            options.append(([name], {key: value for key, value in wanted.items() if value != base[key]}))
    start, flags = min(options, key=lambda item: len(item[1]))
    source = as_text(wanted.get("dataset"))
    if source is not None and source not in ("shakespeare_char", "shakespeare", "tinyshakespeare", "openwebtext"):
        flags = flags | {"dataset": source}
    return shlex.join(["lossgap", "train", *start, *(f"--{name}={value}" for name, value in flags.items())])
