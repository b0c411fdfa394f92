"""The learning rate against nanoGPT's formula, written once more from its description."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossgap.config import TrainConfig
from lossgap.schedule import learning_rate


def reference(i: int, peak: float, floor: float, warmup: int, end: int) -> float:
    """nanoGPT's `get_lr` since December 2024 in closed form.

    Before `warmup`, a line that would be 0 at -1 and the peak at `warmup`; after `end`, the floor; between them half a
    period of a cosine, written here as sin^2 of a quarter of it.
    """
    if i < warmup:
        return peak - peak * (warmup - i) / (warmup + 1)
    if i > end:
        return floor
    share_left = math.sin(math.pi / 2 * (end - i) / (end - warmup)) ** 2
    return floor + (peak - floor) * share_left


@given(
    iteration=st.integers(0, 10_000),
    peak=st.floats(1e-6, 1.0),
    floor=st.floats(0.0, 1.0),
    warmup=st.integers(0, 3000),
    decay=st.integers(-500, 8000).filter(bool),
)
def test_against_the_formula(iteration: int, peak: float, floor: float, warmup: int, decay: int) -> None:
    """Also where the decay ends before the warm-up does."""
    end = max(warmup + decay, 0)
    if end == warmup:
        return
    config = TrainConfig(learning_rate=peak, min_lr=floor, warmup_iters=warmup, lr_decay_iters=end)
    expected = reference(iteration, peak, floor, warmup, end)
    assert learning_rate(config, iteration) == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_values_of_the_laptop_recipe() -> None:
    """Worked by hand: warm-up 100, peak 1e-3, floor 1e-4, end 2000."""
    config = TrainConfig(learning_rate=1e-3, min_lr=1e-4, warmup_iters=100, lr_decay_iters=2000)
    for iteration, expected in ((0, 1e-3 / 101), (50, 51e-3 / 101), (99, 1e-1 / 101), (100, 1e-3)):
        assert learning_rate(config, iteration) == pytest.approx(expected, rel=1e-12)
    assert learning_rate(config, 1050) == pytest.approx(5.5e-4, rel=1e-12)  # half way
    assert learning_rate(config, 575) == pytest.approx(1e-4 + 9e-4 * (2 + math.sqrt(2)) / 4, rel=1e-12)  # a quarter
    assert learning_rate(config, 2000) == pytest.approx(1e-4, rel=1e-12)
    assert learning_rate(config, 2001) == learning_rate(config, 10**9) == 1e-4


def test_no_warmup_begins_at_the_peak() -> None:
    config = TrainConfig(learning_rate=1e-3, min_lr=1e-4, warmup_iters=0, lr_decay_iters=10)
    assert learning_rate(config, 0) == pytest.approx(1e-3, rel=1e-15)
    assert learning_rate(config, 1) < 1e-3


@given(iteration=st.integers(0, 10**12))
def test_no_decay_is_constant(iteration: int) -> None:
    """Without the warm-up too, as in nanoGPT; and warm-up and decay may then end at the same iteration."""
    config = TrainConfig(learning_rate=1e-3, decay_lr=False, warmup_iters=100, lr_decay_iters=100)
    assert learning_rate(config, iteration) == 1e-3


def test_a_floor_above_the_peak_rises() -> None:
    config = TrainConfig(learning_rate=1e-4, min_lr=1e-3, warmup_iters=0, lr_decay_iters=10)
    rates = [learning_rate(config, iteration) for iteration in range(12)]
    assert rates == sorted(rates)
    assert rates[-1] == 1e-3
