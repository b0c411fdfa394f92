"""Every document is valid JSON of the shipped schema, whatever the runs hold."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterator

import jsonschema
import pytest
from comparison.made import GPU, LAPTOP, curve, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from lossgap import schemas
from lossgap.comparison import Comparison, compare
from lossgap.comparison.rules import Finding, Pair, Rule, RuledOut, cause, ruled_out
from lossgap.report import show
from lossgap.runs.run import Inferred, Run

VALIDATOR = jsonschema.Draft202012Validator(schemas.load("comparison"))


def checked(*comparisons: Comparison) -> dict[str, object]:
    """The document, read back from its text: valid, strict JSON, each null with its reason."""
    found = json.loads(
        json.dumps(show.document(comparisons), allow_nan=False), parse_constant=lambda name: pytest.fail(name)
    )
    VALIDATOR.validate(found)
    for item in found.get("comparisons", [found]):
        explained(item["answer"])
        for part in ("control", "test", "gap", "judgement"):
            explained(item[part])
        for row in [*item["alignment"], *item["findings"], *item["settings"]["differ"]]:
            explained(row)
        explained(item["gap"]["at_equal"])
        for part in item["gap"]["noise"]:
            explained(part)
    return dict(found)


def explained(values: dict[str, object]) -> None:
    why = values["why"]
    assert isinstance(why, dict)
    nulls = {name for name, value in values.items() if value is None and name not in ("control", "test", "value")}
    assert nulls <= why.keys()
    assert all(isinstance(reason, str) and reason for reason in why.values())


def shown(*comparisons: Comparison, width: int = 80) -> str:
    """Everything; and the answer alone is a part of it that fits a screen."""
    answer, found = (show.text(comparisons, full=full, width=width) for full in (False, True))
    for text in (answer, found):
        # A word of a command that is longer than the line stays whole.
        assert all(cell_len(line) <= width or " " not in line.strip().removesuffix(" \\") for line in text.splitlines())
    assert len(answer.splitlines()) <= 24 + len(comparisons) - 1 or width < 80
    return found


PAIRS = {
    "the note": (run(curve(1.88), ms=37.0, losses={0: 4.2, 2000: 1.7}), run({5000: 1.7}, config=GPU, format="figures")),
    "one run twice": (run(curve(1.9)), run(curve(1.9))),
    "no config": (run(curve(1.9), config={}), run(curve(1.8), config={})),
    "no losses": (run({}), run({})),
    "train only": (run({}, losses={i: 4.0 / (i + 1) for i in range(300)}), run({}, losses={0: 4.0})),
    "val against train": (run(curve(1.9)), run({}, losses={0: 4.0, 1: 3.0})),
    "other tokenizers": (run(curve(1.5)), run(curve(3.2), config=LAPTOP | {"dataset": "openwebtext"})),
}


@pytest.mark.parametrize("name", PAIRS)
def test_documents_are_valid_and_texts_are_shown(name: str) -> None:
    control, test = PAIRS[name]
    found = compare(control, test)
    body = checked(found)
    assert body["verdict"] == found.verdict.word
    for width in (60, 80, 120, 200):
        assert found.verdict.word.replace("-", " ") in shown(found, width=width).replace("-", " ")


def test_the_fields_of_the_issue() -> None:
    body = checked(compare(*PAIRS["the note"]))
    assert body["schema"] == "lossgap.comparison/1"
    control, gap = body["control"], body["gap"]
    assert isinstance(control, dict)
    assert isinstance(gap, dict)
    assert {"name", "format", "config", "inferred", "device", "last", "best"} <= control.keys()
    assert control["last"]["val_loss"] == 1.88
    assert (gap["metric"], gap["last"]) == ("val_loss", pytest.approx(-0.18))
    assert {"iterations", "tokens", "passes", "flops", "seconds"} <= gap["at_equal"].keys()
    assert gap["at_equal"]["iterations"] is None
    assert "5,000" in gap["at_equal"]["why"]["iterations"]
    assert {"metric", "last", "best", "at_equal", "standard_error"} <= gap.keys()
    assert {"only_control", "only_test", "differ"} == body["settings"].keys()  # type: ignore[attr-defined]
    assert {"findings", "ruled_out", "next"} <= body.keys()


def test_findings_in_text_and_document() -> None:
    def function(pair: Pair) -> Iterator[Finding | RuledOut]:
        yield cause("strong", "computed", "Four times the tokens.", numbers={"ratio": 4}, command="lossgap train x")

    def other(pair: Pair) -> Iterator[Finding | RuledOut]:
        yield ruled_out("computed", "Equal batches.")

    rules = [
        Rule(id="tokens", title="More tokens", group="A", order=2, formats=frozenset(), function=function),
        Rule(id="batch", title="Another batch", group="A", order=2, formats=frozenset(), function=other),
    ]
    found = compare(run(curve(1.9)), run(curve(1.4)), rules=rules)
    body = checked(found)
    assert body["findings"][0]["numbers"] == {"ratio": 4}  # type: ignore[index]
    assert body["ruled_out"][0]["id"] == "batch"  # type: ignore[index]
    step = body["next"][0]  # type: ignore[index]
    assert (step["command"], step["why"]) == ("lossgap train x", "More tokens")
    answer = shown(found)
    order = ["More tokens", "$ lossgap train x", "Another batch"]
    places = [answer.index(part) for part in order]
    assert places == sorted(places)


def test_several_tests_are_each_compared_with_the_control() -> None:
    control = run(curve(1.9))
    both = compare(control, run(curve(1.5))), compare(control, run(curve(1.9)))
    body = checked(*both)
    assert [item["verdict"] for item in body["comparisons"]] == ["different", "equivalent"]  # type: ignore[attr-defined]
    assert shown(*both).count("verdict") == 2


HOSTILE = "\x1b[31mred\x07[bold]x[/bold]\u202e\ud800<script>"


def test_a_strangers_names_are_shown_and_never_obeyed() -> None:
    config = LAPTOP | {HOSTILE: HOSTILE, "when": datetime.date(2026, 1, 1), "deep": {"x": [math.nan, {1, 2}]}}
    made = run(curve(1.9), name="x", config=config, inferred=[Inferred(name=HOSTILE, value={1}, why=HOSTILE)])
    other = run(curve(1.5), config=config | {HOSTILE: "other", "n_layer": HOSTILE}, device=HOSTILE)
    found = compare(_named(made, HOSTILE), _named(other, HOSTILE), sources=(HOSTILE, HOSTILE))
    checked(found)
    answer = shown(found)
    assert "\x1b" not in answer
    assert "\x07" not in answer
    assert "\u202e" not in answer
    assert "[bold]x" in answer
    assert "\\x1b[31mred" in answer


def _named(made: Run, name: str) -> Run:
    from dataclasses import replace

    return replace(made, name=name, format=name)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
configs = st.dictionaries(st.sampled_from([*LAPTOP, "odd"]), anything, max_size=len(LAPTOP))
losses = st.dictionaries(st.integers(0, 2**40), st.floats(-1e6, 1e6) | st.none(), max_size=6)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(losses, losses, configs, configs, st.sampled_from(["nanogpt", "lossgap", "figures", "jsonl", "nanochat"]))
def test_no_record_breaks_the_answer(
    first: dict[int, float | None],
    second: dict[int, float | None],
    control: dict[str, object],
    test: dict[str, object],
    format: str,
) -> None:
    iters = {at: value for at, value in second.items() if value is not None}
    made = run(first, config=LAPTOP | control, format=format)
    other = run(second, config=test, losses=iters, ms=1.0, format=format)
    for one, two in ((made, other), (other, made)):
        checked(compare(one, two, rules=()))
    shown(compare(made, other, rules=()))
