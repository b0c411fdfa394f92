"""A `Forecast` as JSON: `lossgap.forecast/1`, whose schema ships as `schemas/forecast.schema.json`."""

from __future__ import annotations

from lossgap.forecasting.back_test import BackTest
from lossgap.forecasting.forecast import Forecast, SeriesForecast
from lossgap.report.json_values import Json, finite, with_why
from lossgap.strangers import visible
from lossgap.version import __version__

SCHEMA = "lossgap.forecast/1"
NOT_ASKED = "no --target was given"


def document(found: Forecast) -> Json:
    """The document of one forecast."""
    values: Json = {"passes": finite(found.passes)}
    return with_why(
        {
            "schema": SCHEMA,
            "lossgap": __version__,
            "run": visible(found.run),
            "runs": found.runs,
            "iter": found.target,
            "last_iter": found.last_iter,
            "schedule": found.schedule,
            "rates_known": found.rates_known,
            "prior": found.prior,
            "unit": "nats/token",
            "val": _series(found.val),
            "train": _series(found.train),
            "notes": list(found.notes),
            **values,
        },
        {"passes": "the size of the train split, or the tokens of an iteration, are not in the record"},
    )


def _series(item: SeriesForecast) -> Json:
    fan = item.fan
    values: Json = {
        "last_iter": finite(item.last_iter),
        "last_loss": finite(item.last_loss),
        "measured": item.measured,
        "loss": finite(item.loss),
        "low": finite(item.low),
        "high": finite(item.high),
        "lowest": None if item.lowest is None else {"iter": item.lowest.iter, "loss": item.lowest.loss},
        "reaching": _reaching(item),
        "widening": item.widening,
        "back_tests": [_test(test) for test in item.back_tests],
        "law": None if not item.law else dict(item.law),
        "fan": None
        if fan is None
        else {name: getattr(fan, name).round(6).tolist() for name in ("iters", "mean", "low", "high")},
    }
    why = item.why or ("the run has been there" if item.measured else "")
    reasons = {name: why for name in ("last_iter", "last_loss", "loss", "low", "high", "law", "fan") if why}
    reasons |= {"lowest": why or "the forecast has no minimum before its end", "reaching": why or NOT_ASKED}
    return with_why(values, reasons)


def _reaching(item: SeriesForecast) -> Json | None:
    found = item.reaching
    if found is None:
        return None
    values: Json = {
        "target": found.target,
        "expected": finite(found.expected),
        "earliest": finite(found.earliest),
        "latest": finite(found.latest),
        "within": found.within,
    }
    return with_why(values, dict.fromkeys(values, f"not by iteration {found.within:,.0f}"))


def _test(test: BackTest) -> Json:
    return {
        "seen_until": test.seen_until,
        "at": test.at,
        "forecast": test.forecast,
        "low": test.low,
        "high": test.high,
        "measured": test.measured,
        "inside": test.inside,
    }
