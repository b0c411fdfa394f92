"""A config file that `lossgap train FILE` takes, written from settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lossgap.config import TrainConfig
from lossgap.errors import LossgapError
from lossgap.strangers import one_line


def config_text(values: Mapping[str, object], title: str, notes: Mapping[str, str]) -> str:
    """Every setting that is not at its default, under a title, each with its note as a comment."""
    lines = [f"# {one_line(title)}"]
    for name, value in values.items():
        if value != getattr(TrainConfig, name) and not isinstance(value, list):
            lines.append(f"{name} = {value!r}" + (f"  # {one_line(notes[name])}" if name in notes else ""))
    return "\n".join(lines) + "\n"


def write_config(path: Path, text: str) -> None:
    """Write a config file. Raises LossgapError `not-written`."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise LossgapError("not-written", f"{one_line(str(path))} could not be written: {reason}") from error
