"""A view of made-up blocks on a terminal, on the page and on a notebook's card."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from lossgap.report import html, printing
from lossgap.report.blocks import (
    Alternative,
    Alternatives,
    Block,
    Chart,
    Claim,
    Claims,
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
    Strip,
    Subject,
    Suggestion,
    View,
)
from lossgap.report.command_lines import command_lines
from lossgap.report.pairing import paired
from report.hostile import HOSTILE

COLUMNS = (
    GridColumn(name="setting"),
    GridColumn(name="control", number=True, side="control"),
    GridColumn(name="test", number=True, side="test"),
    GridColumn(name="why", prose=True, drop=1),
)


def grid(rows: int, text: str = "made", **fields: object) -> Grid:
    cells = tuple((f"{text}{n}", str(n), str(2 * n), f"because of {n}") for n in range(rows))
    return Grid(columns=COLUMNS, rows=cells, **fields)  # type: ignore[arg-type]  # a test names the fields it means


def claims(count: int, text: str = "made") -> Claims:
    items = [
        Claim(
            title=f"{text} {n}", level="strong, computed", brief=f"brief {n} of {text}", text="Text.", settle="Train."
        )
        for n in range(count)
    ]
    return Claims(items=tuple(items), title="why", ordered=True)


def chart(draws: str = "curves", **fields: object) -> Chart:
    made: dict[str, object] = {
        "draws": draws,
        "data": {"a": 1},
        "label": "A chart.",
        "title": "loss",
        "key": (LegendMark("ring", "best"),),
        "controls": (
            Control(
                name="axis", legend="Axis", options=(Option("x", "x", chosen=True), Option("y", "y", why="unknown"))
            ),
            Control(name="show", legend="Show", boxes=True, options=(Option("train", "train"),)),
        ),
        "notes": ("A note.",),
    }
    return Chart(**{**made, **fields})  # type: ignore[arg-type]  # as above


def view(text: str = "made", rows: int = 3, count: int = 2, first: tuple[Block, ...] = ()) -> View:
    strip = Strip(value=-0.2, low=-0.3, high=-0.1, margin=0.01, label="a strip", left="lower", right="higher")
    return View(
        title=f"{text} against other",
        subjects=(Subject(name=text, label="control", side="control", note="nanogpt"), Subject(name="b", side="test")),
        first=(
            Headline(f"The run {text} ends 0.20 lower."),
            Judgement(
                word="different", text="different", number="-0.20", unit="nats/token", lines=("A line.",), strip=strip
            ),
            *first,
            claims(count, text),
            grid(rows, text, title="differ"),
            Suggestion(command=f"lossgap train {text}", why="To know.", price="about 2 h"),
        ),
        rest=(
            Fold("Remarks", (Paragraphs(lines=(f"Remark of {text}.", "Another."), bullets=True),)),
            Fold("Numbers", (grid(2, text), Labelled(rows=(("budget", text),), title="Spent"))),
        ),
    )


# ---------------------------------------------------------------------------------------------
# Terminal


@pytest.mark.parametrize("rows", [0, 1, 3, 8, 40])
@pytest.mark.parametrize("count", [0, 1, 3, 9])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_an_answer_has_24_lines_at_most(rows: int, count: int, width: int) -> None:
    lines = printing.text([view(rows=rows, count=count)], width=width).splitlines()
    assert len(lines) <= printing.LINES
    assert max(map(len, lines)) <= width
    assert "The run made ends 0.20 lower." in " ".join(lines)
    assert any("$ lossgap train made" in line for line in lines)
    assert lines[-1] == "--full shows remarks, numbers"


def test_what_is_cut_is_counted() -> None:
    said = printing.text([view(rows=40, count=9)])
    shown = len(re.findall(r"^ +made\d+ ", said, re.MULTILINE)) + len(re.findall(r"^differ", said, re.MULTILINE))
    assert f"and {40 - (shown - 1)} more" in said
    assert "and 6 more" in said
    full = printing.text([view(rows=40, count=9)], full=True)
    assert "more" not in full
    assert len(re.findall(r"made\d+ +\d+ +\d+", full)) == 42
    assert "Remark of made." in full
    assert full.count("Remarks") == 1


def test_a_huge_answer_still_fits() -> None:
    first = (Paragraphs(lines=tuple(f"Line {n}." for n in range(6)), title="also"),)
    lines = printing.text([view(rows=30, count=5, first=first)]).splitlines()
    assert len(lines) <= printing.LINES


def test_several_answers_share_the_lines() -> None:
    lines = printing.text([view(rows=9), view(text="second", rows=9)]).splitlines()
    assert len(lines) <= printing.LINES + 1  # a rule between
    assert "The run second ends 0.20 lower." in lines


def test_columns_give_way() -> None:
    made = view(rows=2)
    assert "because of 1" in printing.text([made], width=80)
    narrow = printing.text([made], width=44)
    assert "because" not in narrow
    assert re.search(r"made1 +1 +2", narrow)


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_text_on_a_terminal(name: str) -> None:
    said = printing.text([view(name)], full=True)
    assert all(char.isprintable() or char == "\n" for char in said)


def test_commands_break_so_that_a_shell_joins_them() -> None:
    command = "lossgap train shakespeare_char --batch_size=12 --note='two  words' --max_iters=2000"
    lines = command_lines(command, 40)
    assert max(map(len, lines)) <= 40
    joined = "".join(line.removesuffix("\\") for line in lines).removeprefix("$ ")
    assert joined.split() == command.split()
    assert "'two  words'" in joined
    assert command_lines(command) == [f"$ {command}"]
    assert command_lines("lossgap " + "x" * 60, 40) == ["$ lossgap \\", "    " + "x" * 60]


# ---------------------------------------------------------------------------------------------
# Alternatives


def alternatives(last: tuple[Block, ...], best: tuple[Block, ...]) -> Alternatives:
    choices = (
        Alternative(value="last", label="last against last", blocks=last),
        Alternative(value="best", label="best against best", blocks=best),
    )
    return Alternatives(name="at", legend="Losses", choices=choices)


def test_grids_are_paired_row_by_row() -> None:
    last = replace(grid(3), strong=frozenset({1}))
    best = replace(last, rows=(last.rows[0], ("made1", "7", "8", "x"), last.rows[2]), strong=frozenset())
    (both,) = paired(alternatives((last,), (best,)))
    assert isinstance(both, Grid)
    assert [column.name for column in both.columns] == ["setting", "at", "control", "test", "why"]
    assert [row[:3] for row in both.rows] == [
        ("made0", "both", "0"),
        ("made1", "last", "1"),
        ("", "best", "7"),
        ("made2", "both", "2"),
    ]
    assert both.strong == {1}


def test_other_blocks_are_said_once_or_with_their_label() -> None:
    same, one, other = (Paragraphs(lines=(text,), title="t") for text in ("same", "one", "other"))
    found = paired(alternatives((same, one, chart()), (same, other, chart())))
    assert [getattr(item, "title", "") for item in found] == ["t", "t, last against last", "t, best against best"]
    assert printing.text([view(first=(alternatives((same, one), (same, other)),))], full=True).count("same") == 1


# ---------------------------------------------------------------------------------------------
# Page and card


def page(made: View) -> str:
    return html.render([made], command="lossgap compare a <b>")


def test_the_page_has_every_block() -> None:
    made = view(first=(chart(), alternatives((grid(1),), (grid(2),))))
    text = page(made)
    for said in (
        "The run made ends 0.20 lower.",
        "brief",
        "Remark of made.",
        "because of 1",
        "lossgap compare a &lt;b&gt;",
    ):
        assert (said in text) == (said != "brief"), said
    assert text.index("The run made") < text.index('class="plot"') < text.index('<details class="fold">')
    assert 'data-choice="at:best"' in text
    assert 'data-draws="curves"' in text
    assert "Axis: no y: unknown." in text
    identifiers = re.findall(r' id="([^"]+)"', text)
    assert len(identifiers) == len(set(identifiers))
    assert re.search(r"lossgap \d[^<]*, \d{4}-\d\d-\d\d \d\d:\d\d", text)


def test_a_page_without_charts_has_no_script() -> None:
    assert "<script" not in page(view())
    assert "<script" not in page(view(first=(chart(why="no loss in common"),)))
    assert "No chart: no loss in common." in page(view(first=(chart(why="no loss in common"),)))


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_text_is_text_on_page_and_card(name: str) -> None:
    def tags(text: str) -> list[str]:
        return re.findall(r"<[a-z/][^>]*>", re.sub(r'(aria-label|content)="[^"]*"', "", text))

    assert tags(page(view(name))) == tags(page(view("harmless")))
    assert tags(html.card(view(name))) == tags(html.card(view("harmless")))


def test_the_card_is_small() -> None:
    card = html.card(view())
    assert "The run made ends 0.20 lower." in card
    assert "brief 0 of made" in card
    assert len(html.card(view("<&\"'" * 3000, count=9)).encode()) <= html.CARD
