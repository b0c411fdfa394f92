"""`replay`: repeat a recorded stretch here, and separate hardware and numerics from every other cause.

1. Numerics: the recording's where this device has them, else what was asked for.
2. Each recorded step, teacher-forced, against float64 (steps.py).
3. The stretch, free-running, from the recorded start.
4. Twins of it, and the envelope that they make (envelope.py); the losses against it (trajectory.py).
5. The verdict: `different` if a step or a loss is out of bounds; `equivalent` if all are within and the envelope is
   no wider than the margin; `inconclusive` if it is wider, or if there is none; `not-comparable` if no step could be
   judged.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from lossgap.comparison.comparison import NextStep
from lossgap.comparison.verdict import Word
from lossgap.config import TrainConfig
from lossgap.errors import ConfigError
from lossgap.machine.device import resolve_device
from lossgap.machine.probe import environment
from lossgap.options import MARGIN, ReplayOptions
from lossgap.parity import next_step
from lossgap.parity.bundle import Bundle
from lossgap.parity.bundle_file import read_bundle
from lossgap.parity.envelope import FEWEST_TWINS, Envelope, measure
from lossgap.parity.replay_result import Evaluated, FirstDeparture, HardwareBound, Replay
from lossgap.parity.rounding import PRECISION, arithmetic
from lossgap.parity.steps import StepCheck, Steps, judge
from lossgap.parity.stretch import Stretch, Trace
from lossgap.parity.trajectory import MEANING, Shape, Trajectory, trajectory
from lossgap.training.numerics import Departure, Numerics, resolve

Say = Callable[[str], None]

DIRECTIONS: dict[Shape, Any] = {"at the start": "forward", "first update": None, "gradual": None, "sudden": None}
"""The direction that the losses alone suggest."""
MOST_TWINS = 1000


def replay(source: str | Path, asked: ReplayOptions, *, say: Say = lambda line: None) -> Replay:
    """Replay the bundle `source`. `say` is told, in a line, what takes its time.

    Raises BundleError as `read_bundle`, ConfigError (`bad-setting`, `bad-choice`), MachineError.
    """
    _check(asked)
    bundle = _shortened(read_bundle(Path(source)), asked.iters)
    return _Replaying(str(source), bundle[0], bundle[1], asked, say).run()


def _check(asked: ReplayOptions) -> None:
    if not FEWEST_TWINS <= asked.twins <= MOST_TWINS:
        raise ConfigError(
            "bad-setting",
            f"--twins={asked.twins}: twins must be from {FEWEST_TWINS} to {MOST_TWINS}; leave it out for the fewest",
        )
    if not asked.margin > 0:
        raise ConfigError("bad-setting", f"--margin={asked.margin}: margin must be above 0, e.g. its default {MARGIN}")


def _shortened(bundle: Bundle, iters: int) -> tuple[Bundle, int]:
    """The first `iters` iterations of a bundle, and how many it has."""
    recorded = bundle.iterations
    if iters < 0 or iters > recorded:
        raise ConfigError(
            "bad-setting",
            f"--iters={iters}: the bundle has {recorded} iterations; give 1 to {recorded}, or leave it out for all",
        )
    if not iters or iters == recorded:
        return bundle, recorded
    last = bundle.first + iters
    shorter = dataclasses.replace(
        bundle,
        losses=bundle.losses[:iters],
        grad_norms=bundle.grad_norms[:iters],
        windows=bundle.windows[:iters],
        evaluations=tuple(item for item in bundle.evaluations if item[0] <= last),
        points=tuple(point for point in bundle.points if point.iteration < last),
    )
    return shorter, recorded


def numerics_here(bundle: Bundle, asked: ReplayOptions) -> tuple[Numerics, list[Departure]]:
    """The numerics of the replay, and what could not be as asked. Raises ConfigError, MachineError."""
    before = bundle.numerics
    device = resolve_device(asked.device).value
    same_kind = torch.device(device).type == torch.device(str(before["device"])).type
    recorded_threads = before.get("threads")
    fits = isinstance(recorded_threads, int) and recorded_threads <= torch.get_num_threads()
    wanted = {
        "rng": "counter",  # the tokens are in the bundle, so nothing is drawn, and any device will do
        "init_from": "scratch",
        "device": device,
        "dtype": before["dtype"] if asked.dtype == "auto" else asked.dtype,
        "compile": bool(before["compile"]) and same_kind if asked.compile is None else asked.compile,
        "attention": asked.attention,
        "adamw": asked.adamw,
        "threads": asked.threads or (recorded_threads if fits else torch.get_num_threads()),
        "tf32": bool(before["tf32"]) and device.startswith("cuda") if asked.tf32 is None else asked.tf32,
    }
    return resolve(TrainConfig.from_dict({**bundle.config.to_dict(), **wanted}), device, 1, before)


class _Replaying:
    def __init__(self, source: str, bundle: Bundle, recorded_iterations: int, asked: ReplayOptions, say: Say) -> None:
        self.source, self.bundle, self.asked, self.say = source, bundle, asked, say
        self.recorded_iterations = recorded_iterations
        self.numerics, self.departures = numerics_here(bundle, asked)
        self.started = time.perf_counter()

    def run(self) -> Replay:
        bundle = self.bundle
        steps = judge(bundle, self.numerics, say=self.say)
        trace, seconds = self._free_run()
        envelope = self._envelope(trace, seconds, kernels=steps.first is None)
        parts = trajectory(bundle.first, bundle.losses, trace.losses, envelope)
        verdict, reasons, settle = verdict_of(steps, parts, self.asked.margin)
        return Replay(
            source=self.source,
            verdict=verdict,
            reasons=reasons,
            settle=settle,
            margin=self.asked.margin,
            fail_on_difference=self.asked.fail_on_difference,
            steps=steps,
            trajectory=parts,
            hardware_bound=hardware_bound(verdict, parts),
            first_departure=first_departure(steps, parts),
            evaluations=_evaluated(bundle, trace),
            numerics_recorded=bundle.numerics,
            numerics=self.numerics,
            departures=tuple(self.departures),
            machine_recorded=bundle.environment,
            machine_replayed=environment(self.numerics.device),
            version_recorded=bundle.version,
            first=bundle.first,
            iterations=bundle.iterations,
            recorded_iterations=self.recorded_iterations,
            max_iters=bundle.config.max_iters,
            seconds_per_iter=seconds,
            seconds=time.perf_counter() - self.started,
            beyond=self._beyond(seconds),
        )

    def _free_run(self) -> tuple[Trace, float]:
        """The replay itself, and the seconds of one of its iterations."""
        bundle = self.bundle
        self.say(f"training the {bundle.iterations} recorded iterations")
        stretch = Stretch(bundle.job(), self.numerics)
        if self.numerics.compile:
            stretch.run(bundle.start, 1)  # compiles
        began = time.perf_counter()
        trace = stretch.run(
            bundle.start, bundle.iterations, evaluate={iteration for iteration, _, _ in bundle.evaluations}
        )
        return trace, (time.perf_counter() - began) / bundle.iterations

    def _envelope(self, trace: Trace, seconds: float, *, kernels: bool) -> Envelope | str:
        bundle, twins = self.bundle, self.asked.twins
        runs = twins * (2 if self._is_paired else 1)
        what = "pairs of twins" if self._is_paired else "twins"
        self.say(f"training {twins} {what} of them, about {seconds * runs * bundle.iterations:,.0f} s")
        return measure(
            bundle.job(),
            bundle.start,
            recorded_here(bundle, self.numerics),
            self.numerics,
            trace.losses,
            twins=twins,
            kernels=kernels,
            say=self.say,
        )

    @property
    def _is_paired(self) -> bool:
        return PRECISION[arithmetic(recorded_here(self.bundle, self.numerics))] != PRECISION[arithmetic(self.numerics)]

    def _beyond(self, seconds: float) -> NextStep:
        """Recording the rest of the training, or a stretch from a later checkpoint, and what replaying that costs."""
        return next_step.beyond(
            self.bundle,
            runs=1 + self.asked.twins * (2 if self._is_paired else 1),
            recorded_iterations=self.recorded_iterations,
            seconds=seconds,
        )


def recorded_here(bundle: Bundle, numerics: Numerics) -> Numerics:
    """The recording's dtype with this machine's kernels."""
    return dataclasses.replace(
        numerics, dtype=str(bundle.numerics["dtype"]), tf32=bool(bundle.numerics["tf32"]), compile=False
    )


# ---------------------------------------------------------------------------------------------
# The verdict


def verdict_of(steps: Steps, parts: Trajectory, margin: float) -> tuple[Word, tuple[str, ...], str]:
    """The verdict, its reasons, and what would decide it."""
    judged = [check for check in steps.checks if check.verdict != "not judged"]
    if not judged:
        why = dict.fromkeys(check.why for check in steps.checks)
        return "not-comparable", tuple(why), "Record the stretch again with this version of lossgap."
    if steps.first is not None or not parts.is_inside:
        return "different", tuple(_differences(steps, parts)), ""
    reasons = tuple(_agreements(steps, parts))
    if parts.envelope is None:
        return "inconclusive", (parts.why, *reasons), "Replay fewer iterations (--iters), or in a finer dtype."
    width = parts.envelope.widest
    if width > margin:
        too_wide = f"rounding alone may make {width:.2g} nats by then, more than the margin of {margin:g}"
        return "inconclusive", (too_wide, *reasons), _narrower(parts, margin)
    return "equivalent", reasons, ""


def _differences(steps: Steps, parts: Trajectory) -> list[str]:
    reasons = []
    first = steps.first
    if first is not None:
        others = sum(check.verdict == "out of bounds" for check in steps.checks) - 1
        more = f"; {others} more values are out of bounds" if others else ""
        reasons.append(f"{place_of(first)} is {_off(first)}{more}")
    if parts.first is not None and parts.shape is not None:
        here = next(place for place in parts.places if place.iteration == parts.first)
        apart = f"the losses diverge at iteration {parts.first} ({here.difference:+.2g}), {parts.shape}"
        reasons.append(f"{apart}: {MEANING[parts.shape]}")
    else:
        reasons.append("the losses stay within the envelope all the same: the stretch is too short to show it")
    return reasons


def _agreements(steps: Steps, parts: Trajectory) -> list[str]:
    count = len({check.iteration for check in steps.checks})
    reasons = [f"every value of {count} recorded step{'s' * (count != 1)} is within what {steps.arithmetic} allows"]
    if parts.is_equal:
        reasons.append("all losses are equal to the last bit")
    elif parts.envelope is not None:
        apart = max(abs(place.difference) for place in parts.places)
        reasons.append(f"the losses differ by at most {apart:.2g}, and rounding explains that")
    if steps.below is not None:
        reasons.append(
            f"{place_of(steps.below)} differs by {steps.below.error:.2g}, below what {steps.arithmetic} can show: "
            "replay in float32 to judge it"
        )
    return reasons


def place_of(check: StepCheck) -> str:
    """Which value of which step, in words."""
    return f"the {check.what} of {check.name} ({check.direction}) at iteration {check.iteration}"


def _off(check: StepCheck) -> str:
    if check.error is None:
        return f"out of bounds: {check.why}"
    allowed = "nothing" if not check.allowed else f"{check.allowed:.2g}"
    return f"off by {check.error:.2g}, {allowed} is allowed{f' ({check.why})' if check.why else ''}"


def _narrower(parts: Trajectory, margin: float) -> str:
    assert parts.envelope is not None
    within = [width <= margin for width in parts.envelope.width]
    count = within.index(False) if False in within else len(within)
    shorter = f"with --iters={count}, over which it stays within the margin, " if count else ""
    return f"Replay {shorter}with a larger --margin, or in a finer dtype."


def hardware_bound(verdict: Word, parts: Trajectory) -> HardwareBound | None:
    """The largest effect of the hardware on the recorded iterations; None where there was something else to see."""
    if verdict in ("different", "not-comparable") or parts.envelope is None:
        return None
    at, value = max(parts.bounds, key=lambda item: item[1])
    return HardwareBound(value=value, at_iteration=at)


def first_departure(steps: Steps, parts: Trajectory) -> FirstDeparture | None:
    """The place where the replay first departs. A wrong value of a step has a name; a loss has none.

    The losses may diverge before the recorded step that shows why.
    """
    wrong = steps.first
    if wrong is not None:
        return FirstDeparture(
            iteration=wrong.iteration if parts.first is None else min(wrong.iteration, parts.first),
            layer=wrong.name,
            direction=wrong.direction,
            what=wrong.what,
            why=_off(wrong),
        )
    if parts.first is None or parts.shape is None:
        return None
    return FirstDeparture(
        iteration=parts.first,
        layer=None,
        direction=DIRECTIONS[parts.shape],
        what=f"losses, {parts.shape}",
        why=MEANING[parts.shape],
    )


def _evaluated(bundle: Bundle, trace: Trace) -> tuple[Evaluated, ...]:
    replayed: Mapping[tuple[int, str], float] = {(at, split): loss for at, split, loss in trace.evaluations}
    return tuple(
        Evaluated(iteration=at, split=split, recorded=loss, replayed=replayed[at, split])
        for at, split, loss in bundle.evaluations
        if (at, split) in replayed
    )
