"""`lossgap bench`: a training timed by part, and cold runs timed by the lines that they print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import lossgap
from lossgap import schemas
from lossgap.errors import LossgapError
from lossgap.pace.bench import Ratio, Timing
from lossgap.pace.cold_start import timed
from lossgap.pace.stopwatch import PARTS, Stand

TINY: dict[str, Any] = {
    "n_layer": 1,
    "n_head": 2,
    "n_embd": 16,
    "block_size": 16,
    "batch_size": 4,
    "eval_iters": 2,
    "threads": 1,
}


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "text.txt"
    path.write_text("to be or not to be, that is the question\n" * 100, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("more", [{}, {"dropout": 0.1, "gradient_accumulation_steps": 3}, {"optimizer": "muon"}])
def test_a_bench_says_where_the_time_goes(text: str, more: dict[str, Any]) -> None:
    found = lossgap.bench("shakespeare_char_cpu", updates=4, starts=0, dataset=text, **TINY, **more)
    assert tuple(found.parts) == PARTS
    assert found.update.count == found.parts["forward"].count == 4
    assert all(item.median > 0 for name, item in found.parts.items() if name != "other")
    assert found.tokens_per_second == pytest.approx(found.config.tokens_per_iter / found.update.median)
    answer = found.text()
    assert len(answer.splitlines()) <= 24
    assert "tokens per second" in answer
    assert "backward" in answer
    body = json.loads(json.dumps(found.json(), allow_nan=False))
    jsonschema.Draft202012Validator(schemas.load("bench")).validate(body)
    assert body["start_up"] is None
    assert body["why"]["start_up"] == "--starts=0"


def test_what_is_timed_is_the_training(text: str, tmp_path: Path) -> None:
    settings = {**TINY, "dataset": text, "dropout": 0.1, "max_iters": 5, "final_eval": False}
    run = lossgap.train("shakespeare_char_cpu", out_dir=str(tmp_path / "out"), **settings)
    recorded = json.loads((run.path / "run.json").read_text(encoding="utf-8"))["config"]
    stand = Stand(lossgap.TrainConfig.from_dict(recorded))
    stand.updates(1)
    stand.parts(2)
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert stand.losses == [row["loss"] for row in rows if row["kind"] == "iter"]


def test_a_cold_run_is_timed_by_its_lines() -> None:
    lines = [
        (2.0, "using fused AdamW: True"),
        (2.5, "step 0: train loss 4.2, val loss 4.3"),
        *[(3.0 + i, f"iter {i}: loss 4.1, time 1000.00ms, mfu -100.00%") for i in range(13)],
        (17.0, "step 13: train loss 2.2, val loss 2.3"),
        (18.0, "saving checkpoint to out"),
        (25.0, "iter 13: loss 2.1, time 9000.00ms, mfu 1.00%"),
        (26.0, "iter 14: loss 2.1, time 1000.00ms, mfu 1.00%"),
    ]
    found = timed(lines, 28.0)
    assert (found.start_up, found.evaluation, found.update, found.val_loss) == (2.0, 1.25, 1.0, 2.3)


def test_a_cold_run_without_iterations_is_an_error() -> None:
    with pytest.raises(LossgapError, match="no evaluation or too few iterations"):
        timed([(1.0, "step 0: train loss 4.2, val loss 4.3")], 2.0)


def test_a_ratio_has_the_interval_of_its_pairs() -> None:
    found = Ratio.of([2.0, 2.0, 4.0], [1.0, 2.0, 1.0])
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.mean == pytest.approx(2.0)
    assert found.low * found.high == pytest.approx(found.mean**2)
    assert found.high / found.mean == pytest.approx(2 ** (4.30265273 / 3**0.5), rel=1e-6)
    assert Ratio.of([1.0], [0.0]) is None


def test_a_timing_has_quartiles() -> None:
    assert Timing.of([1.0, 2.0, 3.0, 4.0, 5.0]) == Timing(median=3.0, low=2.0, high=4.0, count=5)


@pytest.mark.parametrize("is_checkout", [False, True])
def test_a_checkout_that_is_not_ready_is_said_at_once(tmp_path: Path, is_checkout: bool) -> None:
    if is_checkout:
        (tmp_path / "train.py").write_text("", encoding="utf-8")
    with pytest.raises(LossgapError) as caught:
        lossgap.bench("shakespeare_char_cpu", against=tmp_path, **TINY)
    assert caught.value.slug == "nanogpt-not-prepared"
    assert ("prepare.py" if is_checkout else "no train.py") in str(caught.value)
