"""Sources that name a training, finished or planned: a run folder, a checkpoint, or configs, presets and flags."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from lossgap.arguments import Given, asks_for_help, read_arguments
from lossgap.config import TrainConfig
from lossgap.config_file import resolve_arguments, train_config
from lossgap.errors import BundleError, ConfigError
from lossgap.runs.run_json import RUN_FILE, read_run_json
from lossgap.runs.values import as_mapping
from lossgap.settings import settings_of
from lossgap.training import checkpoint as checkpoints
from lossgap.training.checkpoint import Checkpoint
from lossgap.training.resume import ABOUT_THE_START, config_of, plan

CHECKPOINT_SUFFIXES = (".pt", ".pth", ".ckpt")


def read_given(argv: Sequence[str]) -> Given:
    """Read what `lossgap record` was given beside its own flags: one run folder or checkpoint, or configs and presets.

    Raises ConfigError as `lossgap train`'s command line does, and `too-many-arguments`.
    """
    items = [] if asks_for_help(argv) else list(read_arguments(argv, TrainConfig))
    named = tuple(item for item in items if isinstance(item, str))
    if not any(_is_run(Path(name)) for name in named):
        return resolve_arguments(argv)
    if len(named) > 1:
        raise ConfigError(
            "too-many-arguments",
            f"{len(named)} were given: one run folder or checkpoint is taken, or configs and presets; name one "
            "(lossgap record takes another start with --from)",
        )
    flags = [item for item in items if not isinstance(item, str)]
    return Given({flag.name: flag.value for flag in flags}, {flag.name: flag.source for flag in flags}, named)


def _is_run(path: Path) -> bool:
    """It is a run folder or a checkpoint, rather than a config file or a preset."""
    return checkpoints.exists(path) and (path.is_dir() or path.suffix in CHECKPOINT_SUFFIXES)


def source_of(given: Given, start: str) -> tuple[TrainConfig, Checkpoint | None]:
    """The config and the checkpoint that a run, or configs and `start`, mean.

    Raises BundleError (`record-needs-checkpoint`), and what opening config and checkpoint raises.
    """
    flags = {name: value for name, value in given.values.items() if name not in ABOUT_THE_START}
    run = next((Path(name) for name in given.positionals if _is_run(Path(name))), None)
    if run is not None and not run.is_dir():
        start = start or str(run)
    if start:
        planned = plan(dataclasses.replace(given, values={**flags, "resume": start}))
        return planned.config, planned.checkpoint
    values = {**(_config_of_run(run) if run is not None else given.values), **flags}
    if str(values.get("init_from")).startswith("gpt2"):
        raise BundleError(
            "record-needs-checkpoint",
            f"init_from={values['init_from']}: a training that begins with GPT-2's weights is recorded from a "
            "checkpoint; write its first one with --checkpoint_at=0 and give it with --from",
        )
    return train_config(dataclasses.replace(given, values={**values, "init_from": "scratch", "resume": ""})), None


def _config_of_run(run: Path) -> dict[str, object]:
    """The settings of a run folder, by its record or else its newest checkpoint."""
    if not checkpoints.exists(run / RUN_FILE):
        return config_of(checkpoints.find(run)).to_dict()
    recorded = as_mapping(read_run_json(run).get("config"))
    return {name: value for name, value in recorded.items() if name in settings_of(TrainConfig)}
