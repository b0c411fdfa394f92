"""A `Forecast` as a view: the loss at the iteration that was asked for, how sure that is, and what it rests on."""

from __future__ import annotations

from lossgap.forecasting.back_test import CUTS, BackTest
from lossgap.forecasting.forecast import Forecast, Reaching, SeriesForecast
from lossgap.report import forecast_chart
from lossgap.report.blocks import Block, Fold, Grid, GridColumn, Headline, Labelled, Paragraphs, Subject, View
from lossgap.report.forecast_document import document as forecast_document
from lossgap.report.json_values import Json
from lossgap.report.words import cut
from lossgap.strangers import visible

NAME = 40
TITLES = {"val_loss": "val loss", "train_loss": "train loss"}
COLUMNS = (
    GridColumn(name="loss"),
    GridColumn(name="last seen", number=True),
    GridColumn(name="then", number=True),
    GridColumn(name="90% interval"),
    GridColumn(name="how", prose=True, drop=2),
)
TESTED = (
    GridColumn(name="seen until", number=True),
    GridColumn(name="forecast", number=True),
    GridColumn(name="90% interval"),
    GridColumn(name="measured", number=True),
    GridColumn(name="error", number=True),
    GridColumn(name="held"),
)


def view(found: Forecast) -> View:
    """The answer, the back-tests behind it, and the chart."""
    main = found.main
    first: list[Block] = [Headline(headline(found), then=_second(found))]
    if not (found.val.why and found.train.why):
        first.append(Grid(columns=COLUMNS, rows=tuple(_row(item) for item in (found.val, found.train))))
        first.append(Labelled(rows=_basis(found)))
        first.append(_tested(main))
    if found.notes:
        first.append(Paragraphs(lines=found.notes, look="warning", bullets=len(found.notes) > 1))
    first.append(forecast_chart.block(found))
    return View(
        title=f"{cut(found.run, NAME)} at iteration {found.target:,}",
        kicker="forecast",
        subjects=(Subject(name=found.run),),
        first=tuple(first),
        rest=(_law(found),),
    )


def headline(found: Forecast) -> str:
    """The answer in one sentence."""
    who = cut(visible(found.run), NAME) if found.runs == 1 else f"The mean of {found.runs} runs"
    main = found.main
    if main.loss is None or main.low is None or main.high is None:
        return f"Cannot forecast from {who}: {found.val.why or main.why}."
    title = TITLES[main.name]
    if main.measured:
        return f"{who} has been at iteration {found.target:,}: its {title} there is {main.loss:.4f}."
    return (
        f"At iteration {found.target:,} the {title} of {who} is expected at {main.loss:.3f} "
        f"(90%: {main.low:.3f} to {main.high:.3f}); it was {main.last_loss:.3f} at {main.last_iter:,.0f}."
    )


def _second(found: Forecast) -> str:
    main = found.main
    said = []
    if main.reaching is not None:
        said.append(reaching(main.reaching, TITLES[main.name]))
    if main.lowest is not None and main.name == "val_loss":
        said.append(
            f"The val loss is lowest near iteration {main.lowest.iter:,.0f}, at {main.lowest.loss:.3f}, then rises."
        )
    return " ".join(said)


def reaching(item: Reaching, title: str) -> str:
    """When a loss is reached, in a sentence."""
    if item.expected is None:
        if item.earliest is None:
            return f"A {title} of {item.target:g} is not within reach by iteration {item.within:,.0f}."
        return (
            f"A {title} of {item.target:g} is not expected by iteration {item.within:,.0f}; at the earliest, from "
            f"{item.earliest:,.0f} on."
        )
    if item.earliest == item.latest:
        return f"The {title} was first at or below {item.target:g} at iteration {item.expected:,.0f}."
    latest = f"{item.latest:,.0f}" if item.latest is not None else f"after {item.within:,.0f} or never"
    interval = f"90%: {item.earliest:,.0f} to {latest}"
    return f"A {title} of {item.target:g} is expected near iteration {item.expected:,.0f} ({interval})."


def _row(item: SeriesForecast) -> tuple[str, ...]:
    last = "" if item.last_loss is None else f"{item.last_loss:.4f}"
    if item.loss is None or item.low is None or item.high is None:
        return (TITLES[item.name], last, "unknown", "", f"cannot: {item.why}")
    how = "its own value" if item.measured else "forecast"
    return (TITLES[item.name], last, f"{item.loss:.4f}", f"{item.low:.3f} to {item.high:.3f}", how)


def _basis(found: Forecast) -> tuple[tuple[str, str], ...]:
    passes = "" if found.passes is None else f"; {found.passes:.3g} passes over the data then"
    return (("schedule", f"{found.schedule}{passes}"),)


def _tested(item: SeriesForecast) -> Block:
    """The back-tests of the loss that the answer is about."""
    title = "tested"
    if item.measured:
        return Paragraphs(lines=("Nothing is forecast: the run has been there.",), title=title, look="dim")
    if not item.back_tests:
        return Paragraphs(
            lines=("None: the run is too short to forecast its own end, so the interval is the law's alone.",),
            title=title,
        )
    held = sum(test.inside for test in item.back_tests)
    said = f"The run's own end from its beginning: {held} of {len(item.back_tests)} intervals held it"
    wide = f"; the interval above is {item.widening:.2f} times the law's own." if item.widening != 1 else "."
    return Grid(
        columns=TESTED, rows=tuple(_test_row(test) for test in item.back_tests), title=title, notes=(said + wide,)
    )


def _test_row(test: BackTest) -> tuple[str, ...]:
    off = test.forecast - test.measured
    interval = f"{test.low:.3f} to {test.high:.3f}"
    return (
        f"{test.seen_until:,.0f}",
        f"{test.forecast:.4f}",
        interval,
        f"{test.measured:.4f}",
        f"{off:+.4f}",
        "yes" if test.inside else "no",
    )


def _law(found: Forecast) -> Block:
    """How it was made, and the parameters."""
    rows = [
        (f"{TITLES[item.name]}", ", ".join(f"{name} {value:.3g}" for name, value in item.law.items()))
        for item in (found.val, found.train)
        if item.law
    ]
    how = (
        "A power of the area under the rate, less what annealing takes off (arXiv:2408.11029, arXiv:2503.12811), plus "
        f"a penalty for each repeated pass (arXiv:2605.01640); prior: {found.prior}. Back-tests see "
        f"{', '.join(f'{part:.0%}' for part in CUTS)} of the run. docs/forecast.md says where this fails."
    )
    return Fold("How it was made", (Paragraphs(lines=(how,)), *([Labelled(rows=tuple(rows))] if rows else [])))


def document(found: Forecast) -> Json:
    """The JSON document: `lossgap.forecast/1`."""
    return forecast_document(found)


def image(found: Forecast) -> bytes:
    """The chart as a PNG. Raises LossgapError `no-chart`, `chart-failed`."""
    return forecast_chart.png(found)
