"""A `Replay` as a view: does this machine compute the recorded training as the other one did, and if not, where."""

from __future__ import annotations

from lossgap.parity.replay_result import Replay
from lossgap.parity.steps import StepCheck
from lossgap.report import replay_chart, replay_words, words
from lossgap.report.blocks import (
    Block,
    Chart,
    Control,
    Fold,
    Grid,
    GridColumn,
    Headline,
    Judgement,
    LegendMark,
    Option,
    Paragraphs,
    Subject,
    Suggestion,
    View,
)
from lossgap.report.json_values import Json
from lossgap.report.replay_document import document as replay_document

LAYERS = 1000
"""Rows of the table of layers; `--json` has all."""
NEAR = 6
"""Rows of the short one."""
ITERATIONS = 500
"""Rows of the table of losses; `--json` has all."""


def view(replay: Replay) -> View:
    """The answer first: equal or where they differ; then the losses in their envelope and what to do now."""
    faulty = any(check.verdict == "out of bounds" for check in replay.layers)
    near = _layer_grid(replay_words.noteworthy(replay, NEAR), title="layers" if faulty else "")
    return View(
        title=f"{replay.source}, replayed",
        kicker=f"{replay.source}, iterations {replay.first} to {replay.last}",
        subjects=tuple(
            Subject(side=side, label=label, name=replay_words.machine(replay, label))
            for side, label in replay_words.SIDES
        ),
        first=(
            Headline(replay_words.headline(replay)),
            _judgement(replay),
            _losses(replay),
            *([near] if faulty else []),
            *_machines(replay, differing=True),
            *_next(replay),
        ),
        rest=(
            Fold("Each step, layer by layer", (_layers_chart(replay), *_layers(replay, [] if faulty else [near]))),
            Fold("Losses of each iteration", (_places(replay),)),
            Fold("Machines and numerics", tuple(_machines(replay, differing=False))),
        ),
    )


def document(replay: Replay) -> Json:
    """The JSON document: `lossgap.replay/1`."""
    return replay_document(replay)


def image(replay: Replay) -> bytes:
    """The three charts as a PNG. Raises LossgapError `chart-failed`."""
    return replay_chart.png(replay)


# ---------------------------------------------------------------------------------------------
# The answer


def _judgement(replay: Replay) -> Judgement:
    found = replay.hardware_bound
    lines = [words.sentence(reason) for reason in replay.reasons]
    lines.append(f"Hardware: {replay_words.bound(replay)}")
    return Judgement(
        word=replay.verdict,
        text=replay_words.WORDS[replay.verdict],
        number="" if found is None else f"{found.value:.2g}",
        unit="" if found is None else "nats/token at most can come from the hardware",
        lines=tuple(lines),
    )


def _losses(replay: Replay) -> Chart:
    outside = [LegendMark("ring", "first outside")] if replay.trajectory.first is not None else []
    inside = [LegendMark("shade", "envelope")] if replay.trajectory.envelope is not None else []
    return Chart(
        draws="trajectory",
        title="training loss (nats per token)",
        data=replay_chart.trajectory_payload(replay),
        label=replay_words.plot_label(replay),
        key=(
            LegendMark("control", "recorded"),
            LegendMark("test", "replayed, or replayed minus recorded"),
            *inside,
            *outside,
        ),
        controls=(
            Control(
                name="view",
                legend="Show",
                options=(
                    Option(value="difference", label="replayed minus recorded", chosen=True),
                    Option(value="losses", label="losses"),
                ),
            ),
        ),
        notes=(replay_words.envelope(replay), *map(words.sentence, replay_words.evaluations(replay))),
    )


def _next(replay: Replay) -> list[Block]:
    steps = replay.next
    if steps:
        return [Suggestion(command=step.command, why=words.sentence(step.why), price=step.price) for step in steps]
    return [Suggestion(why=replay.settle or words.sentence(replay.beyond.why))]


# ---------------------------------------------------------------------------------------------
# The rest


def _layers_chart(replay: Replay) -> Chart:
    return Chart(
        draws="layers",
        title="error over what is allowed",
        data=replay_chart.layers_payload(replay),
        label=replay_words.layers_label(replay),
        key=(
            LegendMark("circle", "forward"),
            LegendMark("square", "backward"),
            LegendMark("diamond", "optimizer"),
            LegendMark("triangle", "evaluation"),
            LegendMark("test", "out of bounds"),
            LegendMark("control", "below what the dtype shows"),
            LegendMark("dash", "allowed"),
        ),
        caption="Errors below a thousandth of what is allowed are drawn there.",
    )


def _layers(replay: Replay, near: list[Grid]) -> tuple[Block, ...]:
    said = "Every layer works on the recorded inputs, so that an error shows where it is made."
    title = f"Table of all {len(replay.layers):,} values"
    if len(replay.layers) > LAYERS:
        title = f"Table of the first {LAYERS:,} of {len(replay.layers):,} values (--json has all)"
    short: list[Block] = [Paragraphs(title=words.sentence(replay_words.near(replay))[:-1], lines=(said,))]
    short += near
    return (*short, Fold(title, (_layer_grid(replay.layers[:LAYERS]),)))


def _layer_grid(checks: list[StepCheck], title: str = "") -> Grid:
    return Grid(
        title=title,
        columns=(
            GridColumn(name="layer"),
            GridColumn(name="value", drop=2),
            GridColumn(name="iteration", number=True, drop=1),
            GridColumn(name="error", number=True),
            GridColumn(name="allowed", number=True),
            GridColumn(name="recorder's error", number=True, drop=3),
            GridColumn(name="verdict", prose=True),
        ),
        rows=tuple(replay_words.cells(check) for check in checks),
        strong=frozenset(n for n, check in enumerate(checks) if check.verdict == "out of bounds"),
        most=NEAR,
    )


def _places(replay: Replay) -> Grid:
    places = replay.trajectory.places[:ITERATIONS]
    cut = replay.iterations > ITERATIONS
    return Grid(
        columns=tuple(
            GridColumn(name=name, number=True)
            for name in ("iteration", "recorded", "replayed", "difference", "envelope", "verdict")
        ),
        rows=tuple(
            (
                str(place.iteration),
                f"{place.recorded:.7g}",
                f"{place.replayed:.7g}",
                f"{place.difference:+.2g}",
                "?" if place.high is None else f"±{place.high - place.recorded:.2g}",
                "" if place.is_inside else "outside",
            )
            for place in places
        ),
        strong=frozenset(n for n, place in enumerate(places) if not place.is_inside),
        notes=(f"The first {ITERATIONS:,} of {replay.iterations:,} iterations; --json has all.",) if cut else (),
    )


def _machines(replay: Replay, *, differing: bool) -> list[Block]:
    """Both machines: only what differs, or everything with what ran otherwise than asked."""
    facts = [fact for fact in replay_words.facts(replay) if fact.differs or not differing]
    if not facts:
        return []
    return [
        Grid(
            title="differs" if differing else "",
            columns=(
                GridColumn(name=""),
                GridColumn(name="recorded", side="control"),
                GridColumn(name="replayed", side="test"),
            ),
            rows=tuple((fact.name, fact.recorded, fact.replayed) for fact in facts),
            strong=frozenset(n for n, fact in enumerate(facts) if fact.differs and not differing),
            notes=()
            if differing
            else tuple(
                f"{item.setting}={item.asked} was asked, {item.ran} runs: {item.why}." for item in replay.departures
            ),
            most=4,
        )
    ]
