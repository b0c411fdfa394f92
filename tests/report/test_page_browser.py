"""The page in a real headless Chromium: drawn, switched, read with the keyboard, on a phone, printed; and attacked."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from comparison import made

from lossgap.comparison import compare
from lossgap.report import chart, curves, embed, vega
from lossgap.strangers import visible
from report.browser import Browser, Page, find
from report.hostile import HOSTILE
from report.test_page import comparison, rendered

pytestmark = pytest.mark.skipif(find() is None, reason="no Chromium here (Debian, Ubuntu: apt install chromium)")

SHOWN = "document.querySelector('.plot').dataset.drawn"
READING = "document.querySelector('output').textContent"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a harmless pair."""
    return write(tmp_path_factory.mktemp("page"), rendered([comparison()]))


def write(folder: Path, text: str) -> Path:
    file = folder / "page.html"
    file.write_bytes(text.encode())
    return file


def drawn_text(shown: Page) -> list[str]:
    """All texts of the chart."""
    found: list[str] = shown.value("[...document.querySelectorAll('.plot text')].map(item => item.textContent)")
    return found


# ---------------------------------------------------------------------------------------------
# Attacks


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_text_is_text(browser: Browser, name: str, tmp_path: Path) -> None:
    file = write(tmp_path, rendered([comparison(name)]))
    shown = browser.open(file)
    assert shown.complaints == []
    assert shown.requests == [file.as_uri()]
    assert shown.dialogs == 0
    assert shown.value("document.querySelector('h1 bdi').textContent") == visible(name)
    assert shown.value("document.title") == " ".join(f"{visible(name)} against {visible(name)}".split())
    assert (
        shown.value("document.querySelectorAll('img, iframe, object, embed, link, a, base, form[action]').length") == 0
    )
    assert shown.value("document.querySelectorAll('script').length") == 3
    assert shown.value("Object.keys({}).length + Number('polluted' in {})") == 0
    assert "control" in drawn_text(shown)
    for width in (360, 1000):
        shown.resize(width, 800)
        assert shown.value("document.documentElement.scrollWidth") <= width


class _Counter(BaseHTTPRequestHandler):
    hits = 0

    def do_GET(self) -> None:
        _Counter.hits += 1
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    """An address that counts who asks for it."""
    _Counter.hits = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), _Counter) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


def test_the_policy_holds_where_escaping_would_not(browser: Browser, path: Path, tmp_path: Path, server: str) -> None:
    """Markup put into the finished page, as a fault of ours might: nothing of it runs, nothing is fetched."""
    markup = (
        f"<script>document.title = 'owned'</script><img src='{server}img' onerror=\"document.title = 'owned'\">"
        f"<iframe src='{server}frame'></iframe><link rel=stylesheet href='{server}css'>"
        f"<script src='{server}js'></script>"
        f"<style>body {{ display: none }}</style><p id=late style='display: none'>x</p>"
    )
    file = write(tmp_path, path.read_text(encoding="utf-8").replace("<h1>", markup + "<h1>", 1))
    shown = browser.open(file)
    title = shown.value("document.title")
    assert shown.value("getComputedStyle(document.body).display") == "block"
    assert shown.value("getComputedStyle(document.getElementById('late')).display") == "block"
    tried = f"fetch('{server}fetch').then(() => 'went', () => 'blocked')"
    assert shown.value(tried) == "blocked"
    evaluated = "(() => { try { return Function('return 1')() } catch (error) { return error.name } })()"
    assert shown.value(evaluated) == "EvalError"
    assert title == "made against made"
    assert len(shown.complaints) >= 7
    assert _Counter.hits == 0


def test_the_counting_server_counts(browser: Browser, tmp_path: Path, server: str) -> None:
    """The test above could not fail if this one did."""
    file = write(tmp_path, f"<!doctype html><title>x</title><img src='{server}img'>")
    shown = browser.open(file)
    shown.wait("document.images[0].complete")
    assert _Counter.hits == 1
    assert shown.requests[-1] == f"{server}img"


# ---------------------------------------------------------------------------------------------
# Drawing


def test_axes_and_scales(browser: Browser, path: Path) -> None:
    shown = browser.open(path)
    assert shown.value(SHOWN) == "iterations linear"
    assert {"iterations", "learning rate (test dashed)", "control", "test", "2,000"} <= set(drawn_text(shown))
    for axis, label, tick in (("tokens", "tokens", "0.4M"), ("flops", "FLOPs", "1T"), ("seconds", "seconds", "80")):
        other = browser.open(path, fragment=f"#axis={axis}&scale=log&range=all")
        assert other.value(SHOWN) == f"{axis} log"
        assert {label, tick} <= set(drawn_text(other))
        assert "iterations" not in drawn_text(other)
        assert other.complaints == []


def test_the_keyboard_switches_and_reads(browser: Browser, path: Path) -> None:
    shown = browser.open(path)
    assert "gap -0.2800" in shown.value(READING)
    shown.press("Tab", 9)
    assert shown.value("document.activeElement.type") == "range"
    shown.press("Tab", 9)
    assert shown.value("document.activeElement.value") == "iterations"
    outline = "getComputedStyle(document.activeElement.nextElementSibling).outlineStyle"
    assert shown.value(outline) == "solid"
    shown.press("ArrowRight", 39)
    shown.wait(f"{SHOWN} === 'tokens linear'")
    assert shown.value(READING).startswith("1,536,000 tokens; control 1.8800 ± 0.020; test 1.6000 ± 0.020; gap -0.2800")
    shown.press("Tab", 9)
    shown.press("ArrowRight", 39)
    shown.wait(f"{SHOWN} === 'tokens log'")
    shown.press("Tab", 9)
    shown.press("ArrowRight", 39)
    assert shown.value("document.activeElement.value") == "all"
    shown.wait(f"{SHOWN} === 'tokens log'")
    shown.press("Tab", 9)
    shown.press("Tab", 9)
    shown.press(" ", 32, " ")
    assert shown.value("document.activeElement.name + document.activeElement.checked") == "iterstrue"
    shown.value("document.querySelector('input[type=range]').focus()")
    shown.press("ArrowLeft", 37)
    said = shown.value(READING)
    assert said.startswith("1,344,000 tokens; control 1.8845 ± 0.020; test 1.6050 ± 0.020; gap -0.2795; learning rate")
    assert shown.value("document.activeElement.getAttribute('aria-valuetext')") == said
    assert shown.complaints == []


def test_pointer_reads_the_nearest_point(browser: Browser, path: Path) -> None:
    shown = browser.open(path, fragment="#range=all")
    shown.value("document.querySelector('.plot').scrollIntoView()")
    box = shown.value(
        "(({x, y, width, height}) => [x, y, width, height])(document.querySelector('.plot').getBoundingClientRect())"
    )
    shown.send("Input.dispatchMouseEvent", type="mouseMoved", x=box[0] + 60, y=box[1] + 60)
    assert shown.value(READING).startswith("iteration 0; control 4.1700 ± 0.020")
    left, height = shown.value(
        "[parseFloat(document.querySelector('.cursor').style.left), document.querySelector('.cursor').offsetHeight]"
    )
    assert left == pytest.approx(48, abs=3)
    assert height == chart.HEIGHT


def test_unknown_axes_are_off_with_their_reason(browser: Browser, tmp_path: Path) -> None:
    config = {name: value for name, value in made.LAPTOP.items() if name != "batch_size"}
    runs = made.run(made.curve(1.9)), made.run(made.curve(1.6), config=config)
    file = write(tmp_path, rendered([compare(*runs)]))
    shown = browser.open(file, fragment="#axis=tokens")
    assert shown.value(SHOWN) == "iterations linear"
    off = "[...document.querySelectorAll('input[type=radio]:disabled')].map(item => item.value)"
    assert shown.value(off) == ["tokens", "passes", "flops", "seconds"]
    reasons = shown.value("document.querySelector('.about ul').textContent")
    assert "Horizontal axis: no tokens, passes or FLOPs: test: batch_size is not in the record." in reasons
    assert "Horizontal axis: no seconds: both: the record has no times of iterations." in reasons
    described = shown.value("document.querySelector('input:disabled').getAttribute('aria-describedby')")
    assert shown.value(f"document.getElementById('{described}').tagName") == "UL"
    assert shown.complaints == []


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("scale", chart.SCALES)
def test_the_browser_draws_the_rows_of_the_image(browser: Browser, path: Path, scale: str, whole: bool) -> None:
    """`rows` of page.js against `datasets` of chart.py, on every axis."""
    found = comparison()
    losses = {0: 4.0, 5: -0.5, 10: 0.001, 2000: 1.0}  # with what a log scale cannot show
    run = replace(found.control.run, iters=made.run({}, losses=losses).iters)
    data = chart.payload(curves.curves(compare(run, found.test.run, rules=())))
    script = embed.resource("curves.js")
    functions = "".join(
        re.findall(r"^(?:const KINDS.*?;|function (?:rows|begin|compared)\(.*?^\})$", script, re.DOTALL | re.MULTILINE)
    )
    spread = re.search(r"  for \(const line of data\.lines\) \{\n.*?\n  \}\n", script, re.DOTALL)
    assert spread is not None
    shown = browser.open(path)
    for axis in (item["name"] for item in data["axes"]):
        options = {"axis": axis, "scale": scale, "whole": whole, "train": True, "iters": True}
        body = f"{functions}\nconst data = {json.dumps(data)};\n{spread[0]}\nreturn rows(data, {json.dumps(options)});"
        call = f"(() => {{ {body} }})()"
        sets = chart.datasets(data, axis, scale, whole=whole)  # type: ignore[arg-type]  # a name of an axis
        assert shown.value(call) == sets


def test_many_comparisons(browser: Browser, tmp_path: Path) -> None:
    runs = [made.run(made.curve(1.8 + n / 10), name=f"run{n}") for n in range(3)]
    shown = browser.open(
        write(tmp_path, rendered([compare(runs[0], run) for run in runs[1:]])), fragment="#axis=tokens"
    )
    assert (
        shown.value("[...document.querySelectorAll('.plot')].map(plot => plot.dataset.drawn)") == ["tokens linear"] * 2
    )
    shown.value("document.querySelector('#view-2 input[value=passes]').click()")
    shown.wait("document.querySelector('#view-2 .plot').dataset.drawn === 'passes linear'")
    assert shown.value(SHOWN) == "tokens linear"
    assert shown.complaints == []


# ---------------------------------------------------------------------------------------------
# Places to read it


def test_light_dark_and_print(browser: Browser, path: Path) -> None:
    shown = browser.open(path)
    ink = "document.querySelector('.plot .mark-line path').getAttribute('stroke')"
    paper = "getComputedStyle(document.body).backgroundColor"
    light = (shown.value(ink), shown.value(paper))
    assert light[0] == vega.THEMES["light"]["control"]
    shown.prefer(dark=True)
    shown.wait(f"{ink} === '{vega.THEMES['dark']['control']}'")
    assert shown.value(paper) != light[1]
    shown.prefer(dark=True, media="print")
    shown.wait(f"{ink} === '{vega.THEMES['light']['control']}'")
    assert shown.value(paper) == "rgb(255, 255, 255)"
    assert shown.value("getComputedStyle(document.querySelector('.controls')).display") == "none"
    assert shown.complaints == []


@pytest.mark.parametrize("width", [320, 360, 768, 1600])
def test_no_width_scrolls_sideways(browser: Browser, path: Path, width: int) -> None:
    shown = browser.open(path, width=width, height=740)
    assert shown.value("document.documentElement.scrollWidth") <= width
    chart_width = shown.value("document.querySelector('.plot svg').getBoundingClientRect().width")
    assert chart_width <= shown.value("document.querySelector('.plot').clientWidth")
    small = "[...document.querySelectorAll('.controls label')].every(item => item.getBoundingClientRect().height >= 24)"
    assert shown.value(small)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_contrast(browser: Browser, path: Path, theme: str) -> None:
    """WCAG 2.2, level AA: 4.5 to 1 for text."""
    shown = browser.open(path, dark=theme == "dark")
    names = ("--ink", "--dim", "--control", "--test", "--paper")
    read = f"{json.dumps(names)}.map(name => getComputedStyle(document.documentElement).getPropertyValue(name).trim())"
    colours = dict(zip(names, shown.value(read), strict=True))
    for name in names[:-1]:
        assert contrast(colours[name], colours["--paper"]) >= 4.5, name
    ours = vega.THEMES[theme]
    assert [ours[name[2:]] for name in names] == [colours[name] for name in names]


def contrast(first: str, second: str) -> float:
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    """WCAG's relative luminance of #rrggbb."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_without_javascript(browser: Browser, path: Path) -> None:
    shown = browser.open(path, scripts=False)
    assert "lower than" in shown.value("document.body.innerText")
    shown.value("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    text = shown.value("document.body.innerText")
    assert "The chart needs JavaScript. All numbers are in the tables below." in text
    assert "val loss, last" in text
    assert "A made-up" not in text
    assert "To settle it: Settle it." in text
    assert "Horizontal axis" not in text
