"""`lossgap runs [DIR]`: the runs below a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from lossgap import suggestion
from lossgap.api import LAPTOP, list_runs
from lossgap.arguments import build, parse_arguments
from lossgap.cli.help import help_text
from lossgap.errors import ConfigError
from lossgap.options import RunsFlags
from lossgap.report.runs_document import document
from lossgap.report.terminal import Terminal
from lossgap.runs.listing import RunSummary
from lossgap.strangers import shown, visible

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
    listed = list_runs(folder)
    found = listed.runs
    if options.json:
        print(json.dumps(document(listed), allow_nan=False))
    elif not found:
        print(f"no runs in {shown(folder)}; `{suggestion.train(LAPTOP)}` makes one")
    else:
        Terminal().print(_table(found))
    return 0


def _table(found: Sequence[RunSummary]) -> Table:
    table = Table(box=None, header_style="bold")
    for heading in ("run", "status", "iter", "last val", "best val", "at", "params", "device", "created"):
        is_number = heading in ("iter", "last val", "best val", "at", "params")
        table.add_column(heading, justify="right" if is_number else "left", overflow="fold")
    for run in found:
        cells = (
            str(run.path),
            run.problem or run.status,
            _progress(run),
            _loss(run.last_val_loss),
            _loss(run.best_val_loss),
            _count(run.best_iter),
            _count(run.parameters),
            run.device or "?",
            (run.created or "?")[:16].replace("T", " "),
        )
        # Text: what a stranger's record holds is shown, never read as markup.
        table.add_row(*(Text(visible(cell)) for cell in cells))
    return table


def _progress(run: RunSummary) -> str:
    return f"{_count(run.iter)}/{_count(run.max_iters)}"


def _loss(value: float | None) -> str:
    return "?" if value is None else f"{value:.4f}"


def _count(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"
