"""`Trial`: one setting timed against the recipe as it stands, in alternation, and whether it leaves the bits alone.

The recipe and the setting take turns, a few updates each, and a trial's speed is the median over the turns of the
ratio to the recipe's: what else the machine does falls on both. A compiled trial runs in a process of its own, which is
ended where the compilation takes longer than the time that is left.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Literal

import torch

from lossgap.config import TrainConfig
from lossgap.pace.stopwatch import Stand

Kind = Literal["speed", "measurement", "run"]
"""The thing that a setting changes: how fast the same run is, how it is measured, or the run itself."""
Evidence = Literal["measured", "computed", "inferred", "unknown"]
TURNS, UPDATES = 6, 3
"""Turns of recipe and setting at most, and updates in each."""
TRIAL = 4.0
"""Seconds after which a trial begins no new turn."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One setting, or several together, against the recipe."""

    name: str
    """As a command line says it: `--threads=1`."""
    settings: Mapping[str, object]
    kind: Kind
    ratio: float | None
    """The recipe's seconds per training token over this one's: above 1 is faster. None where it was not timed."""
    update: float | None
    """Seconds of one update."""
    start: float
    """Seconds that it adds to a start: a compilation."""
    same_bits: bool | None
    """True where the parameters after a few updates are those of the recipe, bit by bit; None where not compared."""
    loss: str
    """The expected change of the final loss, in words."""
    evidence: Evidence
    why: str = ""
    """Why it was not timed, or what else is to be known."""


def alternate(base: Stand, other: Stand, seconds: float = TRIAL) -> tuple[float, float]:
    """Time two stands in turns: seconds of an update of the other, and the base's time per token over the other's.

    Two turns at least, `TURNS` at most, and no new one after so many `seconds`.
    """
    end = time.perf_counter() + seconds
    count = max(1, min(UPDATES, int(seconds / TURNS / (base.slowest or 1.0))))
    ratios: list[float] = []
    updates: list[float] = []
    while len(ratios) < 2 or (len(ratios) < TURNS and time.perf_counter() < end):
        pair = (base, other) if len(ratios) % 2 == 0 else (other, base)
        found = {id(stand): statistics.median(stand.updates(count)) for stand in pair}
        per_token = [found[id(stand)] / stand.config.tokens_per_iter for stand in (base, other)]
        ratios.append(per_token[0] / per_token[1])
        updates.append(found[id(other)])
    return statistics.median(updates), statistics.median(ratios)


def first_bits(stand: Stand) -> bytes:
    """The bits of all parameters of a fresh stand after its first updates."""
    stand.updates(1)
    return stand.digest()


def compiled(config: TrainConfig, seconds: float) -> tuple[float, float] | str:
    """Seconds of an update once compiled, and of the compilation; or why they are not known.

    At most so many `seconds` are spent on it.
    """
    from lossgap.attribution.local import attend

    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, mp_context=context, initializer=attend)
    try:
        job = pool.submit(_compiled, dataclasses.replace(config, compile=True).to_dict())
        return job.result(timeout=max(seconds, 1.0))
    except FutureTimeout:
        return f"its compilation takes longer than {seconds:.0f} s here"
    except Exception as error:  # noqa: BLE001  # whatever a compiler says: the trial is left out with its reason
        return f"it does not compile here ({type(error).__name__})"
    finally:
        for process in list((pool._processes or {}).values()):
            with contextlib.suppress(OSError, ValueError):
                process.kill()
        pool.shutdown(wait=True, cancel_futures=True)


def _compiled(content: dict[str, object]) -> tuple[float, float]:
    """In a process of its own: the first updates compile, the later ones are timed."""
    content["checkpoint_at"] = ()
    stand = Stand(TrainConfig.from_dict(content))
    if not stand.numerics.compile:
        raise RuntimeError("not compiled")
    start = time.perf_counter()
    first = stand.updates(2 * UPDATES)
    once = statistics.median(first)
    return once, max(0.0, time.perf_counter() - start - once * stand.iteration)


def thread_counts(cores: int, now: int) -> Sequence[int]:
    """Thread counts worth a trial beside `now`: 1, 2, 4, ... and all cores."""
    found = {2**k for k in range(cores.bit_length()) if 2**k <= cores} | {cores}
    return sorted(found - {now})


def free_memory(device: str) -> int:
    """Bytes that are free on a device."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)
