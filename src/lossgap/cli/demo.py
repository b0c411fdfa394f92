"""What `make run` does: train the laptop recipe, show a sample, and hold the run against the GPU recipe's figures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from lossgap.cli.train import final_line, progress_on
from lossgap.config_file import resolve_arguments
from lossgap.errors import ConfigError

RECIPE = ("shakespeare_char_cpu", "--out_dir=out-shakespeare-char-cpu", "--overwrite=True")
GPU_FIGURES = Path(__file__).parents[1] / "runs" / "published" / "rtx4070ti.toml"
PAGE = "against-the-gpu-recipe.html"


def main(argv: Sequence[str]) -> int:
    """Train afresh, with `argv` as further flags. The last line is the exact losses of the run."""
    from lossgap.api import certify, sample
    from lossgap.training.loop import Interrupted
    from lossgap.training.train import train_given

    try:
        outcome = train_given(resolve_arguments([*RECIPE, *argv]), progress_on(sys.stdout), certify)
    except Interrupted as stopped:
        return 128 + stopped.number
    if outcome.train_loss is None or outcome.val_loss is None:
        raise ConfigError("demo-needs-final", "`make run` ends with the exact losses: leave --final_eval=True")
    run = outcome.run.path
    [samples] = sample(run, num_samples=1, max_new_tokens=300, device="cpu")
    print("\na sample from it:", samples.texts[0], "", sep="\n")
    _against_the_gpu_recipe(run)
    print(f"run: {run} (run.json, metrics.jsonl, checkpoints)")
    print(f"page: {run / PAGE}")
    print(f"more: lossgap sample {run}; lossgap compare {run} another.log")
    print(final_line(outcome.train_loss, outcome.val_loss))
    return 0


def _against_the_gpu_recipe(run: Path) -> None:
    """The comparison with the published figures of an RTX 4070 Ti: in short here, in full on the page."""
    from lossgap.comparison import compare
    from lossgap.report import page, text
    from lossgap.report.terminal import Terminal

    found = compare(run, GPU_FIGURES)
    text.show_short(found, Terminal())
    page.write((found,), run / PAGE)
