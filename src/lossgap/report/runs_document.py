"""A `Listing` of runs as JSON: `lossgap.runs/1`, whose schema ships as `schemas/runs.schema.json`."""

from __future__ import annotations

from dataclasses import asdict

from lossgap.report.json_values import Json, finite, with_why
from lossgap.runs.listing import Listing, RunSummary
from lossgap.version import __version__

SCHEMA = "lossgap.runs/1"
_WHY = {
    "iter": "no iteration is in the record yet",
    "max_iters": "the record does not say it",
    "last_val_loss": "no evaluation with a finite loss is in the record",
    "best_val_loss": "no evaluation with a finite loss is in the record",
    "best_iter": "no evaluation with a finite loss is in the record",
    "parameters": "the record does not say it",
    "device": "the record does not say it",
    "created": "the record does not say it",
    "seconds_left": "it is not running, or no pace is known",
    "problem": "it could be read",
}


def document(listing: Listing) -> Json:
    """The document: every run below the folder, in the order of their paths."""
    return {
        "schema": SCHEMA,
        "lossgap": __version__,
        "directory": str(listing.directory),
        "runs": [_run(run) for run in listing.runs],
    }


def _run(run: RunSummary) -> Json:
    values: Json = asdict(run) | {"path": str(run.path)}
    for name in ("last_val_loss", "best_val_loss", "seconds_left"):
        values[name] = finite(getattr(run, name))
    reasons = dict.fromkeys(_WHY, run.problem) if run.problem else _WHY
    return with_why(values, {name: why or _WHY[name] for name, why in reasons.items()})
