"""A `ReferenceCurve`: the evaluation curves of one recipe over its seeds, as shipped (`lossgap.reference/1`).

The files lie in `references/curves/NAME.json` and were written by `scripts/train_reference.py`; each says its machine,
its commit and its date.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SCHEMA = "lossgap.reference/1"
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SeedCurve:
    """One training of the recipe: its evaluations, the means of its batch losses, and its exact end."""

    seed: int
    iters: Floats
    """Iterations of the evaluations, during training."""
    train: Floats
    """Train losses there, in nats per token; the mean over sampled windows in evaluation mode."""
    val: Floats
    val_se: Floats
    """Standard errors of `val`, of the sample of windows."""
    batch_iters: Floats
    """Middles of the stretches that the losses of single updates were averaged over."""
    batch_loss: Floats
    final_iter: int
    """Updates made when the exact losses were taken."""
    final_train: float | None
    final_val: float
    """Exact: every val token scored once, in windows of the recipe's context."""


@dataclass(frozen=True, kw_only=True)
class ReferenceCurve:
    """One recipe with the curves of its seeds."""

    name: str
    about: str
    settings: Mapping[str, object]
    """The settings of the recipe as it ran."""
    resumed_at: int | None
    """The iteration from which `settings` hold, of a run that was resumed with others; None for one piece."""
    corpus: Mapping[str, object]
    made: Mapping[str, str]
    """Machine, torch, commit, date and command."""
    seeds: tuple[SeedCurve, ...]

    def finals(self) -> Floats:
        """The exact val losses at the end, one for each seed."""
        return np.array([item.final_val for item in self.seeds])


def from_document(document: Mapping[str, object]) -> ReferenceCurve:
    """The curve that a packed file holds."""
    found = json.loads(json.dumps(document))
    return ReferenceCurve(
        name=found["name"],
        about=found["about"],
        settings=found["settings"],
        resumed_at=found["resumed_at"],
        corpus=found["corpus"],
        made=found["made"],
        seeds=tuple(
            SeedCurve(
                seed=row["seed"],
                iters=_floats(row["iters"]),
                train=_floats(row["train"]),
                val=_floats(row["val"]),
                val_se=_floats(row["val_se"]),
                batch_iters=_floats(row["batch_iters"]),
                batch_loss=_floats(row["batch_loss"]),
                final_iter=row["final"]["iter"],
                final_train=row["final"]["train"],
                final_val=row["final"]["val"],
            )
            for row in found["seeds"]
        ),
    )


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


@lru_cache(maxsize=1)
def curves() -> tuple[ReferenceCurve, ...]:
    """Every reference curve that this version ships, by name."""
    folder = resources.files("lossgap.references").joinpath("curves")
    if not folder.is_dir():  # a folder without files is in no checkout and no wheel
        return ()
    found = sorted((item for item in folder.iterdir() if item.name.endswith(".json")), key=lambda item: item.name)
    return tuple(from_document(json.loads(item.read_text(encoding="utf-8"))) for item in found)


def read(path: Path) -> ReferenceCurve:
    """The reference curve in that file."""
    return from_document(json.loads(path.read_text(encoding="utf-8")))
