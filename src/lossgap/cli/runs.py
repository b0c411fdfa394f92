"""`lossgap runs [DIR]`: the runs below a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lossgap.api import list_runs
from lossgap.arguments import build, parse_arguments
from lossgap.cli.help import help_text
from lossgap.cli.results import command_line, show_results
from lossgap.errors import ConfigError
from lossgap.options import RunsFlags

USAGE = "runs [DIR] [--json]"
ABOUT = "Lists the run folders in DIR (default: .), up to three levels deep."
EXAMPLES = ("runs", "runs experiments", "runs --json")


def main(argv: Sequence[str]) -> int:
    """List the runs below a folder (default: the current one), three levels deep."""
    given = parse_arguments(argv, RunsFlags)
    if given.help:
        print(help_text(USAGE, ABOUT, RunsFlags, EXAMPLES))
        return 0
    options = build(RunsFlags, given)
    if len(given.positionals) > 1:
        raise ConfigError("too-many-arguments", f"lossgap runs takes one folder, {len(given.positionals)} were given")
    folder = Path(given.positionals[0] if given.positionals else ".")
    show_results([list_runs(folder)], options, command_line("runs", argv))
    return 0
