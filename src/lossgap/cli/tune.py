"""`lossgap tune [CONFIG]`: which settings are faster on this machine, and what each does to the loss."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lossgap.arguments import asks_for_help, build, parse_arguments, parted
from lossgap.cli.consent import agreed
from lossgap.cli.exit_codes import DONE
from lossgap.cli.help import help_text
from lossgap.cli.results import command_line, say, show_results
from lossgap.errors import ConfigError
from lossgap.options import TuneFlags

if TYPE_CHECKING:
    from lossgap.tuning.search import Found
    from lossgap.tuning.tune import Tuned

USAGE = "tune [RUN_OR_CONFIG ...] [--apply=FILE] [--key=value ...]"
ABOUT = """Tries settings against the recipe on this machine, in turns, for about a minute: threads, attention kernel, \
bfloat16 (after the canary), compilation and what it costs, batch, length, evaluations. Each row says tokens per \
second, minutes to 2,000 and 5,000 iterations, and the expected change of the loss with its evidence. Settings that \
change only the speed stand apart from those that change the run.

A run folder, a checkpoint, or config files and presets, with --key=value for single settings, as in `lossgap train`; \
without any, the laptop recipe. --apply writes a config with what is faster and changes at most rounding.

--minutes=10 searches, by successive halving on seeds, the recipe with the lowest val loss that ten minutes of updates \
give here; --target=1.70 the shortest time in which that loss is reached. The loss that is given is of seeds that did \
not choose the recipe. Plan and price, two to seven times the minutes, are shown first; stopped, it goes on where it \
was."""
EXAMPLES = ("tune", "tune --minutes=10 --dry-run", "tune --minutes=10 --yes --apply=best.py")


def main(argv: Sequence[str]) -> int:
    """Try; raises LossgapError for what the user can mend."""
    if asks_for_help(argv):
        print(help_text(USAGE, ABOUT, TuneFlags, EXAMPLES))
        return DONE
    own, rest = parted(argv, TuneFlags)
    flags = build(TuneFlags, parse_arguments(own, TuneFlags))
    from lossgap.api import tune_given

    found: Found | Tuned | None
    if flags.minutes is None and flags.target is None:
        if flags.dry_run:
            raise ConfigError(
                "no-search",
                "--dry-run shows the price of a search: add --minutes=10 or --target=1.70 (without them "
                "nothing is trained, and it takes a minute)",
            )
        found = tune_given(rest, say=say)
    else:
        found = _searched(rest, flags, command_line("tune", argv))
    if found is None:
        return DONE
    if flags.apply is not None:
        found.write(flags.apply)
        say(f"config: {flags.apply}; train it with: lossgap train {shlex.quote(str(flags.apply))}")
    show_results([found], flags, command_line("tune", argv))
    return DONE


def _searched(words: Sequence[str], flags: TuneFlags, command: str) -> Found | None:
    """Show the plan and its price, then search; None where it is not to be started."""
    from lossgap.api import prepare_search
    from lossgap.report.show import show

    search = prepare_search(
        words,
        minutes=flags.minutes,
        target=flags.target,
        executor=flags.executor,
        address=flags.address,
        say=say,
    )
    if flags.dry_run:
        show_results([search.price], flags, command)
        return None
    show([search.price], full=flags.full, stderr=True)
    if not flags.yes and not agreed():
        return None
    return search.run(say)
