"""`lossgap record RUN_OR_CONFIG`: a stretch of a training as a bundle, for `lossgap replay` on another machine."""

from __future__ import annotations

from collections.abc import Sequence

from lossgap.arguments import asks_for_help, build, parse_arguments, parted
from lossgap.cli.help import help_text
from lossgap.cli.results import command_line, say, show_results
from lossgap.options import RecordFlags

USAGE = "record RUN_OR_CONFIG [--iters=50] [--from=CKPT] [-o FILE] [--key=value ...]"
ABOUT = """Trains a stretch and writes a bundle: tokens, weights, moments, losses and the errors of this machine \
against float64, to be repeated with `lossgap replay FILE` on another machine or this one. The bundle holds text of \
the corpus.

A run folder stands for its config, recorded from iteration 0; a checkpoint for the stretch after it; else config \
files and presets, with --key=value for single settings, as in `lossgap train`."""
EXAMPLES = (
    "record shakespeare_char_cpu --iters=20 -o laptop.lossgap",
    "record out-shakespeare-char-cpu --from=out-shakespeare-char-cpu",
    "record shakespeare_char --device=cuda --dtype=bfloat16",
)


def main(argv: Sequence[str]) -> int:
    """Record; raises LossgapError for what the user can mend."""
    if not argv or asks_for_help(argv):
        print(help_text(USAGE, ABOUT, RecordFlags, EXAMPLES))
        return 0
    own, rest = parted(argv, RecordFlags)
    flags = build(RecordFlags, parse_arguments(own, RecordFlags))
    from lossgap.api import record_given

    recorded = record_given(rest, flags, say=say)
    show_results([recorded], flags, command_line("record", argv))
    return 0
