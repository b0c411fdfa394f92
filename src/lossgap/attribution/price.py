"""`Price`: what an experiment would take and tell, known before anything of it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lossgap.attribution.explanation import Scale
from lossgap.attribution.factor import NotSwitched
from lossgap.shown import Shown


@dataclass(frozen=True, kw_only=True)
class ShapeTiming:
    """A few measured iterations of one shape of model and batch."""

    shape: str
    """As people read it: `4 layers, 128 channels, context 64, batch 12`."""
    arms: int
    """Arms of this shape that are still to be trained."""
    iterations: int
    """The iterations of one such arm."""
    seconds_per_iter: float
    """Measured with as many arms at once, and as many threads each, as the experiment will have."""


@dataclass(frozen=True, repr=False, kw_only=True)
class Price(Shown):
    """An experiment before its start."""

    kind: Literal["factorial", "permutations"]
    factors: tuple[str, ...]
    seeds: int
    """The seeds of the confirmation."""
    arms_per_seed: int
    repeated: int = 0
    """Arms that are trained again where every arm has a seed of its own; see `DesignSummary`."""
    arms: int
    """In all, screening included."""
    cached: int
    """The number of these arms that an earlier experiment has trained."""
    seconds: float
    """Predicted for those that are left, on this machine."""
    at_once: int
    """Arms that run at the same time."""
    threads: int
    """The threads of each arm."""
    resolvable: float | None
    """Half width of a contribution's interval, nats per token, that is to be expected; None if no spread is known."""
    resolvable_why: str = ""
    """Where the expectation comes from; or, without one, why."""
    asked: str
    """The budget as the user gave it."""
    scale: Scale
    true_scale_seconds: float | None = None
    """Predicted for the same arms at the true scale; None where nothing is scaled, or where it is not known."""
    timings: tuple[ShapeTiming, ...] = ()
    not_switched: tuple[NotSwitched, ...] = ()
    notes: tuple[str, ...] = ()
    """The notes that a user needs before the start, one sentence each."""
