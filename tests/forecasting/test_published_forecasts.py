"""Two forecasts that were published and wrong, from the figures that they were made from.

`power-law-loss-curve-forecasting` and `gpt-2-fineweb-loss-decay-pattern`, lzwjava.github.io, 2026: a power law through
11 points with a 95% band of 2.93 to 3.04 at 19,073, and a val loss of 1.19 at iteration 445,000.
"""

from __future__ import annotations

from comparison.made import run

from lossgap.forecasting.forecast import forecast
from lossgap.report.show import text

ELEVEN = {at: 2.7 + 42.4 / at**0.5 for at in range(1000, 6001, 500)}
"""The page gives its law, not its points; its last point is 3.247."""
LONG = {
    0: 11.1066, 1000: 5.4856, 5000: 3.8431, 10_000: 3.5569, 13_000: 3.4759, 16_000: 3.4170, 20_000: 3.3574,
    28_000: 3.2967, 37_000: 3.2261, 48_000: 3.1838, 55_000: 3.1773, 60_000: 3.1695, 74_000: 3.1585,
}  # fmt: skip
DECAY = {"learning_rate": 6e-4, "min_lr": 6e-5, "warmup_iters": 715, "lr_decay_iters": 19_073, "decay_lr": True}


def test_a_loss_of_1_19_is_outside_and_a_plateau_is_inside() -> None:
    found = forecast([run(LONG, config={})], iters=445_000)
    assert found.val.low is not None
    assert found.val.high is not None
    assert found.val.low > 2.5
    assert found.val.low <= 3.10 <= found.val.high
    assert not found.rates_known
    assert "no learning rates" in text([found])


def test_its_own_second_half_is_held_by_the_first() -> None:
    found = forecast([run(LONG, config={})], iters=74_000, until=37_000).val
    assert found.low is not None
    assert found.high is not None
    assert found.low <= LONG[74_000] <= found.high


def test_a_band_without_the_schedule_is_wider_than_was_published() -> None:
    bare = forecast([run(ELEVEN, config={})], iters=19_073).val
    decayed = forecast([run(ELEVEN, config=DECAY)], iters=19_073).val
    assert bare.high is not None
    assert bare.low is not None
    assert decayed.high is not None
    assert decayed.low is not None
    assert bare.high - bare.low > 2 * (3.04 - 2.93), "90% against its 95%"
    assert decayed.high - decayed.low < bare.high - bare.low


def test_the_same_run_at_ten_times_its_length_is_refused() -> None:
    assert "times" in forecast([run(ELEVEN, config={})], iters=100_000).val.why
