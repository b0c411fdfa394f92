"""Which words of a command line are the control's runs and which the test's.

    A1 A2 A3 : B1 B2            a colon that stands alone separates the two sides
    A1 A2 A3 --against B1 B2    the same, for shell patterns: a/*.log --against b/*.log
    A_FOLDER : B_FOLDER         a folder that is not itself a run stands for all the runs in it

Without either, the first run is the control and each further one a test of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lossgap.errors import ConfigError
from lossgap.runs.run_json import RUN_FILE
from lossgap.strangers import one_line, shown

COLON = ":"
AGAINST = "--against"
LOGS = (".log", ".txt", ".out", ".jsonl", ".csv", ".tsv", ".json")
"""Endings of a log's name, in a folder of logs."""


@dataclass(frozen=True)
class Sides:
    """The runs that were named, side by side."""

    control: tuple[str, ...]
    test: tuple[str, ...]


def with_colons(words: Sequence[str]) -> list[str]:
    """The same words with `:` for every `--against`."""
    return [COLON if word == AGAINST else word for word in words]


def sides(words: Sequence[str]) -> Sides | None:
    """The two sides, folders of runs expanded; None if there is no colon among the words.

    Raises ConfigError: `two-sides` with a second colon or an empty side, `folder-without-runs`.
    """
    if COLON not in words:
        return None
    at = list(words).index(COLON)
    control, test = list(words[:at]), list(words[at + 1 :])
    if COLON in test or not control or not test:
        raise ConfigError(
            "two-sides",
            f"{len(control)} runs before the colon and {len([word for word in test if word != COLON])} after it, "
            f"{list(words).count(COLON)} colons: give one colon (or --against) with runs on both sides",
        )
    return Sides(
        tuple(run for word in control for run in expand(word)), tuple(run for word in test for run in expand(word))
    )


def expand(word: str) -> list[str]:
    """The runs of a folder of runs, sorted by name; any other word as it is. Raises `folder-without-runs`."""
    folder = Path(word)
    try:
        if not folder.is_dir() or _is_run(folder):
            return [word]
        entries = sorted(folder.iterdir())
    except (OSError, ValueError):
        return [word]
    found = [str(item) for item in entries if _is_run(item) or (item.is_file() and item.suffix.lower() in LOGS)]
    if not found:
        raise ConfigError(
            "folder-without-runs",
            f"{one_line(shown(word))} is a folder without a run or a log in it; name the runs, or their folder",
        )
    return found


def _is_run(path: Path) -> bool:
    """True if a folder is one run: a run folder of ours, or one that a reader knows."""
    if not path.is_dir():
        return False
    if (path / RUN_FILE).exists():
        return True
    from lossgap.errors import LossgapError
    from lossgap.runs.readers import detect
    from lossgap.runs.readers.base import Source

    try:
        detect.detect(Source(path=path, name=path.name))
    except LossgapError:
        return False
    return True
