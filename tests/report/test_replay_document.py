"""A replay as JSON and on a terminal."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import pytest

from lossgap import schemas
from lossgap.parity.replay_result import Replay
from lossgap.report import replay_document, replay_words, show
from report.hostile import HOSTILE
from report.replayed import CASES, check, checks, hostile, replay

VERDICTS = {
    "equivalent": "equivalent",
    "part by rounding": "equivalent",
    "below": "equivalent",
    "no envelope": "inconclusive",
    "wide": "inconclusive",
    "not judged": "not-comparable",
    "from a checkpoint": "equivalent",
}


def valid(name: str) -> dict[str, object]:
    document = json.loads(replay_document.text(CASES[name]))
    jsonschema.validate(document, schemas.load("replay"))
    assert isinstance(document, dict)
    return document


def printed(found: Replay, width: int = 120) -> str:
    """Everything that is known, on a terminal."""
    return show.text([found], full=True, width=width)


@pytest.mark.parametrize("name", CASES)
def test_document_is_valid_and_has_a_reason_for_each_null(name: str) -> None:
    document = valid(name)
    assert document["verdict"] == VERDICTS.get(name, "different")

    def walk(value: object) -> None:
        if isinstance(value, dict):
            why = value.get("why")
            if isinstance(why, dict):
                nulls = {key for key, item in value.items() if item is None}
                assert nulls == set(why)
                assert all(reason and reason != "not in the record" for reason in why.values())
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(document)


@pytest.mark.parametrize(("name", "code"), [("equivalent", 0), ("step", 2), ("wide", 3), ("not judged", 3)])
def test_exit_code_goes_with_the_verdict(name: str, code: int) -> None:
    assert CASES[name].exit_code == valid(name)["exit_code"] == 0  # nobody made the verdict a condition
    asked = replace(CASES[name], fail_on_difference=True)
    assert asked.exit_code == json.loads(replay_document.text(asked))["exit_code"] == code


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_text_is_data(name: str) -> None:
    document = json.loads(replay_document.text(hostile(name)))
    jsonschema.validate(document, schemas.load("replay"))
    assert document["bundle"] == name
    shown = printed(hostile(name))
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert "\x1b" not in shown


@pytest.mark.parametrize("name", CASES)
def test_text_says_what_there_is(name: str) -> None:
    found = CASES[name]
    shown = " ".join(printed(found).split())
    assert replay_words.WORDS[found.verdict] in shown
    assert replay_words.bound(found) in shown
    assert replay_words.headline(found) in shown
    for step in found.next:
        assert step.command in shown
    if found.settle and not found.next:
        assert found.settle in shown


@pytest.mark.parametrize("name", CASES)
def test_the_answer_fits_a_screen_and_begins_with_a_sentence(name: str) -> None:
    found = CASES[name]
    text = show.text([found])
    assert len(text.splitlines()) <= 24
    assert max(map(len, text.splitlines())) <= 80
    assert " ".join(text.split()).startswith(replay_words.headline(found)[:60])
    assert replay_words.WORDS[found.verdict] in " ".join(text.split())


def test_the_sentence_says_where_it_differs_first() -> None:
    assert replay_words.headline(CASES["equivalent"]) == (
        "This machine computes the recorded training as the other one did: the losses of 20 iterations are equal to "
        "the last bit."
    )
    assert replay_words.headline(CASES["step"]).endswith(
        "the first difference is in the output of transformer.h.0.ln_1 (forward) at iteration 0."
    )
    assert "every recorded step is right, but the losses differ from iteration 9 on (sudden)" in replay_words.headline(
        CASES["sudden"]
    )
    assert "cannot be told: rounding alone may make 0.05 nats" in replay_words.headline(CASES["wide"])


def test_text_of_a_fault_names_layer_direction_and_sizes() -> None:
    shown = " ".join(printed(CASES["step"]).split())
    assert "The output of transformer.h.0.ln_1 (forward) at iteration 0 is off by 0.33, 6e-07 is allowed;" in shown
    assert "Out of bounds, in the order of computation" in shown


def test_the_layers_are_the_worst_of_each_name_and_direction() -> None:
    found = replay(found=[check("a", "forward", 1e-7), check("a", "forward", 2e-7, iteration=9), *checks()])
    document = json.loads(replay_document.text(found))
    [worst] = [layer for layer in document["layers"] if layer["name"] == "a"]
    assert (worst["error"], worst["iteration"]) == (2e-7, 9)


def test_without_a_longer_training_there_is_no_command() -> None:
    found = replace(CASES["equivalent"], beyond=replace(CASES["equivalent"].beyond, command=""))
    assert "$" not in printed(found)


def test_no_version_of_a_stranger_is_believed_to_be_ours() -> None:
    document = json.loads(replay_document.text(replay(text="9.9")))
    assert document["machine_recorded"]["lossgap"] == "9.9"
    assert document["lossgap"] != "9.9"
