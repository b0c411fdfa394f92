"""`lossgap tune [CONFIG]`: which settings are faster on this machine, and what each does to the loss."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from lossgap.arguments import asks_for_help, build, parse_arguments, parted
from lossgap.cli.exit_codes import DONE
from lossgap.cli.help import help_text
from lossgap.cli.results import command_line, say, show_results
from lossgap.options import TuneFlags

USAGE = "tune [RUN_OR_CONFIG ...] [--apply=FILE] [--key=value ...]"
ABOUT = """Tries settings against the recipe on this machine, in turns, for about a minute: threads, attention kernel, \
bfloat16 (after the canary), compilation and what it costs, batch, length, evaluations. Each row says tokens per \
second, minutes to 2,000 and 5,000 iterations, and the expected change of the loss with its evidence. Settings that \
change only the speed stand apart from those that change the run.

A run folder, a checkpoint, or config files and presets, with --key=value for single settings, as in `lossgap train`; \
without any, the laptop recipe. --apply writes a config with what is faster and changes at most rounding."""
EXAMPLES = ("tune", "tune shakespeare_char --device=cuda", "tune config/mine.py --apply=fast.py")


def main(argv: Sequence[str]) -> int:
    """Try; raises LossgapError for what the user can mend."""
    if asks_for_help(argv):
        print(help_text(USAGE, ABOUT, TuneFlags, EXAMPLES))
        return DONE
    own, rest = parted(argv, TuneFlags)
    flags = build(TuneFlags, parse_arguments(own, TuneFlags))
    from lossgap.api import tune_given

    found = tune_given(rest, say=say)
    if flags.apply is not None:
        found.write(flags.apply)
        say(f"config: {flags.apply}; train it with: lossgap train {shlex.quote(str(flags.apply))}")
    show_results([found], flags, command_line("tune", argv))
    return DONE
