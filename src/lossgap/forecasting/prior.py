"""Priors: the law's parameters before a run is seen, from runs of the same kind, or from public ones.

A prior is a mean and a standard deviation for each parameter and `drift`, the error of the law itself as a part of the
change that it forecasts. `learn` makes one from other runs: each group of one model size has its own parameters, which
for another size are read off a straight line over ln(size).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources

import numpy as np
from scipy.optimize import least_squares

from lossgap.forecasting.annealing_law import LOGS_OF_LOSSES, LOSSES, law, place
from lossgap.forecasting.rate_curve import Floats, RateCurve

BETWEEN = np.array([0.15, 0.06, 0.03, 0.12, 0.3, 0.3, 0.15, 0.01])
"""How far apart the parameters of two sizes of one family lie beside their line over ln(size), at least."""
DRIFT = 0.12
CLOSE = 0.004
"""Nats per token to which a law is fitted at best: closer is noise of the run and no news of the law."""


@dataclass(frozen=True, kw_only=True)
class Prior:
    """Mean and standard deviation of each parameter of the law, in `annealing_law.NAMES`' order."""

    name: str
    mean: Floats
    sd: Floats
    drift: float = DRIFT
    """Standard deviation of the law's own error, as a part of the change that it forecasts."""
    relative: bool = False
    """Losses are parts of the run's last loss, for a run of another kind and another unit."""
    source: str = ""

    def scaled(self, scale: float) -> Prior:
        """The prior for losses in other units: a relative one times `scale`, any other as it is."""
        if not self.relative:
            return self
        shift = np.where(LOGS_OF_LOSSES, np.log(scale), 0.0)
        times = np.where(LOSSES, scale, 1.0)
        return replace(self, mean=self.mean * times + shift, sd=self.sd * times, relative=False)


@dataclass(frozen=True, kw_only=True)
class SeenRun:
    """A whole run that others are learned from: evaluated losses under its rates."""

    iters: Floats
    losses: Floats
    rates: RateCurve
    passes_per_iter: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs of one recipe but for their schedules, and its number of parameters."""

    runs: tuple[SeenRun, ...]
    size: float | None = None
    name: str = ""
    theta: Floats | None = field(default=None)


def fit_group(group: Group, start: Prior) -> Floats:
    """The parameters that fit all runs of a group, robustly; `start` holds what they leave open."""
    places = [place(run.iters, run.rates, run.passes_per_iter) for run in group.runs]
    wide = np.maximum(start.sd, BETWEEN) * 3

    def residuals(theta: Floats) -> Floats:
        off = [
            (law(theta, where) - run.losses) / CLOSE / np.sqrt(max(len(run.iters) / 50, 1))
            for run, where in zip(group.runs, places, strict=True)
        ]
        return np.concatenate([*off, (theta - start.mean) / wide])

    return np.asarray(least_squares(residuals, start.mean, loss="soft_l1", max_nfev=200).x)


def learn(groups: Sequence[Group], size: float | None, start: Prior, name: str = "like runs") -> Prior:
    """The prior for a run of `size` parameters from groups of runs; sizes may be unknown, then it is their mean.

    Raises ValueError without a group.
    """
    if not groups:
        raise ValueError("a prior is learned from one group of runs at least")
    found = np.array([fit_group(group, start) if group.theta is None else group.theta for group in groups])
    sizes = [group.size for group in groups]
    mean = found.mean(axis=0)
    sd = np.sqrt(found.var(axis=0, ddof=1) + BETWEEN**2) if len(groups) > 1 else BETWEEN * 2
    if size and len({value for value in sizes if value}) > 1 and all(sizes):
        x = np.log(np.array(sizes, dtype=float))
        line = np.polynomial.polynomial.polyfit(x - np.log(size), found, 1)
        off = found - (line[0] + np.outer(x - np.log(size), line[1]))
        mean, sd = line[0], np.sqrt((off**2).sum(axis=0) / max(len(groups) - 2, 1) + BETWEEN**2)
    runs = sum(len(group.runs) for group in groups)
    return Prior(name=name, mean=mean, sd=sd, drift=start.drift, source=f"{runs} runs in {len(groups)} groups")


@lru_cache(maxsize=1)
def shipped() -> dict[str, Prior]:
    """The priors in `priors.json`, by name."""
    text = resources.files("lossgap.forecasting").joinpath("priors.json").read_text(encoding="utf-8")
    return {
        item["name"]: Prior(
            name=item["name"],
            mean=np.array(item["mean"], dtype=float),
            sd=np.array(item["sd"], dtype=float),
            drift=item["drift"],
            relative=item["relative"],
            source=item["source"],
        )
        for item in json.loads(text)["priors"]
    }
