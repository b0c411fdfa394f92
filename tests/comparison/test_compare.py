"""From two runs to the whole answer: ranking, what is a cause, and what to do next."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lossgap.comparison.rules as registry
from comparison.made import GPU, LAPTOP, curve, run
from lossgap.comparison import Comparison, compare
from lossgap.comparison.comparison import exit_code
from lossgap.comparison.rules import (
    Finding,
    Pair,
    Result,
    Rule,
    RuledOut,
    cause,
    find,
    lacking,
    remark,
    rule,
    ruled_out,
    rules,
)
from lossgap.comparison.verdict import Verdict
from lossgap.errors import ConfigError
from lossgap.runs.run import Run


def _rule(*results: Finding | RuledOut, id: str = "a-rule", order: int = 3, formats: tuple[str, ...] = ()) -> Rule:
    def function(pair: Pair) -> Iterator[Finding | RuledOut]:
        yield from results

    return Rule(id=id, title=f"title of {id}", group="A", order=order, formats=frozenset(formats), function=function)


def _compare(*given: Rule, gap: float = -0.4, control: Run | None = None, **options: Any) -> Comparison:
    first = control or run(curve(1.9))
    return compare(first, run(curve(1.9 + gap)), rules=given, sources=("a.log", "b c.log"), **options)


BIG = cause("strong", "computed", "Big.", effect=-0.3)
SMALL = cause("strong", "computed", "Small.", effect=-0.01)
UNSIZED = cause("strong", "inferred", "Unsized.")
LIKELY = cause("likely", "computed", "Likely.", effect=-1.0)


def test_causes_come_first_the_strongest_first_then_by_size() -> None:
    found = _compare(
        _rule(remark("inferred", "A remark."), id="r0", order=0),
        _rule(LIKELY, id="r1", order=1),
        _rule(UNSIZED, id="r2", order=2),
        _rule(SMALL, id="r3", order=3),
        _rule(BIG, id="r4", order=4),
    )
    assert found.verdict.word == "different"
    assert [item.id for item in found.findings] == ["r4", "r3", "r2", "r1", "r0"]
    assert [item.role for item in found.findings] == ["cause"] * 4 + ["remark"]


def test_a_cause_against_the_gap_is_a_remark_that_says_so() -> None:
    found = _compare(_rule(cause("strong", "computed", "It raises the loss.", effect=0.2)))
    assert not found.causes
    assert "pushes the other way" in found.remarks[0].text


@pytest.mark.parametrize("gap", [0.0, 0.001, -0.02])
def test_a_gap_that_is_not_established_has_no_inferred_cause(gap: float) -> None:
    found = _compare(_rule(cause("likely", "inferred", "Something.")), gap=gap)
    assert found.verdict.word in ("equivalent", "inconclusive")
    assert not found.causes
    assert "no gap beyond the noise" in found.remarks[0].text


def _verdict(word: str, bounded: bool) -> Verdict:
    return Verdict(word=word, margin=0.01, interval=(-1.0, 1.0), bounded=bounded)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("word", "bounded", "given", "role", "strength"),
    [
        ("different", False, BIG, "cause", "strong"),
        ("equivalent", False, BIG, "remark", "strong"),
        ("inconclusive", False, BIG, "remark", "strong"),
        ("inconclusive", True, BIG, "cause", "likely"),
        ("inconclusive", True, LIKELY, "cause", "likely"),
        ("inconclusive", True, UNSIZED, "cause", "possible"),
        ("inconclusive", True, cause("likely", "inferred", "Weak."), "remark", "likely"),
        ("not-comparable", False, UNSIZED, "cause", "strong"),
    ],
)
def test_what_a_verdict_makes_of_a_cause(word: str, bounded: bool, given: Finding, role: str, strength: str) -> None:
    from lossgap.comparison.ranking import rank

    (found,), _ = rank([given], -0.4, _verdict(word, bounded))
    assert (found.role, found.strength) == (role, strength)


@pytest.mark.parametrize(
    ("given", "error", "role", "strength"),
    [
        (BIG, 0.2, "cause", "likely"),
        (BIG, 0.31, "remark", "strong"),
        (cause("likely", "inferred", "Seen.", effect=-0.3), 0.2, "remark", "likely"),
        (cause("strong", "inferred", "Seen for sure.", effect=-0.3), 0.2, "cause", "possible"),
        (UNSIZED, 0.2, "remark", "strong"),
        (cause("strong", "computed", "Far more than this.", effect=-9.0), 0.2, "remark", "strong"),
    ],
)
def test_a_gap_inside_the_noise_keeps_causes_that_make_as_much_as_chance(
    given: Finding, error: float, role: str, strength: str
) -> None:
    from lossgap.comparison.ranking import ALSO_CHANCE, rank

    (found,), _ = rank([given], -0.4, _verdict("inconclusive", False), error)
    assert (found.role, found.strength) == (role, strength)
    assert (ALSO_CHANCE in found.text) == (role == "cause")


effects = st.one_of(st.none(), st.floats(-1, 1))
strengths = st.sampled_from(registry.STRENGTHS)
drawn = st.lists(st.tuples(strengths, effects, st.integers(0, 11)), max_size=8)


@given(drawn, st.floats(-1, 1).filter(lambda gap: abs(gap) > 1e-6))
def test_no_finding_is_lost_and_the_order_is_total(items: list[tuple[str, float | None, int]], gap: float) -> None:
    from lossgap.comparison.ranking import rank

    given = [
        Finding(role="cause", strength=s, evidence="computed", text="x", effect=e, order=o, id=f"f{n}")  # type: ignore[arg-type]
        for n, (s, e, o) in enumerate(items)
    ]
    found, _ = rank(given, gap, _verdict("different", False))
    assert sorted(item.id for item in found) == sorted(item.id for item in given)
    causes = [item for item in found if item.role == "cause"]
    assert list(found[: len(causes)]) == causes
    keys = [(registry.STRENGTHS.index(item.strength), -abs(item.effect or 0)) for item in causes]
    assert keys == sorted(keys)
    assert all((item.effect or 0) * gap >= 0 for item in causes)


def test_equal_curves_are_equivalent_whatever_is_known() -> None:
    for config in (LAPTOP, {}):
        found = compare(run(curve(1.9), config=config), run(curve(1.9), config=config), rules=[_rule(BIG)])
        assert found.verdict.word == "equivalent"
        assert not found.causes


# ---------------------------------------------------------------------------------------------
# Rules


def test_rules_fire_in_their_order_and_see_what_came_before() -> None:
    seen: list[tuple[str, ...]] = []

    def make(id: str, order: int) -> Rule:
        def function(pair: Pair) -> Iterator[Finding]:
            seen.append(tuple(item.id for item in pair.so_far))
            yield remark("computed", "x")

        return Rule(id=id, title=id, group="A", order=order, formats=frozenset(), function=function)

    found = _compare(make("zero", 0), make("one", 1))
    assert seen == [(), ("zero",)]
    assert [item.title for item in found.findings] == ["zero", "one"]


def test_a_rule_of_another_trainers_logs_does_not_fire() -> None:
    nanogpt, own = _rule(BIG, formats=("nanogpt",)), _rule(BIG, formats=("lossgap",))
    assert _compare(nanogpt).findings
    assert not _compare(own).findings


@pytest.mark.parametrize("id", ["hardware", "device-bug", "wrong-kernel"])
def test_hardware_is_blamed_only_by_a_measurement(id: str) -> None:
    assert _compare(_rule(cause("strong", "measured", "A replay."), id=id)).causes
    with pytest.raises(AssertionError, match="measured"):
        _compare(_rule(BIG, id=id))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_of_a_finding_are_finite(value: float) -> None:
    with pytest.raises(AssertionError, match="number is"):
        _compare(_rule(remark("computed", "x", numbers={"number": value})))


def test_registering() -> None:
    rules()  # the shipped ones register when they are imported, once
    kept = dict(registry._RULES)
    try:

        @rule("made-for-this-test", title="Made", group="C", order=7)
        def made(pair: Pair) -> Result:
            yield ruled_out("computed", "It is not that.")

        rule("a-later-one", title="Later", group="C", order=9)(made)
        rule("z-earlier-one", title="Earlier", group="C", order=1)(made)
        assert next(item for item in rules() if item.id == "made-for-this-test").function is made
        orders = [(item.order, item.id) for item in rules()]
        assert orders == sorted(orders)
        with pytest.raises(AssertionError, match="R11"):
            rule("too-late", title="x", group="A", order=12)
        with pytest.raises(AssertionError, match="two rules"):
            rule("made-for-this-test", title="x", group="A", order=1)(lambda pair: [])
    finally:
        registry._RULES.clear()
        registry._RULES.update(kept)


def test_what_was_ruled_out_is_kept_unless_its_rule_found_a_cause() -> None:
    found = _compare(_rule(ruled_out("computed", "Not the batch."), id="batch"))
    assert [(item.id, item.title) for item in found.ruled_out] == [("batch", "title of batch")]
    assert not _compare(_rule(BIG, ruled_out("computed", "Not it."))).ruled_out


def test_all_shipped_rules_keep_the_contract() -> None:
    pairs = [
        (run(curve(1.88)), run(curve(1.7, last=5000), config=GPU)),
        (run(curve(1.88), config={}), run({5000: 1.7}, config={}, format="figures")),
        (run({}, config={}), run({}, losses={0: 4.0}, config={})),
    ]
    for first, second in pairs:
        found = compare(first, second)
        assert {item.id for item in find(_pair(found))} >= {item.id for item in found.findings}


def _pair(found: Comparison) -> Pair:
    return Pair(
        control=found.control,
        test=found.test,
        alignment=found.alignment,
        noise=found.noise,
        settings=found.settings,
    )


# ---------------------------------------------------------------------------------------------
# Next, exit codes, arguments


def test_next_names_commands_of_causes_then_the_settings_that_lack() -> None:
    command = cause(
        "strong", "computed", "x", settle="A longer run.", command="lossgap train shakespeare_char_cpu --max_iters=5000"
    )
    bare = run(curve(1.9), config={})

    def needs(pair: Pair) -> Iterator[Finding]:
        yield lacking(pair.control.batch, pair.test.batch, what="the batch")

    lack = Rule(id="batch", title="Batch", group="A", order=2, formats=frozenset(), function=needs)
    found = _compare(lack, _rule(command, id="r", order=3), control=bare)
    assert found.next[0].why == "A longer run."
    assert found.next[1].command == ""
    assert "each with --set" in found.next[1].why
    assert "control.batch_size" in found.next[1].why
    assert "test." not in found.next[1].why


def test_lacking_names_the_run_and_the_setting() -> None:
    found = compare(run({}, config={}), run({})).control.batch
    known = compare(run({}), run({})).control.batch
    text = lacking(found, known, what="the batch")
    assert text.needs == ("control.batch_size", "control.gradient_accumulation_steps")
    assert text.evidence == "unknown"
    assert text.role == "remark"


@pytest.mark.parametrize(
    ("gap", "max_gap", "code"),
    [(0.4, None, 0), (0.4, 0.1, 2), (0.4, 0.9, 0), (-0.4, 0.0, 0), (0.0001, 0.5, 3), (0.01, 0.001, 3)],
)
def test_exit_codes(gap: float, max_gap: float | None, code: int) -> None:
    found = compare(run(curve(1.9), config={}), run(curve(1.9 + gap), config={}), max_gap=max_gap)
    assert found.exit_code == code


def test_not_comparable_cannot_be_judged_and_an_exceeded_threshold_counts_first() -> None:
    none = compare(run(curve(1.9)), run({}), max_gap=0.1)
    over = compare(run(curve(1.9)), run(curve(2.4)), max_gap=0.1)
    fine = compare(run(curve(1.9)), run(curve(1.2)), max_gap=0.1)
    assert [item.exit_code for item in (none, over, fine)] == [3, 2, 0]
    assert exit_code((fine, none, over)) == 2
    assert exit_code((fine, none)) == 3


@pytest.mark.parametrize("margin", [-0.1, math.nan, math.inf])
def test_a_margin_must_be_a_number(margin: float) -> None:
    with pytest.raises(ConfigError) as error:
        compare(run({}), run({}), margin=margin)
    assert error.value.slug == "bad-margin"
