"""Commands that lossgap suggests, built in one place so that each can be copied and run as it stands.

    suggestion.compare("a.log", "b c.log", reevaluate=True)     # lossgap compare a.log 'b c.log' --reevaluate
    suggestion.train(recipe({"n_layer": 4, ...}), out_dir="out-dropout-0.1")

Each is quoted for a shell and parsed by the command's own options before it is given out. An empty text means that
there is no such command: settings from a log may be of no use to `lossgap train`, and a command that fails would be
worse than none.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lossgap.arguments import parse_arguments, parted
from lossgap.config import TrainConfig
from lossgap.config_file import resolve_arguments, train_config
from lossgap.errors import LossgapError
from lossgap.options import (
    BaselineFlags,
    BenchFlags,
    CanaryFlags,
    CompareFlags,
    CompletionFlags,
    DemoFlags,
    ExplainFlags,
    ForecastFlags,
    GateFlags,
    ReadFlags,
    RecordFlags,
    ReplayFlags,
    RunsFlags,
    SampleFlags,
    TrainFlags,
    TuneFlags,
)
from lossgap.presets import PRESETS, preset
from lossgap.settings import settings_of

FLAGS: Mapping[str, type] = {
    "train": TrainFlags,
    "sample": SampleFlags,
    "read": ReadFlags,
    "compare": CompareFlags,
    "explain": ExplainFlags,
    "record": RecordFlags,
    "replay": ReplayFlags,
    "canary": CanaryFlags,
    "bench": BenchFlags,
    "tune": TuneFlags,
    "runs": RunsFlags,
    "forecast": ForecastFlags,
    "baseline": BaselineFlags,
    "gate": GateFlags,
    "completion": CompletionFlags,
    "demo": DemoFlags,
}
"""Each command's own flags."""
OF_A_TRAINING = ("train", "record", "canary", "bench", "tune", "demo")
"""Commands that take the settings of a training as well."""


@dataclass(frozen=True)
class Recipe:
    """Settings of a training as a command line says them: a preset, or none, and what differs from it."""

    presets: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)

    def config(self) -> TrainConfig:
        """The checked config. Raises ConfigError for settings that cannot be trained."""
        values = {key: value for name in self.presets for key, value in preset(name).items()}
        return TrainConfig.from_dict({**values, **self.settings})


def recipe(settings: Mapping[str, object]) -> Recipe:
    """The shortest recipe that has all of `settings`: a preset of the same model with what differs, or all of them."""
    known = settings_of(TrainConfig)
    wanted = {name: value for name, value in settings.items() if name in known}
    defaults = {name: item.default for name, item in known.items()}
    options = [Recipe((), _differing(wanted, defaults))]
    for name in PRESETS:
        base = {**defaults, **preset(name)}
        if all(base[size] == wanted.get(size) for size in ("n_layer", "n_embd")):
            options.append(Recipe((name,), _differing(wanted, base)))
    return min(options, key=lambda item: len(item.settings))


def _differing(wanted: Mapping[str, object], base: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in wanted.items() if value != base[name]}


def new_folder(name: str) -> str:
    """A run folder that is not there yet, called after `name`."""
    stem = "out-" + (re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.") or "again")[:60]
    found, number = stem, 1
    while os.path.lexists(found):
        number += 1
        found = f"{stem}-{number}"
    return found


# ---------------------------------------------------------------------------------------------
# Verbs


def train(what: Recipe | str = Recipe(), /, **settings: object) -> str:
    """`lossgap train` for a recipe or a preset, with `settings` on top; empty where that cannot be trained."""
    return _of_recipe("train", what, settings)


def record(what: Recipe | str | Path, /, **settings: object) -> str:
    """`lossgap record` for a recipe, a run folder or a checkpoint."""
    return _of_recipe("record", what, settings)


def canary(**settings: object) -> str:
    """`lossgap canary`."""
    return command("canary", **settings)


def compare(*runs: str | Path, **flags: object) -> str:
    """`lossgap compare CONTROL TEST`."""
    return command("compare", *runs, **flags)


def explain(*runs: str | Path, **flags: object) -> str:
    """`lossgap explain CONTROL TEST`."""
    return command("explain", *runs, **flags)


def replay(bundle: str | Path, **flags: object) -> str:
    """`lossgap replay BUNDLE`."""
    return command("replay", bundle, **flags)


def _of_recipe(verb: str, what: Recipe | str | Path, settings: Mapping[str, object]) -> str:
    if isinstance(what, Recipe):
        return command(verb, *what.presets, **{**what.settings, **settings})
    return command(verb, what, **settings)


def command(verb: str, *runs: str | Path, **settings: object) -> str:
    """`lossgap VERB RUN ... --NAME=VALUE ...`, quoted for a shell; empty where the command itself would refuse it."""
    words = [*(_named(str(run)) for run in runs), *_flags(verb, settings)]
    try:
        check(verb, words)
    except LossgapError:
        return ""
    return shlex.join(["lossgap", verb, *words])


def extended(text: str, **settings: object) -> str:
    """The command `text` with more flags; empty where it would then be refused."""
    _, verb, *words = shlex.split(text)
    words += _flags(verb, settings)
    try:
        check(verb, words)
    except LossgapError:
        return ""
    return shlex.join(["lossgap", verb, *words])


def check(verb: str, words: Sequence[str]) -> None:
    """The words are a command line of `verb`. Raises ConfigError as the command does for its flags and settings."""
    own, rest = parted(words, FLAGS[verb])
    parse_arguments(own, FLAGS[verb])
    if verb not in OF_A_TRAINING:
        parse_arguments(rest, FLAGS[verb])
        return
    settings = parse_arguments(rest, TrainConfig)
    if settings.values.get("init_from") != "resume" and (
        not settings.positionals or _are_presets(settings.positionals)
    ):
        train_config(resolve_arguments(rest))


def _are_presets(names: Sequence[str]) -> bool:
    return all(name in PRESETS and not os.path.exists(name) for name in names)


def _named(run: str) -> str:
    """A run as a word that is not a flag."""
    return f"./{run}" if run.startswith("-") and run != "-" else run


def _flags(verb: str, settings: Mapping[str, object]) -> Iterator[str]:
    """The settings as flags; None is not given."""
    known = {**(settings_of(TrainConfig) if verb in OF_A_TRAINING else {}), **settings_of(FLAGS[verb])}
    for name, value in settings.items():
        item = known[name]
        if value is None:
            continue
        if item.is_switch and value is True:
            yield f"--{item.flag}"
        elif isinstance(value, Mapping):
            yield from (f"--{item.flag}={key}={','.join(map(str, part))}" for key, part in value.items())
        elif isinstance(value, list | tuple):
            texts = [str(part) for part in value]
            yield from (f"--{item.flag}={text}" for text in (texts if item.repeatable else [",".join(texts)]))
        else:
            yield f"--{item.flag}={value}"
