"""`lossgap train [CONFIG ...] [--key=value ...]`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from lossgap.arguments import Given, asks_for_help, build, parse_arguments, parted
from lossgap.cli.exit_codes import DONE, SIGNAL
from lossgap.cli.help import OUTPUT, help_text
from lossgap.config import TrainConfig
from lossgap.config_file import resolve_arguments
from lossgap.options import TrainFlags
from lossgap.presets import describe_presets
from lossgap.report.train_document import document

if TYPE_CHECKING:
    from lossgap.training.progress import Progress
    from lossgap.training.train import Outcome


def main(argv: Sequence[str]) -> int:
    """Train; the last line on standard output is `final: train loss X, val loss Y`, or with `--json` the document."""
    own, rest = parted(argv, TrainFlags)
    if asks_for_help(argv):
        print(train_help())
        return DONE
    as_json = build(TrainFlags, parse_arguments(own, TrainFlags)).json
    given = _given(rest)
    from lossgap.api import train_given
    from lossgap.training.loop import Interrupted

    try:
        outcome = train_given(given, progress_on(sys.stderr if as_json else sys.stdout))
    except Interrupted as stopped:
        return SIGNAL + stopped.number
    if int(os.environ.get("RANK", 0)) == 0:
        _render(outcome, as_json)
    return 0


def _given(argv: Sequence[str]) -> Given:
    """The settings that were given; of several processes, one reports what is wrong with them."""
    if "RANK" not in os.environ:
        return resolve_arguments(argv)
    from lossgap.training.distributed import one_voice

    with one_voice():
        return resolve_arguments(argv)


def progress_on(stream: TextIO) -> Progress:
    """A live bar where `stream` is a terminal that can draw one, else nanoGPT's lines."""
    from lossgap.report.terminal import Terminal
    from lossgap.training.progress import Lines, Live

    console = Terminal(file=stream)
    return Live(console) if stream.isatty() and not console.is_dumb_terminal else Lines(stream)


def _render(outcome: Outcome, as_json: bool) -> None:
    run = outcome.run
    if as_json:
        print(json.dumps(document(outcome), allow_nan=False))
        return
    if sys.stdout.isatty():  # a pipe or file has nanoGPT's log alone
        from lossgap.report.train_words import closing

        print(*closing(outcome), sep="\n")
    print(f"run: {run.path}")
    if outcome.train_loss is not None and outcome.val_loss is not None:
        print(final_line(outcome.train_loss, outcome.val_loss))


def final_line(train_loss: float, val_loss: float) -> str:
    """The last line of a finished training: its exact losses in nats per token."""
    return f"final: train loss {train_loss:.4f}, val loss {val_loss:.4f}"


# ---------------------------------------------------------------------------------------------
# Help

COMMON = "Common"
HEADINGS: dict[str, tuple[str, ...]] = {
    COMMON: (
        *("out_dir", "dataset", "batch_size", "block_size", "n_layer", "n_head", "n_embd", "dropout", "learning_rate"),
        *("max_iters", "device", "dtype", "compile", "seed", "resume", "overwrite"),
    ),
    "Data, batch and model": ("gradient_accumulation_steps", "bias"),
    "Evaluation and log": ("eval_interval", "log_interval", "eval_iters", "eval_only", "eval_mode", "final_eval"),
    "Optimizer and schedule": (
        *("weight_decay", "beta1", "beta2", "grad_clip", "decay_lr", "warmup_iters", "lr_decay_iters", "min_lr"),
    ),
    "Checkpoints": ("always_save_checkpoint", "init_from", "checkpoint_at", "checkpoint_seconds"),
    "Machine and numerics": ("backend", "tf32", "deterministic", "attention", "adamw", "threads", "canary"),
    "Random numbers": ("rng", "dropout_rng"),
    "Trackers": ("wandb_log", "wandb_project", "wandb_run_name", "tensorboard_log", "mlflow_log"),
}
"""The settings of a training by topic, the common ones first."""
USAGE = "train [CONFIG ...] [--key=value ...]"
ABOUT = """CONFIG is a nanoGPT config file (parsed, never executed) or a preset; all are applied left to right, and \
the later value wins. The defaults are nanoGPT's.

Presets:
"""
EXAMPLES = (
    "train shakespeare_char_cpu",
    "train config/train_shakespeare_char.py --device=cuda --out_dir=out-gpu",
    "train --init_from=resume --out_dir=out-shakespeare-char-cpu --max_iters=5000",
)


def train_help() -> str:
    """Usage, presets, and every setting with its default, unit and meaning."""
    presets = "\n".join(f"  {name}: {text}" for name, text in describe_presets().items())
    topics = {name: heading for heading, names in HEADINGS.items() for name in names}
    order = tuple(HEADINGS)
    return help_text(
        USAGE, ABOUT + presets, (TrainConfig, TrainFlags), EXAMPLES, lambda item: topics.get(item.name, OUTPUT), order
    )
