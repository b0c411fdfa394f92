"""The blocks of an answer: one `View` per result, which the terminal, the page and the notebook card render.

    View(
        title="a.log against b.log",                          # the page's title
        subjects=(Subject(side="control", label="control", name="a.log"), ...),
        first=(Headline("..."), Judgement(...), Chart(...), Claims(...), Grid(...), Suggestion(...)),
        rest=(Fold("Remarks", (Claims(...),)), Fold("In numbers", (Grid(...),)), ...),
    )

`first` is the answer: the terminal shows it in at most 24 lines, each block behind its `title` as a label, grids and
claims cut to what fits ("and 3 more"), charts left out. `rest` is everything else: on the page folded below the answer
(`Fold`) or open (any other block), on a terminal with `--full` only. Nothing of `first` is said again in `rest`, but
for what `first` had to cut.

Blocks hold text of strangers as it is: every renderer makes it visible and escapes it. No block knows a renderer: what
a terminal cannot show (`Chart`) or a page shows otherwise (`Alternatives`) is decided there, never in a view.

A result's module in `report/`, registered in `show.MODULES`, has these functions:

    view(result) -> View            # view(result, of=3) where the verb may have three results, which share a page
    document(*results) -> dict      # the JSON document, as its schema says; several results where the verb takes them
    image(*results) -> bytes        # the chart as a PNG; left out where there is none
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

Look = Literal["plain", "dim", "warning"]
RunSide = Literal["control", "test", ""]
"""Which of two runs something belongs to: its colour and its mark. Empty for neither."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One of the runs, machines or files that the answer is about: the page's heading names them."""

    name: str
    label: str = ""
    """`control`, `recorded`, ...: the word behind which the name stands."""
    side: RunSide = ""
    note: str = ""
    """Where it comes from: the format of a log, a device."""


@dataclass(frozen=True)
class Headline:
    """The answer in one to three sentences that a learner understands: the first, and `then` the others."""

    text: str
    then: str = ""
    kind: ClassVar[str] = "headline"


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A number with its interval on a line that shows 0 and the margin. `left` and `right` name the line's ends."""

    value: float
    low: float
    high: float
    margin: float
    label: str
    left: str
    right: str

    @property
    def places(self) -> dict[str, float]:
        """Where they lie, in percent of the line's width; `margin` is its left end and `breadth` its width."""
        ends = (self.low, self.high, -self.margin, self.margin, 0.0, self.value)
        least, span = min(ends), max(ends) - min(ends)

        def place(value: float) -> float:
            return round(4 + 92 * (value - least) / span, 2) if span else 50.0

        left = place(-self.margin)
        places = {name: place(getattr(self, name)) for name in ("value", "low", "high")}
        return places | {"zero": place(0.0), "margin": left, "breadth": round(place(self.margin) - left, 2)}


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The verdict in words, the number it is about, and sentences behind it."""

    word: str
    """The verdict's word, which decides the colour: different, equivalent, inconclusive, not-comparable, or empty."""
    text: str
    number: str = ""
    """Large on the page; in a terminal it stands in `lines` or in `text`."""
    unit: str = ""
    lines: tuple[str, ...] = ()
    strip: Strip | None = None
    title: str = "verdict"
    kind: ClassVar[str] = "judgement"


@dataclass(frozen=True, kw_only=True)
class Paragraphs:
    """Sentences, one paragraph each; with `bullets` a list."""

    lines: tuple[str, ...]
    title: str = ""
    look: Look = "plain"
    bullets: bool = False
    kind: ClassVar[str] = "paragraphs"


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Texts behind their labels: `(("budget", "20m asked, 18 min spent"), ...)`."""

    rows: tuple[tuple[str, str], ...]
    title: str = ""
    kind: ClassVar[str] = "labelled"


@dataclass(frozen=True, kw_only=True)
class GridColumn:
    """One column of a `Grid`. A `number` is set to the right; `prose` takes the room that is left and may be long."""

    name: str
    number: bool = False
    prose: bool = False
    side: RunSide = ""
    drop: int = 0
    """Narrow terminals leave columns out until the rows fit on a line each: the highest `drop` first, 0 never."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table. Rows have one cell for each column, the first of which names the row."""

    columns: tuple[GridColumn, ...]
    rows: tuple[tuple[str, ...], ...]
    foot: tuple[tuple[str, ...], ...] = ()
    """Rows below the others, in bold: sums."""
    strong: frozenset[int] = frozenset()
    """Numbers of the rows, from 0, that stand out: where something differs, or is wrong."""
    title: str = ""
    notes: tuple[str, ...] = ()
    """Sentences below it."""
    most: int | None = None
    """Rows that a terminal shows at most in `first`; the page shows all."""
    more: str = "and {count} more"
    """The text in place of rows that a terminal left out; `{names}` are their first cells."""
    kind: ClassVar[str] = "grid"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement with its evidence level and its text."""

    title: str
    level: str = ""
    """`strong, computed`."""
    brief: str = ""
    """The one line of the first 24; by default the title."""
    text: str = ""
    settle: str = ""
    """One sentence on what would settle it."""


@dataclass(frozen=True, kw_only=True)
class Claims:
    """Findings. In `first` of a terminal each is one line, `brief` with its level; elsewhere they are complete."""

    items: tuple[Claim, ...]
    title: str = ""
    ordered: bool = False
    """True if they are numbered: strongest first."""
    empty: str = ""
    """The text where there are none."""
    notes: tuple[str, ...] = ()
    kind: ClassVar[str] = "claims"


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A command to copy, with what it would settle and what it costs, if that is known."""

    command: str = ""
    why: str = ""
    price: str = ""
    title: str = "next"
    kind: ClassVar[str] = "suggestion"


@dataclass(frozen=True)
class Option:
    """One choice of a `Control`; `why` says why it is off, where it is."""

    value: str
    label: str
    chosen: bool = False
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Control:
    """Radio buttons, or with `boxes` check boxes, above a chart. The chart's script reads them by name."""

    name: str
    legend: str
    options: tuple[Option, ...]
    boxes: bool = False
    """Each option is a box of its own, named by its value."""


@dataclass(frozen=True)
class LegendMark:
    """One entry of a chart's key. `shape` names a style of page.css: control, test, ring, shade, dash, block, ..."""

    shape: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart that the page draws from `data`; a terminal leaves it out.

    `draws` names a script of `report/templates/` that registers itself as `CHARTS[draws]` (see drawing.js). Its
    controls come to the script as radio buttons named `NAME-...` and boxes named by their values.
    """

    draws: str
    data: object
    """JSON for the script: finite numbers only."""
    label: str
    """The chart in one sentence, for those who do not see it."""
    title: str = ""
    key: tuple[LegendMark, ...] = ()
    controls: tuple[Control, ...] = ()
    notes: tuple[str, ...] = ()
    """Sentences that a reader of the chart must know; folded below it."""
    caption: str = ""
    readable: bool = False
    """True if a slider below reads single values."""
    why: str = ""
    """Why nothing is drawn; empty if something is."""
    kind: ClassVar[str] = "chart"

    @property
    def off(self) -> list[str]:
        """Why options of the controls are off, one sentence for each reason."""
        reasons: dict[tuple[str, str], list[str]] = {}
        for control in self.controls:
            for option in control.options:
                if option.why:
                    reasons.setdefault((control.legend, option.why), []).append(option.label)
        return [f"{legend}: no {either(labels)}: {why}." for (legend, why), labels in reasons.items()]


def either(words: Sequence[str]) -> str:
    """`tokens, passes or FLOPs`."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


@dataclass(frozen=True)
class Fold:
    """Blocks behind a title: folded on the page, shown on a terminal with `--full` only."""

    title: str
    blocks: tuple[Block, ...]
    kind: ClassVar[str] = "fold"


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """One choice of an `Alternatives`."""

    value: str
    """Its value in the address of the page: `#at=best`."""
    label: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, kw_only=True)
class Alternatives:
    """The same blocks for two alignments, as last against last and best against best.

    The page shows one, with a switch that all `Alternatives` of one `name` share. A terminal shows all: grids with
    equal columns as one grid with a column more, rows with equal cells once; other blocks one after the other, equal
    ones once.
    """

    name: str
    legend: str
    choices: tuple[Alternative, ...]
    both: str = "both"
    """The entry of the terminal's column for a row that is the same in all of them."""
    kind: ClassVar[str] = "alternatives"


Block = Headline | Judgement | Paragraphs | Labelled | Grid | Claims | Suggestion | Chart | Fold | Alternatives


@dataclass(frozen=True, kw_only=True)
class View:
    """One result, ready to be rendered. See the top of this file."""

    title: str
    first: tuple[Block, ...]
    rest: tuple[Block, ...] = ()
    subjects: tuple[Subject, ...] = ()
    kicker: str = ""
    """A line above the heading: `replay of iterations 0 to 49`."""
    made_by: str = ""
    """A command that makes this answer; the page names it where no other one is known."""
    brief: tuple[Block, ...] = field(default=())
    """The blocks of a notebook's card; by default the headline, judgement, claims and suggestion of `first`."""
