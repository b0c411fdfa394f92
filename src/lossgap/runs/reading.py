"""`Reading`: the runs that one source holds, as they were understood. `lossgap read` shows it."""

from __future__ import annotations

from dataclasses import dataclass

from lossgap.runs.run import Run
from lossgap.shown import Shown


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Reading(Shown):
    """The result of reading."""

    source: str
    """As the user named it: a path, a preset, `-`."""
    runs: tuple[Run, ...]
    """At least one, in the order of the source."""
