"""The curves of the chart, its specification and its image."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import vl_convert
from comparison import made
from hypothesis import given
from hypothesis import strategies as st

from lossgap.comparison import Comparison, compare
from lossgap.comparison.metric import Metric
from lossgap.comparison.noise import evaluation
from lossgap.errors import LossgapError
from lossgap.report import chart, vega
from lossgap.report.curves import AXES, BAND, Curves, curves, thin
from lossgap.runs.run import ITER_COLUMNS, Series
from report.hostile import HOSTILE

FIELDS = {"run", "kind", "part", "x", "y", "low", "high", "label"}


def pair(**fields: object) -> Comparison:
    losses = {at: 4.17 - at / 1000 for at in range(0, 2001, 10)}
    first = made.run(made.curve(1.88), ms=40.0, losses=losses, **fields)  # type: ignore[arg-type]  # of `made.run`
    second = made.run(made.curve(1.60, last=4000), ms=20.0, losses=losses)
    return compare(first, second, rules=())


@given(
    st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=400).map(np.array),
    st.integers(4, 60),
)
def test_thin(values: np.ndarray[tuple[int], np.dtype[np.float64]], points: int) -> None:
    kept = thin(values, points)
    assert len(kept) <= max(points, 4)
    assert (np.diff(kept) > 0).all()
    assert {0, len(values) - 1, int(values.argmin()), int(values.argmax())} <= set(kept.tolist())
    if len(values) <= points:
        assert len(kept) == len(values)


def test_lines_on_all_axes() -> None:
    drawn = curves(pair())
    assert [axis.name for axis in drawn.axes if not axis.why] == list(AXES)
    kinds = [(line.run, line.kind) for line in drawn.lines]
    assert kinds == [(side, kind) for side in ("control", "test") for kind in ("compared", "train", "iters", "rate")]
    control, test = drawn.of("compared")
    assert control.y.tolist() == list(made.curve(1.88).values())
    assert control.x["tokens"].tolist() == [768 * at for at in made.curve(1.88)]
    assert control.x["seconds"][-1] == pytest.approx(80.0)
    assert test.x["iterations"][-1] == 4000
    # Its iterations end at 2,000: what took longer is not known.
    assert np.isnan(test.x["seconds"][-1])
    assert [(mark.run, mark.y, mark.iter) for mark in drawn.best] == [("control", 1.88, 2000), ("test", 1.6, 4000)]
    assert drawn.best[1].x["seconds"] is None


def test_best_and_last_are_apart() -> None:
    vals = made.curve(1.5) | {2000: 1.9}
    found = compare(made.run(vals), made.run(made.curve(1.88)), rules=())
    drawn = curves(found)
    assert [(mark.y, mark.iter) for mark in (drawn.best[0], drawn.last[0])] == [(vals[1750], 1750), (1.9, 2000)]
    labels = [(mark["run"], mark["kind"], mark["label"]) for mark in chart.payload(drawn)["marks"]]
    assert ("control", "best", f"best {vals[1750]:.4f}") in labels
    assert ("test", "best", "") in labels


def test_the_band_is_two_standard_errors() -> None:
    found = pair()
    control, _ = curves(found).of("compared")
    metric, last = found.alignment.metric, found.alignment.row("last").control
    assert isinstance(metric, Metric)
    assert last is not None
    part = evaluation("control", found.control, last, metric.control)
    assert part.standard_error is not None
    assert control.error.tolist() == [pytest.approx(BAND * part.standard_error)] * len(control.y)
    run = found.control.run
    errors = [0.01 * at for at in range(run.evals.height)]
    measured = replace(run, evals=run.evals.with_columns(val_se=pl.Series(errors)))
    again = curves(compare(measured, found.test.run, rules=()))
    assert again.of("compared")[0].error.tolist() == pytest.approx([2 * error for error in errors])
    assert any("Band of control: ± 2 standard errors of an evaluation, measured" in note for note in again.notes)
    few = {name: value for name, value in made.LAPTOP.items() if name != "eval_iters"}
    without = curves(compare(made.run({0: 4.0, 100: 3.0}, config=few), found.test.run, rules=()))
    assert np.isnan(without.of("compared")[0].error).all()
    assert any(note.startswith("No noise band for control: ") for note in without.notes)


def test_learning_rates_as_logged_else_by_the_schedule() -> None:
    found = pair()
    scheduled = curves(found).of("rate")[0]
    assert scheduled.y.max() == pytest.approx(1e-3)
    assert scheduled.x["iterations"][scheduled.y.argmax()] == 100
    assert scheduled.y[-1] == pytest.approx(1e-4)
    rows = [{"iter": at, "loss": 3.0, "lr": 0.5 / (1 + at)} for at in range(5)]
    logged = replace(found.control.run, iters=made.table(ITER_COLUMNS, rows))
    line = curves(compare(logged, found.test.run, rules=())).of("rate")[0]
    assert line.y.tolist() == [0.5 / (1 + at) for at in range(5)]
    none = {name: value for name, value in made.LAPTOP.items() if name != "learning_rate"}
    drawn = curves(compare(made.run(made.curve(1.9), config=none), found.test.run, rules=()))
    assert [item.run for item in drawn.of("rate")] == ["test"]
    assert "Learning rate of control not drawn: learning_rate is not in the record." in drawn.notes


def test_losses_of_another_unit_are_not_drawn_beside() -> None:
    series = made.PRINTED | {"iters.loss": Series(kind="batch", split="train", mode="train", unit="bits/byte")}
    drawn = curves(pair(series=series))
    assert [(item.run, item.kind) for item in drawn.lines if item.run == "control"] == [
        ("control", "compared"),
        ("control", "train"),
        ("control", "rate"),
    ]


def test_unknown_axes_say_why() -> None:
    config = {name: value for name, value in made.LAPTOP.items() if name != "batch_size"}
    drawn = curves(compare(made.run(made.curve(1.9)), made.run(made.curve(1.6), config=config), rules=()))
    reasons = {axis.name: axis.why for axis in drawn.axes}
    assert reasons["iterations"] == ""
    assert reasons["tokens"] == reasons["flops"] == "test: batch_size is not in the record"
    assert list(chart.payload(drawn)["specs"]) == ["iterations"]
    assert all(list(line.x) == ["iterations"] for line in drawn.lines)


def test_a_scale_that_is_a_factor_is_sent_as_one() -> None:
    data = chart.payload(curves(pair()))
    (line,) = [item for item in data["lines"] if (item["run"], item["kind"]) == ("control", "compared")]
    assert line["x"]["tokens"] == 768
    assert isinstance(line["x"]["iterations"], list)
    for axis in ("tokens", "seconds"):
        rows = [row for row in chart.datasets(data, axis, whole=True)["lines"] if row["kind"] == "compared"]
        drawn = curves(pair()).of("compared")
        places = [x for item in drawn for x in item.x[axis].tolist() if np.isfinite(x)]
        assert [row["x"] for row in rows] == pytest.approx(places)


# ---------------------------------------------------------------------------------------------
# The specification


def values_of(spec: object, name: str) -> Iterator[object]:
    """All values of a key, at any depth."""
    if isinstance(spec, dict):
        for key, value in spec.items():
            if key == name:
                yield value
            yield from values_of(value, name)
    elif isinstance(spec, list):
        for item in spec:
            yield from values_of(item, name)


def filtered(spec: object) -> set[object]:
    return {item for item in values_of(spec, "field") if isinstance(item, str)}


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_names_are_no_part_of_the_specification(name: str) -> None:
    harmless, hostile = curves(pair()), curves(pair(name=name, config=made.LAPTOP | {name: name}, device=name))
    assert chart.payload(hostile) == chart.payload(harmless)


def test_fields_and_expressions_are_ours() -> None:
    for axis, scales in chart.payload(curves(pair()))["specs"].items():
        assert set(scales) == {"linear", "log"}
        for spec in scales.values():
            assert filtered(spec) <= FIELDS
            assert set(map(str, values_of(spec, "expr"))) == {"datum.dy"}
            assert set(map(str, values_of(spec, "labelExpr"))) == {"datum.value === 0 ? '0' : datum.label"}
            assert not list(values_of(spec, "url"))
            assert AXES[axis] in map(str, values_of(spec, "title"))


@pytest.mark.parametrize("scale", chart.SCALES)
def test_vega_lite_accepts_it(scale: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = chart.payload(curves(pair()))
    for axis, specs in data["specs"].items():
        whole = {**specs[scale], "datasets": chart.datasets(data, axis, scale), "config": data["themes"]["dark"]}
        compiled = vl_convert.vegalite_to_vega(whole, vl_version=vega.VEGA_LITE)
        json.dumps(compiled)
    assert "WARN" not in capfd.readouterr().err


def test_log_scale_leaves_out_what_it_cannot_show() -> None:
    found = pair()
    run = replace(found.control.run, iters=made.run({}, losses={0: 4.0, 5: -0.5, 10: 0.0}).iters)
    data = chart.payload(curves(compare(run, found.test.run, rules=())))
    linear, log = (chart.datasets(data, "iterations", scale, whole=True)["lines"] for scale in chart.SCALES)
    assert len(linear) - len(log) == 2
    assert all(float(str(row.get("low", 1))) > 0 for row in log)


# ---------------------------------------------------------------------------------------------
# The image


def size(image: bytes) -> tuple[int, int]:
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", image[16:24])
    return width, height


def test_image() -> None:
    one = size(chart.png([pair()]))
    two = size(chart.png([pair(), pair()]))
    assert one[0] >= 2 * vega.WIDTH
    assert two[0] == one[0]
    assert 1.9 * one[1] < two[1] < 2.1 * one[1]


@pytest.mark.parametrize("name", [*HOSTILE[:2], *HOSTILE[-7:]], ids=ascii)
def test_image_of_hostile_names(name: str) -> None:
    width, height = size(chart.png([pair(name=name)]))
    usual = size(chart.png([pair()]))
    assert height == usual[1]
    assert width < 1.2 * usual[0]


@pytest.mark.parametrize(
    ("places", "holes"),
    [
        (range(0, 2001, 250), []),
        ([0, 250, 500, 750, 1000, 1750, 2000], []),
        ([0, 250, 500, 750, 1000, 2000, 2250], [(1000, 2000)]),
        ([0, 5000], [(0, 5000)]),
        ([0, 1000, 2000], [(0, 1000), (1000, 2000)]),
        ([5000], []),
    ],
)
def test_a_hole_in_the_evaluations_is_no_solid_line(places: Sequence[int], holes: list[tuple[int, int]]) -> None:
    """Dotted where two points lie more than three times the usual distance apart, and between too few to know it."""
    values = {at: 2.0 + at % 7 / 100 for at in places}
    found = compare(made.run(values), made.run(made.curve(1.6)), rules=())
    rows = chart.datasets(chart.payload(curves(found)), "iterations", whole=True)["lines"]
    control = [row for row in rows if row["run"] == "control"]
    dotted = [row["x"] for row in control if row["kind"] == "hole"]
    assert list(zip(dotted[::2], dotted[1::2], strict=True)) == holes
    solid = [row for row in control if row["kind"] == "compared"]
    assert [row["x"] for row in solid] == list(places)
    parts = {row["x"]: row["part"] for row in solid}
    assert all((parts[start] == parts[end]) == ((start, end) not in holes) for start, end in pairwise(places))


def test_the_chart_opens_behind_the_first_fall() -> None:
    data = chart.payload(curves(pair()))
    shown, whole = (
        [row for row in chart.datasets(data, "iterations", whole=all)["lines"] if row["kind"] == "compared"]
        for all in (False, True)
    )
    assert max(float(str(row["y"])) for row in whole) == 4.17
    assert max(float(str(row["y"])) for row in shown) < 1.6 + 0.3 * (4.17 - 1.6)
    assert {row["run"] for row in shown} == {"control", "test"}
    assert data["late"].keys() == {"iterations", "tokens", "passes", "flops", "seconds"}


def test_a_run_that_ends_early_stays_on_the_chart() -> None:
    """On an axis where one run ends before the other has left its fall behind, the chart begins where both are seen."""
    short, long = made.run(made.curve(1.9, last=400, step=50)), made.run(made.curve(1.6, last=40_000, step=2500))
    data = chart.payload(curves(compare(short, long, rules=())))
    rows = [row for row in chart.datasets(data, "iterations")["lines"] if row["kind"] == "compared"]
    assert sum(row["run"] == "control" for row in rows) >= 3


def test_nothing_to_draw() -> None:
    found = compare(made.run(made.curve(1.9)), made.run({}, losses={0: 4.0, 100: 3.0}), rules=())
    assert isinstance(curves(found), Curves)
    with pytest.raises(LossgapError) as error:
        chart.png([found])
    assert error.value.slug == "no-chart"
    assert size(chart.png([found, pair()])) == size(chart.png([pair()]))


def test_torch_and_vega_are_loaded_when_needed_only() -> None:
    code = "import sys, lossgap.report.comparison_view; sys.exit('torch' in sys.modules or 'vl_convert' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
