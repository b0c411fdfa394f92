"""The example of Hugging Face's Trainer: an arm is the run that the same command makes by hand."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lossgap.attribution.arm import Measurement
from lossgap.attribution.foreign.runner import Runner, run_foreign

SCRIPT = Path(__file__).parents[2] / "examples" / "huggingface-trainer" / "train.py"
FIXED = ["--text_file=input.txt", "--lr_scheduler_type=cosine", "--use_cpu"]
SETTINGS: dict[str, object] = {
    "n_layer": 1,
    "n_head": 2,
    "n_embd": 16,
    "block_size": 16,
    "batch_size": 8,
    "learning_rate": 1e-2,
    "max_iters": 20,
    "weight_decay": 0.1,
    "dropout": 0.1,
    "lr_decay_iters": 20,
    "min_lr": 0.0,
}
BY_HAND = ["--n_layer=1", "--n_head=2", "--n_embd=16", "--block_size=16", "--per_device_train_batch_size=8",
           "--learning_rate=0.01", "--max_steps=20", "--weight_decay=0.1", "--dropout=0.1",
           "--eval_steps=5", "--seed=3", "--output_dir=by-hand"]  # fmt: skip
MISSING = [name for name in ("transformers", "accelerate") if importlib.util.find_spec(name) is None]


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (pip install {' '.join(MISSING)})")
def test_an_arm_is_the_run_by_hand(tmp_path: Path) -> None:
    words = ["king", "shall", "war", "own", "crown", "night"]
    (tmp_path / "input.txt").write_text("\n".join(words[number * number % 6] for number in range(1500)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *FIXED, *BY_HAND],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    history = json.loads((tmp_path / "by-hand" / "trainer_state.json").read_text())["log_history"]
    expected = tuple((entry["step"], entry["eval_loss"]) for entry in history if "eval_loss" in entry)
    runner = Runner.parse(
        f"{sys.executable} {SCRIPT} {' '.join(FIXED)} --output_dir={{out_dir}} {{overrides}}",
        reader="huggingface",
        seed_arg="--seed={seed}",
        folder=tmp_path,
    )
    assert {"lr_decay_iters", "min_lr"} <= runner.fixed(SETTINGS).keys()
    arm = runner.arm(SETTINGS, 3, Measurement(context=16, evaluations=4))
    result = run_foreign(arm, tmp_path / "root", threads=1)
    assert result.curve == expected
    assert [at for at, _ in expected] == [5, 10, 15, 20]
    assert (result.val_loss, result.exact) == (expected[-1][1], False)
    assert result.run.endswith("trainer_state.json")
