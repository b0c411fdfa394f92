"""The sentences and rows that the text answer and the page of a replay share, so that both say the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lossgap.parity.envelope import FLOOR, LEVEL
from lossgap.parity.replay_result import Replay
from lossgap.parity.steps import StepCheck
from lossgap.report.words import sentence

UNKNOWN = "?"
WORDS = {
    "different": "different: more than the hardware's rounding parts the two",
    "equivalent": "equivalent: rounding explains what parts the two",
    "inconclusive": "inconclusive: the rounding is too large to say",
    "not-comparable": "not comparable",
}
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
        """Whether it is not the same on both."""
        return self.recorded != self.replayed


def facts(found: Replay) -> list[Fact]:
    """What the two machines and their numerics are, as far as either tells."""
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


def bound(found: Replay) -> str:
    """What the hardware can make, in one sentence."""
    if found.hardware_bound is None:
        return sentence(f"unknown: {found.no_bound}")
    at = found.hardware_bound.at_iteration
    return f"At most {found.hardware_bound.value:.2g} nats per token, at iteration {at}."


def departure(found: Replay) -> str:
    """Where the two part first, in one sentence; empty where they do not."""
    first = found.first_departure
    if first is None:
        return ""
    if first.layer is None:
        return sentence(f"the losses part at iteration {first.iteration}, {found.shape}: {first.why}")
    return f"The {first.what} of {first.layer} ({first.direction}) at iteration {first.iteration} is {first.why}."


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
    """What is out of bounds or below what the dtype shows, in the data flow's order; then what comes nearest."""
    wrong = [check for check in found.layers if check.verdict in ("out of bounds", "below what this dtype can show")]
    near = sorted(
        (check for check in found.layers if check not in wrong and ratio(check) is not None),
        key=lambda check: -(ratio(check) or 0.0),
    )
    return [*wrong, *near][:most]


def near(found: Replay) -> str:
    """What `noteworthy` gives, as a heading."""
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
