"""The page of an explanation in a real headless Chromium: drawn, switched, on a phone, printed; attacked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lossgap.report import embed, vega, waterfall
from lossgap.strangers import visible
from report import explained
from report.browser import Browser, Page, find
from report.explained import explanation
from report.hostile import HOSTILE
from report.test_explanation_document import CASES, hostile
from report.test_explanation_page import show_page
from report.test_page_browser import contrast

pytestmark = pytest.mark.skipif(find() is None, reason="no Chromium here (Debian, Ubuntu: apt install chromium)")

FALLS = "[...document.querySelectorAll('[data-draws=waterfall] .plot')].find(plot => !plot.closest('[hidden]'))"
CURVES = "document.querySelector('[data-draws=arms] .plot')"
HIDDEN = "[...document.querySelectorAll('[data-choice]')].map(part => part.dataset.choice + ' ' + part.hidden)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of four factors."""
    file = tmp_path_factory.mktemp("page") / "page.html"
    show_page(explanation(4, seeds=3), file)
    return file


def texts(shown: Page, plot: str) -> list[str]:
    found: list[str] = shown.value(f"[...{plot}.querySelectorAll('text')].map(item => item.textContent)")
    return found


def strokes(shown: Page) -> list[str]:
    """The colours of the arms' curves."""
    found: list[str] = shown.value(
        f"[...{CURVES}.querySelectorAll('.mark-line path')].map(item => item.getAttribute('stroke'))"
    )
    return found


@pytest.mark.parametrize("name", HOSTILE[::2], ids=ascii)  # all of them: test_explanation_page
def test_hostile_text_is_text(browser: Browser, name: str, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    show_page(hostile(name), file)
    shown = browser.open(file)
    assert shown.complaints == []
    assert shown.requests == [file.as_uri()]
    assert shown.dialogs == 0
    assert shown.value("document.querySelector('h1 bdi').textContent") == visible(name)
    assert visible(name) in shown.value("[...document.querySelectorAll('label span')].map(item => item.textContent)")
    assert (
        shown.value("document.querySelectorAll('img, iframe, object, embed, link, a, base, form[action]').length") == 0
    )
    assert shown.value("document.querySelectorAll('script').length") == 5
    assert shown.value("Object.keys({}).length + Number('polluted' in {})") == 0
    assert {"control", "length", "test"} <= set(texts(shown, FALLS))
    for width in (360, 1000):
        shown.resize(width, 800)
        shown.value("document.querySelector('details').open = true")
        assert shown.value("document.documentElement.scrollWidth") <= width


def test_the_waterfall_is_drawn(browser: Browser, path: Path) -> None:
    shown = browser.open(path)
    found = explanation(4, seeds=3)
    drawn = waterfall.waterfall(found, "last")
    assert {text for bar in drawn.bars for text in (bar.name, bar.label)} <= set(texts(shown, FALLS))
    # A rectangle for each contribution, as wide as it is large.
    boxes = shown.value(
        f"[...{FALLS}.querySelectorAll('.mark-rect path')].map(item => item.getBoundingClientRect().width)"
    )
    sizes = [abs(item.value) for item in found.last.contributions]
    assert len(boxes) == 4
    scale = (boxes[0] - boxes[-1]) / (sizes[0] - sizes[-1])
    assert boxes == pytest.approx([boxes[0] + scale * (size - sizes[0]) for size in sizes], abs=1.0)
    assert shown.complaints == []


def test_the_keyboard_switches_all_that_belongs_to_best(browser: Browser, path: Path) -> None:
    shown = browser.open(path)
    assert set(shown.value(HIDDEN)) == {"at:last false", "at:best true"}
    assert shown.value(HIDDEN)[0] == "at:last false"
    shown.press("Tab", 9)
    assert shown.value("document.activeElement.value") == "last"
    assert shown.value("getComputedStyle(document.activeElement.nextElementSibling).outlineStyle") == "solid"
    shown.press("ArrowRight", 39)
    shown.wait(f"{HIDDEN}[0] === 'at:last true'")
    assert set(shown.value(HIDDEN)) == {"at:last true", "at:best false"}
    best = waterfall.waterfall(explanation(4, seeds=3), "best")
    assert {bar.label for bar in best.bars} <= set(texts(shown, FALLS))
    assert shown.complaints == []


def test_curves_are_coloured_by_the_chosen_factor(browser: Browser, path: Path) -> None:
    shown = browser.open(path)
    light = vega.THEMES["light"]
    assert shown.value(f"{CURVES}.dataset.drawn") == "0 low"
    first = strokes(shown)
    assert len(first) == 16 * 3
    assert first.count(light["control"]) == first.count(light["test"]) == 24
    for place in (1, 3):
        other = browser.open(path, fragment=f"#by={place}&low=0&at=best")
        assert other.value(f"{CURVES}.dataset.drawn") == f"{place} all"
        assert other.value(HIDDEN)[0] == "at:last true"
        expected = [
            light["test" if place in line["on"] else "control"]
            for end in (False, True)
            for line in lines(path)
            if line["end"] is end
        ]
        assert strokes(other) == expected
        assert any(text.startswith("4.") for text in texts(other, CURVES))
    assert not any(text.startswith("4.") for text in texts(shown, CURVES))
    assert shown.complaints == []


def test_the_keyboard_chooses_the_factor(browser: Browser, path: Path) -> None:
    shown = browser.open(path)
    shown.value("for (const fold of document.querySelectorAll('details')) fold.open = true")
    shown.value("document.querySelector('[data-draws=arms] input').focus()")
    assert shown.value("document.activeElement.nextElementSibling.textContent") == "capacity"
    shown.press("ArrowRight", 39)
    shown.wait(f"{CURVES}.dataset.drawn === '1 low'")
    shown.press("Tab", 9)
    shown.press(" ", 32, " ")
    shown.wait(f"{CURVES}.dataset.drawn === '1 all'")
    assert shown.value(HIDDEN)[0] == "at:last false"
    assert shown.complaints == []


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    block = text.rsplit('<script type="application/json" class="data">', 1)[1].split("</script>", 1)[0]
    found: list[dict[str, Any]] = json.loads(block)["lines"]
    return found


def test_an_unknown_fragment_changes_nothing(browser: Browser, path: Path) -> None:
    shown = browser.open(path, fragment="#at=middle&by=77&low=&__proto__=1&constructor=x")
    assert shown.value(HIDDEN)[0] == "at:last false"
    assert shown.value(f"{CURVES}.dataset.drawn") == "0 low"
    assert shown.complaints == []


@pytest.mark.parametrize("name", ["1 factors", "7 factors", "permutations", "one seed", "noisy", "unreported"])
def test_every_kind_is_drawn_without_complaint(browser: Browser, name: str, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    show_page(CASES[name], file)
    for fragment in ("", "#at=best"):
        shown = browser.open(file, fragment=fragment, width=360, height=740)
        assert shown.complaints == []
        assert shown.value("document.documentElement.scrollWidth") <= 360


def test_nothing_known_shows_its_text(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    show_page(CASES["nothing yet"], file)
    shown = browser.open(file)
    assert shown.complaints == []
    assert "No chart: no seed has ended." in shown.value("document.body.innerText")


def test_many_arms(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    show_page(explanation(5, seeds=60, points=21), file)
    shown = browser.open(file)
    assert len(strokes(shown)) == 576
    assert shown.complaints == []


def test_light_dark_and_print(browser: Browser, path: Path) -> None:
    shown = browser.open(path)
    ink = f"{FALLS}.querySelector('.mark-rect path').getAttribute('fill')"
    assert shown.value(ink) == waterfall.COLOURS["light"]["lower"]
    shown.prefer(dark=True)
    shown.wait(f"{ink} === '{waterfall.COLOURS['dark']['lower']}'")
    inks = vega.THEMES["dark"]
    line = f"{CURVES}.querySelector('.mark-line path').getAttribute('stroke')"
    shown.wait(f"['{inks['control']}', '{inks['test']}'].includes({line})")
    assert set(strokes(shown)) == {inks["control"], inks["test"]}
    shown.prefer(dark=True, media="print")
    shown.wait(f"{ink} === '{waterfall.COLOURS['light']['lower']}'")
    assert shown.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert shown.value("getComputedStyle(document.querySelector('.controls')).display") == "none"
    assert shown.complaints == []


@pytest.mark.parametrize("width", [320, 360, 768, 1600])
def test_no_width_scrolls_sideways(browser: Browser, path: Path, width: int) -> None:
    shown = browser.open(path, width=width, height=740)
    shown.value("document.querySelector('details').open = true")
    assert shown.value("document.documentElement.scrollWidth") <= width
    for plot in (FALLS, CURVES):
        drawn = shown.value(f"{plot}.querySelector('svg').getBoundingClientRect().width")
        assert drawn <= shown.value(f"{plot}.clientWidth")
    controls = "[...document.querySelectorAll('.controls label')].filter(item => item.checkVisibility())"
    assert shown.value(f"{controls}.every(item => item.getBoundingClientRect().height >= 24)")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_have_contrast(theme: str) -> None:
    """WCAG 2.2, level AA: 4.5 to 1 for text, and the key is text in the bars' colours."""
    for name, colour in waterfall.COLOURS[theme].items():
        assert contrast(colour, vega.THEMES[theme]["paper"]) >= 4.5, name


def test_without_javascript_both_alignments_are_there(browser: Browser, path: Path) -> None:
    shown = browser.open(path, scripts=False)
    text = shown.value("document.body.innerText")
    assert "The chart needs JavaScript. All numbers are in the tables below." in text
    assert "last against last" in text
    assert "best against best" in text
    assert "Coloured by" not in text


def test_the_scale_stands_above_all_numbers(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    show_page(explanation(3, scale=explained.SCALED), file)
    shown = browser.open(file)
    top = "document.querySelector(name).getBoundingClientRect().top"
    tops = shown.value(f"['.warning', '.judgement', '.plot', 'table'].map(name => {top})")
    assert tops == sorted(tops)
    assert "Scaled down to 1/8 of the iterations" in shown.value("document.querySelector('.warning').textContent")


def test_the_policy_holds_where_escaping_would_not(browser: Browser, path: Path, tmp_path: Path) -> None:
    """Markup put into the finished page, as a fault of ours might: nothing of it runs."""
    markup = (
        "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"
        "<style>body { display: none }</style>"
    )
    file = tmp_path / "page.html"
    file.write_text(path.read_text(encoding="utf-8").replace("<h1>", markup + "<h1>", 1), encoding="utf-8")
    shown = browser.open(file)
    assert shown.value("getComputedStyle(document.body).display") == "block"
    assert shown.value("document.title") == "runs/laptop against logs/gpu.txt, explained"
    assert len(shown.complaints) >= 3
    assert embed.library() in path.read_text(encoding="utf-8")
