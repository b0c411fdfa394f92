"""`UpdateClock`: seconds of one update of each recipe on this machine, kept so that a search that goes on has its arms.

A timing that is older than `STALE` is taken again, and the new one holds where the two disagree by more than `AGREES`:
what was timed while the machine was busy must not decide for ever. A search also takes what its trainings really took
(`real_update`) for a recipe whose timing was wrong by a factor of 2.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import time
from pathlib import Path

from lossgap.config import TrainConfig
from lossgap.corpus import Corpus
from lossgap.errors import LossgapError
from lossgap.pace.stopwatch import Stand
from lossgap.runs.run import read_run
from lossgap.runs.run_json import replace_file
from lossgap.settings import settings_of

STALE = 3600.0
"""Seconds after which a timing is taken again."""
AGREES = 1.25
"""Two timings within this factor are one: the older stays, and with it the arms of the search."""
OF_NO_WEIGHT = ("seed", "learning_rate", "min_lr", "muon_lr", "muon_momentum", "weight_decay", "beta1", "beta2")
"""Settings beside those of the schedule that leave the seconds of an update alone."""
MOST_BYTES = 1 << 20


class UpdateClock:
    """The timings of one search, in one file."""

    def __init__(self, path: Path, threads: int) -> None:
        self.path, self.threads = path, threads
        self.known = _read(path)

    def seconds(self, config: TrainConfig, corpus: Corpus) -> float:
        """Seconds of one update: kept, or timed now. Raises what a training's start raises."""
        key, now = _key(config, self.threads), time.time()
        kept = self.known.get(key)
        if kept is not None and 0 <= now - kept[1] <= STALE:
            return kept[0]
        found = update_seconds(config, corpus)
        if kept is not None and max(found / kept[0], kept[0] / found) <= AGREES:
            found = kept[0]
        self.known[key] = (found, now)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(self.path) as stream:
            stream.write(json.dumps(self.known).encode())
        return found


def update_seconds(config: TrainConfig, corpus: Corpus, seconds: float = 1.5) -> float:
    """Seconds of one update here: the median of nine, or of those (three at least) that begin in time."""
    stand, end = Stand(config, corpus), time.perf_counter() + seconds
    found = stand.updates(3)
    while len(found) < 9 and time.perf_counter() < end:
        found += stand.updates(1)
    return statistics.median(found)


def real_update(run: str) -> float | None:
    """Mean seconds of an update of a training that ended, evaluations apart; None where its record does not tell."""
    try:
        rows = read_run(Path(run)).iters.select("iter", "seconds").drop_nulls().rows()
    except (LossgapError, OSError):  # it may lie on another machine
        return None
    if len(rows) < 2 or rows[-1][0] <= rows[0][0]:
        return None
    mean = float((rows[-1][1] - rows[0][1]) / (rows[-1][0] - rows[0][0]))
    return mean if mean > 0 and math.isfinite(mean) else None


def _key(config: TrainConfig, threads: int) -> str:
    schedule = ("schedule", "length")
    values = {
        name: getattr(config, name)
        for name, item in settings_of(TrainConfig).items()
        if item.meaning and item.factor not in schedule and name not in OF_NO_WEIGHT
    }
    return hashlib.sha256(json.dumps([values, threads], sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> dict[str, tuple[float, float]]:
    """The timings of the file, as (seconds, time of day); of a damaged one none."""
    try:
        content = json.loads(path.read_bytes()[:MOST_BYTES])
    except (OSError, ValueError, RecursionError):
        return {}
    found = {}
    for key, pair in content.items() if isinstance(content, dict) else ():
        numbers = isinstance(pair, list) and len(pair) == 2 and all(isinstance(v, float) for v in pair)
        if numbers and all(math.isfinite(v) and v > 0 for v in pair):
            found[key] = (pair[0], pair[1])
    return found
