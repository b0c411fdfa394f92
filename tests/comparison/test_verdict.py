from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comparison.made import curve, run
from lossgap.comparison.alignment import align
from lossgap.comparison.facts import Facts
from lossgap.comparison.noise import Noise, Part
from lossgap.comparison.verdict import Verdict, judge


def _noise(error: float, *, unknown: float | None = None, df: float = math.inf) -> Noise:
    known = Part(name="evaluation of control", standard_error=error, df=df, evidence="measured", how="drawn")
    if unknown is None:
        return Noise(parts=(known,))
    lost = Part(name="seed of control", standard_error=None, evidence="unknown", how="not measured", bound=unknown)
    return Noise(parts=(known, lost))


def _judge(gap: float, noise: Noise, margin: float = 0.01) -> Verdict:
    alignment = align(Facts.of(run(curve(1.9))), Facts.of(run(curve(1.9 + gap))))
    return judge(gap, noise, alignment, margin)


@pytest.mark.parametrize(
    ("gap", "error", "margin", "word"),
    [
        (0.10, 0.01, 0.01, "different"),
        (-0.10, 0.01, 0.01, "different"),
        (0.001, 0.002, 0.01, "equivalent"),
        (0.0, 0.0, 0.0, "equivalent"),
        (0.005, 0.001, 0.01, "equivalent"),  # a difference, within the margin
        (0.005, 0.001, 0.0, "different"),
        (0.0, 0.01, 0.01, "inconclusive"),
        (0.015, 0.01, 0.01, "inconclusive"),
        (0.015, 0.005, 0.01, "different"),
    ],
)
def test_verdicts_with_a_known_error(gap: float, error: float, margin: float, word: str) -> None:
    found = _judge(gap, _noise(error), margin)
    assert found.word == word
    assert found.reasons
    assert not found.bounded
    assert bool(found.settle) == (word == "inconclusive")


@pytest.mark.parametrize(
    ("gap", "bound", "word"),
    [(0.2, 0.05, "different"), (0.05, 0.05, "inconclusive"), (0.0, 0.001, "inconclusive")],
)
def test_an_unknown_spread_allows_no_more_than_its_bound(gap: float, bound: float, word: str) -> None:
    """Even a gap of 0 is not equivalent: how far chance could have moved it is not known."""
    found = _judge(gap, _noise(0.0, unknown=bound))
    assert (found.word, found.bounded) == (word, True)
    assert "seed of control" in found.reasons[0]


def test_few_degrees_of_freedom_widen_the_interval() -> None:
    assert _judge(0.025, _noise(0.01)).word == "different"
    assert _judge(0.025, _noise(0.01, df=3)).word == "inconclusive"


def test_no_common_loss_is_not_comparable() -> None:
    alignment = align(Facts.of(run(curve(1.9))), Facts.of(run({})))
    found = judge(None, Noise(), alignment)
    assert found.word == "not-comparable"
    assert found.reasons
    assert found.settle


@settings(deadline=None)  # the first call imports scipy
@given(st.floats(-0.5, 0.5), st.floats(1e-4, 0.2), st.floats(0, 0.1))
def test_the_verdict_is_a_function_of_interval_and_margin(gap: float, error: float, margin: float) -> None:
    found = _judge(gap, _noise(error), margin)
    low, high = found.interval or (0, 0)
    assert low == pytest.approx(gap - 1.959964 * error, abs=1e-6)
    if found.word == "equivalent":
        assert -margin <= low <= high <= margin
    elif found.word == "different":
        assert low > 0 or high < 0
    else:
        assert found.word == "inconclusive"
        assert low <= 0 <= high


@settings(deadline=None)
@given(st.floats(-0.05, 0.05), st.floats(1e-3, 0.2))
def test_the_seeds_it_asks_for_would_decide(gap: float, error: float) -> None:
    found = _judge(gap, _noise(error))
    if found.seeds is not None:
        better = _judge(gap, _noise(error / math.sqrt(found.seeds + 1)))
        assert better.word != "inconclusive"
