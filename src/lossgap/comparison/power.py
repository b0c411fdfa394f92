"""How many runs would decide a gap, with 80% power.

    runs_to_decide(gap=0.004, sd=0.001, margin=0.0)      # 3 runs on each side

A test of two groups of n runs each with standard deviation sd has the standard error sd sqrt(2 / n) and 2 n - 2
degrees of freedom. Its power against a true gap is 1 - F(t; df, gap / error), with F the noncentral t distribution and
t its 97.5% quantile (Cohen 1988, chapter 2). Equivalence within a margin is two one-sided tests at 2.5% each
(Schuirmann 1987); its power is the chance that the interval, gap +- t error, lies within the margin.
"""

from __future__ import annotations

import math

POWER = 0.8
CONFIDENCE = 0.95
MOST_RUNS = 1_000_000
"""More are not worth a number."""


def runs_to_decide(gap: float, sd: float, margin: float) -> int | None:
    """Runs on each side, at least 2, that would make a true gap of this size `different` or `equivalent`.

    `sd` is of one run's loss, the root of the mean variance of both sides. The cheaper of the two verdicts counts.
    None if more than a million would be needed.
    """
    ways = [(_power_of_difference, abs(gap)), (_power_of_equivalence, margin - abs(gap))]
    found = [_least(power, abs(gap), sd, margin) for power, room in ways if room > 0]
    known = [item for item in found if item is not None]
    return min(known) if known else None


def _least(power: object, gap: float, sd: float, margin: float) -> int | None:
    """The least n whose power reaches `POWER`; the power grows with n, so it is found by doubling and halving."""
    assert callable(power)
    if sd == 0:
        return 2
    high = 2
    while power(gap, sd, margin, high) < POWER:
        high *= 2
        if high > MOST_RUNS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(gap, sd, margin, middle) >= POWER else (middle, high)
    return max(2, high)


def _power_of_difference(gap: float, sd: float, margin: float, n: int) -> float:
    from scipy.special import nctdtr, ndtr  # loaded when needed: it takes longer than the rest together

    df, error = 2 * n - 2, sd * math.sqrt(2 / n)
    if df > 1000:
        return float(ndtr(gap / error - _quantile(df)))
    return 1.0 - float(nctdtr(df, gap / error, _quantile(df)))


def _power_of_equivalence(gap: float, sd: float, margin: float, n: int) -> float:
    """With the normal distribution for the mean and the expected half width for the interval."""
    from scipy.special import ndtr

    df, error = 2 * n - 2, sd * math.sqrt(2 / n)
    room = margin - _quantile(df) * error
    if room <= 0:
        return 0.0
    return float(ndtr((room - gap) / error) - ndtr((-room - gap) / error))


def _quantile(df: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, (1 + CONFIDENCE) / 2))
