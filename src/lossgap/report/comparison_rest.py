"""The part below a comparison's answer: causes in full, remarks, numbers, settings, noise, how the logs were read."""

from __future__ import annotations

from collections.abc import Iterator

from lossgap.comparison.comparison import Comparison
from lossgap.comparison.metric import Metric
from lossgap.comparison.rules import Finding
from lossgap.report import group_rows, like_for_like, words
from lossgap.report.blocks import (
    Block,
    Claim,
    Claims,
    Fold,
    Grid,
    GridColumn,
    Labelled,
    Paragraphs,
    Suggestion,
)
from lossgap.report.said_once import missing, shorter
from lossgap.report.table import INFERRED, equal, lines

LONE_SETTINGS = 40
"""Settings that only one run has, at most."""
PROSE = ("why", "evidence")


def rest(comparison: Comparison) -> tuple[Block, ...]:
    """All of it, each part folded behind its title; parts without content are left out."""
    parts = (
        Fold("Groups of runs", tuple(_groups(comparison))),
        Fold("Like for like", tuple(_like_for_like(comparison))),
        Fold("Causes", tuple(_causes(comparison))),
        Fold("Numbers", tuple(_numbers(comparison))),
        Fold("Remarks", tuple(_remarks(comparison))),
        Fold("Ruled out", tuple(_ruled_out(comparison))),
        Fold("Other settings", tuple(_settings(comparison))),
        Fold("Further steps", tuple(_steps(comparison))),
        Fold("Noise", tuple(_noise(comparison))),
        Fold("Reading", (_reading(comparison),)),
    )
    return tuple(part for part in parts if part.blocks)


def claim(item: Finding, brief: str = "") -> Claim:
    """A finding as a claim; with `brief` as the one line of the answer, else in full."""
    level = f"{item.strength}, {item.evidence}" if item.role == "cause" else item.evidence
    if brief:
        return Claim(title=brief, level=level)
    return Claim(title=item.title, level=level, text=shorter(item.text), settle=shorter(item.settle))


def _causes(comparison: Comparison) -> Iterator[Block]:
    if comparison.causes:
        yield Claims(items=tuple(claim(item) for item in comparison.causes), ordered=True)


def _remarks(comparison: Comparison) -> Iterator[Block]:
    judged = [item for item in comparison.remarks if not item.needs]
    if judged:
        yield Claims(items=tuple(claim(item) for item in judged))
    lacking = [item for item in comparison.remarks if item.needs]
    if lacking:
        yield missing(lacking)


def _ruled_out(comparison: Comparison) -> Iterator[Block]:
    items = [Claim(title=item.title, level=item.evidence, text=shorter(item.text)) for item in comparison.ruled_out]
    if items:
        yield Claims(items=tuple(items))


# ---------------------------------------------------------------------------------------------
# Numbers


def _numbers(comparison: Comparison) -> Iterator[Block]:
    table = lines(comparison)
    notes = ["* inferred, not stated in the record. ~ between two logged points."]
    marked = any(
        cell.endswith(INFERRED) or cell.startswith("~") for line in table for cell in (line.control, line.test)
    )
    same = equal(comparison)
    yield Grid(
        columns=(
            GridColumn(name="metric"),
            GridColumn(name="control", number=True, side="control"),
            GridColumn(name="test", number=True, side="test"),
            GridColumn(name="why", prose=True),
        ),
        rows=tuple((line.metric, line.control, line.test, shorter(line.why)) for line in table),
        notes=(*(notes if marked else ()), *([f"Equal in both: {', '.join(same)}."] if same else ())),
    )


def _groups(comparison: Comparison) -> Iterator[Block]:
    if comparison.groups is None:
        return
    yield Grid(
        columns=tuple(GridColumn(name=name, number=place > 0) for place, name in enumerate(group_rows.HEADER)),
        rows=tuple(line.cells for line in group_rows.lines(comparison.groups)),
        notes=tuple(group_rows.notes(comparison.groups)),
    )


def _like_for_like(comparison: Comparison) -> Iterator[Block]:
    """Both checkpoints evaluated alike, where that was asked for."""
    measured = comparison.reevaluation
    if measured is None:
        return
    yield Paragraphs(lines=(like_for_like.summary(measured),))
    names = like_for_like.HEADER
    columns = tuple(GridColumn(name=name, number=name not in ("", "evidence")) for name in names)
    for split in like_for_like.splits(measured):
        if split.cells:
            yield Grid(columns=columns, rows=split.cells, title=split.title, notes=split.notes)
        else:
            yield Paragraphs(lines=split.notes, title=split.title)


# ---------------------------------------------------------------------------------------------
# Settings, steps, noise, reading


def _settings(comparison: Comparison) -> Iterator[Block]:
    """Settings that differ without effect, and those that only one record has; the others are in the answer."""
    settings = comparison.settings
    others = [item.name for item in settings.differ if not item.meaning]
    said = [f"Different, without effect on the training: {', '.join(others)}."] if others else []
    for side, items in (("control", settings.only_control), ("test", settings.only_test)):
        lone = [item for item in items if item.meaning]
        if lone:
            names = ", ".join(f"{item.name} = {words.value(item, side)}" for item in lone[:LONE_SETTINGS])
            more = f" and {len(lone) - LONE_SETTINGS} more" if len(lone) > LONE_SETTINGS else ""
            said.append(f"Known only for the {side}: {names}{more}.")
    if said:
        yield Paragraphs(lines=tuple(said))


def _steps(comparison: Comparison) -> Iterator[Block]:
    if comparison.verdict.settle:
        yield Paragraphs(lines=(comparison.verdict.settle,))
    for step in comparison.next:
        yield Suggestion(command=step.command, why=words.sentence(step.why), title="", price=step.price)


def _noise(comparison: Comparison) -> Iterator[Block]:
    metric = comparison.alignment.metric
    said = [words.sentence(words.chance(comparison))] if comparison.gap is not None else []
    said += [words.sentence(reason) for reason in comparison.verdict.reasons]
    if isinstance(metric, Metric):
        said += [f"Assumed: {assumption}." for assumption in metric.assumptions]
    said += words.noise(comparison)
    yield Paragraphs(lines=tuple(said) or ("No gap, so no noise to report.",), bullets=True)


def _reading(comparison: Comparison) -> Block:
    rows: list[tuple[str, str]] = []
    for side, facts, source in (
        ("control", comparison.control, comparison.control_source),
        ("test", comparison.test, comparison.test_source),
    ):
        read = [f"{source}, read as {words.origin(facts.run)}", *words.reading(facts.run)]
        rows += [(side if number == 0 else "", line) for number, line in enumerate(read)]
    return Labelled(rows=tuple(rows))
