"""Milliseconds per iteration of `lossgap train`, and of real nanoGPT where NANOGPT_DIR names a prepared checkout.

    NANOGPT_DIR=path/to/nanoGPT python benchmarks/training.py [--iters 150]

Each case is a process of its own, as a user starts it; the figure is the median over the iterations after the tenth,
evaluations left out (nanoGPT's printed time contains them, so its evaluation iterations are dropped).
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

RECIPE = [
    "--device=cpu",
    "--eval_iters=20",
    "--log_interval=1",
    "--block_size=64",
    "--batch_size=12",
    "--n_layer=4",
    "--n_head=4",
    "--n_embd=128",
    "--lr_decay_iters=2000",
    "--dropout=0.0",
]
LINE = re.compile(r"iter (\d+): loss ([\d.]+), time ([\d.]+)ms")


def median(output: str) -> tuple[float, float]:
    """Median milliseconds after the tenth iteration, and the last loss."""
    rows = [(int(i), float(loss), float(ms)) for i, loss, ms in LINE.findall(output)]
    return statistics.median(ms for i, _, ms in rows if i > 10), rows[-1][1]


def run(command: list[str], folder: Path, env: dict[str, str]) -> str:
    """The standard output of one training."""
    done = subprocess.run(command, cwd=folder, env=os.environ | env, capture_output=True, text=True, check=True)
    return done.stdout


def main() -> None:
    """One line a case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--iters", type=int, default=150)
    iters = parser.parse_args().iters
    length = [f"--max_iters={iters}", f"--eval_interval={iters + 1}"]
    ours = [sys.executable, "-m", "lossgap", "train", "shakespeare_char", *RECIPE, *length, "--final_eval=False"]
    cases = {
        "lossgap float32": [*ours, "--compile=False"],
        "lossgap float32 compiled": [*ours, "--compile=True"],
        "lossgap bfloat16": [*ours, "--compile=False", "--dtype=bfloat16"],
        "lossgap bfloat16 compiled": [*ours, "--compile=True", "--dtype=bfloat16"],
        "lossgap float32, dropout 0.2": [*ours, "--compile=False", "--dropout=0.2"],
    }
    nanogpt = os.environ.get("NANOGPT_DIR")
    with tempfile.TemporaryDirectory() as folder:
        out = f"--out_dir={folder}/out"
        if nanogpt:
            theirs = [sys.executable, "train.py", "config/train_shakespeare_char.py", *RECIPE, *length, out]
            for name, flags in (
                ("nanoGPT float32", ["--compile=False"]),
                ("nanoGPT float32, dropout 0.2", ["--compile=False", "--dropout=0.2"]),
            ):
                ms, loss = median(run([*theirs, *flags], Path(nanogpt), {}))
                print(f"{name:<32}{ms:8.2f} ms  loss at iteration {iters}: {loss:.4f}", flush=True)
        for name, command in cases.items():
            ms, loss = median(run([*command, out, "--overwrite=True"], Path(folder), {}))
            print(f"{name:<32}{ms:8.2f} ms  loss at iteration {iters}: {loss:.4f}", flush=True)


if __name__ == "__main__":
    main()
