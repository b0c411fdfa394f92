"""What `make run` does: train the laptop recipe, show a sample, say where the run lies; the last line is its losses."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lossgap.cli.train import final_line, progress_on
from lossgap.config_file import resolve_arguments
from lossgap.errors import ConfigError

RECIPE = ("shakespeare_char_cpu", "--out_dir=out-shakespeare-char-cpu", "--overwrite=True")


def main(argv: Sequence[str]) -> int:
    """Train afresh, with `argv` as further flags."""
    from lossgap.api import sample
    from lossgap.training.loop import Interrupted
    from lossgap.training.train import train_given

    try:
        outcome = train_given(resolve_arguments([*RECIPE, *argv]), progress_on(sys.stdout))
    except Interrupted as stopped:
        return 128 + stopped.number
    if outcome.train_loss is None or outcome.val_loss is None:
        raise ConfigError("demo-needs-final", "`make run` ends with the exact losses: leave --final_eval=True")
    [samples] = sample(outcome.run.path, num_samples=1, max_new_tokens=300, device="cpu")
    print("\na sample from it:", samples.texts[0], "", sep="\n")
    print(
        f"run: {outcome.run.path} (run.json, metrics.jsonl, checkpoints); more text: lossgap sample {outcome.run.path}"
    )
    print(final_line(outcome.train_loss, outcome.val_loss))
    return 0
