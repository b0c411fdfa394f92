"""`lossgap read RUN`: what a log contains, and how it was understood."""

from __future__ import annotations

from collections.abc import Sequence

from lossgap.api import load_runs
from lossgap.arguments import build, parse_arguments
from lossgap.cli.help import help_text
from lossgap.cli.results import command_line, show_results
from lossgap.errors import ConfigError
from lossgap.options import ReadFlags, ReadOptions
from lossgap.runs.readers.detect import FORMATS
from lossgap.runs.reading import Reading
from lossgap.settings import settings_of

USAGE = "read RUN [--key=value ...]"
ABOUT = f"""Shows what a run contains: its format, settings, metrics with their ranges, what was inferred, and how \
many lines were not understood. RUN is a run folder, a checkpoint, a log (PATH#2 for its second run), a figures file, \
a config file, a preset, or - for the standard input.

Formats: {", ".join(FORMATS)}"""
EXAMPLES = (
    "read train.log",
    "read results.csv --columns=iter:step,val_loss:eval/loss",
    "read another.log --set=block_size=64,batch_size=12 --json",
)


def main(argv: Sequence[str]) -> int:
    """Show one run, or every run of a log. Raises SourceError, ConfigError, CheckpointError."""
    given = parse_arguments(argv, ReadFlags)
    if given.help:
        print(help_text(USAGE, ABOUT, ReadFlags, EXAMPLES))
        return 0
    flags = build(ReadFlags, given)
    if len(given.positionals) != 1:
        raise ConfigError("too-many-arguments", f"lossgap read takes one RUN, {len(given.positionals)} were given")
    if flags.max_iter_rows < 1000:
        raise ConfigError("bad-setting", f"--max_iter_rows={flags.max_iter_rows}: must be at least 1000")
    wanted = {name: getattr(flags, name) for name in settings_of(ReadOptions)}
    settings = [part for text in flags.set for part in text.split(",") if part.strip()]
    runs = load_runs(given.positionals[0], **{**wanted, "set": settings})
    reading = Reading(source=given.positionals[0], runs=tuple(runs))
    show_results([reading], flags, command_line("read", argv))
    return 0
