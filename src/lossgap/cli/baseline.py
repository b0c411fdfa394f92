"""`lossgap baseline RUN... -o FILE`: what several runs of the accepted state gave, for `lossgap gate`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lossgap.arguments import build, parse_arguments
from lossgap.cli.help import help_text
from lossgap.errors import ConfigError
from lossgap.options import BaselineFlags
from lossgap.strangers import visible

USAGE = "baseline RUN RUN RUN ... [-o FILE] [--margin=0.004]"
ABOUT = """Writes what these runs gave, as a readable JSON file that `lossgap gate` holds a change against. They are \
repetitions of one recipe with different seeds: 3 at least, 8 decide sooner. A folder of runs stands for all the runs \
in it."""
EXAMPLES = ("baseline main/seed-1 main/seed-2 main/seed-3 -o baseline.json", "baseline main --margin=0.004")


def main(argv: Sequence[str]) -> int:
    """Make a baseline; raises LossgapError for what the user can mend."""
    given = parse_arguments(["--out" if word == "-o" else word for word in argv], BaselineFlags)
    if given.help:
        print(help_text(USAGE, ABOUT, BaselineFlags, EXAMPLES))
        return 0
    flags = build(BaselineFlags, given)
    if not given.positionals:
        raise ConfigError("too-few-runs", "no run was given: lossgap baseline RUN RUN RUN ... -o FILE")
    from lossgap.api import baseline

    made = baseline(*given.positionals, margin=flags.margin, out=flags.out)
    count = f"{len(made.runs)} runs, {made.primary} loss {made.mean:.5f} ± {made.sd:.5f}"
    print(visible(f"{flags.out}: {count}, margin {made.margin:.4g} nats per token"))
    print(visible(f"next: lossgap gate with the runs of a change and --baseline={flags.out}"), file=sys.stderr)
    return 0
