"""The view of a `Comparison`: the answer in one screen, and below it everything that it stands on.

view(comparison)            # blocks for every renderer (blocks.py)
document(*comparisons)      # the JSON document, lossgap.comparison/1
image(*comparisons)         # the charts as a PNG
"""

from __future__ import annotations

import math
import shlex
from typing import Any

from lossgap.comparison.answer import Answer, re_named
from lossgap.comparison.comparison import Comparison
from lossgap.comparison.differences import ComparedSetting
from lossgap.comparison.facts import Facts
from lossgap.comparison.metric import Metric
from lossgap.comparison.names import middle_cut
from lossgap.comparison.reasons import brief
from lossgap.report import chart, words
from lossgap.report import document as documents
from lossgap.report.blocks import (
    Block,
    Claims,
    Grid,
    GridColumn,
    Headline,
    Judgement,
    Paragraphs,
    RunSide,
    Strip,
    Subject,
    Suggestion,
    View,
)
from lossgap.report.comparison_chart import curves_chart
from lossgap.report.comparison_rest import claim, rest
from lossgap.report.curves import POINTS
from lossgap.report.table import INFERRED

SIDES = ("control", "test")
ALL_POINTS = 6000
"""Points per kind of curve on a page of many comparisons, which share them."""
HEAD = 22
"""Characters of a run's name above a column of settings."""
PERPLEXITY = math.log(1e6)
"""Losses above this are of no language model, and their perplexity says nothing."""


def view(comparison: Comparison, *, of: int = 1) -> View:
    """The whole answer; its curves share the points of a page with those of `of` comparisons in all."""
    answer = comparison.answer
    sides: tuple[tuple[RunSide, Facts], ...] = (("control", comparison.control), ("test", comparison.test))
    return View(
        title=f"{comparison.control.run.name} against {comparison.test.run.name}",
        subjects=tuple(
            Subject(name=facts.run.name, label=side, side=side, note=words.origin(facts.run)) for side, facts in sides
        ),
        first=(
            Headline(answer.sentences[0], " ".join(answer.sentences[1:])),
            _judgement(comparison),
            curves_chart(comparison, max(100, min(POINTS, ALL_POINTS // of))),
            *_causes(comparison),
            *_settings(comparison, answer),
            _next(comparison),
        ),
        rest=rest(comparison),
        made_by=shlex.join(["lossgap", "compare", comparison.control_source, comparison.test_source]),
    )


def document(*comparisons: Comparison) -> dict[str, Any]:
    """The JSON document."""
    return documents.document(comparisons)


def image(*comparisons: Comparison) -> bytes:
    """The charts as a PNG. Raises LossgapError `no-chart`, `chart-failed`."""
    return chart.png(comparisons)


# ---------------------------------------------------------------------------------------------
# The answer


def _judgement(comparison: Comparison) -> Judgement:
    metric, gap, verdict = comparison.alignment.metric, comparison.gap, comparison.verdict
    if gap is None or not isinstance(metric, Metric):
        called = comparison.answer.names
        why = tuple(dict.fromkeys(f"{re_named(reason, called).rstrip('.')}." for reason in verdict.reasons))
        return Judgement(word=verdict.word, text=words.WORDS[verdict.word], lines=why)
    interval = verdict.interval
    said = "" if interval is None else f" (95%: {interval[0]:+.4f} to {interval[1]:+.4f})"
    return Judgement(
        word=verdict.word,
        text=words.WORDS[verdict.word],
        number=f"{gap:+.4f}",
        unit=f"{metric.unit}{said}",
        lines=tuple(_losses(comparison, metric)),
        strip=_strip(comparison),
    )


def _losses(comparison: Comparison, metric: Metric) -> list[str]:
    """Both losses, and what a nat is: the perplexity beside them."""
    row = comparison.alignment.row("last")
    if row.control is None or row.test is None:
        return []
    name = metric.name.replace("_", " ")
    losses = row.control.value, row.test.value
    said = f"{name} {losses[0]:.4f}, {losses[1]:.4f} {metric.unit}"
    if metric.unit == "nats/token" and all(value < PERPLEXITY for value in losses):
        said += f"; perplexity (e^loss) {math.exp(losses[0]):.3g}, {math.exp(losses[1]):.3g}"
    groups = comparison.groups
    means = "" if groups is None else f"; means of {len(groups.control)} and {len(groups.test)} runs"
    return [words.sentence(said + means)]


def _strip(comparison: Comparison) -> Strip | None:
    """The gap with its interval, beside 0 and the margin."""
    gap, interval, margin = comparison.gap, comparison.verdict.interval, comparison.verdict.margin
    if gap is None or interval is None or not math.isfinite(interval[1] - interval[0]):
        return None
    bounded = " using upper bounds for what was not measured" if comparison.verdict.bounded else ""
    said = f"gap {gap:+.4f}, 95% interval{bounded} {interval[0]:+.4f} to {interval[1]:+.4f}, margin {margin:g}"
    low, high = interval
    return Strip(value=gap, low=low, high=high, margin=margin, label=said, left="test lower", right="test higher")


_NO_CAUSE = {
    "different": "no cause: none that these two records support",
    "equivalent": "no cause is needed: the gap is within the margin",
    "inconclusive": "no cause can be told: chance alone may make the gap",
    "not-comparable": "no cause can be told: the losses are not comparable",
}


def _causes(comparison: Comparison) -> tuple[Block, ...]:
    called = comparison.answer.names
    items = [claim(item, brief(item, comparison, called)) for item in comparison.causes]
    return (Claims(items=tuple(items), title="why", ordered=True, empty=_NO_CAUSE[comparison.verdict.word]),)


def _settings(comparison: Comparison, answer: Answer) -> tuple[Block, ...]:
    """The settings that make another training and differ, one line each."""
    differ = comparison.settings.differ_in_meaning
    if not differ:
        known = comparison.settings.comparable
        none = "no setting that is in both records" if known else "not known: no setting is in both records"
        return (Paragraphs(lines=(none,), title="differ"),)
    control, test = (middle_cut(name, HEAD) for name in answer.names)
    columns = (
        GridColumn(name="setting"),
        GridColumn(name=control, number=True, side="control"),
        GridColumn(name=test, number=True, side="test"),
        GridColumn(name="factor", drop=1),
    )
    rows = tuple(_row(item) for item in differ)
    marked = any(item.inferred for item in differ)
    notes = (f"{INFERRED} inferred, not stated",) if marked else ()
    return (Grid(columns=columns, rows=rows, title="differ", notes=notes, more="and {count} more: {names}"),)


def _row(item: ComparedSetting) -> tuple[str, ...]:
    return (item.name, *(words.value(item, side).replace("'", "") for side in SIDES), item.factor or "")


def _next(comparison: Comparison) -> Suggestion:
    """The one command, or the sentence, that would settle most."""
    verdict, answer = comparison.verdict, comparison.answer
    if answer.against_recipe:
        return Suggestion(why=_AGAINST_RECIPE[answer.expected[0].holds])
    if verdict.word == "equivalent":
        return Suggestion(why="Nothing: there is no gap to explain.")
    if verdict.word in ("inconclusive", "not-comparable") and verdict.settle:
        return Suggestion(why=verdict.settle)
    if not comparison.next:
        return Suggestion(why="Nothing that a command or a setting would settle.")
    step = comparison.next[0]
    return Suggestion(command=step.command, why=words.sentence(step.why), price=step.price)


_AGAINST_RECIPE = {
    True: "Nothing: it is on its recipe's way. To compare it with another run, name that run.",
    False: "Compare it with a run of that recipe to see what differs: lossgap train makes one.",
}
