"""An `Explanation` as JSON: `lossgap.explanation/1`, whose schema ships as `schemas/explanation.schema.json`.

The top level is last against last; `best` holds the same block for best against best. Unknown is null, and the object
that holds it says in `why` (field to reason) what is missing. NaN and infinities never occur: a number that is not
finite is null, too. `scale` is of every number but `gap.reported`, which is of the two runs themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from lossgap.attribution.explanation import (
    ArmRow,
    Budget,
    Contribution,
    Division,
    EndEffects,
    Explanation,
    FailedArm,
    Interaction,
    Interval,
    OpenFactor,
    Quantity,
)
from lossgap.attribution.factor import Factor, NotSwitched
from lossgap.report.json_values import Json, finite, safe, with_why
from lossgap.version import __version__

SCHEMA = "lossgap.explanation/1"
NOT_FINITE = "it is not a finite number"
NOT_MEASURED = "not measured"


def text(explanation: Explanation) -> str:
    """The document on one line."""
    return json.dumps(document(explanation), allow_nan=False)


def document(explanation: Explanation) -> Json:
    """The document."""
    scale, design = explanation.scale, explanation.design
    return {
        "schema": SCHEMA,
        "lossgap": __version__,
        "control": explanation.control,
        "test": explanation.test,
        "unit": "nats/token",
        "margin": explanation.margin,
        "complete": explanation.complete,
        "coordinates": explanation.coordinates,
        "scale": {
            "iterations": scale.iterations,
            "shape": scale.shape,
            "train_tokens": scale.train_tokens,
            "rule": scale.rule,
            "true": scale.true,
        },
        **_division(explanation, explanation.last),
        "best": _division(explanation, explanation.best),
        "design": {
            "kind": design.kind,
            "seeds": list(design.seeds),
            "arms_per_seed": design.arms_per_seed,
            "repeated": design.repeated,
            "screening_seeds": list(design.screening_seeds),
            "replaced_seeds": list(design.replaced_seeds),
        },
        "budget": _budget(explanation.budget),
        "arms": [_arm(item) for item in explanation.arms],
        "failed": [_failed(item) for item in explanation.failed],
        "notes": list(explanation.notes),
        "open": [_open(item) for item in explanation.open_factors],
        "next": [step.to_dict() for step in explanation.next],
        "command": explanation.command,
    }


# ---------------------------------------------------------------------------------------------
# One alignment


def _division(explanation: Explanation, found: Division) -> Json:
    ends = with_why({"control": finite(found.ends[0]), "test": finite(found.ends[1])}, _NUMBERS)
    own = with_why({"control": finite(found.own_context[0]), "test": finite(found.own_context[1])}, _NUMBERS)
    by_name = {item.name: item for item in explanation.factors}
    dropped: Json = {"factors": [_factor(by_name[name]) for name in explanation.screened_out if name in by_name]}
    return {
        "gap": _gap(found),
        "ends": ends,
        "own_context": own,
        "contributions": [_contribution(item) for item in found.contributions],
        "interactions": [_interaction(item) for item in found.interactions],
        "end_effects": [_end_effects(item) for item in found.end_effects],
        "higher_order": _quantity(found.higher_order),
        "remainder": {
            "not_reproduced": _quantity(found.not_reproduced),
            "not_switchable": [_held(item) for item in explanation.not_switched],
            "screened_out": dropped | _quantity(found.screened_out),
        },
    }


_NUMBERS = {"control": NOT_FINITE, "test": NOT_FINITE}


def _gap(found: Division) -> Json:
    values: Json = {
        "reported": finite(found.reported.value),
        "measurement": finite(found.measurement.value),
        "common": finite(found.common.value),
        "ci": _pair(found.common.ci),
    }
    reasons = {name: getattr(found, name).why for name in ("reported", "measurement", "common")}
    return with_why(values, {name: why or NOT_MEASURED for name, why in (reasons | {"ci": found.common.why}).items()})


def _quantity(found: Quantity) -> Json:
    values: Json = {"value": finite(found.value), "ci": _pair(found.ci)}
    return with_why(values, {"value": found.why or NOT_FINITE, "ci": found.why or NOT_MEASURED})


def _contribution(found: Contribution) -> Json:
    values: Json = {
        **_factor(found.factor),
        "value": finite(found.value),
        "ci": _pair(found.ci),
        "verdict": found.verdict,
        "per_seed": [finite(value) for value in found.per_seed],
    }
    return with_why(values, {"value": NOT_FINITE, "ci": found.why or NOT_MEASURED})


def _interaction(found: Interaction) -> Json:
    values: Json = {"factors": list(found.factors), "value": finite(found.value), "ci": _pair(found.ci)}
    return with_why(values, {"value": NOT_FINITE, "ci": found.why or NOT_MEASURED})


def _end_effects(found: EndEffects) -> Json:
    return {
        "factor": found.factor,
        "in_control": _quantity(found.in_control),
        "in_test": _quantity(found.in_test),
    }


def _held(found: NotSwitched) -> Json:
    values: Json = {"factor": found.name, "settings": _settings(found.settings), "value": None, "ci": None}
    return with_why(values, dict.fromkeys(("value", "ci"), found.why or NOT_MEASURED))


def _factor(found: Factor) -> Json:
    return {"factor": found.name, "settings": _settings(found.settings)}


def _settings(settings: Mapping[str, tuple[object, object]]) -> Json:
    return {name: [safe(first), safe(second)] for name, (first, second) in settings.items()}


# ---------------------------------------------------------------------------------------------
# The experiment


def _budget(found: Budget) -> Json:
    values: Json = {
        "asked": found.asked,
        "runs": found.runs,
        "spent": with_why({"runs": found.spent_runs, "seconds": finite(found.spent_seconds)}, {"seconds": NOT_FINITE}),
        "resolvable": finite(found.resolvable),
    }
    known = {} if found.resolvable is None else {"resolvable_from": found.resolvable_why}
    return with_why(values | known, {"resolvable": found.resolvable_why or NOT_MEASURED})


def _arm(found: ArmRow) -> Json:
    values: Json = {
        "factors": list(found.factors),
        "seed": found.seed,
        "stage": found.stage,
        "val_loss": finite(found.val_loss),
        "best_val_loss": finite(found.best_val_loss),
        "seconds": finite(found.seconds),
        "run": found.run,
        "exact": found.exact,
        "cached": found.cached,
    }
    return with_why(values, dict.fromkeys(values, NOT_FINITE) | {"seed": _NO_SEED})


def _failed(found: FailedArm) -> Json:
    values: Json = {
        "factors": list(found.factors),
        "seed": found.seed,
        "failure": found.failure,
        "message": found.why,
    }
    return with_why(values, {"seed": _NO_SEED})


def _open(found: OpenFactor) -> Json:
    return with_why({"factor": found.name, "seeds": found.seeds}, {"seeds": "no affordable number of seeds settles it"})


_NO_SEED = "the trainer has no seed"


def _pair(interval: Interval | None) -> list[float] | None:
    """Both ends of an interval, or None if one of them is not a number."""
    if interval is None:
        return None
    low, high = finite(interval[0]), finite(interval[1])
    return None if low is None or high is None else [low, high]
