"""`lossgap tune`: settings tried against a recipe on this machine, and the config that it writes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import lossgap
from lossgap import schemas
from lossgap.config_file import resolve_arguments, train_config
from lossgap.tuning import tune as tuning
from lossgap.tuning.trial import Trial, thread_counts

SHAPE: dict[str, Any] = {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 16, "batch_size": 4}
TINY: dict[str, Any] = {**SHAPE, "eval_iters": 4, "threads": 1}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> lossgap.Tuned:
    text = tmp_path_factory.mktemp("tune") / "text.txt"
    text.write_text("to be or not to be, that is the question\n" * 100, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "compiled", lambda config, seconds: (0.001, 20.0))
        return lossgap.tune("shakespeare_char_cpu", dataset=str(text), **TINY)


def of(tuned: lossgap.Tuned, name: str) -> Trial:
    return next(trial for trial in tuned.trials if name in trial.settings)


def test_every_tip_is_a_row(tuned: lossgap.Tuned) -> None:
    kinds = {next(iter(trial.settings)): trial.kind for trial in tuned.trials}
    assert kinds.items() >= {
        "attention": "speed", "dtype": "speed", "compile": "speed",
        "batch_size": "run", "max_iters": "run", "eval_iters": "measurement",
    }.items()  # fmt: skip
    assert len(tuned.text().splitlines()) <= 24
    body = json.loads(json.dumps(tuned.json(), allow_nan=False))
    jsonschema.Draft202012Validator(schemas.load("tune")).validate(body)


def test_bits_are_compared_where_a_setting_may_change_them(tuned: lossgap.Tuned) -> None:
    for name in ("attention", "dtype"):
        trial = of(tuned, name)
        assert trial.same_bits is False, name
        assert (trial.loss, trial.evidence) == ("rounding only", "inferred")
    assert of(tuned, "batch_size").same_bits is None
    assert of(tuned, "batch_size").evidence == "unknown"


def test_a_setting_that_changes_nothing_has_the_same_bits(tuned: lossgap.Tuned) -> None:
    corpus = lossgap.open_corpus(tuned.config.dataset)
    from lossgap.pace.stopwatch import Stand

    config = dataclasses.replace(tuned.config, compile=False)
    these = tuning._Trials(config, Stand(config, corpus), corpus, 1e18, lambda line: None)
    trial = these._speed({"adamw": "fused"})  # what auto is on a CPU
    assert trial.same_bits is True
    assert (trial.loss, trial.evidence) == ("none: the same bits", "measured")


def test_minutes_are_start_updates_and_evaluations(tuned: lossgap.Tuned) -> None:
    trial = of(tuned, "compile")
    evaluations = 2000 // tuned.config.eval_interval + 1
    assert tuned.minutes(trial, 2000) == pytest.approx((20.0 + 0.001 * 2001 + tuned.evaluation * evaluations) / 60)
    fewer = of(tuned, "eval_iters")
    spared = (tuned.minutes(None, 2000) or 0.0) - (tuned.minutes(fewer, 2000) or 0.0)
    assert spared == pytest.approx(evaluations * tuned.evaluation * 0.75 / 60)


def with_trials(tuned: lossgap.Tuned, **ratios: float) -> lossgap.Tuned:
    trials = []
    for trial in tuned.trials:
        ratio = ratios.get(next(iter(trial.settings)), 0.5)
        trials.append(dataclasses.replace(trial, ratio=ratio, update=tuned.update / ratio, why=""))
    return dataclasses.replace(tuned, trials=tuple(trials))


def test_only_speed_is_taken_and_a_compilation_must_pay(tuned: lossgap.Tuned, tmp_path: Path) -> None:
    fast = dataclasses.replace(with_trials(tuned, attention=1.5, dtype=2.0, batch_size=3.0, compile=1.2), update=0.02)
    fast = with_trials(fast, attention=1.5, dtype=2.0, batch_size=3.0, compile=1.2)
    other = of(tuned, "attention").settings["attention"]
    assert fast.faster(2000) == {"attention": other}  # 40 s, of which a compilation of 20 s saves 7
    assert fast.faster(20000) == {"attention": other, "compile": True}
    fast.write(tmp_path / "fast.py")
    config = train_config(resolve_arguments([str(tmp_path / "fast.py")]))
    assert config.to_dict() == fast.config.to_dict() | {"attention": other}


def test_noise_is_no_reason_to_change_a_setting(tuned: lossgap.Tuned) -> None:
    assert with_trials(tuned, attention=1.02, threads=1.02).faster(2000) == {}


def test_the_thread_counts_that_are_tried() -> None:
    assert list(thread_counts(6, 4)) == [1, 2, 6]
    assert list(thread_counts(1, 1)) == []
