"""Every explanation's document is valid JSON of the shipped schema, and says of each null why."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lossgap import schemas
from lossgap.attribution.explanation import Contribution, Division, Explanation, Quantity
from lossgap.attribution.factor import NotSwitched
from lossgap.report import explanation_document
from report import explained
from report.explained import explanation, factor, unknown
from report.hostile import HOSTILE

Json = dict[str, Any]
VALIDATOR = jsonschema.Draft202012Validator(schemas.load("explanation"))
BLOCK = {
    "gap", "ends", "own_context", "contributions", "interactions", "end_effects", "higher_order", "remainder",
}  # fmt: skip


def checked(found: Explanation) -> Json:
    """The document, read back from its text: valid, strict JSON, each null with its reason."""
    body: Json = json.loads(explanation_document.text(found), parse_constant=lambda name: pytest.fail(name))
    VALIDATOR.validate(body)
    for values in objects(body):
        if isinstance(values.get("why"), dict):
            nulls = {name for name, value in values.items() if value is None}
            assert nulls == values["why"].keys()
        else:
            assert None not in values.values()
    return body


def objects(value: object) -> Iterator[Json]:
    """All objects of ours at any depth; a factor's settings are a stranger's."""
    if isinstance(value, dict):
        yield value
        for name, inner in value.items():
            if name != "settings":
                yield from objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from objects(inner)


def unmeasured(at: str) -> Division:
    """Stopped before a seed had ended."""
    return Division(
        at=at,  # type: ignore[arg-type]  # last or best
        reported=unknown(),
        measurement=unknown("no seed has ended"),
        common=unknown("no seed has ended"),
        ends=(math.nan, math.nan),
        own_context=(math.nan, math.nan),
        contributions=(),
        interactions=(),
        not_reproduced=unknown("no seed has ended"),
        screened_out=unknown("no seed has ended"),
    )


def unreported() -> Explanation:
    """The runs do not say their losses."""
    found = explanation()
    last, best = (
        replace(item, reported=unknown(), not_reproduced=unknown("the reported gap is unknown"))
        for item in (found.last, found.best)
    )
    return replace(found, last=last, best=best)


CASES = {
    **{f"{count} factors": explanation(count, seeds=3) for count in range(1, 8)},
    "permutations": explanation(7, kind="permutations"),
    "scaled, stopped": explanation(scale=explained.SCALED, complete=False),
    "screened": explanation(2, screened=("schedule", "optimizer")),
    "failed": explanation(2, failed=30),
    "one seed": explanation(3, seeds=1),
    "no seed flag": explanation(2, seeds=1, seeded=False, command=""),
    "all switched": explanation(2, held=()),
    "best is last": explanation(best_differs=False),
    "noisy": explanation(noise=0.08),
    "unreported": unreported(),
    "nothing yet": replace(
        explanation(complete=False), last=unmeasured("last"), best=unmeasured("best"), arms=(), failed=()
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_documents_are_valid(name: str) -> None:
    body = checked(CASES[name])
    assert body["complete"] is CASES[name].complete
    assert len(body["arms"]) == len(CASES[name].arms)
    assert len(body["failed"]) == len(CASES[name].failed)


def test_the_fields_of_the_issue() -> None:
    found = explanation(4, screened=("optimizer",), scale=explained.SCALED)
    body = checked(found)
    assert body["schema"] == "lossgap.explanation/1"
    assert body.keys() >= BLOCK
    assert body["best"].keys() == BLOCK
    assert body["gap"].keys() == {"reported", "measurement", "common", "ci", "why"}
    first = body["contributions"][0]
    assert first.keys() == {"factor", "settings", "value", "ci", "verdict", "per_seed", "why"}
    assert (first["factor"], first["settings"]["n_embd"]) == ("capacity", [128, 384])
    assert body["remainder"].keys() == {"not_reproduced", "not_switchable", "screened_out"}
    (held,) = body["remainder"]["not_switchable"]
    assert held["value"] is None
    assert "a replay on the other machine bounds what it does" in held["why"]["value"]
    assert body["remainder"]["screened_out"]["factors"] == [
        {"factor": "optimizer", "settings": {"beta2": [0.99, 0.95]}}
    ]
    assert body["scale"]["iterations"] == 8
    assert body["scale"]["shape"] == 4
    assert body["scale"]["rule"].startswith("both ends divided alike")
    assert body["budget"]["spent"] == {"runs": 64, "seconds": 1044.0, "why": {}}
    arm = {"factors", "seed", "stage", "val_loss", "best_val_loss", "seconds", "run", "exact", "cached", "why"}
    assert body["arms"][0].keys() == arm


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("unreported", "nothing yet")])
def test_the_parts_add_up_in_both_blocks(name: str) -> None:
    body = checked(CASES[name])
    for block in (body, body["best"]):
        gap, rest = block["gap"], block["remainder"]
        parts = [item["value"] for item in block["contributions"]] + [rest["screened_out"]["value"]]
        assert math.fsum(parts) == pytest.approx(gap["common"], abs=1e-9)
        if CASES[name].scale.true:
            outer = rest["not_reproduced"]["value"] + gap["measurement"] + gap["common"]
            assert outer == pytest.approx(gap["reported"], abs=1e-9)
        else:
            assert rest["not_reproduced"]["why"]["value"] == explained.OTHER_SCALE
    assert body["gap"]["common"] == CASES[name].last.common.value
    assert body["best"]["gap"]["common"] == CASES[name].best.common.value


def test_no_field_that_the_schema_does_not_name() -> None:
    jsonschema.Draft202012Validator.check_schema(schemas.load("explanation"))
    found = [item for item in objects(schemas.load("explanation")) if "properties" in item]
    assert len(found) > 10
    assert all(item["additionalProperties"] is False for item in found)
    body = checked(explanation(2))
    for inside in (body, body["gap"], body["best"]["remainder"], body["arms"][0], body["contributions"][0]):
        inside["more"] = 1
        assert not VALIDATOR.is_valid(body)
        del inside["more"]
    VALIDATOR.validate(body)


def test_what_is_not_finite_is_null() -> None:
    found = explanation(2)
    arm = replace(found.arms[0], val_loss=math.nan, best_val_loss=math.inf)
    last = replace(
        found.last,
        contributions=(
            replace(found.last.contributions[0], value=math.nan, ci=(-math.inf, 0.0)),
            *found.last.contributions[1:],
        ),
        common=Quantity(value=-0.2, ci=(math.nan, 0.0)),
        own_context=(0.0, math.inf),
    )
    body = checked(replace(found, arms=(arm,), last=last))
    assert body["arms"][0]["why"] == dict.fromkeys(("val_loss", "best_val_loss"), explanation_document.NOT_FINITE)
    assert body["contributions"][0]["why"].keys() == {"value", "ci"}
    assert body["gap"]["why"].keys() == {"ci"}
    assert body["own_context"]["why"].keys() == {"test"}


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_names(name: str) -> None:
    body = checked(hostile(name))
    assert body["control"] == body["contributions"][0]["factor"] == body["failed"][0]["message"] == name


def hostile(name: str) -> Explanation:
    """`name` in every text that comes from outside."""
    odd = factor("capacity")
    odd = replace(odd, name=name, settings={name: (name, {name})})
    found = explanation(
        ("capacity", "length"),
        control=name,
        test=name,
        held=(NotSwitched(name=name, settings={name: (name, name)}, why=name),),
        failed=1,
        notes=(name,),
        command=f"lossgap explain {name}",
    )
    arms = tuple(
        replace(arm, run=name, factors=tuple(name if item == "capacity" else item for item in arm.factors))
        for arm in found.arms
    )

    def renamed(division: Division) -> Division:
        items = tuple(
            replace(item, factor=odd, why=name) if item.factor.name == "capacity" else item
            for item in division.contributions
        )
        pairs = tuple(replace(item, factors=(name, "length"), why=name) for item in division.interactions)
        return replace(division, contributions=items, interactions=pairs)

    return replace(
        found,
        factors=(odd, *found.factors[1:]),
        last=renamed(found.last),
        best=renamed(found.best),
        arms=arms,
        failed=tuple(replace(item, factors=(name,), why=name) for item in found.failed),
        budget=replace(found.budget, asked=name, resolvable=None, resolvable_why=name),
    )


numbers = st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf])
intervals = st.none() | st.tuples(numbers, numbers)
reasons = st.text(max_size=6)
quantities = st.builds(Quantity, value=st.none() | numbers, ci=intervals, why=reasons)
items = st.builds(
    Contribution,
    factor=st.sampled_from([factor("capacity"), factor("length")]),
    value=numbers,
    ci=intervals,
    verdict=st.sampled_from(["different", "equivalent", "inconclusive", "not-comparable"]),
    per_seed=st.lists(numbers, max_size=3).map(tuple),
    why=reasons,
)
divisions = st.builds(
    Division,
    at=st.just("last"),
    reported=quantities,
    measurement=quantities,
    common=quantities,
    ends=st.tuples(numbers, numbers),
    own_context=st.tuples(numbers, numbers),
    contributions=st.lists(items, max_size=3).map(tuple),
    interactions=st.just(()),
    not_reproduced=quantities,
    screened_out=quantities,
)
odd_explanations = st.builds(
    lambda last, best, screened, complete: replace(
        explanation(2, screened=("schedule",) if screened else (), complete=complete), last=last, best=best
    ),
    divisions,
    divisions.map(lambda found: replace(found, at="best")),
    st.booleans(),
    st.booleans(),
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(odd_explanations)
def test_no_number_breaks_the_document(found: Explanation) -> None:
    checked(found)


def test_what_is_open_and_what_is_next_are_in_the_document() -> None:
    found = explanation(("capacity", "optimizer"), seeds=5, noise=0.02)
    body = checked(found)
    assert body["open"] == [{"factor": "optimizer", "seeds": found.open_factors[0].seeds, "why": {}}]
    assert [step["command"] for step in body["next"]] == [step.command for step in found.next]
    assert body["next"][0]["command"].startswith("lossgap explain runs/laptop logs/gpu.txt --budget=")
    settled = checked(explanation(2))
    assert settled["open"] == settled["next"] == []
