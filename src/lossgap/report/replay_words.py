"""The sentences and cells that the view of a replay is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lossgap.parity.envelope import FLOOR, LEVEL
from lossgap.parity.replay_result import Replay
from lossgap.parity.steps import StepCheck
from lossgap.report.words import sentence

UNKNOWN = "?"
WORDS = {
    "different": "different: the two differ by more than rounding explains",
    "equivalent": "equivalent: rounding explains the whole difference",
    "inconclusive": "inconclusive: rounding alone could make more than the margin",
    "not-comparable": "not comparable",
}
SIDES: tuple[tuple[Literal["control", "test"], str], ...] = (("control", "recorded"), ("test", "replayed"))
"""The machines in the colours of the runs."""
FACTS = (
    *("device", "hardware", "dtype", "tf32", "compile", "attention", "adamw", "threads", "instruction set"),
    *("torch", "cuda", "gpu_driver", "os", "lossgap"),
)


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One fact of both machines, as text."""

    name: str
    recorded: str
    replayed: str

    @property
    def differs(self) -> bool:
        """True if it is not the same on both."""
        return self.recorded != self.replayed


def facts(found: Replay) -> list[Fact]:
    """Facts about the two machines and their numerics, as far as each is known."""
    here = _facts(found.machine_replayed, found.numerics.to_dict())
    there = _facts(found.machine_recorded, found.numerics_recorded) | {"lossgap": found.version_recorded}
    rows = [Fact(name=name, recorded=there[name], replayed=here[name]) for name in FACTS]
    return [row for row in rows if not row.recorded == row.replayed == UNKNOWN]


def _facts(machine: Mapping[str, object], numerics: Mapping[str, object]) -> dict[str, str]:
    values = {
        **{name: numerics.get(name) for name in FACTS},
        **{name: machine.get(name) for name in ("torch", "cuda", "gpu_driver", "os", "lossgap")},
        "hardware": machine.get("gpu") or machine.get("cpu"),
        "instruction set": numerics.get("cpu_capability"),
    }
    return {name: UNKNOWN if value is None else str(value) for name, value in values.items()}


def headline(found: Replay) -> str:
    """The answer in a sentence that a learner understands."""
    if found.verdict == "equivalent":
        return f"This machine computes the recorded training as the other one did: {_apart(found)}."
    if found.verdict == "different":
        return f"This machine does not compute the recorded training as the other one did: {_where(found)}."
    whether = "Whether this machine computes the recorded training as the other one did cannot be told"
    return f"{whether}: {found.reasons[0]}."


def _apart(found: Replay) -> str:
    iterations = f"{found.iterations:,} iteration{'s' * (found.iterations != 1)}"
    if found.trajectory.is_equal:
        return f"the losses of {iterations} are equal to the last bit"
    apart = max((abs(place.difference) for place in found.trajectory.places), default=0.0)
    return f"over {iterations} the losses differ by at most {apart:.2g}, which rounding explains"


def _where(found: Replay) -> str:
    first = found.first_departure
    if first is None:
        return found.reasons[0]
    if first.layer is None:
        return (
            f"every recorded step is right, but the losses differ from iteration {first.iteration} on ({found.shape})"
        )
    place = f"{first.layer} ({first.direction})"
    return f"the first difference is in the {first.what} of {place} at iteration {first.iteration}"


def plot_label(found: Replay) -> str:
    """The chart of the losses in one sentence."""
    parts = found.trajectory
    apart = max((abs(place.difference) for place in parts.places), default=0.0)
    said = f"Replayed minus recorded loss over {found.iterations:,} iterations, at most {apart:.2g} apart"
    if parts.envelope is None:
        return f"{said}; there is no envelope."
    outside = "inside of it throughout" if parts.first is None else f"outside of it from iteration {parts.first} on"
    return f"{said}; the envelope is at its widest {parts.envelope.widest:.2g}, and the difference is {outside}."


def layers_label(found: Replay) -> str:
    """The chart of the layers in one sentence."""
    wrong = [check.name for check in found.layers if check.verdict == "out of bounds"]
    said = f"Error over allowed of {len(found.layers):,} layers and directions"
    return f"{said}, none out of bounds." if not wrong else f"{said}; out of bounds: {', '.join(wrong[:5])}."


def bound(found: Replay) -> str:
    """One sentence on how much the hardware can make."""
    if found.hardware_bound is None:
        return f"unknown: {found.no_bound}."
    at = found.hardware_bound.at_iteration
    observed = "; nothing was observed" if found.trajectory.is_equal else ""
    return f"up to {found.hardware_bound.value:.2g} nats per token could come from it, at iteration {at}{observed}."


def envelope(found: Replay) -> str:
    """How the envelope came about, in one sentence."""
    made = found.trajectory.envelope
    if made is None:
        return sentence(f"no envelope: {found.trajectory.why}")
    which = "pairs of twins, one in each dtype" if made.paired else f"twins in {made.coarser}"
    return (
        f"From {made.twins} {which}; at its widest ±{made.widest:.2g}. Rounding alone leaves it in "
        f"{100 * LEVEL:g}% of stretches; {FLOOR} units in the last place of the loss are always inside."
    )


def evaluations(found: Replay) -> list[str]:
    """The last evaluation of both splits, in words."""
    if not found.evaluations:
        return []
    last = max(item.iteration for item in found.evaluations)
    return [
        f"{item.split} loss before iteration {item.iteration}: {item.recorded:.6f} recorded, {item.replayed:.6f} "
        f"replayed ({item.replayed - item.recorded:+.2g})"
        for item in found.evaluations
        if item.iteration == last
    ]


def ratio(check: StepCheck) -> float | None:
    """Error over allowed; None where one of them is unknown or nothing is allowed."""
    if check.error is None or not check.allowed:
        return None
    return check.error / check.allowed


def noteworthy(found: Replay, most: int) -> list[StepCheck]:
    """Checks out of bounds or below what the dtype shows, in the data flow's order; then those that come nearest."""
    wrong = [check for check in found.layers if check.verdict in ("out of bounds", "below what this dtype can show")]
    near = sorted(
        (check for check in found.layers if check not in wrong and ratio(check) is not None),
        key=lambda check: -(ratio(check) or 0.0),
    )
    return [*wrong, *near][:most]


def near(found: Replay) -> str:
    """The heading over the checks that `noteworthy` gives."""
    wrong = any(check.verdict == "out of bounds" for check in found.layers)
    return "out of bounds, in the order of computation" if wrong else "nearest to what is allowed"


def cells(check: StepCheck) -> tuple[str, ...]:
    """A row: layer, value, at which iteration, error, allowed, the recording machine's error, verdict."""

    def number(value: float | None) -> str:
        return UNKNOWN if value is None else f"{value:.2g}"

    words = check.verdict if not check.why else f"{check.verdict}: {check.why}"
    return (
        check.name,
        f"{check.direction}, {check.what}",
        str(check.iteration),
        number(check.error),
        number(check.allowed),
        number(check.reference_error),
        words,
    )


def machine(found: Replay, side: str) -> str:
    """One of the machines with its numerics, in short."""
    what = {fact.name: getattr(fact, side) for fact in facts(found)}
    product = "TF32" if what.get("tf32") == "True" else what.get("dtype", UNKNOWN)
    return f"{what.get('hardware', UNKNOWN)}, {what.get('device', UNKNOWN)}, {product}"
