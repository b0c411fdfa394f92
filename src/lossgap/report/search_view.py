"""A `Found` as a view: the recipe that a search found, its loss on fresh seeds, and the rungs that chose it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from lossgap.config import TrainConfig
from lossgap.duration import duration
from lossgap.report.blocks import Fold, Grid, GridColumn, Headline, Labelled, Paragraphs, View
from lossgap.report.json_values import Json, finite, with_why
from lossgap.runs.run_json import plain
from lossgap.version import __version__

if TYPE_CHECKING:  # loads torch, which whoever has a Found has loaded already
    from lossgap.tuning.search import Candidate, Found

SCHEMA = "lossgap.search/1"


def view(found: Found) -> View:
    """The winner first, then the recipes of the last rungs."""
    last = [candidate for rung in reversed(found.rungs) for candidate in rung]
    spread = "" if found.spread is None else f", standard deviation {found.spread:.4f}"
    base = found.rungs[0]
    return View(
        title="the recipe that a search found",
        first=(
            Headline(
                f"The lowest val loss found in {duration(found.plan.seconds)} of updates here: "
                f"{found.val_loss:.4f}, the mean of {len(found.val_losses)} seeds that did not choose it{spread}."
            ),
            Labelled(rows=(("recipe", _words(found.rungs[-1][0])), ("iterations", str(found.settings["max_iters"])))),
            Grid(
                columns=(
                    GridColumn(name="recipe"),
                    GridColumn(name="iterations", number=True),
                    GridColumn(name="val loss", number=True),
                ),
                rows=tuple((_words(c), str(c.iterations), f"{c.val_loss:.4f}") for c in last),
                most=8,
                notes=("Losses of the seed that chose; longer trainings first.",),
            ),
        ),
        rest=(
            Fold(
                "How it was searched",
                (
                    Paragraphs(
                        lines=(
                            f"{len(base)} recipes at first, {len(found.rungs)} rungs; "
                            f"it took {duration(found.seconds)}.",
                            "Every training has a whole schedule of its own. Start-up and evaluations come on top.",
                        )
                    ),
                ),
            ),
        ),
    )


def _words(candidate: Candidate) -> str:
    """Return what a recipe differs in from the one that the search began with."""
    said = [
        f"{name}={value}"
        for name, value in candidate.settings.items()
        if value != getattr(TrainConfig, name) or name in ("n_layer", "n_head", "n_embd", "block_size", "batch_size")
    ]
    return " ".join(said) or "as it stands"


def document(found: Found) -> Json:
    """The JSON document: `lossgap.search/1`, whose schema ships as `schemas/search.schema.json`."""
    values: Json = {
        "schema": SCHEMA,
        "lossgap": __version__,
        "plan": dataclasses.asdict(found.plan),
        "settings": plain(dict(found.settings)),
        "val_loss": found.val_loss,
        "val_losses": list(found.val_losses),
        "spread": finite(found.spread),
        "rungs": [
            [
                {
                    "settings": plain(dict(c.settings)),
                    "update": c.update,
                    "iterations": c.iterations,
                    "val_loss": c.val_loss,
                }
                for c in rung
            ]
            for rung in found.rungs
        ],
        "seconds": found.seconds,
    }
    return with_why(values, {"spread": "one seed has none"})
