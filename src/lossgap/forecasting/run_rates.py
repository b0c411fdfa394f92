"""The rate curve of a run: as its record says it, by its settings beyond that, or under another horizon."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lossgap.comparison.facts import Facts
from lossgap.forecasting import rate_curve
from lossgap.forecasting.rate_curve import RateCurve
from lossgap.schedule import nanogpt_rate

FEW = 3
"""Logged rates that a curve needs at least."""


@dataclass(frozen=True, kw_only=True)
class RunRates:
    """The rates of a run up to a later iteration, in two versions: as seen, and as they are forecast for."""

    seen: RateCurve
    later: RateCurve
    said: str
    """The schedule in words."""
    horizon: int | None = None


def run_rates(facts: Facts, last: float, until: float, horizon: int | None, fresh: bool) -> RunRates:
    """The rates of a run that was seen up to `last`, on to `until`.

    `horizon` is another `lr_decay_iters`: from `last` on, as a resume has it, or with `fresh` from the start. Where the
    record says neither rates nor settings, the rate is taken as constant and `known` is False.
    """
    end = max(until, last) + 1
    by_settings = _of_settings(facts, facts.horizon.value, end)
    seen = _logged(facts, last)
    if seen is None:
        seen = by_settings
    elif by_settings is not None:
        seen = seen.followed_by(by_settings, last) if until > last else seen
    own = f"decay over {facts.horizon.value:,} iterations" if facts.horizon.value else "rates as logged"
    if facts.decay_lr.value is False:
        own = "constant rate"
    if seen is None:
        unknown = rate_curve.constant(end)
        return RunRates(seen=unknown, later=unknown, said="the rates are not in the record")
    if horizon is None:
        return RunRates(seen=seen, later=seen, said=own, horizon=facts.horizon.value)
    other = _of_settings(facts, horizon, end)
    if other is None:
        return RunRates(seen=seen, later=seen, said=f"{own}; its settings do not say how another horizon would be")
    if fresh:
        return RunRates(seen=seen, later=other, said=f"a new run with a decay over {horizon:,}", horizon=horizon)
    said = f"resumed at {last:,.0f} with a decay over {horizon:,}" if horizon != facts.horizon.value else own
    later = seen.followed_by(other, last) if horizon != facts.horizon.value else seen
    return RunRates(seen=seen, later=later, said=said, horizon=horizon)


def _of_settings(facts: Facts, horizon: int | None, until: float) -> RateCurve | None:
    peak = facts.learning_rate.value
    if facts.decay_lr.value is False and peak:
        return rate_curve.sampled(lambda at: peak, until)
    low, warmup = facts.min_lr.value, facts.warmup_iters.value
    if peak is None or not peak > 0 or low is None or warmup is None or horizon is None:
        return None
    shape = str(facts.run.config.get("lr_schedule", "cosine"))
    fraction = facts.number("decay_fraction").value or 0.2
    bend = horizon * (1 - fraction)

    def rate(at: float) -> float:
        return nanogpt_rate(
            at,
            learning_rate=peak,
            min_lr=low,
            warmup_iters=warmup,
            lr_decay_iters=horizon,
            decay_lr=True,
            shape=shape,
            decay_fraction=fraction,
        )

    return rate_curve.sampled(rate, until, (float(warmup), float(horizon), bend))


def _logged(facts: Facts, last: float) -> RateCurve | None:
    rows = sorted((at, rate) for at, rate in facts.logged_rates.items() if rate >= 0)
    if len(rows) < FEW or rows[-1][1] < 0 or max(rate for _, rate in rows) <= 0:
        return None
    at, rates = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    if at[-1] < 0.9 * last:
        return None
    return rate_curve.logged(at, rates)
