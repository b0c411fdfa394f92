"""The page of a replay as text, its specifications and its image. In a browser: test_replay_page_browser."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import vl_convert

from lossgap.errors import LossgapError
from lossgap.parity.replay_result import Replay
from lossgap.parity.steps import Steps
from lossgap.report import html, replay_chart, show, vega
from lossgap.strangers import visible
from report.hostile import HOSTILE
from report.replayed import CASES, check, envelope, hostile, replay
from report.test_page import blocks, tags

PLACE_FIELDS = {"iteration", "recorded", "replayed", "difference", "low", "high", "first"}
LAYER_FIELDS = {"place", "ratio", "direction", "verdict", "label", "side"}


def rendered(found: Replay) -> str:
    return html.render(show.views([found]))


def data(found: Replay) -> Any:
    """The rows that the scripts draw: `places` of the losses, `layers`."""
    losses, layers = (json.loads(block) for block in blocks(rendered(found)))
    return {"places": losses["rows"], "layers": layers["rows"], "specs": [losses["specs"], layers["spec"]]}


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_text_changes_no_element(name: str) -> None:
    harmless = tags(rendered(hostile("harmless")))
    text = rendered(hostile(name))
    assert tags(text).tags == harmless.tags
    assert visible(name)[:100] in unescape(text)


@pytest.mark.parametrize("name", CASES)
def test_every_case_is_a_page_whose_data_have_our_fields_only(name: str) -> None:
    found = data(CASES[name])
    assert {key for row in found["places"] for key in row} <= PLACE_FIELDS
    assert {key for row in found["layers"] for key in row} <= LAYER_FIELDS
    assert "NaN" not in json.dumps(found)


@pytest.mark.parametrize("name", CASES)
def test_specifications_are_drawn(name: str) -> None:
    image = replay_chart.png(CASES[name])
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", image[16:24])
    assert width > 1000
    assert height > 1500


def test_specifications_compile_without_a_warning() -> None:
    found = CASES["step"]
    rows = {"places": replay_chart.places(found), "layers": replay_chart.layer_rows(found)}
    for spec in (replay_chart.difference(found), replay_chart.losses(), replay_chart.layers()):
        whole = spec | {"datasets": rows, "config": replay_chart.config("dark")}
        assert vl_convert.vegalite_to_vega(whole, vl_version=vega.VEGA_LITE)


def test_a_difference_far_outside_is_drawn_beside_the_envelope() -> None:
    small = replay_chart.difference(CASES["part by rounding"])["layer"]
    large = replay_chart.difference(CASES["at the start"])["layer"]
    assert "symlog" not in json.dumps(small)
    assert "symlog" in json.dumps(large)


def test_long_stretches_are_thinned_but_keep_the_departure() -> None:
    found = replay()
    place = found.trajectory.places[0]
    places = tuple(replace(place, iteration=n, replayed=place.recorded + (n >= 5001)) for n in range(9000))
    parts = replace(found.trajectory, places=places, envelope=envelope(count=9000))
    rows = replay_chart.places(replace(found, trajectory=parts))
    assert len(rows) <= replay_chart.MOST_PLACES + 1
    assert [row["iteration"] for row in rows if "first" in row] == [5001]


def test_errors_without_a_ratio_have_a_place() -> None:
    found = replay(
        found=[
            check("zero", "forward", 0.0),
            check("forbidden", "forward", 0.5, "out of bounds", allowed=0.0),
            check("nan", "backward", None, "out of bounds"),
            check("silent", "backward", None, "not judged"),
        ]
    )
    rows = replay_chart.layer_rows(found)
    assert [row["ratio"] for row in rows] == [replay_chart.LEAST_RATIO, 10.0, 10.0]
    assert [row.get("label") for row in rows] == [None, "forbidden", None]


def test_the_page_has_all_numbers_without_javascript() -> None:
    text = unescape(rendered(CASES["step"]))
    for said in ("4.17", "+0.01", "±2e-06", "outside", "0.33", "6e-07", "out of bounds", "AVX512"):
        assert said in text
    assert "the first difference is in the output of transformer.h.0.ln_1" in text


def test_an_unwritable_file_is_one_line(tmp_path: Path) -> None:
    for write in (show.write_page, show.write_image):
        with pytest.raises(LossgapError) as caught:
            write([CASES["equivalent"]], tmp_path / "missing" / "page.html")
        assert caught.value.slug == "not-written"


def test_many_layers_are_cut_and_counted() -> None:
    many = [check(f"layer {n}", "forward", 1e-7) for n in range(1200)]
    found = replace(replay(), steps=Steps(arithmetic="float32", checks=tuple(many)))
    assert "Table of the first 1,000 of 1,200 values" in rendered(found)
