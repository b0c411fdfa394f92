"""A `Listing` of runs as a view: how many there are, which is best, which still run and for how long."""

from __future__ import annotations

from collections import Counter

from lossgap import suggestion
from lossgap.duration import duration
from lossgap.report.blocks import Block, Grid, GridColumn, Headline, Suggestion, View
from lossgap.report.experiment import several
from lossgap.report.json_values import Json
from lossgap.report.runs_document import document as runs_document
from lossgap.report.words import cut
from lossgap.runs.listing import Listing, RunSummary

NAME = 40
"""Characters of a path in the sentence."""
COLUMNS = (
    GridColumn(name="run"),
    GridColumn(name="status"),
    GridColumn(name="iter", number=True),
    GridColumn(name="left", number=True, drop=1),
    GridColumn(name="last val", number=True, drop=2),
    GridColumn(name="best val", number=True),
    GridColumn(name="at", number=True, drop=3),
    GridColumn(name="params", number=True, drop=5),
    GridColumn(name="device", drop=6),
    GridColumn(name="created", drop=7),
)


def view(listing: Listing) -> View:
    """The table of the runs; narrow terminals leave columns out, and never break a name."""
    return View(
        title=f"the runs in {listing.directory}",
        first=(
            Headline(_headline(listing)),
            *([_grid(listing)] if listing.runs else []),
            *_next(listing),
        ),
    )


def _grid(listing: Listing) -> Grid:
    """The running ones first, then the newest."""
    ordered = sorted(listing.runs, key=lambda run: (run.status == "running", run.created or ""), reverse=True)
    rows = [_cells(listing, run) for run in ordered]
    kept = [place for place, column in enumerate(COLUMNS) if column.name != "left" or any(row[place] for row in rows)]
    return Grid(
        columns=tuple(COLUMNS[place] for place in kept),
        rows=tuple(tuple(row[place] for place in kept) for row in rows),
        notes=tuple(f"{_name(listing, run)}: {run.problem}" for run in listing.runs if run.problem),
        more="and {count} more; --full shows all",
    )


def _headline(listing: Listing) -> str:
    if not listing.runs:
        return f"There are no runs in {listing.directory}."
    states = Counter("unreadable" if run.problem else run.status for run in listing.runs)
    said = ", ".join(f"{count} {status}" for status, count in states.items())
    start = f"{several(len(listing.runs), 'run')} in {listing.directory}: {said}."
    known = [run for run in listing.runs if run.best_val_loss is not None]
    if not known:
        return start
    best = min(known, key=lambda run: run.best_val_loss or 0.0)
    at = "" if best.best_iter is None else f" at iteration {best.best_iter:,}"
    return f"{start} The lowest val loss is {best.best_val_loss:.4f}{at}, in {cut(_name(listing, best), NAME)}."


def _name(listing: Listing, run: RunSummary) -> str:
    """Its path below the folder that was listed."""
    try:
        short = str(run.path.relative_to(listing.directory))
    except ValueError:
        return str(run.path)
    return str(run.path) if short == "." else short


def _cells(listing: Listing, run: RunSummary) -> tuple[str, ...]:
    return (
        _name(listing, run),
        "unreadable" if run.problem else run.status,
        f"{_count(_reached(run))}/{_count(run.max_iters)}",
        "" if run.seconds_left is None else duration(run.seconds_left),
        _loss(run.last_val_loss),
        _loss(run.best_val_loss),
        _count(run.best_iter),
        _count(run.parameters),
        run.device or "?",
        (run.created or "?")[:16].replace("T", " "),
    )


def _reached(run: RunSummary) -> int | None:
    """The last iteration; the exact losses after the last update stand in the record as those of the next one."""
    return run.iter if run.iter is None or run.max_iters is None else min(run.iter, run.max_iters)


def _next(listing: Listing) -> list[Block]:
    """Go on with the newest one that was interrupted; else compare the two newest that ended."""
    if not listing.runs:
        make = suggestion.train("shakespeare_char_cpu", out_dir="out-shakespeare-char-cpu")
        return [Suggestion(command=make, why="Train one:", price="about 6 min on two CPU cores")]
    newest = sorted((run for run in listing.runs if not run.problem), key=lambda run: run.created or "", reverse=True)
    stopped = next((run for run in newest if run.status == "interrupted" and run.iter is not None), None)
    if stopped is not None:
        command = suggestion.train(init_from="resume", out_dir=stopped.path)
        return [Suggestion(command=command, why=f"Go on with {_name(listing, stopped)}, exactly where it was stopped:")]
    ended = [run for run in newest if run.status == "finished" and run.last_val_loss is not None][:2]
    if len(ended) < 2:
        return []
    test, control = (run.path for run in ended)
    return [Suggestion(command=suggestion.compare(control, test), why="Why the two newest ones end as they do:")]


def _loss(value: float | None) -> str:
    return "?" if value is None else f"{value:.4f}"


def _count(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def document(listing: Listing) -> Json:
    """The JSON document: `lossgap.runs/1`."""
    return runs_document(listing)
