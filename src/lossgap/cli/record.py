"""`lossgap record RUN_OR_CONFIG`: a stretch of a training as a bundle, for `lossgap replay` on another machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lossgap.arguments import asks_for_help, build, parse_arguments
from lossgap.errors import ConfigError
from lossgap.settings import setting, settings_of

if TYPE_CHECKING:
    from lossgap.parity.record import Recorded

USAGE = """usage: lossgap record RUN_OR_CONFIG [--iters=50] [--from CKPT] [-o FILE] [--key=value ...]

Trains a stretch and writes a bundle: tokens, weights, moments, losses and the errors of this machine against float64,
to be repeated with `lossgap replay FILE` on another machine or this one. The bundle holds text of the corpus.

A run folder stands for its config, recorded from iteration 0; a checkpoint for the stretch after it; else config files
and presets, with --key=value for single settings, as in `lossgap train`.

  --iters=50        iterations to record
  --from CKPT       begin at this checkpoint, or at the newest one of this run folder
  -o FILE           the bundle (also --out=FILE) [bundle.lossgap]
  --checkpoints=2   states recorded in full: the first, the last, others evenly between
  --overwrite       replace a bundle that is there
  --json            one JSON document at the end"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of `lossgap record`; the others are settings of the training. `start` is `--from`."""

    iters: int = setting(50, "iterations to record", "iterations")
    start: str = setting("", "begin at this checkpoint")
    out: str = setting("bundle.lossgap", "the bundle")
    checkpoints: int = setting(2, "states recorded in full")
    overwrite: bool = setting(False, "replace a bundle that is there")
    json: bool = setting(False, "one JSON document")


def main(argv: Sequence[str]) -> int:
    """Record; raises LossgapError for what the user can mend."""
    if not argv or asks_for_help(argv):
        print(USAGE)
        return 0
    own, rest = parted(argv)
    options = build(Options, parse_arguments(own, Options))
    from lossgap.parity.record import record
    from lossgap.training.source import read_given

    recorded = record(
        read_given(rest),
        Path(options.out),
        iters=options.iters,
        start=options.start,
        checkpoints=options.checkpoints,
        overwrite=options.overwrite,
        say=lambda line: print(f"lossgap: {line}", file=sys.stderr, flush=True),
    )
    from lossgap.report.record_document import document

    print(json.dumps(document(recorded), allow_nan=False) if options.json else _text(recorded))
    return 0


def parted(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The flags of `Options`, in its own names, and the rest. Raises ConfigError (`missing-value`)."""
    own: list[str] = []
    rest: list[str] = []
    words = list(reversed(argv))
    while words:
        word = words.pop()
        key, equals, value = word.partition("=")
        name = {"-o": "out", "--from": "start"}.get(key, key[2:].replace("-", "_") if key.startswith("--") else "")
        if name not in settings_of(Options) or key == "--start":
            rest.append(word)
            continue
        if not equals and not isinstance(settings_of(Options)[name].default, bool):
            if not words or words[-1].startswith("--"):
                raise ConfigError("missing-value", f"{key}: no value given; write {key} VALUE")
            value = words.pop()
            equals = "="
        own.append(f"--{name}{equals}{value}")
    return own, rest


def _text(recorded: Recorded) -> str:
    bundle = recorded.bundle
    last = bundle.first + bundle.iterations - 1
    states = ", ".join(str(point.iteration) for point in bundle.points)
    machine, how = bundle.environment, bundle.numerics
    device = machine.get("gpu") or machine.get("cpu") or "an unknown machine"
    return "\n".join(
        [
            f"bundle: {recorded.path} ({recorded.bytes / 1e6:.1f} MB)",
            f"iterations {bundle.first}..{last}, states before {states} in full; loss {bundle.losses[0]:.4f} to "
            f"{bundle.losses[-1]:.4f}",
            f"recorded on {device}: {how['device']} {how['dtype']}, {how['threads']} threads, {how['cpu_capability']}, "
            f"torch {machine.get('torch')}",
            f"it contains text of the corpus {bundle.corpus['name']}: {bundle.tokens:,} tokens",
            f"next: lossgap replay {recorded.path} on the other machine",
        ]
    )
