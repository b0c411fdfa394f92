"""`lossgap replay BUNDLE`: repeat a recorded stretch here, and separate the hardware from every other cause."""

from __future__ import annotations

from collections.abc import Sequence

from lossgap.arguments import build, parse_arguments
from lossgap.cli.help import help_text
from lossgap.cli.results import check_places, command_line, say, show_results
from lossgap.errors import ConfigError
from lossgap.options import ReplayFlags, ReplayOptions
from lossgap.settings import settings_of

USAGE = "replay BUNDLE [--device=cuda] [--dtype=bfloat16] [--key=value ...]"
ABOUT = """Repeats a stretch that `lossgap record` wrote: judges each recorded step against float64, trains the \
stretch freely and holds the losses against an envelope that twins of it make, and says whether the two machines \
diverge by more than rounding explains. A bundle is data and is never executed."""
EXAMPLES = (
    "replay bundle.lossgap",
    "replay bundle.lossgap --device=cuda --html=page.html",
    "replay bundle.lossgap --iters=10 --fail-on-difference",
)


def main(argv: Sequence[str]) -> int:
    """Replay; raises LossgapError for what the user can mend."""
    given = parse_arguments(argv, ReplayFlags)
    if given.help or not argv:
        print(help_text(USAGE, ABOUT, ReplayFlags, EXAMPLES))
        return 0
    flags = build(ReplayFlags, given)
    check_places(flags)
    if len(given.positionals) != 1:
        raise ConfigError(
            "one-bundle", f"lossgap replay takes one bundle, {len(given.positionals)} were given; name one file"
        )
    from lossgap.api import replay

    wanted = {name: getattr(flags, name) for name in settings_of(ReplayOptions)}
    replayed = replay(given.positionals[0], say=say, **wanted)
    show_results([replayed], flags, command_line("replay", argv))
    return replayed.exit_code
