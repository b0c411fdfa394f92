"""Free-running: the recorded and the replayed losses of one stretch against the envelope, and how they diverge.

    found = trajectory(recorded, replayed, envelope)
    found.is_inside                  # at every iteration
    found.first, found.shape         # the first iteration outside, and the shape of the departure there

Shapes of a departure, by where it begins (PyTorch's own reproducibility threads and Ascend's msprobe localise alike):

at the start    iteration 0: no update was made yet, so the forward pass, the initial weights or the data differ
first update    iteration 1: equal before an update and apart after it, so the backward pass or the optimizer differs
gradual         it grew out of the envelope over many iterations: rounding, larger than the twins', or a small fault in
                the backward pass or the optimizer
sudden          it left the envelope in one step: a fault, other data, or another setting from there on

"Iteration 0" is the first recorded one: in a stretch from a checkpoint, too, no update of the replay lies before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from lossgap.parity.envelope import Envelope

Shape = Literal["at the start", "first update", "gradual", "sudden"]

JUMP = 3.0
"""A departure is sudden if its step out of the envelope is this many times the envelope's width."""

MEANING: dict[Shape, str] = {
    "at the start": "no update was made yet: the forward pass, the initial weights or the data differ",
    "first update": "equal before the first update: the backward pass or the optimizer differs",
    "gradual": "it grew over many iterations: rounding larger than the twins', or a small fault in the backward pass "
    "or the optimizer",
    "sudden": "it came in one step: a fault, other data, or another setting from there on",
}


@dataclass(frozen=True)
class Place:
    """One iteration: both losses in nats per token, and what the envelope allows the replayed one to be."""

    iteration: int
    recorded: float
    replayed: float
    low: float | None
    high: float | None

    @property
    def difference(self) -> float:
        """Replayed minus recorded."""
        return self.replayed - self.recorded

    @property
    def is_inside(self) -> bool:
        """True if the envelope allows it; without an envelope, if both are equal."""
        if not (math.isfinite(self.recorded) and math.isfinite(self.replayed)):
            return _alike(self.recorded, self.replayed)
        if self.low is None or self.high is None:
            return self.difference == 0
        return self.low <= self.replayed <= self.high


def _alike(first: float, second: float) -> bool:
    return first == second or (math.isnan(first) and math.isnan(second))


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """Both trainings of the stretch."""

    places: tuple[Place, ...]
    envelope: Envelope | None
    why: str = ""
    """Why there is no envelope."""

    @property
    def first(self) -> int | None:
        """The first iteration outside of the envelope."""
        return next((place.iteration for place in self.places if not place.is_inside), None)

    @property
    def is_inside(self) -> bool:
        """True if the envelope holds both at every iteration."""
        return self.first is None

    @property
    def is_equal(self) -> bool:
        """True if all losses are equal to the last bit."""
        return all(_alike(place.recorded, place.replayed) for place in self.places)

    @property
    def shape(self) -> Shape | None:
        """The shape of the departure; None inside the envelope."""
        if self.first is None:
            return None
        at = self.first - self.places[0].iteration
        if at < 2:
            return "at the start" if at == 0 else "first update"
        before, here = self.places[at - 1], self.places[at]
        step = abs(here.difference - before.difference)
        width = 0.0 if here.high is None else here.high - here.recorded
        return "sudden" if not step < JUMP * width else "gradual"

    @property
    def bounds(self) -> Iterator[tuple[int, float]]:
        """For each iteration what the hardware can make, as far as this shows: the envelope, or the difference where
        it is larger."""
        for place in self.places:
            width = 0.0 if place.high is None else place.high - place.recorded
            yield place.iteration, max(width, abs(place.difference))


def trajectory(
    first: int, recorded: Sequence[float], replayed: Sequence[float], envelope: Envelope | str | None
) -> Trajectory:
    """Put both losses (n,) and the envelope side by side; `envelope` may be the reason why there is none."""
    found = envelope if isinstance(envelope, Envelope) else None
    places = []
    for at, (old, new) in enumerate(zip(recorded, replayed, strict=True)):
        known = found is not None and math.isfinite(old)
        width = found.width[at] if found is not None else math.nan
        places.append(Place(first + at, old, new, old - width if known else None, old + width if known else None))
    return Trajectory(places=tuple(places), envelope=found, why=envelope if isinstance(envelope, str) else "")
