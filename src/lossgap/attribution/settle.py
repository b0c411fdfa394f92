"""How many seeds would settle a contribution whose interval is too wide."""

from __future__ import annotations

import math

from lossgap.attribution.design import LEAST_SEEDS, MOST_SEEDS, quantile, together
from lossgap.attribution.effects import RESOLUTION


def seeds_needed(
    value: float,
    ci: tuple[float, float] | None,
    margin: float,
    seeds: int,
    factors: int,
    spread: float | None = None,
    least: int = LEAST_SEEDS,
) -> int | None:
    """The fewest seeds whose interval would be `different` or `equivalent`; None if there are no affordable ones.

    `value` and `ci` (nats per token) are those of a contribution over `seeds` seeds of an experiment with `factors`.

    The spread over seeds and the value are taken to stay what they are, so the half width of an interval over n seeds
    is t(n) sd / sqrt(n), with the quantile of the intervals that hold together. It leaves 0 out once it is less
    than |value|, and fits the margin once it is less than margin - |value|; the wider of the two is reached first.
    `spread` is the standard deviation of one seed's contribution, where the interval is not Student's t over seeds.
    Without an interval, the least number of seeds that gives one.
    """
    if ci is None or (spread is None and seeds < LEAST_SEEDS):
        return least
    if spread is None:
        spread = (ci[1] - ci[0]) / 2 * math.sqrt(seeds) / quantile(seeds, together(factors))
    reach = max(abs(value), margin - abs(value))

    def decides(count: int) -> bool:
        return max(quantile(count, together(factors)) * spread / math.sqrt(count), RESOLUTION) < reach

    if not math.isfinite(spread) or not decides(MOST_SEEDS):
        return None
    low, high = least - 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high
