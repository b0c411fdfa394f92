"""The page of an explanation as text: escaped, complete, small, as it was. In a browser: test_explanation_page_browser.

The waterfall's rows, its specification and its image, and the arms' curves, are tested here, too.
"""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import vl_convert
from hypothesis import HealthCheck, given, settings

from lossgap.attribution.explanation import At, Explanation
from lossgap.errors import LossgapError
from lossgap.report import arm_curves, division, embed, experiment, explanation_view, html, show, vega, waterfall
from lossgap.report.curves import POINTS
from lossgap.strangers import visible
from report import explained
from report.explained import explanation
from report.hostile import HOSTILE
from report.test_explanation_document import CASES, hostile, odd_explanations
from report.test_page import blocks, tags

GOLD = Path(__file__).parents[1] / "golden" / "explanation_page.html"
FIELDS = {
    "name",
    "label",
    "kind",
    "fill",
    "start",
    "end",
    "at",
    "top",
    "bottom",
    "next",
    "low",
    "high",
    "over",
    "under",
}
CURVE_FIELDS = {"arm", "level", "end", "x", "y"}
ALIGNMENTS: tuple[At, At] = ("last", "best")


def rendered(found: Explanation) -> str:
    """The page, made at a fixed time."""
    return html.render(show.views([found]), made=datetime(2026, 1, 2, 3, 4, tzinfo=UTC))


def show_page(found: Explanation, path: Path) -> None:
    show.write_page([found], path)


def show_image(found: Explanation, path: Path) -> None:
    show.write_image([found], path)


def data(found: Explanation) -> Any:
    """What the scripts draw: `waterfalls` by alignment, `curves` of the arms."""
    bodies = [json.loads(block) for block in blocks(rendered(found))]
    falls = [body for body in bodies if "rows" in body]
    return {
        "waterfalls": dict(zip(ALIGNMENTS, falls, strict=False)),
        "curves": next((body for body in bodies if "lines" in body), None),
        "themes": falls[0]["themes"] if falls else {},
    }


def said(found: Explanation) -> str:
    """The page's text without its tags."""
    page = rendered(found)
    page = re.sub(r"<(script|style)[^>]*>.*?</\1>", "", page, flags=re.DOTALL)
    return unescape(re.sub(r"<[^>]+>", " ", page))


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_text_changes_nothing(name: str) -> None:
    """Element for element the page of harmless names, and the text is there, made visible."""
    harmless, evil = (rendered(hostile(word)) for word in ("harmless", name))
    assert tags(evil).tags == tags(harmless).tags
    assert visible(name) in "".join(tags(evil).text)
    assert not re.search("[\u2028\u2029\u202e\x00-\x08\x0b-\x1f]", evil.replace(embed.library(), ""))
    evil.encode()
    assert not re.search("[<>&\u2028\u2029]", "".join(blocks(evil)))
    # Names are values of the rows and nowhere else: no field, no expression, no label of an axis.
    shown, usual = data(hostile(name)), data(hostile("harmless"))
    for body in (shown, usual):
        for drawn in body["waterfalls"].values():
            (named,) = [row for row in drawn["rows"] if row["name"] not in ("control", "test", "length")]
            named["name"] = ""
    assert shown == usual


def test_the_policy_and_no_address_or_handler() -> None:
    text = rendered(explanation())
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', text)
    assert policy is not None
    rules = dict(part.split(" ", 1) for part in unescape(policy[1]).split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert set(rules) == {"default-src", "base-uri", "form-action", "script-src", "style-src"}
    assert "unsafe" not in policy[1]
    own = text.replace(embed.library(), "")
    for name in ("drawing.js", "waterfall.js", "arms.js", "start.js", "page.css"):
        assert embed.resource(name) in own
        own = own.replace(embed.resource(name), "")
    assert not re.search(r"<[^>]+\s(src|href|style|on\w+)=", own)


@pytest.mark.parametrize("name", CASES)
def test_the_tables_have_every_number(name: str) -> None:
    found = CASES[name]
    text = " ".join(said(found).split())
    for part in (found.last, found.best):
        for row in division.contribution_rows(found, part):
            cells = (row.name, row.value, row.interval, row.verdict or "", row.settings or row.note)
            assert " ".join(" ".join(cells).split()) in text
        total = division.total(found, part)
        assert f"sum {total.value} {total.interval} {total.note}".strip() in text
        for row in division.gap_rows(found, part):
            note = ": ".join(filter(None, (row.settings, row.note)))
            assert " ".join(f"{row.name} {row.value} {row.interval} {note}".split()) in text
        for row in division.interaction_rows(found, part):
            assert f"{row.name} {row.value} {row.interval}" in text
    for label, fact in experiment.fact_lines(found):
        assert f"{label} {fact}" in text
    for line in experiment.failure_lines(found):
        assert line in text
    for step in found.next:
        assert step.command in text
        assert step.why in text
    assert ("Stopped before its end" in text) is not found.complete
    assert "do not add up" not in text


def test_parts_that_do_not_add_up_are_told() -> None:
    found = explanation(3)
    first, *rest = found.last.contributions
    wrong = replace(found.last, contributions=(replace(first, value=first.value + 2e-9), *rest))
    assert "The parts do not add up: last against last, their sum misses the common gap" in said(
        replace(found, last=wrong)
    )


def test_every_number_of_a_scaled_experiment_is_marked() -> None:
    found = explanation(4, scale=explained.SCALED, screened=("schedule",))
    text = said(found)
    numbers = re.findall(r"(?<![\w.])[+-]?\d\.\d{4}(?!\d).?", text)
    plain = {number.strip() for number in numbers if not number.endswith(division.MARK)}
    assert plain == {division.amount(part.reported.value) for part in (found.last, found.best)}
    assert "1/8 of the iterations, 1/4 of channels, context and batch" in text
    assert all(row["label"].endswith(division.MARK) for row in data(found)["waterfalls"]["last"]["rows"])
    assert division.MARK not in said(explanation(4, screened=("schedule",)))


def test_one_alignment_where_best_is_last() -> None:
    same, other = (rendered(explanation(2, best_differs=differs)) for differs in (False, True))
    assert "data-choice=" not in same
    assert other.count('data-choice="at:best"') == other.count('data-choice="at:last"') == 4


def test_nothing_is_drawn_where_nothing_is_known() -> None:
    text = rendered(CASES["nothing yet"])
    assert "No chart: no seed has ended." in text
    assert "No chart: the arms have no curves." in text
    assert "vegaEmbed =" not in text
    assert len(text) < 60_000


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(odd_explanations)
def test_no_number_breaks_the_page(found: Explanation) -> None:
    text = rendered(found)
    for block in blocks(text):
        json.loads(block, parse_constant=lambda name: pytest.fail(name))


def test_many_arms_stay_small() -> None:
    """Five factors, sixty seeds: 1,920 arms, of which as many are drawn and listed as a page can hold."""
    found = explanation(5, seeds=60, points=21)
    text = rendered(found)
    assert len(text.encode()) < 3_000_000
    curves = data(found)["curves"]
    assert len(curves["lines"]) == arm_curves.ARMS // 32 * 32
    assert "576 of 1,920 curves are drawn; the other seeds look alike." in text
    assert "Table of the first 200 of 1,920 arms (--json has all)" in text
    assert text.count("explain/arms/") == explanation_view.ARMS


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    found = explanation(1, seeds=3, points=5000)
    drawn = arm_curves.arm_curves(found)
    assert max(len(curve.losses) for curve in drawn.curves) <= POINTS
    assert "Thinned to at most 2,000 points a curve" in said(found)
    for curve, arm in zip(drawn.curves, found.arms, strict=True):
        assert (curve.iters[0], curve.losses[0]) == arm.curve[0]
        assert (curve.iters[-1], curve.losses[-1]) == arm.curve[-1]
        assert min(curve.losses) == min(loss for _, loss in arm.curve)


def test_curves_know_what_is_switched() -> None:
    found = explanation(3, seeds=3)
    drawn = arm_curves.arm_curves(found)
    assert drawn.factors == tuple(item.factor.name for item in found.last.contributions)
    for curve, arm in zip(drawn.curves, found.arms, strict=True):
        assert {drawn.factors[place] for place in curve.switched} == set(arm.factors)
        assert curve.end is (len(arm.factors) in (0, 3))
    last = [curve.losses[-1] for curve in drawn.curves]
    assert max(last) < drawn.ceiling < max(curve.losses[0] for curve in drawn.curves)
    screening = replace(found, arms=tuple(replace(arm, stage="screening") for arm in found.arms))
    assert arm_curves.arm_curves(screening).why == "the arms have no curves"


def test_equal_columns_of_iterations_stand_once() -> None:
    curves = data(explanation(("capacity", "length"), seeds=3))["curves"]
    assert len(curves["lines"]) == 12
    assert len(curves["places"]) == 2
    assert {line["x"] for line in curves["lines"]} == {0, 1}


# ---------------------------------------------------------------------------------------------
# The waterfall


@pytest.mark.parametrize("at", ALIGNMENTS)
@pytest.mark.parametrize("count", range(1, 8))
def test_the_waterfall_runs_from_the_controls_loss_to_the_tests(count: int, at: At) -> None:
    found = explanation(count, seeds=4, screened=("other",))
    part = found.division(at)
    control, *steps, test = waterfall.waterfall(found, at).bars
    assert (control.start, control.end, control.kind, control.interval) == (part.ends[0],) * 2 + ("control", None)
    assert test.end == part.ends[1]
    assert test.interval is not None
    assert part.common.ci is not None
    assert test.interval == pytest.approx([part.ends[0] + end for end in part.common.ci])
    level = control.end
    for bar, item in zip(steps, part.contributions, strict=False):
        assert item.ci is not None
        assert bar.interval == pytest.approx([level + end for end in item.ci])
        assert bar.start == level
        assert bar.end == pytest.approx(level + item.value)
        assert bar.kind == ("lower" if item.value < 0 else "higher")
        assert bar.sure is (item.verdict == "different")
        assert bar.label == division.amount(item.value)
        level = bar.end
    assert steps[-1].name == "screened out"
    assert steps[-1].end == pytest.approx(test.end, abs=1e-9)


def test_without_an_interval_a_bar_is_hollow_and_has_none() -> None:
    rows = waterfall.rows(waterfall.waterfall(explanation(2, seeds=1), "last"))
    assert all("low" not in row for row in rows)
    assert [row["fill"] for row in rows] == [waterfall.SOLID, waterfall.HOLLOW, waterfall.HOLLOW, waterfall.SOLID]


def values_of(value: object, name: str) -> Iterator[object]:
    """All values of a key, at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == name:
                yield inner
            yield from values_of(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from values_of(inner, name)


def test_fields_and_expressions_are_ours() -> None:
    body = data(hostile("datum['x']"))
    specs = [drawn["spec"] for drawn in body["waterfalls"].values()]
    for spec, fields in (*((spec, FIELDS) for spec in specs), (body["curves"]["spec"], CURVE_FIELDS)):
        assert {field for field in values_of(spec, "field") if isinstance(field, str)} <= fields
        assert set(map(str, values_of(spec, "expr"))) <= {"room", "room - 10"}
        assert not list(values_of(spec, "url"))
        assert "datum" not in json.dumps(spec)


@pytest.mark.parametrize("theme", vega.THEMES)
def test_vega_lite_accepts_it(theme: str, capfd: pytest.CaptureFixture[str]) -> None:
    body = data(explanation(4, screened=("schedule",)))
    falls = [drawn["spec"] | {"datasets": {"rows": drawn["rows"]}} for drawn in body["waterfalls"].values()]
    curves = body["curves"]["spec"] | {"datasets": {"rows": [{"arm": 0, "level": "test", "end": "no", "x": 1, "y": 2}]}}
    for spec in (*falls, curves):
        vl_convert.vegalite_to_vega(spec | {"config": body["themes"][theme]}, vl_version=vega.VEGA_LITE)
    assert "WARN" not in capfd.readouterr().err


def size(image: bytes) -> tuple[int, int]:
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", image[16:24])
    return width, height


def test_image(tmp_path: Path) -> None:
    show_image(explanation(4), tmp_path / "both.png")
    both = size((tmp_path / "both.png").read_bytes())
    one = size(waterfall.png(explanation(4, best_differs=False)))
    more = size(waterfall.png(explanation(6, best_differs=False)))
    assert both[1] > 1.9 * one[1]
    assert abs(more[1] - one[1] - 2 * 2 * waterfall.STEP) < 8
    assert abs(one[0] - 2 * (vega.WIDTH + 32)) < 100


@pytest.mark.parametrize("name", [*HOSTILE[:2], *HOSTILE[-7:]], ids=ascii)
def test_image_of_hostile_names(name: str) -> None:
    width, height = size(waterfall.png(hostile(name)))
    usual = size(waterfall.png(hostile("usual")))
    assert height == usual[1]
    assert width < 1.3 * usual[0]
    bar = waterfall.waterfall(hostile(name), "last").bars[1]
    assert len(bar.name) <= 62
    assert max(bar.name) < "\U00010000"


def test_nothing_to_draw() -> None:
    with pytest.raises(LossgapError) as error:
        waterfall.png(CASES["nothing yet"])
    assert error.value.slug == "no-chart"
    assert "no seed has ended" in str(error.value)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    for write in (show_page, show_image):
        with pytest.raises(LossgapError) as error:
            write(explanation(1), tmp_path / "no folder" / "out")
        assert error.value.slug == "not-written"


def test_the_colours_are_those_of_the_style() -> None:
    style = embed.resource("page.css")
    light, dark, printed = re.findall(r"--lower: (#\w+); --higher: (#\w+);", style)
    assert light == printed == tuple(waterfall.COLOURS["light"].values())
    assert dark == tuple(waterfall.COLOURS["dark"].values())


# ---------------------------------------------------------------------------------------------
# As it was


def test_the_page_is_as_it_was() -> None:
    """Its structure and words, without styles, scripts, hashes and the version. After a meant change write it anew.

    `PYTHONPATH=tests python -c "from report.test_explanation_page import renew; renew()"`, then read the difference.
    """
    assert scrubbed() == GOLD.read_text(encoding="utf-8")


def scrubbed() -> str:
    found = explanation(
        ("capacity", "length"),
        seeds=3,
        noise=0.02,
        control="control's <log>",
        test="test & log",
        screened=("optimizer",),
        failed=1,
        complete=False,
        notes=("a note",),
    )
    text = rendered(found)
    text = re.sub(r"<style>.*?</style>", "<style></style>", text, flags=re.DOTALL)
    text = re.sub(r"(<script[^>]*>).*?</script>", r"\1</script>", text, flags=re.DOTALL)
    text = re.sub(r"sha256-[^&]+", "sha256-HASH", text)
    return re.sub(r"lossgap \d+\.\d+\.\d+", "lossgap VERSION", text)


def renew() -> None:
    GOLD.write_text(scrubbed(), encoding="utf-8")


def test_bars_stay_inside_the_plot() -> None:
    found = explanation(7, seeds=4)
    drawn = waterfall.waterfall(found, "last")
    spec: Any = waterfall.spec(drawn)
    low, high = spec["layer"][0]["encoding"]["x"]["scale"]["domain"]
    for row in waterfall.rows(drawn):
        for name in ("start", "end", "low", "high"):
            assert low < float(str(row.get(name, row["end"]))) < high


def test_torch_and_vega_are_loaded_when_needed_only() -> None:
    names = "explanation_document, explanation_view, price_view, waterfall"
    code = (
        f"import sys; from lossgap.report import {names}; sys.exit(bool({{'torch', 'vl_convert'}} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
