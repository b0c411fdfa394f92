"""A `Placement` as a view and as JSON: whether a run is on track, held against the reference of its recipe."""

from __future__ import annotations

from lossgap.references.placement import Placement
from lossgap.report.blocks import Block, Headline, Judgement, Labelled, Subject, View
from lossgap.report.json_values import Json, finite, with_why
from lossgap.strangers import visible
from lossgap.version import __version__

SCHEMA = "lossgap.placement/1"
COLOURS = {"on track": "equivalent", "above": "different", "below": "different", "unknown": "not-comparable"}
"""The verdict whose colour each word has."""


def view(found: Placement) -> View:
    """The answer and the numbers behind it."""
    first: list[Block] = [Headline(visible(found.said))]
    if found.median is not None:
        first.append(Judgement(word=COLOURS[found.word], text=found.word, title="verdict"))
        rows = (
            ("reference", f"{found.reference}: {found.about}, {found.seeds} seeds"),
            ("band", f"{found.low:.4f} to {found.high:.4f} for 90% of runs, median {found.median:.4f}"),
        )
        first.append(Labelled(rows=rows))
    return View(
        title=f"{visible(found.run)} and its recipe", first=tuple(first), subjects=(Subject(name=visible(found.run)),)
    )


def document(found: Placement) -> Json:
    """The JSON document: `lossgap.placement/1`."""
    values: Json = {
        "iter": found.iter,
        "loss": finite(found.loss),
        "reference": found.reference or None,
        "median": finite(found.median),
        "low": finite(found.low),
        "high": finite(found.high),
    }
    return with_why(
        {
            "schema": SCHEMA,
            "lossgap": __version__,
            "run": visible(found.run),
            "word": found.word,
            "said": visible(found.said),
            "exact": found.exact,
            "seeds": found.seeds,
            "unit": "nats/token",
            **values,
        },
        dict.fromkeys(values, found.why),
    )
