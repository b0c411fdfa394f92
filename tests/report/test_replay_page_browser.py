"""The page of a replay in a real headless Chromium: drawn, switched, on a phone, in the dark, printed; attacked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lossgap.report import show, vega
from report.browser import Browser, Page, find
from report.hostile import HOSTILE
from report.replayed import CASES, hostile
from report.test_page_browser import contrast

pytestmark = pytest.mark.skipif(find() is None, reason="no Chromium here (Debian, Ubuntu: apt install chromium)")

LOSSES, LAYERS = (f"document.querySelector('[data-draws={name}] .plot')" for name in ("trajectory", "layers"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as started:
        yield started


def shown(browser: Browser, folder: Path, name: str) -> Page:
    file = folder / "page.html"
    show.write_page([CASES[name]], file)
    opened = browser.open(file)
    opened.settle()
    return opened


def colours(opened: Page, chosen: str) -> tuple[str, str]:
    """The colour of an element's text and of the page, as #rrggbb."""
    found = []
    for item, name in ((chosen, "color"), ("body", "backgroundColor")):
        rgb = opened.value(f"getComputedStyle(document.querySelector({item!r})).{name}")
        found.append("#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", rgb)[:3]))
    return found[0], found[1]


@pytest.mark.parametrize("name", HOSTILE[1::2], ids=ascii)  # all of them: test_replay_page
def test_hostile_text_is_text(browser: Browser, name: str, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    show.write_page([hostile(name)], file)
    opened = browser.open(file)
    opened.settle()
    assert opened.complaints == []
    assert opened.requests == [file.as_uri()]
    assert opened.dialogs == 0
    assert opened.value("document.title").endswith(", replayed")
    assert opened.value("document.querySelectorAll('script').length") == 4


@pytest.mark.parametrize("name", CASES)
def test_every_case_is_drawn_without_a_complaint(browser: Browser, name: str, tmp_path: Path) -> None:
    opened = shown(browser, tmp_path, name)
    assert opened.complaints == []
    assert opened.value(f"{LOSSES}.dataset.drawn") == "difference"
    assert opened.value(f"{LAYERS}.dataset.drawn") == "layers"


def test_the_views_are_switched(browser: Browser, tmp_path: Path) -> None:
    opened = shown(browser, tmp_path, "sudden")
    assert opened.value(f"{LOSSES}.querySelectorAll('.mark-line').length") == 1
    opened.value("document.querySelector('input[value=losses]').click()")
    opened.wait(f"{LOSSES}.dataset.drawn === 'losses'")
    assert opened.value(f"{LOSSES}.querySelectorAll('.mark-line').length") == 2


def test_the_first_layer_out_of_bounds_is_named_in_the_chart(browser: Browser, tmp_path: Path) -> None:
    opened = shown(browser, tmp_path, "step")
    texts = opened.value(f"[...{LAYERS}.querySelectorAll('text')].map(item => item.textContent)")
    assert "transformer.h.0.ln_1" in texts


def test_a_phone_needs_no_scrolling_sideways(browser: Browser, tmp_path: Path) -> None:
    opened = shown(browser, tmp_path, "step")
    opened.resize(360, 800)
    opened.settle()
    opened.wait("document.documentElement.scrollWidth <= 360")
    assert opened.value(f"{LOSSES}.querySelector('svg').getBoundingClientRect().width") <= 360
    opened.resize(1280, 900)


def test_light_and_dark_have_their_colours(browser: Browser, tmp_path: Path) -> None:
    opened = shown(browser, tmp_path, "sudden")
    stroke = f"{LOSSES}.querySelector('.mark-line path').getAttribute('stroke')"
    for dark, theme in ((False, "light"), (True, "dark")):
        opened.prefer(dark=dark)
        opened.wait(f"{stroke} === '{vega.THEMES[theme]['test']}'")
        for chosen in (".verdict", ".headline", ".key .shade", ".key .control", "td.prose"):
            ink, paper = colours(opened, chosen)
            assert contrast(ink, paper) >= 4.5, (theme, chosen)
    opened.prefer()


def test_on_paper_the_tables_are_there(browser: Browser, tmp_path: Path) -> None:
    opened = shown(browser, tmp_path, "equivalent")
    opened.prefer(media="print")
    opened.settle()
    assert opened.value("getComputedStyle(document.querySelector('form.controls')).display") == "none"
    assert opened.value("document.querySelectorAll('tbody tr').length") > 20
    opened.prefer()
