"""`lossgap canary [RUN_OR_CONFIG]`: this device's kernels at a run's shapes, against float64."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from lossgap.arguments import asks_for_help, build, parse_arguments, read_arguments
from lossgap.config import TrainConfig
from lossgap.settings import setting

USAGE = """usage: lossgap canary [RUN_OR_CONFIG ...] [--key=value ...] [--json]

Runs the operations of a training at the run's own shapes on this device and holds them against float64 on the CPU:
linear layers, attention, layer norm, GELU, cross-entropy, the embedding's gradient, AdamW, and cases of known traps.
It takes seconds.

A run folder, a checkpoint, or config files and presets, with --key=value for single settings, as in `lossgap train`
(--device=cuda, --dtype=bfloat16, --attention=fused, ...); without any, the laptop recipe.

  --json    one JSON document (schema lossgap.canary/1)

Exit codes: 0 all within bounds, 2 an operation of the run is out of bounds. `lossgap train --canary` runs it first, and
does not train where an operation of the run is out of bounds."""

DEFAULT = "shakespeare_char_cpu"


@dataclass(frozen=True, kw_only=True)
class Options:
    """The flag of `lossgap canary`; the others are settings of the training."""

    json: bool = setting(False, "one JSON document")


def main(argv: Sequence[str]) -> int:
    """Check; raises LossgapError for what the user can mend."""
    if asks_for_help(argv):
        print(USAGE)
        return 0
    own = [word for word in argv if word.partition("=")[0] == "--json"]
    options = build(Options, parse_arguments(own, Options))
    from lossgap.kernels.check import canary
    from lossgap.report import canary as rendered
    from lossgap.training.source import read_given

    rest = [word for word in argv if word not in own]
    is_named = any(isinstance(item, str) for item in read_arguments(rest, TrainConfig))
    found = canary(read_given(rest if is_named else [DEFAULT, *rest]))
    if options.json:
        print(rendered.text(found))
    else:
        from lossgap.report.terminal import Terminal

        rendered.show(found, Terminal() if sys.stdout.isatty() else Terminal(width=100))
    return 2 if found.faults else 0
