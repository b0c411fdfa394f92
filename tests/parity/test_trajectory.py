"""How two trainings part: where, how far, and in which shape."""

from __future__ import annotations

import math

import pytest

from lossgap.parity.envelope import Envelope
from lossgap.parity.trajectory import Shape, trajectory

N = 20
RECORDED = [4.0 - 0.01 * n for n in range(N)]
WIDTH = 1e-5


def envelope(first: int = 0) -> Envelope:
    return Envelope(
        first=first,
        width=tuple([WIDTH] * N),
        growth=tuple([WIDTH / 4] * N),
        factor=4.0,
        twins=8,
        coarser="float32",
        paired=False,
    )


def parted(
    differences: list[float], first: int = 0, around: Envelope | str | None = None
) -> tuple[int | None, Shape | None]:
    replayed = [old + new for old, new in zip(RECORDED, differences, strict=True)]
    found = trajectory(first, RECORDED, replayed, around or envelope(first))
    return found.first, found.shape


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([0.0] * N, (None, None)),
        ([0.9 * WIDTH] * N, (None, None)),
        ([-1.1 * WIDTH] * N, (0, "at the start")),
        ([0.0, *[0.1] * (N - 1)], (1, "first update")),
        ([0.15 * WIDTH * n for n in range(N)], (7, "gradual")),
        ([*[0.0] * 9, *[5 * WIDTH] * 11], (9, "sudden")),
        ([*[0.0] * 9, *[math.nan] * 11], (9, "sudden")),
        ([*[0.0] * 9, *[-math.inf] * 11], (9, "sudden")),
        ([math.nan] * N, (0, "at the start")),
    ],
)
def test_where_and_how(differences: list[float], expected: tuple[int | None, str | None]) -> None:
    assert parted(differences) == expected


def test_iterations_are_those_of_the_training() -> None:
    assert parted([0.0, *[0.1] * (N - 1)], first=2000) == (2001, "first update")


def test_without_an_envelope_only_equal_losses_are_inside() -> None:
    assert parted([0.0] * N, around="twins diverged") == (None, None)
    assert parted([*[0.0] * 5, *[1e-9] * 15], around="twins diverged") == (5, "sudden")


def test_equal_to_the_last_bit() -> None:
    assert trajectory(0, RECORDED, RECORDED, envelope()).is_equal
    assert trajectory(0, [math.nan], [math.nan], "none").is_inside
    other = trajectory(0, RECORDED, [RECORDED[0] + 1e-9, *RECORDED[1:]], envelope())
    assert (other.is_equal, other.is_inside) == (False, True)


def test_bounds_are_the_envelope_or_the_difference_where_that_is_larger() -> None:
    replayed = [RECORDED[0] + 3 * WIDTH, *RECORDED[1:]]
    found = list(trajectory(0, RECORDED, replayed, envelope()).bounds)
    assert [at for at, _ in found[:2]] == [0, 1]
    assert [value for _, value in found[:2]] == pytest.approx([3 * WIDTH, WIDTH])


def test_low_and_high_lie_around_the_recorded_loss() -> None:
    place = trajectory(0, RECORDED, RECORDED, envelope()).places[3]
    assert (place.low, place.high) == (RECORDED[3] - WIDTH, RECORDED[3] + WIDTH)
    assert trajectory(0, RECORDED, RECORDED, "none").places[3].low is None
