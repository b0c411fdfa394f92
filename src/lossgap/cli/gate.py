"""`lossgap gate RUN... --baseline FILE`: pass, fail, or needs more; for a pull request, a nightly job, an agent."""

from __future__ import annotations

import json
from collections.abc import Sequence

from lossgap.arguments import build, parse_arguments
from lossgap.cli.help import help_text
from lossgap.errors import ConfigError
from lossgap.options import GateFlags

USAGE = "gate RUN [RUN ...] --baseline=FILE [--margin=X] [--strict] [--md | --json]"
ABOUT = """Holds the runs of a change against a baseline (`lossgap baseline`): pass, fail, or needs more runs. Give \
all runs of the change each time; looking after every run is allowed, and stopping at any. A folder of runs stands for \
all the runs in it. Exit codes: 0 pass, 2 fail, 3 needs more."""
EXAMPLES = (
    "gate change/seed-101 --baseline=baseline.json",
    "gate change --baseline=baseline.json --margin=0.004 --md",
    "gate change --baseline=baseline.json --strict",
)


def main(argv: Sequence[str]) -> int:
    """Judge; returns the exit code. Raises LossgapError for what the user can mend."""
    given = parse_arguments(argv, GateFlags)
    if given.help:
        print(help_text(USAGE, ABOUT, GateFlags, EXAMPLES))
        return 0
    flags = build(GateFlags, given)
    if not given.positionals or flags.baseline is None:
        missing = "no --baseline was given" if given.positionals else "no run was given"
        raise ConfigError("too-few-runs", f"{missing}: lossgap gate RUN ... --baseline=FILE")
    from lossgap.api import gate
    from lossgap.report import gate_view

    result = gate(*given.positionals, baseline=flags.baseline, margin=flags.margin, strict=flags.strict)
    if flags.json:
        print(json.dumps(gate_view.document(result), allow_nan=False))
    else:
        print(gate_view.markdown(result) if flags.md else gate_view.text(result))
    return result.exit_code
