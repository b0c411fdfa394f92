"""Settings as arguments: whole words, checked values, nanoGPT's rules; from hostile configs nothing gets through."""

from __future__ import annotations

import ast
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossgap.attribution.arm import Measurement
from lossgap.attribution.foreign import overrides
from lossgap.attribution.foreign.overrides import FORM, check_form, check_strangers, expand, measured, passed, spacing
from lossgap.config import NANOGPT_FIELDS, TrainConfig
from lossgap.errors import ConfigError
from lossgap.machine.device import Accelerators

MEASUREMENT = Measurement(context=16, evaluations=4, tokens=1024)


def refused(config: Mapping[str, object], *words: str) -> None:
    """Assert that it is refused in one line that has these words."""
    with pytest.raises(ConfigError) as caught:
        passed(config)
    assert caught.value.slug == "runner-bad-override"
    message = str(caught.value)
    assert message.isprintable(), message
    assert len(message) < 400
    assert all(word in message for word in words), message


HOSTILE_TEXTS = {
    "newline": "tiny\nimport os",
    "carriage return": "tiny\r",
    "nul": "tiny\0",
    "escape": "\x1b[2J",
    "shell": "x;rm -rf /",
    "substitution": "$(reboot)",
    "backticks": "`reboot`",
    "pipe": "a|b",
    "quote": "a'b",
    "argument": "--out_dir=/etc",
    "short argument": "-x",
    "equals": "a=b",
    "braces": "{out_dir}",
    "huge": "x" * 100_000,
    "empty": "",
    "blank": " x",
    "right to left": "a\u202eb",
    "home": "~/x",
}


@pytest.mark.parametrize("value", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
@pytest.mark.parametrize("name", ["dataset", "init_from", "corpus_of_theirs"])
def test_hostile_texts_are_refused(name: str, value: str) -> None:
    refused({name: value}, name)


@pytest.mark.parametrize("value", ["/etc", "../x", "a/../../b", ".."], ids=["absolute", "above", "inside", "parent"])
def test_a_dataset_stays_below_data(value: str) -> None:
    refused({"dataset": value}, "below data/")


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("n_layer", "4", "int"),
        ("n_layer", 4.5, "int"),
        ("n_layer", True, "int"),
        ("n_layer", 10**30, "64 bits"),
        ("learning_rate", "1e-3; import os", "float"),
        ("learning_rate", float("nan"), "finite"),
        ("learning_rate", float("inf"), "finite"),
        ("bias", "True", "bool"),
        ("dtype", "float64", "float32"),
        ("theirs", 10**30, "64 bits"),
        ("theirs", float("nan"), "finite"),
        ("theirs", [1, 2], "list"),
        ("theirs", {"a": 1}, "dict"),
        ("theirs", None, "NoneType"),
        ("init_from", "resume", "begins anew"),
        ("--out_dir", "x", "a name is"),
        ("a b", 1, "a name is"),
        ("a=b", 1, "a name is"),
        ("a\n", 1, "a name is"),
        ("", 1, "a name is"),
        ("x" * 1000, 1, "a name is"),
        ("{overrides}", 1, "a name is"),
    ],
)
def test_values_of_the_wrong_kind_are_refused(name: str, value: object, word: str) -> None:
    refused({name: value}, word)


def test_too_many_settings_are_refused() -> None:
    refused({f"x{number}": 1 for number in range(201)}, "201")


def test_where_it_writes_and_whom_it_tells_is_never_taken_from_a_config() -> None:
    config = TrainConfig(out_dir="/etc", wandb_log=True, device="cuda").to_dict()
    found = passed(config)
    assert found.keys() <= set(NANOGPT_FIELDS)
    assert not found.keys() & overrides.DECIDED
    assert "device" not in passed({"device": "auto"})


def test_a_device_that_is_not_here_is_the_trainers_own_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    have = Accelerators(cuda_count=1, mps=False, mps_reason="none")
    monkeypatch.setattr("lossgap.machine.device.accelerators", lambda: have)
    assert passed({"device": "cuda"}) == {"device": "cuda"}
    assert passed({"device": "cuda:1", "n_layer": 2}) == passed({"device": "mps", "n_layer": 2}) == {"n_layer": 2}
    monkeypatch.setattr("lossgap.machine.device.accelerators", lambda: Accelerators(cuda_count=0, mps=False))
    assert passed({"device": "cuda"}) == {}
    assert passed({"device": "cpu"}) == {"device": "cpu"}


@given(
    st.dictionaries(st.text(max_size=8), st.one_of(st.text(), st.integers(), st.floats(), st.booleans()), max_size=3)
)
def test_each_setting_is_one_word_or_refused(config: dict[str, object]) -> None:
    try:
        found = expand(passed(config), FORM, "")
    except ConfigError:
        return
    told = {name: value for name, value in config.items() if name in passed(config)}
    assert len(found) == len(told)
    for word, (name, value) in zip(found, told.items(), strict=True):
        assert word == f"--{name}={value}"
        assert word.isprintable()


@pytest.mark.parametrize("value", ["1", "True", "None", "1.5", "tiny", "a b", "shakespeare_char", "1+2", "1e5", "0x10"])
def test_nanogpt_reads_texts_back_as_they_were(value: str) -> None:
    [word] = expand({"dataset": value}, FORM, "nanogpt")
    text = word.partition("=")[2]
    assert word.count("=") == 1
    try:
        assert ast.literal_eval(text) == value
    except (SyntaxError, ValueError):
        assert text == value


def test_nanogpt_reads_every_setting_with_its_type() -> None:
    """Its configurator asserts that the types are those of the defaults."""
    config = TrainConfig(learning_rate=1, weight_decay=0, grad_clip=1, dataset="12", device="cpu", dtype="float32")
    for word in expand(passed(config.to_dict()), FORM, "nanogpt"):
        name, _, text = word.removeprefix("--").partition("=")
        try:
            value = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            value = text
        assert type(value) is type(getattr(config, name)), word
        assert value == getattr(config, name)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("--{key}={value}", ["--n_layer=2", "--dataset=a b"]),
        ("--{key} {value}", ["--n_layer", "2", "--dataset", "a b"]),
        ("{key}={value}", ["n_layer=2", "dataset=a b"]),
        ("-o train.{key}:{value}", ["-o", "train.n_layer:2", "-o", "train.dataset:a b"]),
    ],
)
def test_forms(form: str, expected: list[str]) -> None:
    check_form(form)
    assert expand({"n_layer": 2, "dataset": "a b"}, form, "") == expected


@pytest.mark.parametrize(
    "form", ["", "--x", "{key}", "{value}", "{key}{key}={value}", "'--{key}={value}", "{key}\0{value}"]
)
def test_forms_without_both_fields_are_refused(form: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_form(form)
    assert caught.value.slug == "runner-bad-form"
    assert str(caught.value).isprintable()


def test_a_value_is_never_filled_in_again() -> None:
    """Were it, a key of {value} or a text with {key} would expand; neither is accepted, and neither would."""
    assert expand({"x": "{key}"}, FORM, "") == ["--x={key}"]


def test_hugging_faces_names() -> None:
    found = expand({"max_iters": 5, "batch_size": 2, "n_layer": 1, "eval_interval": 3}, FORM, "huggingface")
    assert found == ["--max_steps=5", "--per_device_train_batch_size=2", "--n_layer=1", "--eval_steps=3"]


def test_settings_of_theirs_must_be_in_both_configs_with_one_type() -> None:
    check_strangers({"hidden": 3, "n_layer": 2}, ({"hidden": 2.5}, {"hidden": 3}))
    for ends, word in (
        (({}, {"hidden": 3}), "control does not say it"),
        (({"hidden": 3}, {}), "test does not say it"),
        (({"hidden": "3"}, {"hidden": 3}), "one type"),
        (({"hidden": True}, {"hidden": 3}), "one type"),
    ):
        with pytest.raises(ConfigError, match=word):
            check_strangers({"hidden": 3}, ends)


# ---------------------------------------------------------------------------------------------
# How arms are evaluated


@given(st.integers(1, 3_000), st.integers(1, 100))
def test_the_last_evaluation_is_as_near_to_the_end_as_can_be(iterations: int, evaluations: int) -> None:
    every = spacing(iterations, evaluations)
    wanted = max(1.0, iterations / evaluations)
    assert wanted / 2 <= every <= max(1, 2 * wanted)
    others = range(max(1, -int(-wanted // 2)), min(iterations, int(2 * wanted)) + 1)
    assert iterations % every == min(iterations % other for other in others)


@pytest.mark.parametrize(
    ("iterations", "evaluations", "expected"), [(2000, 20, 100), (5000, 20, 250), (60, 4, 15), (1, 20, 1), (7, 2, 7)]
)
def test_spacing(iterations: int, evaluations: int, expected: int) -> None:
    assert spacing(iterations, evaluations) == expected


def test_what_nanogpt_is_told_of_its_evaluations() -> None:
    settings = {"max_iters": 400, "batch_size": 4, "block_size": 16, "gradient_accumulation_steps": 2}
    expected = {
        "eval_interval": 100,
        "eval_iters": 16,  # 1,024 tokens in batches of 64
        "always_save_checkpoint": True,
        "eval_only": False,
        "wandb_log": False,
    }
    assert measured(settings, MEASUREMENT, "nanogpt", "") == expected
    short = measured({**settings, "max_iters": 4}, MEASUREMENT, "nanogpt", "")
    assert short["eval_iters"] == 1, "evaluations must not cost more than the training"
    fork = "eval_interval = 5; eval_iters = 3; always_save = True"
    assert measured(settings, MEASUREMENT, "nanogpt", fork).keys() == {"eval_interval", "eval_iters"}
    assert "eval_interval" not in measured({}, MEASUREMENT, "nanogpt", "")


def test_what_other_trainers_are_told_of_their_evaluations() -> None:
    settings = {"max_iters": 400, "batch_size": 4, "block_size": 16}
    assert measured(settings, MEASUREMENT, "huggingface", "") == {"eval_interval": 100}
    assert measured(settings, MEASUREMENT, "jsonl", "--eval_interval") == {"eval_interval": 100}
    assert measured(settings, MEASUREMENT, "jsonl", "") == {}
