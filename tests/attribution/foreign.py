"""Small training scripts that print nanoGPT's lines, without torch, for tests of the runner."""

from __future__ import annotations

import sys
from pathlib import Path

from lossgap.attribution.arm import Arm, ArmResult, Measurement
from lossgap.attribution.foreign.runner import Runner, run_foreign

MEASUREMENT = Measurement(context=16, evaluations=4, tokens=1024)
CONFIG: dict[str, object] = {
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 16,
    "block_size": 16,
    "batch_size": 4,
    "gradient_accumulation_steps": 1,
    "learning_rate": 1e-3,
    "max_iters": 40,
    "lr_decay_iters": 40,
    "warmup_iters": 2,
    "dropout": 0.0,
    "dataset": "tiny",
}
TRAIN = '''
"""Reads --key=value as nanoGPT does; the loss depends on n_layer, on learning_rate and on the seed."""
import json, os, random, sys
from ast import literal_eval
n_layer, learning_rate, max_iters, eval_interval, eval_iters, out_dir = 1, 1e-2, 10, 10, 10, "out"
always_save_checkpoint, wandb_log, eval_only = False, False, True
known = set(globals())
for word in sys.argv[1:]:
    if "=" not in word:
        continue
    key, value = word.split("=")
    try:
        value = literal_eval(value)
    except (SyntaxError, ValueError):
        pass
    globals()[key[2:]] = value
    print("Overriding: %s = %s" % (key[2:], value))
print("ARGV", json.dumps(sys.argv))
print("WHERE", json.dumps([os.getcwd(), os.environ.get("OMP_NUM_THREADS"), os.environ.get("WANDB_MODE")]))
random.seed(1337)
noise = random.gauss(0, 0.1)
for i in range(max_iters + 1):
    if i % eval_interval == 0:
        val = 4 - n_layer / 10 - 10 * learning_rate + noise + 1 / (i + 1)
        print("step %d: train loss %.4f, val loss %.4f" % (i, val - 0.1, val))
    print("iter %d: loss %.4f, time 1.00ms, mfu -100.00%%" % (i, 4 + noise))
'''


def trainer(folder: Path, script: str = TRAIN, words: str = "train.py {overrides}", **given: object) -> Runner:
    """A runner of a script of this text in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.py").write_text(script)
    asked = {"reader": "nanogpt", "folder": folder, **given}
    return Runner.parse(f"{sys.executable} {words}", **asked)  # type: ignore[arg-type]


def arm(runner: Runner, seed: int = 1, /, **changed: object) -> Arm:
    """An arm of the test's config."""
    return runner.arm({**CONFIG, **changed}, seed, MEASUREMENT)


def ran(runner: Runner, root: Path, seed: int = 1, /, **changed: object) -> ArmResult:
    """Its result."""
    return run_foreign(arm(runner, seed, **changed), root, threads=1)
