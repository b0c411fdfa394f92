"""How a training ended, as JSON: `lossgap.train/1`, whose schema ships as `schemas/train.schema.json`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossgap.report.json_values import Json, finite, with_why
from lossgap.version import __version__

if TYPE_CHECKING:  # loads torch, which whoever ends a training has loaded already
    from lossgap.training.train import Outcome

SCHEMA = "lossgap.train/1"


def document(outcome: Outcome) -> Json:
    """The document: the run folder, its status, and the exact losses after the last update."""
    losses: Json = {"train_loss": finite(outcome.train_loss), "val_loss": finite(outcome.val_loss)}
    why = "not measured: --final_eval=False, or the run was already at its end"
    return {
        "schema": SCHEMA,
        "lossgap": __version__,
        "run": str(outcome.run.path),
        "status": outcome.run.status,
        "unit": "nats/token",
        "final": with_why(losses, dict.fromkeys(losses, why)),
    }
