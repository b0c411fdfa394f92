"""`lossgap train [CONFIG ...] [--key=value ...]`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from lossgap.arguments import Given
from lossgap.config import describe
from lossgap.config_file import resolve_arguments
from lossgap.presets import describe_presets
from lossgap.report.train_document import document
from lossgap.strangers import short

if TYPE_CHECKING:
    from lossgap.training.progress import Progress
    from lossgap.training.train import Outcome


def main(argv: Sequence[str]) -> int:
    """Train; the last line on standard output is `final: train loss X, val loss Y`, or with `--json` the document."""
    as_json = "--json" in argv
    given = _given([argument for argument in argv if argument != "--json"])
    if given.help:
        print(help_text())
        return 0
    from lossgap.api import certify
    from lossgap.training.loop import Interrupted
    from lossgap.training.train import train_given

    try:
        outcome = train_given(given, progress_on(sys.stderr if as_json else sys.stdout), certify)
    except Interrupted as stopped:
        return 128 + stopped.number
    if int(os.environ.get("RANK", 0)) == 0:
        _render(outcome, as_json)
    return 0


def _given(argv: Sequence[str]) -> Given:
    """What was given; of several processes, one tells what is wrong with it."""
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
    print(f"run: {run.path}")
    if outcome.train_loss is not None and outcome.val_loss is not None:
        print(final_line(outcome.train_loss, outcome.val_loss))


def final_line(train_loss: float, val_loss: float) -> str:
    """The last line of a finished training: its exact losses in nats per token."""
    return f"final: train loss {train_loss:.4f}, val loss {val_loss:.4f}"


def help_text() -> str:
    """Usage, presets, and every setting with its default, unit and meaning."""
    lines = [
        "usage: lossgap train [CONFIG ...] [--key=value ...]",
        "",
        "CONFIG is a nanoGPT config file (parsed, never executed) or a preset; all are applied left to right.",
        "",
        "presets:",
        *(f"  {name:<22} {text}" for name, text in describe_presets().items()),
        "",
        "settings:",
    ]
    for item in describe():
        unit = f" [{item.unit}]" if item.unit else ""
        lines.append(f"  --{item.name}={short(item.default)}  {item.doc}{unit}")
    lines += ["", "--json prints one document at the end; progress then goes to standard error."]
    return "\n".join(lines)
