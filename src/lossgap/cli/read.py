"""`lossgap read RUN`: what a log contains, and how it was understood."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from rich.console import Console

from lossgap.api import load_runs
from lossgap.arguments import build, parse_arguments
from lossgap.cli.help import help_text
from lossgap.errors import ConfigError
from lossgap.options import ReadFlags, ReadOptions
from lossgap.report.read_document import document
from lossgap.report.terminal import Terminal
from lossgap.runs.metric_summary import MetricPoint, metric_summaries
from lossgap.runs.readers.detect import FORMATS
from lossgap.runs.reading import Reading
from lossgap.runs.run import Run
from lossgap.settings import settings_of
from lossgap.strangers import LAYOUT, one_line, visible

SHOWN_NOTES = 20

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
    if flags.json:
        print(json.dumps(document(Reading(source=given.positionals[0], runs=tuple(runs))), allow_nan=False))
    else:
        console = Terminal()
        for run in runs:
            _show(console, run, len(runs))
    return 0


# ---------------------------------------------------------------------------------------------
# For people


def _show(console: Console, run: Run, count: int) -> None:
    which = f"#{run.number} of {count}: " if count > 1 else ""
    _say(console, f"{which}{run.name}: {run.format}, {run.iters.height:,} iterations, {run.evals.height:,} evaluations")
    for label, value in (("status", run.status), ("device", run.device), ("tokens per iteration", run.tokens_per_iter)):
        if value not in (None, "unknown"):
            _say(console, f"  {label}: {value:,}" if isinstance(value, int) else f"  {label}: {value}")
    for line in _metrics_table(run):
        _say(console, f"  {line}")
    for item in metric_summaries(run):
        means = item.means
        if means is not None and means.kind != "unknown":
            mode = "" if means.mode == "unknown" else f", {means.mode} mode"
            digits = "" if means.digits is None else f", {means.digits} decimals"
            _say(console, f"  {item.name}: {means.kind} of {means.split}{mode}, {means.unit}{digits}")
    _show_settings(console, run)
    for note in run.notes[:SHOWN_NOTES]:
        _say(console, f"  note: {note.text}{_lines(note.lines)}")
    if len(run.notes) > SHOWN_NOTES:
        _say(console, f"  and {len(run.notes) - SHOWN_NOTES} more notes (--json has all)")
    for seam in run.seams:
        if isinstance(seam, Mapping):
            _say(console, f"  seam: goes on at iteration {seam.get('iter')} ({seam.get('why')})")
    misread = run.not_understood
    _say(console, f"  {misread.count:,} lines not understood{_lines(misread.lines)}, {run.damaged_lines:,} damaged")


def _show_settings(console: Console, run: Run) -> None:
    if run.config:
        stated = ", ".join(f"{name}={_short(value)}" for name, value in run.config.items())
        _say(console, f"  settings: {stated}")
    by_reason: dict[str, list[str]] = {}
    for item in run.inferred:
        other = f" (or {', '.join(_short(value) for value in item.alternatives)})" if item.alternatives else ""
        by_reason.setdefault(item.why, []).append(f"{item.name}={_short(item.value)}{other}")
    for why, items in by_reason.items():
        _say(console, f"  inferred: {', '.join(items)}: {why}")


def _metrics_table(run: Run) -> list[str]:
    """Aligned lines: a number that is cut off to fit a terminal would be another number."""
    rows: list[tuple[str, ...]] = [("metric", "rows", "first", "last", "best", "lowest", "highest")]
    for item in metric_summaries(run):
        ends = [_at(point) for point in (item.first, item.last, item.best)]
        rows.append((item.name, f"{item.count:,}", *ends, _value(item.lowest), _value(item.highest)))
    if len(rows) == 1:
        return []
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def _at(point: MetricPoint | None) -> str:
    return "" if point is None else f"{_value(point.value)} @{point.iter}"


def _value(value: object) -> str:
    if isinstance(value, float) and value and (abs(value) < 1e-3 or abs(value) >= 1e7):
        return f"{value:.4g}"
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) and math.isfinite(value) else str(value)


def _short(value: object) -> str:
    return one_line(str(value), 60)


def _lines(lines: Sequence[int]) -> str:
    return f" (line{'s' * (len(lines) > 1)} {', '.join(map(str, lines))})" if lines else ""


def _say(console: Console, line: str) -> None:
    """A line for people: foreign text is neither markup nor control codes."""
    console.print(visible(line.replace("\n", " "), LAYOUT), soft_wrap=True)
