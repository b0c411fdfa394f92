"""A `Found` as a view: the recipe that a search found, its loss on fresh seeds, and the rungs that chose it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lossgap.duration import duration
from lossgap.report.blocks import Fold, Grid, GridColumn, Headline, Labelled, Paragraphs, View
from lossgap.report.json_values import Json, finite, with_why
from lossgap.runs.run_json import plain
from lossgap.version import __version__

if TYPE_CHECKING:  # loads torch, which whoever has a Found has loaded already
    from lossgap.tuning.search import Found
    from lossgap.tuning.search_price import SearchPlan

SCHEMA = "lossgap.search/1"


def view(found: Found) -> View:
    """The winner first, then the recipes of the last rungs."""
    last = [candidate for rung in reversed(found.rungs) for candidate in rung]
    rows = [("recipe", words(found.changes)), ("iterations", f"{found.settings['max_iters']:,}")]
    if found.why:
        rows.append(("why", f"{found.why}."))
    if found.load is not None:
        rows.append(("load", f"{found.load[0]:.1f} at the start, {found.load[1]:.1f} at the end"))
    grid = Grid(
        columns=(
            GridColumn(name="recipe"),
            GridColumn(name="iterations", number=True),
            GridColumn(name="val loss", number=True),
        ),
        rows=tuple((words(c.settings), f"{c.iterations:,}", f"{c.val_loss:.4f}") for c in last),
        most=5,
        notes=("Losses of the seed that chose; longer trainings first.",),
    )
    first = len(found.rungs[0]) if found.rungs else 1
    how = (
        f"{first} recipes at first, {len(found.rungs)} rungs; it took {duration(found.seconds)}.",
        "Every training has a whole schedule of its own. Start-up and evaluations come on top.",
    )
    return View(
        title="the recipe that a search found",
        first=(Headline(_headline(found)), Labelled(rows=tuple(rows)), *([grid] if last else [])),
        rest=(Fold("How it was searched", (Paragraphs(lines=how),)),),
    )


def _headline(found: Found) -> str:
    time = duration(found.plan.seconds)
    spread = "" if found.spread is None else f", standard deviation {found.spread:.4f}"
    loss = f"{found.val_loss:.4f}, the mean of {len(found.val_losses)} seeds that did not choose it{spread}"
    if found.target is not None:
        reached = "is reached" if found.reached else "is not reached"
        return f"{found.target:g} {reached} in {time} of updates here: {loss}."
    if found.why:
        return f"The search was too short to prefer another recipe; as it stands, {time} of updates give {loss}."
    return f"The lowest val loss found in {time} of updates here: {loss}."


def words(settings: Mapping[str, object]) -> str:
    """A recipe as what it changes in the one that the search began with."""
    return " ".join(f"{name}={value}" for name, value in settings.items()) or "as it stands"


def plan_document(plan: SearchPlan) -> Json:
    """The plan as both documents of a search have it."""
    return {
        "seconds": plan.seconds,
        "update": plan.update,
        "recipes": plan.recipes,
        "rungs": plan.rungs,
        "fresh": plan.fresh,
        "cost": plan.cost,
    }


def document(found: Found) -> Json:
    """The JSON document: `lossgap.search/1`, whose schema ships as `schemas/search.schema.json`."""
    values: Json = {
        "schema": SCHEMA,
        "lossgap": __version__,
        "plan": plan_document(found.plan),
        "target": finite(found.target),
        "reached": found.reached,
        "settings": plain(dict(found.settings)),
        "changes": plain(dict(found.changes)),
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
        "load": None if found.load is None else list(found.load),
        "seconds": found.seconds,
        "alone": found.why or None,
    }
    none = "no target was given"
    reasons = {
        "spread": "one seed has none",
        "target": none,
        "reached": none,
        "load": "this system has no load average",
    }
    return with_why(values, reasons | {"alone": "other recipes were tried"})
