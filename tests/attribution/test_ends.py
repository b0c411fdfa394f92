"""From two runs to the configs of the experiment's ends."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from comparison.made import GPU, LAPTOP, curve, run

from lossgap.attribution.ends import NEEDED, Ends, ends
from lossgap.attribution.factor import factors
from lossgap.comparison.facts import Facts
from lossgap.config import TrainConfig
from lossgap.errors import ConfigError, CorpusError
from lossgap.runs.readers.source import load_run
from lossgap.runs.run import Inferred

ABOUT = "some words of a text that is long enough to be a corpus, again and again. "


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(ABOUT * 40)
    return path


def facts(config: Mapping[str, object], **fields: object) -> Facts:
    return Facts.of(run(curve(1.9), config=config, **fields))  # type: ignore[arg-type]  # a test names the fields


def both(control: Mapping[str, object], test: Mapping[str, object], text: Path, **fields: object) -> Ends:
    return ends(*(facts({**side, "dataset": str(text)}, **fields) for side in (control, test)))


def test_what_the_records_say_becomes_two_configs(text: Path) -> None:
    found = both(LAPTOP, {**LAPTOP, "n_embd": 64, "dropout": 0.2}, text)
    assert isinstance(found.control, TrainConfig)
    for name in ("n_layer", "block_size", "max_iters", "learning_rate", "eval_interval"):
        assert getattr(found.control, name) == LAPTOP[name]
    assert (found.test.n_embd, found.test.dropout) == (64, 0.2)
    assert found.notes == ()
    assert factors(found.control, found.test, fixed=found.fixed).names == ("capacity", "regularisation")
    assert found.corpus is not None


def test_a_whole_number_may_be_written_as_a_float(text: Path) -> None:
    found = both({**LAPTOP, "max_iters": 2000.0}, LAPTOP, text)
    assert found.control.max_iters == 2000
    assert isinstance(found.control.max_iters, int)


def test_a_setting_that_neither_says_is_at_the_default(text: Path) -> None:
    found = both(LAPTOP, LAPTOP, text)
    assert found.control.beta2 == found.test.beta2 == TrainConfig.beta2
    assert "beta2" not in found.stated
    assert "n_layer" in found.stated


def test_one_that_a_single_run_says_must_be_at_the_default(text: Path) -> None:
    found = both({**LAPTOP, "beta2": TrainConfig.beta2}, LAPTOP, text)
    assert any("test.beta2" in note for note in found.notes)
    with pytest.raises(ConfigError) as caught:
        both({**LAPTOP, "beta2": 0.99}, LAPTOP, text)
    assert caught.value.slug == "setting-unknown"
    assert "--set test.beta2=VALUE" in str(caught.value)


@pytest.mark.parametrize("name", sorted(set(NEEDED) - {"learning_rate"}))
@pytest.mark.parametrize("side", ["control", "test"])
def test_without_what_a_training_needs_there_is_none(name: str, side: str, text: Path) -> None:
    less = {key: value for key, value in LAPTOP.items() if key != name}
    with pytest.raises(ConfigError) as caught:
        both(*((less, LAPTOP) if side == "control" else (LAPTOP, less)), text)
    assert caught.value.slug == "setting-unknown"
    assert f"--set {side}.{name}=VALUE" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["eval_interval", "log_interval", "eval_iters"])
def test_what_only_prints_may_be_unknown(name: str, text: Path) -> None:
    """Neither run's arms depend on it, so a log that does not say it is no reason to refuse."""
    less = {key: value for key, value in LAPTOP.items() if key != name}
    found = both({**LAPTOP, name: 7}, less, text)
    assert factors(found.control, found.test).names == ()
    known = both({**LAPTOP, name: 7}, {**LAPTOP, name: 9}, text)
    assert factors(known.control, known.test, regroup={"printing": [name]}).names == ("printing",)


def test_a_config_file_says_every_setting(tmp_path: Path, text: Path) -> None:
    sides = []
    for name, value in (("control", 0.99), ("test", None)):
        path = tmp_path / f"{name}.py"
        beta2 = "" if value is None else f"beta2 = {value}\n"
        path.write_text(f"dataset = {str(text)!r}\nn_layer = 1\nmax_iters = 20\n{beta2}")
        sides.append(Facts.of(load_run(path)))
    found = ends(*sides)
    assert (found.control.beta2, found.test.beta2) == (0.99, TrainConfig.beta2)


def test_what_was_inferred_is_told(text: Path) -> None:
    less = {key: value for key, value in LAPTOP.items() if key != "n_embd"}
    found = both(less, LAPTOP, text, inferred=(Inferred(name="n_embd", value=128, why="from the parameters"),))
    assert found.control.n_embd == 128
    assert any("from the parameters" in note for note in found.notes)


def test_another_device_is_fixed_with_what_comes_along(text: Path) -> None:
    found = both(LAPTOP, {**GPU, "dtype": "bfloat16", "n_head": 4, "n_embd": 128}, text)
    assert set(found.fixed) >= {"device", "dtype", "tf32"}
    assert "replay" in found.fixed["device"]
    plan = factors(found.control, found.test, fixed=found.fixed)
    assert {item.name for item in plan.not_switched} == {"device", "numerics"}
    assert not {"device", "numerics"} & set(plan.names)


def test_two_texts_are_fixed_and_two_names_of_one_text_are_told(tmp_path: Path, text: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text(ABOUT[::-1] * 40)
    copy = tmp_path / "copy.txt"
    copy.write_bytes(text.read_bytes())
    first = facts({**LAPTOP, "dataset": str(text)})
    found = ends(first, facts({**LAPTOP, "dataset": str(other)}))
    assert "two val texts" in found.fixed["dataset"]
    assert found.corpus is not None
    assert "same tokens" in ends(first, facts({**LAPTOP, "dataset": str(copy)})).fixed["dataset"]


def test_a_test_text_that_is_not_there_is_no_reason_to_stop_but_the_controls_is(tmp_path: Path, text: Path) -> None:
    gone = {**LAPTOP, "dataset": str(tmp_path / "gone.txt")}
    found = ends(facts({**LAPTOP, "dataset": str(text)}), facts(gone))
    assert str(text) in found.fixed["dataset"]
    with pytest.raises(CorpusError):
        ends(facts(gone), facts({**LAPTOP, "dataset": str(text)}))


def test_the_experiment_decides_where_arms_begin_and_what_they_draw(text: Path) -> None:
    found = both({**LAPTOP, "init_from": "resume", "rng": "nanogpt", "out_dir": "x"}, LAPTOP, text)
    assert (found.control.init_from, found.control.rng) == ("scratch", "counter")
    assert factors(found.control, found.test).names == ()
