"""The number of seeds that is said to settle a contribution does so, and one less does not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossgap.attribution.design import LEAST_SEEDS, MOST_SEEDS, quantile, together
from lossgap.attribution.effects import Mean, verdict
from lossgap.attribution.explanation import Contribution
from lossgap.attribution.factor import Factor
from lossgap.attribution.settle import seeds_needed

FACTOR = Factor(name="batch", settings={"batch_size": (12, 64)})


def after(value: float, spread: float, seeds: int, factors: int) -> Contribution:
    """A contribution whose seeds lie `spread` (standard deviation) apart."""
    half = quantile(seeds, together(factors)) * spread / math.sqrt(seeds)
    found = Mean(value=value, ci=(value - half, value + half))
    return Contribution(factor=FACTOR, value=value, ci=found.ci, verdict=verdict(found, 0.01), per_seed=())


@given(
    st.floats(-0.05, 0.05),
    st.floats(0.001, 0.3),
    st.integers(LEAST_SEEDS, 20),
    st.integers(1, 7),
)
def test_so_many_seeds_settle_it_and_one_less_does_not(value: float, spread: float, seeds: int, factors: int) -> None:
    found = after(value, spread, seeds, factors)
    needed = seeds_needed(found.value, found.ci, 0.01, seeds, factors)
    if needed is None:
        assert after(value, spread, MOST_SEEDS, factors).verdict == "inconclusive"
        return
    assert after(value, spread * 0.999, needed, factors).verdict != "inconclusive"
    if needed > LEAST_SEEDS:
        assert after(value, spread * 1.001, needed - 1, factors).verdict == "inconclusive"
    if found.verdict == "inconclusive":
        assert needed >= seeds


def test_without_an_interval_the_least_that_gives_one() -> None:
    alone = Contribution(factor=FACTOR, value=0.02, ci=None, verdict="inconclusive", per_seed=(0.02,))
    assert seeds_needed(alone.value, alone.ci, 0.01, 1, 2) == LEAST_SEEDS


@pytest.mark.parametrize("ci", [(math.nan, 0.1), (-math.inf, math.inf)])
def test_an_interval_that_is_no_interval_is_never_settled(ci: tuple[float, float]) -> None:
    found = Contribution(factor=FACTOR, value=0.02, ci=ci, verdict="inconclusive", per_seed=())
    assert seeds_needed(found.value, found.ci, 0.01, 5, 2) is None


def test_nothing_settles_what_is_exactly_at_no_margin() -> None:
    assert seeds_needed(0.0, after(0.0, 0.01, 5, 2).ci, 0.0, 5, 2) is None
