"""A run in the band of its recipe: on track, above, below, and what has no reference."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from comparison.made import LAPTOP, run
from hypothesis import given
from hypothesis import strategies as st

from lossgap import schemas
from lossgap.cli.main import main
from lossgap.comparison.findings.recipe import DECIDING
from lossgap.config import TrainConfig
from lossgap.config_file import resolve_arguments, train_config
from lossgap.references.curve_file import ReferenceCurve, SeedCurve
from lossgap.references.placement import place_run
from lossgap.report.show import document, text
from lossgap.runs.run import Run

CONFIG = vars(train_config(resolve_arguments(["shakespeare_char_cpu"])))
SETTINGS = {name: CONFIG[name] for name in DECIDING}
AT = np.array([0.0, 500.0, 1000.0, 1500.0, 2000.0])


def seed(number: int, shift: float) -> SeedCurve:
    val = np.array([4.17, 2.4, 2.1, 1.95, 1.9]) + shift
    return SeedCurve(
        seed=number, iters=AT, train=val - 0.1, val=val, val_se=val * 0, batch_iters=AT, batch_loss=val,
        final_iter=2001, final_train=1.78 + shift, final_val=1.89 + shift,
    )  # fmt: skip


def reference(name: str = "laptop2000", count: int = 5, **changes: object) -> ReferenceCurve:
    return ReferenceCurve(
        name=name, about="a test", settings=SETTINGS | changes, resumed_at=None, corpus={"name": "shakespeare_char"},
        made={}, seeds=tuple(seed(n, shift) for n, shift in enumerate((0.0, 0.01, -0.01, 0.004, -0.004)[:count])),
    )  # fmt: skip


def made(shift: float = 0.0, **config: object) -> Run:
    vals = {int(at): float(v) for at, v in zip(AT, np.array([4.17, 2.4, 2.1, 1.95, 1.9]) + shift, strict=True)}
    return run(vals, config=LAPTOP | SETTINGS | config)


@pytest.mark.parametrize(("shift", "word"), [(0.0, "on track"), (0.01, "on track"), (0.1, "above"), (-0.1, "below")])
def test_a_run_is_placed(shift: float, word: str) -> None:
    found = place_run(made(shift), [reference()])
    assert found.word == word
    assert found.reference == "laptop2000"
    assert found.iter == 2000
    ended = replace(made(), final={"iter": 2001, "val_loss": 1.89 + shift, "train_loss": 1.7})
    placed = place_run(ended, [reference()])
    assert (placed.word, placed.exact) == (word, True)
    assert len(text([placed]).splitlines()) <= 24


def test_a_run_that_goes_on_is_placed_where_it_is() -> None:
    vals = {0: 4.17, 500: 2.4, 750: 2.25}
    found = place_run(run(vals, config=LAPTOP | SETTINGS), [reference()])
    assert (found.word, found.iter) == ("on track", 750)
    assert found.median == pytest.approx(2.25)


def test_the_nearest_reference_is_named() -> None:
    known = [reference(), reference("batch24", batch_size=24, dropout=0.1)]
    found = place_run(made(batch_size=24), known)
    assert found.word == "unknown"
    assert found.said == "No reference for this recipe; nearest is laptop2000 (batch_size 12 there, 24 here)."
    bare = place_run(run({0: 4.0, 100: 3.0}, config={}), known)
    assert "is not in the record" in bare.said
    assert place_run(made(), []).said == "No reference curve is shipped."


@pytest.mark.parametrize(
    "changed", [{"optimizer": "muon"}, {"rotary": True}, {"lr_schedule": "linear"}, {"context_warmup_iters": 800}]
)
def test_a_recipe_of_ours_is_not_placed_in_nanogpts_band(changed: dict[str, object]) -> None:
    found = place_run(made(-0.17, **changed), [reference()])
    (name,) = changed
    assert found.word == "unknown"
    assert f"({name} {getattr(TrainConfig, name)} there, {changed[name]} here)" in found.why
    mine = replace(reference(), settings=SETTINGS | changed)
    assert place_run(made(0.0, **changed), [mine]).word == "on track"
    assert place_run(made(), [mine]).word == "unknown"


def test_one_seed_is_no_band_and_two_give_a_wide_one() -> None:
    assert place_run(made(), [reference(count=1)]).why == "laptop2000 has 1 seed at iteration 2,000, and a band needs 2"
    two, five = place_run(made(), [reference(count=2)]), place_run(made(), [reference(count=5)])
    assert two.high is not None
    assert five.high is not None
    assert two.low is not None
    assert five.low is not None
    assert two.high - two.low > five.high - five.low


@given(st.floats(-0.3, 0.3))
def test_the_word_follows_from_the_band(shift: float) -> None:
    found = place_run(made(shift), [reference()])
    assert found.loss is not None
    assert found.low is not None
    assert found.high is not None
    assert (found.word == "on track") == (found.low <= found.loss <= found.high)
    jsonschema.Draft202012Validator(schemas.load("placement")).validate(json.loads(json.dumps(document([found]))))


def test_the_command_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "a.log"
    log.write_text("step 0: train loss 4.17, val loss 4.17\nstep 250: train loss 2.4, val loss 2.45\n")
    assert main(["compare", str(log), "--reference", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(schemas.load("placement")).validate(body)
    assert body["word"] == "unknown"
    assert main(["compare", "--reference"]) == 1
