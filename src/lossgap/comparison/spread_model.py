"""How far the last losses of a recipe lie apart over seeds, concluded from the scale of the recipe.

    log sd = a + b log tokens + c log parameters + d log rate

fitted to the groups of repeated runs in `spread_bank.json`. Each group's log sd has the variance t^2 + 1 / (2 (n - 1)):
t is how far recipes of one scale differ, the other part is what n runs know (the delta method); weights and t^2 are
iterated, t^2 by moments (DerSimonian and Laird 1986). A prediction is a scaled inverse chi-square distribution of the
variance with the same mean and variance of log sd (Smyth 2004, as in limma): its degrees of freedom are few, so an
interval that uses it is wide, and a measured sd is combined with it by its own degrees of freedom.

Three fits, the first whose settings are known and near measured ones counts: tokens, parameters and rate (AdamW only);
tokens and parameters; iterations alone. Beyond a factor of `REACH` outside what was measured nothing is predicted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np

from lossgap.comparison.curve import Floats
from lossgap.comparison.facts import Facts
from lossgap.runs.values import as_float, as_int, as_list, as_mapping, as_text

Scale = Literal["tokens", "parameters", "rate", "iterations"]
FITS: tuple[tuple[Scale, ...], ...] = (("tokens", "parameters", "rate"), ("tokens", "parameters"), ("iterations",))
REACH = 4.0
"""How far outside the measured range of each scale a prediction goes, as a factor. A choice."""
LEAST_BETWEEN = 0.35
"""t at least: recipes of one scale differ by a third or more. A choice, so that few groups cannot agree by luck."""
LEAST_RUNS = 8
"""Groups of fewer runs are kept in the bank, and left out of the fits: where one seed in fifteen stays on a plateau for
longer, the standard deviation of three or four runs seldom holds it, and is too small by a factor of 3 to 5."""
CONFIDENCE_BOUND = 1.96


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One group of repeated runs: sd of the last val loss in nats per token, over n runs."""

    id: str
    n: int
    sd: float
    scales: dict[Scale, float]
    source: str


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The spread that recipes of a scale have: a variance with few degrees of freedom."""

    sd: float
    df: float
    how: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Fit:
    """One regression."""

    names: tuple[Scale, ...]
    coefficients: Floats
    covariance: Floats
    between: float
    """t: the standard deviation of log sd among recipes of one scale."""
    low: Floats
    high: Floats
    groups: int

    def inside(self, scales: dict[Scale, float]) -> bool:
        """True if all scales are known and near measured ones."""
        if any(name not in scales for name in self.names):
            return False
        x = np.log([scales[name] for name in self.names])
        reach = math.log(REACH)
        return bool((x >= self.low - reach).all() and (x <= self.high + reach).all())

    def predict(self, scales: dict[Scale, float]) -> tuple[float, float]:
        """Mean of log sd, and its standard deviation for a new recipe."""
        x = np.array([1.0, *(math.log(scales[name]) for name in self.names)])
        return float(x @ self.coefficients), math.sqrt(self.between**2 + float(x @ self.covariance @ x))


@dataclass(frozen=True, eq=False, kw_only=True)
class SpreadModel:
    """All fits, and the widest spread that was measured."""

    fits: tuple[Fit, ...]
    widest: float

    def predict(self, facts: Facts) -> Prediction | None:
        """The prediction of the first fit that covers the recipe's scale; None beyond all fits."""
        scales = scales_of(facts)
        fit = next((item for item in self.fits if item.inside(scales)), None)
        if fit is None:
            return None
        mean, deviation = fit.predict(scales)
        sd, df = inverse_chi_square(mean, deviation)
        said = ", ".join(f"{scales[name]:.3g} {name}" for name in fit.names)
        how = (
            f"predicted from {said} by {fit.groups} groups of repeated runs: {math.exp(mean):.2g}, within a factor of "
        )
        return Prediction(sd=sd, df=df, how=f"{how}{math.exp(CONFIDENCE_BOUND * deviation):.1f}")

    def bound(self, facts: Facts) -> tuple[float, str]:
        """The value that a spread beyond the fits is taken not to exceed, and why.

        More tokens than measured: the upper 97.5% at the most tokens that were, as spreads fall with the length.
        Else the widest spread that was measured.
        """
        scales = scales_of(facts)
        for fit in self.fits:
            if any(name not in scales for name in fit.names) or "rate" in fit.names:
                continue
            x = np.log([scales[name] for name in fit.names])
            if (x >= fit.low).all():
                at = dict(zip(fit.names, np.exp(np.minimum(x, fit.high)).tolist(), strict=True))
                mean, deviation = fit.predict(at)
                value = min(self.widest, math.exp(mean + CONFIDENCE_BOUND * deviation))
                return value, "the upper end for the longest trainings that were measured; longer ones spread less"
        return self.widest, "the widest spread of any group that was measured"


def scales_of(facts: Facts) -> dict[Scale, float]:
    """The known scales of a run. The rate only for AdamW: that of other optimizers means something else."""
    found: dict[Scale, float] = {}
    iters = facts.max_iters.value or facts.last_iter
    if iters:
        found["iterations"] = float(iters)
    if iters and facts.tokens_per_iter.value:
        found["tokens"] = float(iters) * facts.tokens_per_iter.value
    if facts.n_params.value:
        found["parameters"] = float(facts.n_params.value)
    rate = facts.learning_rate.value
    if rate and rate > 0 and facts.run.format != "modded-nanogpt":
        found["rate"] = float(rate)
    # A hostile record may say anything; only positive sizes have a logarithm.
    return {name: value for name, value in found.items() if 0 < value < 1e30}


def inverse_chi_square(mean: float, deviation: float) -> tuple[float, float]:
    """(sd, df) of the scaled inverse chi-square variance whose log sd has this mean and standard deviation.

    Var(log s^2) = trigamma(df / 2), E(log s^2) = log s0^2 + log(df / 2) - digamma(df / 2) (Smyth 2004, section 6.2).
    """
    from scipy.optimize import brentq  # loaded when needed: it takes longer than the rest together
    from scipy.special import polygamma, psi

    target = 4 * deviation**2
    half = float(brentq(lambda x: float(polygamma(1, x)) - target, 1e-2, 1e6))
    return math.exp(mean + (float(psi(half)) - math.log(half)) / 2), max(1.0, 2 * half)


def fit(groups: Sequence[Measured], names: tuple[Scale, ...]) -> Fit | None:
    """The regression over the groups that have these scales; None with fewer than twice as many as coefficients."""
    used = [item for item in groups if item.n >= LEAST_RUNS and all(name in item.scales for name in names)]
    if len(used) < 2 * (len(names) + 1):
        return None
    x = np.array([[math.log(item.scales[name]) for name in names] for item in used])
    design = np.column_stack([np.ones(len(used)), x])
    within = np.array([1 / (2 * (item.n - 1)) for item in used])
    # The sd of few runs is too small on average, and its logarithm by half its variance.
    y = np.log([item.sd for item in used]) + within / 2
    between = 0.5
    for _ in range(100):
        weights = 1 / (within + between**2)
        inverse = np.linalg.inv(design.T @ (weights[:, None] * design))
        coefficients = inverse @ (design.T @ (weights * y))
        residual = y - design @ coefficients
        excess = float(weights @ residual**2) - (len(used) - design.shape[1])
        new = math.sqrt(max(LEAST_BETWEEN**2, between**2 + excess / float(weights.sum())))
        if abs(new - between) < 1e-6:
            break
        between = new
    return Fit(
        names=names,
        coefficients=coefficients,
        covariance=inverse,
        between=between,
        low=x.min(axis=0),
        high=x.max(axis=0),
        groups=len(used),
    )


@cache
def bank() -> tuple[Measured, ...]:
    """The shipped groups."""
    text = resources.files("lossgap.comparison").joinpath("spread_bank.json").read_text(encoding="utf-8")
    return tuple(_measured(as_mapping(item)) for item in as_list(as_mapping(json.loads(text)).get("groups")))


@cache
def model() -> SpreadModel:
    """The model of the shipped groups."""
    return fitted(bank())


def fitted(groups: Sequence[Measured]) -> SpreadModel:
    """The model of these groups."""
    fits = tuple(found for names in FITS if (found := fit(groups, names)) is not None)
    return SpreadModel(fits=fits, widest=max((item.sd for item in groups), default=math.inf))


def _measured(item: dict[str, object]) -> Measured:
    n, sd = as_int(item.get("n")), as_float(item.get("sd"))
    if n is None or n < 2 or sd is None or sd <= 0:
        raise ValueError(f"group {item.get('id')!r} needs n (at least 2) and sd")
    scales: dict[Scale, float] = {}
    for name in ("tokens", "parameters", "rate", "iterations"):
        value = as_float(item.get(name))
        if value is not None and value > 0:
            scales[name] = value
    return Measured(
        id=as_text(item.get("id")) or "", n=n, sd=sd, scales=scales, source=as_text(item.get("source")) or ""
    )
