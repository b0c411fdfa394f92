"""`lossgap canary [RUN_OR_CONFIG]`: this device's kernels at a run's shapes, against float64."""

from __future__ import annotations

from collections.abc import Sequence

from lossgap.arguments import asks_for_help, build, parse_arguments, parted
from lossgap.cli.exit_codes import DONE, EXCEEDED
from lossgap.cli.help import help_text
from lossgap.cli.results import command_line, show_results
from lossgap.options import CanaryFlags

USAGE = "canary [RUN_OR_CONFIG ...] [--key=value ...]"
ABOUT = """Runs the operations of a training at the run's own shapes on this device and holds them against float64 \
on the CPU: linear layers, attention, layer norm, GELU, cross-entropy, the embedding's gradient, AdamW, and cases of \
known traps. It takes seconds.

A run folder, a checkpoint, or config files and presets, with --key=value for single settings, as in `lossgap train` \
(--device=cuda, --dtype=bfloat16, --attention=fused, ...); without any, the laptop recipe. `lossgap train --canary` \
runs it first, and does not train where an operation of the run is out of bounds."""
EXAMPLES = (
    "canary",
    "canary out-shakespeare-char-cpu --device=cuda",
    "canary shakespeare_char --dtype=bfloat16 --fail-on-fault",
)


def main(argv: Sequence[str]) -> int:
    """Check; raises LossgapError for what the user can mend."""
    if asks_for_help(argv):
        print(help_text(USAGE, ABOUT, CanaryFlags, EXAMPLES))
        return DONE
    own, rest = parted(argv, CanaryFlags)
    flags = build(CanaryFlags, parse_arguments(own, CanaryFlags))
    from lossgap.api import canary_given

    canary = canary_given(rest)
    show_results([canary], flags, command_line("canary", argv))
    return EXCEEDED if canary.faults and flags.fail_on_fault else DONE
