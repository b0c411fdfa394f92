"""An `Explanation` as a view: what gives how much, the waterfall, the rows that matter, what would settle the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lossgap.attribution.explanation import ArmRow, At, Division, Explanation
from lossgap.comparison.comparison import NextStep
from lossgap.report import division as parts
from lossgap.report import experiment, vega, waterfall, words
from lossgap.report import explanation_words as said
from lossgap.report.arm_curves import arm_curves, payload
from lossgap.report.blocks import (
    Alternative,
    Alternatives,
    Block,
    Chart,
    Control,
    Fold,
    Grid,
    GridColumn,
    Headline,
    Judgement,
    Labelled,
    LegendMark,
    Option,
    Paragraphs,
    Subject,
    Suggestion,
    View,
)
from lossgap.report.division import DivisionRow
from lossgap.report.explanation_document import document as explanation_document
from lossgap.report.json_values import Json

Blocks = Callable[[Explanation, Division], tuple[Block, ...]]
"""A function that makes the blocks of one alignment."""

ARMS = 200
"""Arms in the table; `--json` has all."""
ROWS = 7
"""Factors that a terminal shows before `--full`."""
SWITCH = "at"
"""The name of the choice between last and best, as in the address of the page: `#at=best`."""


def view(explanation: Explanation) -> View:
    """The answer first: who gives how much; then the chart, the factors, and the next command."""
    steps = explanation.next
    return View(
        title=f"{explanation.control} against {explanation.test}, explained",
        subjects=(
            Subject(side="control", label="control", name=explanation.control),
            Subject(side="test", label="test", name=explanation.test),
        ),
        first=(
            Headline(said.headline(explanation)),
            *_warnings(explanation),
            _judgement(explanation),
            *_choice(explanation, _falls),
            *_choice(explanation, _contributions),
            *([_suggestion(steps[0])] if steps else []),
        ),
        rest=(
            Fold("Gap and remainder", _choice(explanation, _gap)),
            *([Fold("One factor alone", _choice(explanation, _end_effects))] if explanation.last.end_effects else []),
            *([Fold("Interactions", _choice(explanation, _interactions))] if _has_interactions(explanation) else []),
            Fold("Arms", _arms(explanation)),
            Fold("Experiment", (Labelled(rows=tuple(experiment.fact_lines(explanation))),)),
            *_open(explanation),
        ),
    )


def document(explanation: Explanation) -> Json:
    """The JSON document: `lossgap.explanation/1`."""
    return explanation_document(explanation)


def image(explanation: Explanation) -> bytes:
    """The waterfall as a PNG. Raises LossgapError `no-chart`, `chart-failed`."""
    return waterfall.png(explanation)


def _choice(
    explanation: Explanation, blocks: Callable[[Explanation, Division], tuple[Block, ...]]
) -> tuple[Block, ...]:
    """The blocks of last against last and best against best; the first alone where both are the same."""
    if parts.alike(explanation):
        return blocks(explanation, explanation.last)
    choices = tuple(
        Alternative(value=at, label=parts.TITLES[at], blocks=blocks(explanation, explanation.division(at)))
        for at in _ALIGNMENTS
    )
    return (Alternatives(name=SWITCH, legend="Losses", choices=choices),)


_ALIGNMENTS: tuple[At, ...] = ("last", "best")


# ---------------------------------------------------------------------------------------------
# The answer


def _warnings(explanation: Explanation) -> list[Block]:
    lines = [] if explanation.complete else [experiment.stopped(explanation)]
    lines += experiment.scale_lines(explanation.scale)
    for division in (explanation.last, explanation.best):
        lines += parts.checks(division)
    return [Paragraphs(lines=tuple(lines), look="warning")] if lines else []


def _judgement(explanation: Explanation) -> Judgement:
    division = explanation.last
    unknown = dict(parts.answer(explanation, division))["unknown"]
    lines = [words.sentence(said.gap_line(explanation, division)), f"Unknown: {unknown}."]
    if not parts.alike(explanation):
        best = explanation.best
        again = parts.amount(best.common.value, parts.mark(explanation))
        lines.append(f"Best against best: {parts.amount(best.reported.value)} as reported, {again} trained again.")
    return Judgement(word=said.word(division), text=said.verdict(explanation, division), lines=tuple(lines))


def _falls(explanation: Explanation, division: Division) -> tuple[Block, ...]:
    """The waterfall."""
    drawn = waterfall.waterfall(explanation, division.at)
    about = ", ".join(f"{bar.name} {bar.label}" for bar in drawn.bars)
    return (
        Chart(
            draws="waterfall",
            title=f"loss ({parts.UNIT}{parts.mark(explanation)})",
            data={} if drawn.why else waterfall.payload(drawn),
            label=f"Waterfall of losses, {parts.TITLES[division.at]}: {about}.",
            key=(
                LegendMark("lower", "lowers it"),
                LegendMark("higher", "raises it"),
                LegendMark("hollow", "not beyond the noise"),
                LegendMark("error", "95% interval"),
            ),
            notes=(
                "Re-trained ends on the same measurement. An error bar is the interval of its row's contribution, that "
                "of the test the interval of the whole gap.",
            ),
            why=drawn.why,
        ),
    )


def _contributions(explanation: Explanation, division: Division) -> tuple[Block, ...]:
    rows = parts.contribution_rows(explanation, division)
    total = parts.total(explanation, division)
    return (
        Grid(
            title="factors",
            columns=(
                GridColumn(name="factor"),
                GridColumn(name="contribution", number=True),
                GridColumn(name="95% interval", number=True),
                GridColumn(name="verdict", drop=1),
                GridColumn(name="control -> test", prose=True, drop=2),
            ),
            rows=tuple(_cells(row, row.verdict or "", row.settings or row.note) for row in rows),
            foot=(_cells(total, total.note, ""),),
            strong=frozenset(n for n, row in enumerate(rows) if row.verdict == "different"),
            most=ROWS,
            more="and {count} smaller ones",
            notes=tuple(f"No interval: {why}." for why in parts.reasons([row for row in rows if row.verdict])),
        ),
    )


def _cells(row: DivisionRow, *more: str) -> tuple[str, ...]:
    return (row.name, row.value, row.interval, *more)


def _suggestion(step: NextStep) -> Suggestion:
    return Suggestion(command=step.command, why=words.sentence(step.why), price=step.price)


# ---------------------------------------------------------------------------------------------
# The rest


def _gap(explanation: Explanation, division: Division) -> tuple[Block, ...]:
    rows = parts.gap_rows(explanation, division)
    return (
        Paragraphs(lines=("The remainder is what no factor took: not reproduced, not switchable, screened out.",)),
        Grid(
            columns=(
                GridColumn(name="part"),
                GridColumn(name="value", number=True),
                GridColumn(name="95% interval", number=True),
                GridColumn(name="why", prose=True),
            ),
            rows=tuple(_cells(row, ": ".join(filter(None, (row.settings, row.note)))) for row in rows),
        ),
    )


def _end_effects(explanation: Explanation, division: Division) -> tuple[Block, ...]:
    rows = parts.end_effect_rows(explanation, division)
    return (
        Paragraphs(lines=("What switching one factor does in either recipe, all else being that recipe's.",)),
        Grid(
            columns=(
                GridColumn(name="factor"),
                GridColumn(name="value", number=True),
                GridColumn(name="95% interval", number=True),
            ),
            rows=tuple(_cells(row) for row in rows),
            notes=tuple(f"No interval: {why}." for why in parts.reasons(rows)),
        ),
    )


def _has_interactions(explanation: Explanation) -> bool:
    return bool(explanation.last.interactions or explanation.best.interactions)


def _interactions(explanation: Explanation, division: Division) -> tuple[Block, ...]:
    rows = parts.interaction_rows(explanation, division)
    return (
        Paragraphs(lines=("They stand beside the sum and are not added: the contributions hold them already.",)),
        Grid(
            columns=(
                GridColumn(name="factors"),
                GridColumn(name="interaction", number=True),
                GridColumn(name="95% interval", number=True),
            ),
            rows=tuple(_cells(row) for row in rows),
            notes=tuple(f"No interval: {why}." for why in parts.reasons(rows)),
        ),
    )


def _arms(explanation: Explanation) -> tuple[Block, ...]:
    drawn, sign = arm_curves(explanation), parts.mark(explanation)
    options = tuple(Option(value=str(place), label=name, chosen=not place) for place, name in enumerate(drawn.factors))
    curves = Chart(
        draws="arms",
        title=f"val loss of each arm's evaluations ({parts.UNIT}{sign})",
        data={} if drawn.why else payload(drawn) | {"themes": {name: vega.config(name) for name in vega.THEMES}},
        label=f"Val losses of {experiment.several(len(drawn.curves), 'arm')} over their iterations.",
        key=(
            LegendMark("control", "control's level"),
            LegendMark("test", "test's level"),
            LegendMark("thick", "nothing switched, all switched"),
        ),
        controls=(
            Control(name="by", legend="Coloured by", options=options),
            Control(
                name="low",
                legend="Show",
                options=(Option(value="low", label=f"only losses below {drawn.ceiling:.3g}{sign}", chosen=True),),
                boxes=True,
            ),
        ),
        notes=drawn.notes,
        why=drawn.why,
    )
    failed = experiment.failure_lines(explanation)
    return (
        curves,
        *([Paragraphs(title="Failed arms", lines=("Their seeds were replaced.",))] if failed else []),
        *([Paragraphs(lines=tuple(failed), bullets=True)] if failed else []),
        Fold(_arms_title(explanation.arms), (_arm_grid(explanation.arms[:ARMS], sign),)),
    )


def _arms_title(arms: Sequence[ArmRow]) -> str:
    if len(arms) > ARMS:
        return f"Table of the first {ARMS} of {len(arms):,} arms (--json has all)"
    return f"Table of {'all ' if len(arms) > 1 else ''}{experiment.several(len(arms), 'arm')}"


def _arm_grid(arms: Sequence[ArmRow], sign: str) -> Grid:
    return Grid(
        columns=(
            GridColumn(name="switched to the test's level"),
            *(GridColumn(name=name, number=True) for name in ("seed", "val loss", "best val loss", "seconds")),
            GridColumn(name="how", prose=True),
        ),
        rows=tuple(_arm(item, sign) for item in arms),
    )


def _arm(arm: ArmRow, sign: str) -> tuple[str, ...]:
    how = [
        "" if arm.stage == "confirmation" else arm.stage,
        "exact" if arm.exact else "losses of its log",
        "trained earlier" if arm.cached else "",
        arm.run,
    ]
    return (
        experiment.arm_words(arm.factors),
        "none" if arm.seed is None else str(arm.seed),
        f"{arm.val_loss:.4f}{sign}",
        f"{arm.best_val_loss:.4f}{sign}",
        f"{arm.seconds:,.1f}",
        ", ".join(filter(None, how)),
    )


def _open(explanation: Explanation) -> list[Block]:
    """Blocks for what is not settled, and for the further commands."""
    blocks: list[Block] = []
    open_words = experiment.open_words(explanation)
    if open_words:
        blocks.append(Paragraphs(lines=(open_words,)))
    blocks += [_suggestion(step) for step in explanation.next[1:]]
    return [Fold("What is still open", tuple(blocks))] if blocks else []
