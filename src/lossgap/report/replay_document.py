"""A `Replay` as JSON: `lossgap.replay/1`, whose schema ships as `schemas/replay.schema.json`.

Unknown is null, and the object that holds it says in `why` (field to reason) what is missing. NaN and infinities never
occur: a loss that is not finite is null, too.
"""

from __future__ import annotations

import json

from lossgap.parity.envelope import FLOOR, LEVEL
from lossgap.parity.replay_result import Replay
from lossgap.parity.steps import StepCheck
from lossgap.parity.trajectory import Place
from lossgap.report.json_values import Json, finite, safe, with_why
from lossgap.version import __version__

SCHEMA = "lossgap.replay/1"
NOT_FINITE = "it is not a finite number"


def text(found: Replay) -> str:
    """The document on one line."""
    return json.dumps(document(found), allow_nan=False)


def document(found: Replay) -> Json:
    """The document."""
    values: Json = {
        "schema": SCHEMA,
        "lossgap": __version__,
        "bundle": found.source,
        "unit": "nats/token",
        "verdict": found.verdict,
        "reasons": list(found.reasons),
        "settle": found.settle,
        "margin": found.margin,
        "hardware_bound": _bound(found),
        "first_departure": _departure(found),
        "layers": [_layer(check) for check in found.layers],
        "trajectory": [_place(place, found) for place in found.trajectory.places],
        "envelope": _envelope(found),
        "evaluations": [
            with_why(
                {
                    "iteration": item.iteration,
                    "split": item.split,
                    "recorded": finite(item.recorded),
                    "replayed": finite(item.replayed),
                },
                {"recorded": NOT_FINITE, "replayed": NOT_FINITE},
            )
            for item in found.evaluations
        ],
        "numerics": {
            "recorded": safe(dict(found.numerics_recorded)),
            "replayed": found.numerics.to_dict(),
            "departures": [
                {"setting": item.setting, "asked": safe(item.asked), "ran": safe(item.ran), "why": item.why}
                for item in found.departures
            ],
        },
        "machine_recorded": {"lossgap": found.version_recorded, **_facts(found.machine_recorded)},
        "machine_replayed": _facts(found.machine_replayed),
        "iterations": {"first": found.first, "replayed": found.iterations, "recorded": found.recorded_iterations},
        "seconds": {"total": found.seconds, "per_iteration": found.seconds_per_iter},
        "beyond": {"command": found.beyond.command, "why": found.beyond.why},
        "next": [step.to_dict() for step in found.next],
        "exit_code": found.exit_code,
    }
    reasons = {
        "hardware_bound": found.no_bound,
        "first_departure": "nothing that could be judged departs",
        "envelope": found.trajectory.why,
    }
    return with_why(values, reasons)


def _facts(machine: object) -> Json:
    facts = safe(machine)
    return facts if isinstance(facts, dict) else {}


def _bound(found: Replay) -> Json | None:
    bound = found.hardware_bound
    return None if bound is None else {"value": bound.value, "at_iteration": bound.at_iteration}


def _departure(found: Replay) -> Json | None:
    first = found.first_departure
    if first is None:
        return None
    values: Json = {
        "iteration": first.iteration,
        "layer": first.layer,
        "direction": first.direction,
        "what": first.what,
        "text": first.why,
        "shape": found.shape,
    }
    alone = "every recorded step is right: only the losses show it"
    return with_why(values, {"layer": alone, "direction": alone, "shape": "the losses stay within the envelope"})


def _layer(check: StepCheck) -> Json:
    values: Json = {
        "name": check.name,
        "direction": check.direction,
        "what": check.what,
        "iteration": check.iteration,
        "error": finite(check.error),
        "allowed": finite(check.allowed),
        "reference_error": finite(check.reference_error),
        "verdict": check.verdict,
        "text": check.why,
    }
    reasons = {
        "error": check.why or NOT_FINITE,
        "allowed": check.why or "the bundle does not tell it",
        "reference_error": "the recording machine did not run it in this arithmetic",
    }
    return with_why(values, reasons)


def _place(place: Place, found: Replay) -> Json:
    values: Json = {
        "iteration": place.iteration,
        "recorded": finite(place.recorded),
        "replayed": finite(place.replayed),
        "low": finite(place.low),
        "high": finite(place.high),
        "inside": place.is_inside,
    }
    none = found.trajectory.why or "the recorded loss is not finite"
    return with_why(values, {"recorded": NOT_FINITE, "replayed": NOT_FINITE, "low": none, "high": none})


def _envelope(found: Replay) -> Json | None:
    envelope = found.trajectory.envelope
    if envelope is None:
        return None
    return {
        "widest": envelope.widest,
        "factor": envelope.factor,
        "twins": envelope.twins,
        "arithmetic": envelope.coarser,
        "paired": envelope.paired,
        "level": LEVEL,
        "floor_ulps": FLOOR,
    }
