"""`lossgap bench --against`: cold processes of somebody's train.py and of ours, in alternation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import lossgap
from lossgap import schemas
from lossgap.errors import LossgapError

TRAINER = """
import sys
names = [word.partition("=")[0] for word in sys.argv[1:]]
assert "--batch_size" in names and "--device" in names and "--seed" not in names, names
open("calls.txt", "a").write("x")
print("number of parameters: 0.01M")
print("step 0: train loss 4.2, val loss 4.3")
for i in range(16):
    print(f"iter {i}: loss 4.1, time 1.00ms, mfu -100.00%")
"""
TINY: dict[str, Any] = {
    "n_layer": 1,
    "n_head": 2,
    "n_embd": 16,
    "block_size": 16,
    "batch_size": 4,
    "eval_iters": 2,
    "threads": 1,
}


def checkout(folder: Path, trainer: str) -> Path:
    (folder / "train.py").write_text(trainer, encoding="utf-8")
    data = folder / "data" / "shakespeare_char"
    data.mkdir(parents=True)
    (data / "train.bin").write_bytes(b"")
    return folder


def raced(against: Path) -> lossgap.Bench:
    return lossgap.bench("shakespeare_char_cpu", updates=2, starts=0, against=against, pairs=1, iters=15, **TINY)


def test_both_run_cold_and_the_ratios_are_of_pairs(tmp_path: Path) -> None:
    found = raced(checkout(tmp_path, TRAINER))
    race = found.race
    assert race is not None
    assert len(race.theirs) == len(race.ours) == 1
    assert (tmp_path / "calls.txt").read_text(encoding="utf-8") == "x"
    ratio = race.ratios["wall"]
    assert ratio is not None
    assert ratio.mean == pytest.approx(race.theirs[0].wall / race.ours[0].wall)
    assert len(found.text().splitlines()) <= 24
    jsonschema.Draft202012Validator(schemas.load("bench")).validate(json.loads(json.dumps(found.json())))


def test_a_trainer_that_fails_is_an_error_with_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(LossgapError, match="no such setting") as caught:
        raced(checkout(tmp_path, "raise SystemExit('no such setting')"))
    assert caught.value.slug == "bench-run-failed"
