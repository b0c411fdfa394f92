"""What each lever of preset `laptop` is worth: one training each at 384,000 tokens, seed 1, exact val loss.

    python benchmarks/laptop_levers.py            # the whole table of docs/laptop.md, about ten minutes of a quiet core
    python benchmarks/laptop_levers.py muon arch  # some rows

Every row: linear to 0 without a warm-up, one thread, nothing evaluated before the end.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import lossgap

TOKENS = 384_000
MUON: Mapping[str, object] = {"optimizer": "muon", "muon_lr": 0.01, "learning_rate": 4e-3}
ARCH: Mapping[str, object] = {**MUON, "rotary": True, "qk_norm": True, "relu2": True, "zero_proj": True}
FAST: Mapping[str, object] = {**ARCH, "learning_rate": 1e-2}
SCHEDULE = {"warmup_iters": 0, "min_lr": 0.0, "lr_schedule": "linear", "eval_interval": 10**6, "eval_iters": 1}
ROWS: Mapping[str, Mapping[str, object]] = {
    "muon": MUON,
    "arch": ARCH,
    "arch untied": {**ARCH, "tied": False},
    "arch wd0": {**ARCH, "weight_decay": 0.0},
    "arch muon0.02": {**ARCH, "muon_lr": 0.02},
    "arch context128": {**ARCH, "batch_size": 6, "block_size": 128},
    "arch context256": {**ARCH, "batch_size": 3, "block_size": 256},
    "arch batch24": {**ARCH, "batch_size": 24},
    "fast": FAST,
    "fast muon0.03": {**FAST, "muon_lr": 0.03},
    "fast batch24": {**FAST, "batch_size": 24},
    "fast batch24 muon0.02": {**FAST, "batch_size": 24, "muon_lr": 0.02},
    "fast batch24 context128": {**FAST, "batch_size": 12, "block_size": 128},
    "fast batch24 adamw0.02": {**FAST, "batch_size": 24, "learning_rate": 2e-2},
    "fast batch48": {**FAST, "batch_size": 48},
}


def main(names: list[str]) -> None:
    """Train the named rows and print name, val loss, train loss and processor time."""
    for name in names or list(ROWS):
        settings = ROWS[name]
        tokens = int(str(settings.get("batch_size", 12))) * int(str(settings.get("block_size", 64)))
        iters = TOKENS // tokens
        began = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            run = lossgap.train(
                "shakespeare_char_cpu",
                out_dir=str(Path(folder, "run")),
                seed=1,
                threads=1,
                **{**SCHEDULE, "max_iters": iters, "lr_decay_iters": iters, **settings},
            )
        assert run.final is not None
        spent = time.process_time() - began
        print(
            f"{name:26} {iters:5} {run.final['val_loss']:.4f} {run.final['train_loss']:.4f} {spent:.0f} s", flush=True
        )


if __name__ == "__main__":
    main([name for name in ROWS if name in sys.argv[1:]] if len(sys.argv) > 1 else [])
