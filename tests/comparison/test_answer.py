"""The answer in one to three sentences: for every verdict, for the same record, for a run against its recipe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from comparison.made import GPU, LAPTOP, curve, run
from lossgap.comparison import Comparison, compare
from lossgap.comparison.names import LONGEST, middle_cut
from lossgap.comparison.rules import Finding, Pair, Rule, cause
from lossgap.presets import preset
from lossgap.runs.run import Run


def rule(id: str, found: Finding) -> Rule:
    def function(pair: Pair) -> Iterator[Finding]:
        yield found

    return Rule(id=id, title="The models differ", group="A", order=2, formats=frozenset(), function=function)


def pair(first: Run | None = None, second: Run | None = None, **fields: object) -> Comparison:
    control = first or run(curve(1.9), name="laptop", ms=37.0)
    test = second or run(curve(1.6), name="gpu")
    return compare(control, test, **fields)  # type: ignore[arg-type]  # a test names the fields it means


def test_which_is_lower_by_how_much_beyond_chance() -> None:
    answer = pair(rules=()).answer
    assert answer.text.startswith("gpu ends 0.30 lower than laptop, beyond chance;")
    assert answer.lower == "test"
    assert answer.by == pytest.approx(0.3)
    assert answer.beyond_chance is True
    turned = pair(run(curve(1.6), name="gpu"), run(curve(1.9), name="laptop"), rules=()).answer
    assert turned.text.startswith("gpu ends 0.30 lower than laptop, beyond chance;")
    assert turned.lower == "control"


def test_the_two_recipes_of_the_note() -> None:
    found = pair(run(curve(1.89), name="laptop", ms=37.0), run({5000: 1.7}, config=GPU, name="RTX 4070 Ti"))
    answer = found.answer
    assert answer.sentences[0] == (
        "RTX 4070 Ti ends 0.19 lower than laptop, beyond chance, because it is another experiment: 13x the "
        "parameters, 53x the tokens."
    )
    assert answer.sentences[-1] == "Nothing here is evidence against the CPU."
    assert answer.cause == "different-recipes"


def test_what_a_run_s_recipe_gives() -> None:
    config = {**preset("shakespeare_char_cpu"), "weight_decay": 0.1, "beta1": 0.9, "grad_clip": 1.0, "decay_lr": True}
    laptop = run(curve(1.8857), config=LAPTOP | config, name="laptop")
    found = pair(laptop, run(curve(1.3, last=900), name="other", config=config | {"n_layer": 8}))
    (expected,) = found.answer.expected
    assert (expected.run, expected.recipe, expected.holds) == ("control", "shakespeare_char_cpu", True)
    assert "laptop is what its recipe gives (1.886, expected 1.886)." in found.answer.text


@pytest.mark.parametrize(
    ("id", "numbers", "said"),
    [
        ("capacity", {"control": 10, "test": 40}, "because its model has 4x the parameters (40 and 10)."),
        ("length", {"control": 10, "test": 4}, "because it trained less (4 iterations, the other 10)."),
        ("batch", {"control": 12, "test": 6}, "because each of its updates reads 1/2 of the tokens."),
        ("context", {"control": 64, "test": 256}, "because it sees 256 tokens of context, the other 64."),
        ("dropout", {"control": 0.0, "test": 0.2}, "because its dropout is 0.2, that of the other 0."),
        ("overfitting", {"control_above_best": 0.5}, "because laptop overfits: that one ends 0.50 above its own best."),
        ("made-up", {}, ". Cause: gpu has it all."),
    ],
)
def test_causes_in_plain_words(id: str, numbers: dict[str, object], said: str) -> None:
    title = "The test has it all" if id == "made-up" else ""
    found = pair(rules=[rule(id, cause("strong", "computed", "Text.", numbers=numbers, effect=-0.3, title=title))])
    assert found.answer.text.split(", beyond chance")[1].removeprefix(", ").startswith(said)
    assert found.answer.cause == id


def test_a_possible_cause_is_said_to_be_one() -> None:
    made = cause("possible", "inferred", "Text.", numbers={"control": 1, "test": 3}, effect=-0.1)
    assert "possibly because" in pair(rules=[rule("length", made)]).answer.text
    title = replace(made, title="The test is odd")
    assert ". A possible cause: gpu is odd." in pair(rules=[rule("made-up", title)]).answer.text


def test_a_gap_that_chance_makes() -> None:
    answer = pair(second=run(curve(1.89), name="gpu"), rules=()).answer
    assert answer.text.startswith("gpu ends 0.01 lower than laptop, but chance alone makes gaps of up to ")
    assert answer.beyond_chance is False
    assert answer.cause is None


def test_equal_within_the_margin() -> None:
    answer = pair(second=run(curve(1.89), name="gpu"), rules=(), margin=0.5).answer
    assert answer.text == "laptop and gpu end alike: gpu is 0.01 lower, within the margin of 0.5."


def test_one_record_twice(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    file.write_text("step 0: train loss 4.1, val loss 4.2\nstep 250: train loss 2.1, val loss 2.2\n")
    answer = compare(file, file).answer
    assert answer.same_record
    assert answer.text == "Both are one and the same record, a: there is no gap to explain."
    assert answer.by == 0.0


def test_what_cannot_be_compared() -> None:
    none = pair(second=run({}, name="gpu"), rules=()).answer
    assert none.text == "laptop and gpu cannot be compared: gpu has no losses in the record."
    assert (none.lower, none.by, none.beyond_chance) == (None, None, None)
    apart = pair(second=run({}, losses={0: 4.0, 1: 3.0}, name="gpu"), rules=()).answer
    assert apart.text.startswith("laptop and gpu cannot be compared: laptop has a val loss and gpu has none;")


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (1.8857, "laptop is what shakespeare_char_cpu gives: val loss 1.886 at iteration 2,000, expected 1.886."),
        (2.1, "laptop is 0.21 above what shakespeare_char_cpu gives, more than another seed makes: val loss 2.1 at"),
        (1.5, "laptop is 0.39 below what shakespeare_char_cpu gives, more than another seed makes: val loss 1.5 at"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_run_against_its_recipe(end: float, said: str, turned: bool) -> None:
    made = run(curve(end), name="laptop")
    answer = (compare("shakespeare_char_cpu", made) if turned else compare(made, "shakespeare_char_cpu")).answer
    assert answer.text.startswith(said)
    assert answer.against_recipe
    (expected,) = answer.expected
    assert expected.run == ("test" if turned else "control")
    assert expected.holds == (end == 1.8857)


def test_a_run_on_its_way_is_told_where_the_recipe_ends() -> None:
    early = {at: value for at, value in curve(1.8857).items() if at <= 500}
    answer = compare(run(early, name="laptop"), "shakespeare_char_cpu").answer
    assert answer.text.endswith("That recipe ends at 1.886 after 2,000 iterations.")


@pytest.mark.parametrize(
    ("first", "second", "sources", "called"),
    [
        ("a", "b", ("a.log", "b.log"), ("a", "b")),
        ("laptop, CPU", "GPU, CUDA", ("a", "b"), ("laptop", "GPU")),
        ("mine, 1", "mine, 2", ("a", "b"), ("mine, 1", "mine, 2")),
        ("train", "train", ("x/train.log", "y/train.log"), ("x/train.log", "y/train.log")),
        ("train", "train", ("train.log", "train.log"), ("train (control)", "train (test)")),
        ("a\x1b[31m", "b", ("a", "b"), ("a\\x1b[31m", "b")),
    ],
)
def test_names(first: str, second: str, sources: tuple[str, str], called: tuple[str, str]) -> None:
    found = compare(run(curve(1.9), name=first), run(curve(1.6), name=second), rules=(), sources=sources)
    assert found.answer.names == called


def test_long_names_differ_at_their_ends() -> None:
    names = [f"{'a-long-name-of-a-series-' * 3}{number}" for number in (2000, 5000)]
    found = compare(*(run(curve(1.9), name=name) for name in names), rules=())
    assert found.answer.names[0] != found.answer.names[1]
    assert all(len(name) <= LONGEST for name in found.answer.names)
    assert middle_cut("short") == "short"


def test_results_show_themselves() -> None:
    found = pair(rules=())
    assert found.answer.sentences[0] in " ".join(found.text().split())
    assert repr(found) == f"<Comparison: {found.answer.text.strip()}>"
    assert found.json()["answer"]["by"] == pytest.approx(0.3)
    assert found.answer.sentences[0] in found._repr_html_()
    assert len(found._repr_html_()) < 10_000
