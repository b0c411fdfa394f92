"""What the terminal says of an explanation and of a price: complete, within its width, every number with its scale."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from rich.cells import cell_len

from lossgap.attribution.explanation import Explanation
from lossgap.attribution.factor import Factor, NotSwitched
from lossgap.attribution.price import Price
from lossgap.duration import duration
from lossgap.report import division, experiment, explanation_words, show
from lossgap.report.factor_phrases import phrase
from lossgap.strangers import visible
from report import explained
from report.explained import explanation, price
from report.hostile import HOSTILE
from report.test_explanation_document import CASES, hostile, odd_explanations

NUMBER = re.compile(r"(?<![\w.])[+-]?\d\.\d{4}(?!\d)")
"""A loss or a gap."""


def shown(found: Explanation | Price, width: int = 100) -> str:
    """Everything that is known, on a terminal."""
    text = show.text((found,), full=True, width=width)
    assert all(
        cell_len(line) <= width or "$ " in line or line.startswith("    ") for line in map(str.strip, text.splitlines())
    )
    return text


def answer(found: Explanation | Price, width: int = 80) -> str:
    """The first 24 lines."""
    text = show.text((found,), width=width)
    assert len(text.splitlines()) <= 24
    assert all(cell_len(line) <= width for line in map(str.strip, text.splitlines()))
    return text


def words(text: str) -> str:
    """On one line, without the breaks of a table's cells."""
    return " ".join(text.split())


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("name", CASES)
def test_all_that_is_known_is_shown(name: str, width: int) -> None:
    found = CASES[name]
    text = shown(found, width)
    for part in (found.last, found.best):
        for row in division.contribution_rows(found, part):
            assert re.search(rf"{re.escape(row.value)} +{re.escape(row.interval)} +{row.verdict or ''}", text)
            assert row.name in text
        for row in division.gap_rows(found, part):
            assert row.value in text
            assert row.interval in text
        total = division.total(found, part)
        assert re.search(rf"{re.escape(total.value)} +{re.escape(total.interval)}", text)
    assert "do not add up" not in text
    for label, said in experiment.fact_lines(found):
        assert label in text
        assert words(said) in words(text)


def test_settings_are_shown_without_quotes() -> None:
    settings = {"warmup_iters": ("12 of 250", "12 of 625"), "dataset": ("a\nb", ""), "dropout": (0.0, 0.2)}
    assert division.changes(settings) == (
        "warmup_iters 12 of 250 -> 12 of 625, dataset 'a\\nb' -> '', dropout 0.0 -> 0.2"
    )


def test_parts_that_do_not_add_up_are_told() -> None:
    found = explanation(3)
    first, *rest = found.last.contributions
    wrong = replace(found.last, contributions=(replace(first, value=first.value + 2e-9), *rest))
    text = shown(replace(found, last=wrong))
    assert "The parts do not add up: last against last, their sum misses the common gap by -2e-09." in words(text)
    assert "not the common gap" in text
    reported = replace(found.best, not_reproduced=replace(found.best.not_reproduced, value=0.1))
    text = shown(replace(found, best=reported))
    assert "The parts do not add up: best against best, their sum misses the reported gap by -0.0825." in words(text)
    nearly = replace(found.last, contributions=(replace(first, value=first.value + 2e-10), *rest))
    assert "do not add up" not in shown(replace(found, last=nearly))


@pytest.mark.parametrize("width", [80, 120])
def test_every_number_of_a_scaled_experiment_is_marked(width: int) -> None:
    found = explanation(4, scale=explained.SCALED, screened=("schedule",))
    text = shown(found, width)
    assert "1/8 of the iterations, 1/4 of channels, context and batch" in words(text)
    assert "numbers, order and signs are of this scale" in words(text)
    plain = [match for match in NUMBER.finditer(text) if text[match.end() : match.end() + 1] != division.MARK]
    true = {division.amount(part.reported.value) for part in (found.last, found.best)}
    assert {match[0] for match in plain} == true
    assert len(NUMBER.findall(text)) > 40
    assert division.MARK not in shown(explanation(4, screened=("schedule",)), width)


def test_the_remainder_has_its_reasons() -> None:
    text = words(shown(explanation(2, screened=("schedule", "optimizer")), 120))
    assert "= not reproduced both +0.0175" in text
    assert "device both unknown device cpu -> cuda, dtype float32 -> bfloat16: not switchable: all arms" in text
    assert re.search(r"screened out both \+0\.00\d\d \S+ to \S+ schedule, optimizer: switched together", text)
    none = words(shown(explanation(2, held=()), 120))
    assert "not switchable both none every difference between the two was switched" in none
    assert "screened out both none no factor was dropped" in none
    assert "the log has no loss at its end" in words(shown(CASES["unreported"]))


def test_what_chance_may_have_left_is_not_called_unrepeated() -> None:
    def told(ci: tuple[float, float] | None) -> str:
        found = explanation(2, held=())
        last, best = (
            replace(item, not_reproduced=replace(item.not_reproduced, ci=ci)) for item in (found.last, found.best)
        )
        return words(shown(replace(found, last=last, best=best), 120))

    unrepeated, chance = "+0.0175 of the reported gap, which new runs do not repeat", "within what one seed leaves open"
    assert (unrepeated in told(None), chance in told(None)) == (True, False)
    assert (unrepeated in told((0.001, 0.034)), chance in told((0.001, 0.034))) == (True, False)
    assert (unrepeated in told((-0.001, 0.036)), chance in told((-0.001, 0.036))) == (False, True)


def test_the_answer_tells_what_was_screened_out() -> None:
    def labels(found: Explanation) -> dict[str, str]:
        return dict(division.answer(found, found.last))

    found = explanation(3, screened=("schedule", "optimizer"))
    value = found.last.screened_out.value
    assert value is not None
    assert labels(found)["screened out"] == f"{division.amount(value)} schedule, optimizer, switched together"
    assert "screened out" not in labels(explanation(3))


def test_what_a_context_of_its_own_does() -> None:
    found = explanation(2)
    last = replace(found.last, own_context=(-0.01, 0.0016))
    text = words(shown(replace(found, last=last), 120))
    assert "control gains 0.0100 by its own context; test loses 0.0016 by its own context" in text
    nothing = replace(found, last=replace(found.last, own_context=(0.0, 0.00001)))
    assert "no end gains by its own context" in words(shown(nothing, 120))


def test_coordinates_scale_and_budget_are_stated() -> None:
    found = explanation(2)
    text = words(shown(found))
    assert "equal iterations: switching batch or context keeps the iterations and changes the tokens" in text
    assert "the true scale of both runs" in text
    assert "20m: 20 runs; spent 16 runs, 17 min" in text
    assert "contributions known to about ±0.0042 nats per token" in text
    tokens = words(shown(replace(found, coordinates="tokens")))
    assert "equal tokens: switching batch or context keeps the tokens and changes the iterations" in tokens


def test_failed_arms_and_replaced_seeds() -> None:
    text = words(shown(explanation(2, failed=14)))
    assert "seed 900, capacity: not-finite: the loss was nan at iteration 40" in text
    assert "and 2 more; --json has them all" in text
    assert "replaced after failures: 900 to 913" in text


def test_what_would_settle_it_and_its_price() -> None:
    found = explanation(("capacity", "optimizer"), seeds=5, noise=0.02)
    (open_one,) = found.open_factors
    name, needed = open_one.name, open_one.seeds
    assert name == "optimizer"
    assert needed is not None
    text = shown(found)
    runs = 4 * needed
    assert f"$ lossgap explain runs/laptop logs/gpu.txt --budget={runs}runs" in map(str.strip, text.splitlines())
    assert f"About {needed} seeds would settle optimizer" in words(text)
    assert f"{runs - 20} runs more, about" in words(text)
    assert "next" not in shown(explanation(2)).splitlines()


def test_each_open_factor_has_its_number_of_seeds() -> None:
    noisy = words(shown(explanation(4, seeds=3, noise=0.08)))
    assert re.search(r"To settle \w+ takes about \d+ seeds, \w+ takes about \d+ seeds.*; so far 3\.", noisy)
    never = explanation(("capacity", "x"), values={"capacity": -0.1, "x": 0.01}, noise=0.6)
    exactly = tuple(replace(item, value=0.0) if item.factor.name == "x" else item for item in never.last.contributions)
    none = replace(never, margin=0.0, last=replace(never.last, contributions=exactly))
    assert "No affordable number of seeds settles x; a larger --margin may." in words(shown(none))


def test_without_seeds_nothing_settles_it() -> None:
    text = shown(CASES["no seed flag"])
    assert "one repetition gives no interval, and the trainer has no seed for another" in words(text)
    assert "$ " not in text


def test_a_stopped_experiment_says_how_it_goes_on() -> None:
    text = shown(explanation(2, complete=False))
    assert "Stopped before its end: these numbers are of the 5 seeds that ended." in text
    assert "$ lossgap explain runs/laptop logs/gpu.txt --budget=20m" in map(str.strip, text.splitlines())
    assert "Stopped" not in shown(explanation(2))


def test_a_python_call_is_told_a_python_call() -> None:
    text = shown(explanation(2, complete=False, command=""))
    assert "Call explain again with budget='20m'." in " ".join(text.split())


@pytest.mark.parametrize("name", CASES)
def test_the_answer_fits_a_screen_and_begins_with_a_sentence(name: str) -> None:
    found = CASES[name]
    said = answer(found)
    headline, rest = words(said.split("verdict  ")[0]), words(said)
    assert headline.startswith(explanation_words.headline(found).split(",")[0])
    assert explanation_words.verdict(found, found.last) in rest
    for step in found.next[:1]:
        assert step.command.split(" --budget")[0] in rest.replace(" \\ ", " ")


def test_the_sentence_is_told_from_the_side_of_the_run_that_ends_lower() -> None:
    found = explanation(4)
    assert explanation_words.headline(found) == (
        "Of the 0.25 by which gpu.txt ends lower, the larger model gives 0.14, the longer training 0.11, the longer "
        "context 0.06; the regularisation costs 0.06."
    )
    other = explanation(4, values={name: -value for name, value in explained.VALUES.items()})
    assert explanation_words.headline(other) == (
        "Of the 0.25 by which laptop ends lower, the smaller model gives 0.14, the shorter training 0.11, the shorter "
        "context 0.06; the regularisation costs 0.06."
    )


def test_the_sentence_names_no_factor_that_is_not_settled() -> None:
    noisy = explanation(4, seeds=3, noise=0.3)
    assert "no single setting's part is beyond the noise of 3 seeds" in explanation_words.headline(noisy)
    scaled = explanation_words.headline(explanation(2, scale=explained.SCALED))
    assert scaled.startswith("At 1/8 of the iterations, 1/4 of channels, context and batch, of the 0.25")
    assert "unknown: no seed has ended" in explanation_words.headline(CASES["nothing yet"])


def test_factors_have_the_words_of_their_level() -> None:
    def said(**settings: tuple[object, object]) -> tuple[str, str]:
        made = Factor(name=names[next(iter(settings))], settings=settings)
        return phrase(made, of_test=True), phrase(made, of_test=False)

    names = {"n_layer": "capacity", "dropout": "regularisation", "batch_size": "batch", "n_head": "capacity", "x": "x"}
    assert said(n_layer=(4, 6), n_embd=(128, 384)) == ("the larger model", "the smaller model")
    assert said(n_head=(4, 6)) == ("the other model", "the other model")
    assert said(dropout=(0.0, 0.2)) == ("the dropout", "no dropout")
    assert said(dropout=(0.1, 0.2)) == ("the higher dropout", "the lower dropout")
    assert said(batch_size=(64, 12)) == ("the smaller batch", "the larger batch")
    assert said(x=("a", "b")) == ("x", "x")


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_names_are_text(name: str) -> None:
    for width in (80, 100):
        text = shown(hostile(name), width)
        assert not re.search("[\x00-\x08\x0b-\x1f\u2028\u2029\u202e\ud800-\udfff]", text)
        if len(name) < 60:
            assert "".join(visible(name).split()) in "".join(text.split())


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(odd_explanations)
def test_no_number_breaks_the_answer(found: Explanation) -> None:
    text = shown(found)
    assert not re.search(r"\b(nan|inf)\b", text)


# ---------------------------------------------------------------------------------------------
# The price


def test_the_price() -> None:
    text = words(shown(price(), 80))
    for said in (
        "4: capacity, length, context, regularisation",
        "every combination of 4 factors: 16 arms for each of 5 seeds",
        "80 arms, 16 of them trained by earlier experiments: 64 left",
        "about 17 min here, 2 at a time with 1 thread each",
        "contributions to about ±0.0042 nats per token; smaller ones stay inconclusive",
        "the true scale of both runs",
        "Arms run on the CPU.",
    ):
        assert said in text
    assert re.search(r"4 layers, 128 channels, .*32 +2,000 +21\.3 +43 s", shown(price(), 100))


def test_the_price_of_a_smaller_scale_says_what_the_true_one_takes() -> None:
    text = words(shown(price(scale=explained.SCALED, true_scale_seconds=3e5), 80))
    assert (
        "1/8 of the iterations, 1/4 of channels, context and batch; at the true scale it would take about 3 days"
        in text
    )
    assert f"±0.0042{division.MARK}" in text
    assert "numbers, order and signs are of this scale, and may differ at the true one" in text


def test_an_unknown_resolution_says_why() -> None:
    text = words(shown(price(resolvable=None, resolvable_why="no seeds of such a recipe are known", cached=0), 80))
    assert "the smallest contribution it can resolve is unknown: no seeds of such a recipe are known" in text
    assert "80 arms takes" in text


def test_an_unknown_time_and_what_is_not_switched_are_told_beforehand() -> None:
    held = NotSwitched(name="device", settings={"device": ("cpu", "cuda")}, why="all arms run on this machine")
    text = words(shown(price(seconds=math.inf, not_switched=(held,)), 80))
    assert "takes an unknown time here, 2 at a time" in text
    assert "not switched device cpu -> cuda: all arms run on this machine; what it does to the gap stays unk" in text
    assert "not switched" not in shown(price(), 80)


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_price_of_hostile_names_is_text(name: str) -> None:
    found = price(factors=(name,), asked=name, notes=(name,), resolvable_why=name)
    text = shown(found, 80)
    assert not re.search("[\x00-\x08\x0b-\x1f\u2028\u2029\u202e\ud800-\udfff]", text)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "0 s"),
        (89, "89 s"),
        (95, "2 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (172_800, "2 days"),
        (4e6, "46 days"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said
    assert duration(float("nan")) == "an unknown time"
