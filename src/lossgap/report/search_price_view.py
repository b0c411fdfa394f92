"""A `SearchPrice` as a view: the plan of a search, and what it takes, before it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossgap.duration import duration
from lossgap.report.blocks import Fold, Headline, Labelled, Paragraphs, View
from lossgap.report.json_values import Json, finite, with_why
from lossgap.report.search_view import plan_document, words
from lossgap.runs.run_json import plain
from lossgap.version import __version__

if TYPE_CHECKING:  # loads torch, which whoever has a SearchPrice has loaded already
    from lossgap.tuning.search_price import SearchPlan, SearchPrice

SCHEMA = "lossgap.search_price/1"
SHOWN = 3
"""Recipes that the answer names."""


def view(price: SearchPrice) -> View:
    """The cost first, then the rungs of the longest search."""
    longest = price.plans[-1]
    busy = "" if price.load is None else f", load {price.load:.1f}"
    rows = [("an update", f"{1000 * longest.update:.1f} ms as the recipe stands{busy}")]
    if price.target is not None:
        rows.append(("times", ", ".join(duration(plan.seconds) for plan in price.plans)))
    rows += [("rungs", _rungs(longest)), ("then", _then(longest))]
    if longest.rungs:
        rows.append(("recipes", "; ".join(map(words, price.recipes[:SHOWN])) + "; ..."))
    every = (f"{number}. {words(recipe)}" for number, recipe in enumerate(price.recipes, 1))
    return View(
        title="the price of a search",
        first=(Headline(_headline(price)), Labelled(rows=tuple(rows))),
        rest=(Fold("Recipes, as changes to the one that it begins with", (Paragraphs(lines=tuple(every)),)),),
    )


def _headline(price: SearchPrice) -> str:
    cost = f"{duration(price.cost)} of updates; start-up and evaluations come on top"
    if price.target is not None:
        return f"The shortest way to {price.target:g}: at most {cost}."
    longest = price.plans[-1]
    return f"The lowest val loss in {duration(longest.seconds)} of updates here: {cost}."


def _rungs(plan: SearchPlan) -> str:
    if not plan.rungs:
        held = int(plan.seconds / plan.update)
        return f"none: {held:,} updates are too few to prefer another recipe to the one that it begins with"
    each = (f"{plan.recipes >> rung} of {duration(plan.share(rung))}" for rung in range(plan.rungs))
    return f"{', '.join(each)}; the better half goes on"


def _then(plan: SearchPlan) -> str:
    return f"the best anew on {plan.fresh} seeds that did not choose it, {duration(plan.seconds)} each"


def document(price: SearchPrice) -> Json:
    """The JSON document: `lossgap.search_price/1`, whose schema ships as `schemas/search_price.schema.json`."""
    values: Json = {
        "schema": SCHEMA,
        "lossgap": __version__,
        "target": finite(price.target),
        "plans": [plan_document(plan) for plan in price.plans],
        "recipes": [plain(dict(recipe)) for recipe in price.recipes],
        "load": finite(price.load),
        "cost": price.cost,
    }
    return with_why(values, {"target": "no target was given", "load": "this system has no load average"})
