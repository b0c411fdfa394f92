"""How a run ended, or that it is still running."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from lossgap.runs.lock import is_locked

Status = Literal["running", "interrupted", "finished", "failed"]


def true_status(folder: Path, recorded: object) -> str:
    """The status in `run.json`, corrected for a killed writer; `unknown` if the record says nothing known.

    A killed process cannot write that it was killed: `running` without a lock means `interrupted`. Where
    the file system has no locks, `running` stands.
    """
    if not isinstance(recorded, str) or recorded not in get_args(Status):
        return "unknown"
    if recorded == "running" and is_locked(folder) is False:
        return "interrupted"
    return recorded
