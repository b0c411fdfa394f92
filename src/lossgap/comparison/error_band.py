"""The sampling error along the compared curve of a run, for the band that a chart draws around it.

for band in error_bands(control, test, metric):
    band.errors          # (n,) standard errors, one for each point of the curve; None where they are not known
    band.each            # True: measured at each evaluation; False: estimated for the last one, and held for all
    band.part.how        # in words, where the error comes from, or why there is none
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lossgap.comparison.curve import Curve, Floats
from lossgap.comparison.facts import Facts
from lossgap.comparison.metric import Metric
from lossgap.comparison.noise import Part, evaluation


@dataclass(frozen=True, eq=False, kw_only=True)
class ErrorBand:
    """The standard errors of one run's evaluations, in the unit of the metric."""

    part: Part
    """The error of one evaluation: of the last that has a measured one, else of the last."""
    each: bool
    """True where the record has an error for each evaluation."""
    errors: Floats | None
    """(n,), NaN where a point has none; None if the error is unknown, or zero as the evaluations are exact."""


def error_bands(control: Facts, test: Facts, metric: Metric) -> tuple[ErrorBand, ErrorBand]:
    """The bands of the control and the test around the curves of `metric`."""
    return (
        _error_band("control", control, metric.control, metric.control_factor),
        _error_band("test", test, metric.test, metric.test_factor),
    )


def _error_band(label: str, facts: Facts, curve: Curve, factor: float) -> ErrorBand:
    known = np.isfinite(curve.errors)
    if known.any():
        at = curve.point(int(np.flatnonzero(known)[-1]))
        return ErrorBand(part=evaluation(label, facts, at, curve, factor), each=True, errors=curve.errors)
    part = evaluation(label, facts, curve.last, curve, factor)
    errors = np.full(len(curve), part.standard_error) if part.standard_error else None
    return ErrorBand(part=part, each=False, errors=errors)
