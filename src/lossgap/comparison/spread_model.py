"""How far the last losses of a recipe lie apart over seeds, concluded from its scale and from its own curve.

    log sd = a + b log fall + c log rate        (and other scales in place of these, see FITS)

fitted to the groups of repeated runs in `spread_bank.json`. `fall` is what a run's val loss falls by over the last
three quarters of its iterations: seeds differ in when they leave the first plateau, and a loss that still falls turns
that into nats. Each group's log sd has the variance t^2 + v: t is how far recipes of one scale differ, v what n runs
leave open, trigamma((n - 1) / 2) / 4 for normal losses, times `TAILS` for losses with tails. Weights and t^2 are
iterated, t^2 by moments (DerSimonian and Laird 1986). A prediction is a scaled inverse chi-square distribution of the
variance with the same mean and variance of log sd (Smyth 2004, as in limma): its degrees of freedom are few, so an
interval that uses it is wide. A measured sd of few runs is combined with it on the logarithm, each by its variance.

The first fit of FITS whose scales are known and near measured ones counts. Beyond a factor of `REACH` outside what was
measured nothing is predicted. How often it is wrong on recipes that it has not seen: `left_out`, and
`python scripts/measure_spread_bank.py --check=True`.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np

from lossgap.comparison.curve import Floats
from lossgap.comparison.facts import Facts
from lossgap.runs.values import as_float, as_int, as_list, as_mapping, as_text

Scale = Literal["fall", "tokens", "parameters", "rate", "iterations"]
SCALES: tuple[Scale, ...] = ("fall", "tokens", "parameters", "rate", "iterations")
FITS: tuple[tuple[Scale, ...], ...] = (
    ("fall", "rate"),
    ("fall", "parameters"),
    ("fall", "iterations"),
    ("tokens", "parameters", "rate"),
    ("tokens", "parameters"),
    ("iterations",),
)
"""The rate is AdamW's alone. Chosen by the likelihood of recipes left out, among all that the bank allows."""
REACH = 4.0
"""How far outside the measured range of each scale a prediction goes, as a factor. A choice."""
FALL_REACH = 1.5
"""That of the fall, whose power is about 2. A choice."""
LEAST_BETWEEN = 0.35
"""t at least: recipes of one scale differ by a third or more. A choice, so that few groups cannot agree by luck."""
LEAST_RUNS = 3
"""Runs that a group must have to be in a fit."""
TAILS = 1.6
"""How many times the log sd of a few runs is more uncertain, and lower on average, than of normal losses: measured by
drawing 4 and 8 of the 120 runs of each arm of the calibration's bank (`make truth`): 1.5 and 1.6 in the median."""
FEWEST_EVALUATIONS = 5
"""Evaluations that a curve must have for its fall to be known."""
CONFIDENCE_BOUND = 1.96
UNITS: dict[Scale, str] = {"fall": "nats of fall over the last three quarters", "rate": "learning rate"}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One group of repeated runs: sd of the last val loss in nats per token, over n runs."""

    id: str
    n: int
    sd: float
    scales: dict[Scale, float]
    source: str
    family: str = ""
    """Groups of one family, such as the records of one contest, count as one group together: they are one recipe."""
    finals: tuple[float, ...] = ()
    """The losses, where they are kept."""
    falls: tuple[float, ...] = ()
    """The fall of each of these runs."""


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
        reach = np.log([FALL_REACH if name == "fall" else REACH for name in self.names])
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
        """The prediction for a run's recipe; None beyond all fits."""
        return self.at(scales_of(facts))

    def at(self, scales: dict[Scale, float]) -> Prediction | None:
        """The prediction of the first fit that covers these scales; None beyond all fits."""
        fit = next((item for item in self.fits if item.inside(scales)), None)
        if fit is None:
            return None
        mean, deviation = fit.predict(scales)
        sd, df = inverse_chi_square(mean, deviation)
        said = ", ".join(f"{scales[name]:.3g} {UNITS.get(name, name)}" for name in fit.names)
        how = (
            f"predicted from {said} by {fit.groups} groups of repeated runs: {math.exp(mean):.2g}, within a factor of "
        )
        return Prediction(sd=sd, df=df, how=f"{how}{math.exp(CONFIDENCE_BOUND * deviation):.1f}")

    def combined(self, scales: dict[Scale, float], sd: float, df: float) -> Prediction | None:
        """The measured `sd` with `df` degrees of freedom, together with what the scales let expect; None beyond all."""
        fit = next((item for item in self.fits if item.inside(scales)), None)
        if fit is None or sd <= 0 or math.isinf(df):
            return None
        mean, deviation = fit.predict(scales)
        own, variance = log_sd(np.array([sd]), np.array([df]))
        weights = 1 / deviation**2, 1 / float(variance[0])
        together = (weights[0] * mean + weights[1] * float(own[0])) / sum(weights)
        sd, df = inverse_chi_square(together, sum(weights) ** -0.5)
        return Prediction(sd=sd, df=df, how=f"{math.exp(mean):.4g}")

    def bound(self, facts: Facts) -> tuple[float, str]:
        """The value that a spread beyond the fits is taken not to exceed, and why.

        More tokens than measured: the upper 97.5% at the most tokens that were, as spreads fall with the length.
        Else the widest spread that was measured.
        """
        scales = scales_of(facts)
        for fit in self.fits:
            if any(name not in scales for name in fit.names) or {"fall", "rate"} & set(fit.names):
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
    curve = facts.val
    if curve is not None and curve.meaning.unit == "nats/token" and len(curve) >= FEWEST_EVALUATIONS:
        fell = fall(curve.iters.astype(float), curve.values)
        if fell is not None:
            found["fall"] = fell
    iters = facts.max_iters.value or facts.last_iter
    if iters:
        found["iterations"] = float(iters)
    if iters and facts.tokens_per_iter.value:
        found["tokens"] = float(iters) * facts.tokens_per_iter.value
    if facts.n_params.value:
        found["parameters"] = float(facts.n_params.value)
    logged = facts.logged_rates.values()
    rate = facts.learning_rate.value or max((value for value in logged if value is not None), default=None)
    if rate and rate > 0 and facts.run.format != "modded-nanogpt":
        found["rate"] = float(rate)
    # A hostile record may say anything; only positive sizes have a logarithm.
    return {name: value for name, value in found.items() if 0 < value < 1e30}


def fall(iters: Floats, values: Floats) -> float | None:
    """The nats that a curve falls by from a quarter of its length to its end, or to its lowest value before that.

    None where no evaluation but the first lies in its first quarter.
    """
    at = iters[-1] / 4
    if not ((iters > iters[0]) & (iters <= at)).any() and iters[0] < at:
        return None
    return float(np.interp(at, iters, values) - values.min())


def inverse_chi_square(mean: float, deviation: float) -> tuple[float, float]:
    """(sd, df) of the scaled inverse chi-square variance whose log sd has this mean and standard deviation.

    Var(log s^2) = trigamma(df / 2), E(log s^2) = log s0^2 + log(df / 2) - digamma(df / 2) (Smyth 2004, section 6.2).
    """
    from scipy.optimize import brentq  # loaded when needed: it takes longer than the rest together
    from scipy.special import polygamma, psi

    target = 4 * deviation**2
    half = float(brentq(lambda x: float(polygamma(1, x)) - target, 1e-2, 1e6))
    return math.exp(mean + (float(psi(half)) - math.log(half)) / 2), max(1.0, 2 * half)


def log_sd(sd: Floats, df: Floats) -> tuple[Floats, Floats]:
    """log sd without the bias of few runs, and its variance: those of normal losses, times `TAILS`.

    E(log s) = log sigma - (log(df / 2) - digamma(df / 2)) / 2, Var(log s) = trigamma(df / 2) / 4.
    """
    from scipy.special import polygamma, psi  # loaded when needed: it takes longer than the rest together

    half = df / 2
    return np.log(sd) + TAILS * (np.log(half) - psi(half)) / 2, np.asarray(TAILS * polygamma(1, half) / 4)


def fit(groups: Sequence[Measured], names: tuple[Scale, ...]) -> Fit | None:
    """The regression over the groups that have these scales; None with fewer than twice as many as coefficients."""
    used = [item for item in groups if item.n >= LEAST_RUNS and all(name in item.scales for name in names)]
    if len({item.family or item.id for item in used}) < 2 * (len(names) + 1):
        return None
    x = np.array([[math.log(item.scales[name]) for name in names] for item in used])
    design = np.column_stack([np.ones(len(used)), x])
    y, within = log_sd(np.array([item.sd for item in used]), np.array([item.n - 1.0 for item in used]))
    sizes = Counter(item.family or item.id for item in used)
    share = np.array([1 / sizes[item.family or item.id] for item in used])
    between = 0.5
    for _ in range(100):
        weights = share / (within + between**2)
        inverse = np.linalg.inv(design.T @ (weights[:, None] * design))
        coefficients = inverse @ (design.T @ (weights * y))
        residual = y - design @ coefficients
        excess = float(weights @ residual**2) - (float(share.sum()) - design.shape[1])
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
        groups=len(sizes),
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


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Pairs of equal runs of one recipe, judged by the model of all other recipes."""

    id: str
    pairs: int
    beyond: int
    """Pairs whose gap lies beyond the 95% interval: false alarms."""
    sd: float
    reach: float
    """Median half width of the intervals."""


def left_out(groups: Sequence[Measured], scales: Sequence[Scale] | None = None) -> list[LeftOut]:
    """The false alarms on every group whose losses are kept, with its family left out of the fits.

    `scales` are those that the records show, by default all.
    """
    from scipy.special import stdtrit  # loaded when needed: it takes longer than the rest together

    found = []
    for item in groups:
        if not item.finals:
            continue
        others = fitted([other for other in groups if (other.family or other.id) != (item.family or item.id)])
        shown = {name: value for name, value in item.scales.items() if scales is None or name in scales}
        each = []
        for one in item.falls:
            guess = others.at({**shown, "fall": one} if "fall" in shown else shown)
            each.append((guess.sd, guess.df) if guess is not None else (others.widest, math.inf))
        gaps, reaches = [], []
        for i, j in itertools.combinations(range(len(item.finals)), 2):
            gaps.append(abs(item.finals[i] - item.finals[j]))
            df = min(each[i][1], each[j][1])
            quantile = CONFIDENCE_BOUND if math.isinf(df) else float(stdtrit(df, 0.975))
            reaches.append(quantile * math.hypot(each[i][0], each[j][0]))
        beyond = sum(gap > reach for gap, reach in zip(gaps, reaches, strict=True))
        found.append(LeftOut(id=item.id, pairs=len(gaps), beyond=beyond, sd=item.sd, reach=float(np.median(reaches))))
    return found


def _measured(item: dict[str, object]) -> Measured:
    n, sd = as_int(item.get("n")), as_float(item.get("sd"))
    if n is None or n < 2 or sd is None or sd <= 0:
        raise ValueError(f"group {item.get('id')!r} needs n (at least 2) and sd")
    scales: dict[Scale, float] = {}
    for name in SCALES:
        value = as_float(item.get(name))
        if value is not None and value > 0:
            scales[name] = value
    return Measured(
        id=as_text(item.get("id")) or "",
        n=n,
        sd=sd,
        scales=scales,
        source=as_text(item.get("source")) or "",
        family=as_text(item.get("family")) or "",
        finals=_numbers(item.get("finals")),
        falls=_numbers(item.get("falls")),
    )


def _numbers(value: object) -> tuple[float, ...]:
    return tuple(number for item in as_list(value) if (number := as_float(item)) is not None)
