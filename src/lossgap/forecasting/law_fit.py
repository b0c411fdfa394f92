"""Fitting the law to what a run has shown, and what it says of later iterations, with a standard deviation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from lossgap.forecasting.annealing_law import law, place, slopes
from lossgap.forecasting.prior import Prior
from lossgap.forecasting.rate_curve import Floats, RateCurve

CORRELATED = 15
"""Independent pieces in the law's own error along a curve, at most: more points do not make the law truer."""
MISFIT = 0.001
"""The law's own error within the curve, as a part of the loss."""
ALPHA = 2
"""The place of the exponent among the parameters."""
STRANGE = 2.5
"""Standard deviations of the prior: an exponent further off is that of another kind of curve."""
UNSEEN_DECAY = 0.015
UNKNOWN_RATES = 0.03
"""Parts of the loss: what a decay that is not known takes off by twice the iterations, and how far that may be wrong.
Public logs whose rates are known lose 1 to 5 percent by their decay; others have none."""


@dataclass(frozen=True, kw_only=True)
class Points:
    """Losses of a run at iterations, with the standard deviation of each value's sampling noise."""

    iters: Floats
    losses: Floats
    noise: Floats

    def until(self, last: float) -> Points:
        """The points up to that iteration."""
        keep = self.iters <= last
        return Points(iters=self.iters[keep], losses=self.losses[keep], noise=self.noise[keep])

    def since(self, first: float) -> Points:
        """The points from that iteration on."""
        keep = self.iters >= first
        return Points(iters=self.iters[keep], losses=self.losses[keep], noise=self.noise[keep])


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """The law as fitted to the points of a run."""

    theta: Floats
    covariance: Floats
    prior: Prior
    rates: RateCurve
    passes_per_iter: float
    last: float
    """The last iteration that was seen."""
    level: float
    """The law's loss there."""

    @property
    def follows(self) -> bool:
        """False where the curve bends so unlike the law that its exponent had to leave what is known of exponents."""
        return bool(abs(self.theta[ALPHA] - self.prior.mean[ALPHA]) <= STRANGE * self.prior.sd[ALPHA])

    @property
    def unlike(self) -> str:
        """The exponent that the curve would need, in words."""
        known = f"{self.prior.mean[ALPHA]:.2f} ± {self.prior.sd[ALPHA]:.2f}"
        return f"the curve would need an exponent of {self.theta[ALPHA]:.2f}, and known ones are {known}"

    def predict(self, at: Floats, rates: RateCurve | None = None) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the loss at iterations, under the run's own rates or others.

        The variance is that of the parameters, of the law's own error (`drift` of the change since the last point)
        and, where the rates are not known, of the decay that may have come.
        """
        where = place(at, rates or self.rates, self.passes_per_iter)
        mean, slope = law(self.theta, where), slopes(self.theta, where)
        variance = np.einsum("ij,jk,ik->i", slope, self.covariance, slope)
        change = np.abs(mean - self.level) + self.annealed(at, rates)
        variance += (self.prior.drift * change) ** 2 + (MISFIT * self.level) ** 2
        if not self.rates.known:
            further = np.clip(np.asarray(at) / self.last - 1, 0, 1)
            mean = mean - UNSEEN_DECAY * self.level * further
            variance += (UNKNOWN_RATES * self.level * further) ** 2
        return mean, np.sqrt(variance)

    def annealed(self, at: Floats, rates: RateCurve | None = None) -> Floats:
        """The part that annealing takes off from the last point on: the law without it, less the law with it.

        The change alone would call a forecast sure where annealing and an overfitting penalty cancel out.
        """
        without = self.theta.copy()
        without[3] = -50.0
        own = place(np.array([self.last]), self.rates, self.passes_per_iter)
        before = law(without, own)[0] - law(self.theta, own)[0]
        where = place(at, rates or self.rates, self.passes_per_iter)
        return np.asarray(np.abs(law(without, where) - law(self.theta, where) - before) * 0.5)


def fit(points: Points, rates: RateCurve, prior: Prior, passes_per_iter: float = 0.0) -> Fitted:
    """The most probable law given the points and the prior; its covariance by Laplace's approximation."""
    scaled = prior.scaled(float(points.losses[-1]))
    where = place(points.iters, rates, passes_per_iter)
    own = MISFIT * 1.2 * abs(float(points.losses[-1]))
    sigma = np.sqrt(points.noise**2 + own**2 * max(len(points.iters) / CORRELATED, 1.0))
    start = scaled.mean.copy()
    free = law(start, where)
    start[0] += float(np.median(points.losses - free))

    def residuals(theta: Floats) -> Floats:
        return np.concatenate([(law(theta, where) - points.losses) / sigma, (theta - scaled.mean) / scaled.sd])

    found = least_squares(residuals, start, x_scale=scaled.sd, max_nfev=200)
    theta = np.asarray(found.x)
    covariance = np.linalg.inv(found.jac.T @ found.jac)
    last = float(points.iters[-1])
    level = float(law(theta, place(np.array([last]), rates, passes_per_iter))[0])
    return Fitted(
        theta=theta,
        covariance=covariance,
        prior=scaled,
        rates=rates,
        passes_per_iter=passes_per_iter,
        last=last,
        level=level,
    )
