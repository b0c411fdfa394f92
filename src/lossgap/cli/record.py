"""`lossgap record RUN_OR_CONFIG`: a stretch of a training as a bundle, for `lossgap replay` on another machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lossgap import suggestion
from lossgap.arguments import asks_for_help, build, parse_arguments, parted
from lossgap.cli.help import help_text
from lossgap.cli.shown import say
from lossgap.options import RecordFlags

if TYPE_CHECKING:
    from lossgap.parity.record import Recorded

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
    if flags.json:
        from lossgap.report.record_document import document

        print(json.dumps(document(recorded), allow_nan=False))
    else:
        print(_text(recorded))
    return 0


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
            f"next: {suggestion.replay(recorded.path)} on the other machine",
        ]
    )
