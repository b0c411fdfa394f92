"""A sketch tells how far two tensors are apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lossgap.parity.sketch import WIDTH, distance, relative_error, sketch


@pytest.mark.parametrize("shape", [(1,), (33,), (100, 65), (3, 700_000)])
def test_the_distance_is_estimated(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(shape, generator=generator, dtype=torch.float64)
    b = a + 1e-3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    exact = relative_error(b, a)
    assert sketch(a).shape == (WIDTH,)
    assert distance(sketch(b), sketch(a)) == pytest.approx(exact, rel=0.5)
    assert distance(sketch(a), sketch(a)) == 0.0


def test_one_entry_apart_is_seen_exactly() -> None:
    a = torch.ones(10_000, dtype=torch.float64)
    b = a.clone()
    b[7_777] += 0.5
    assert distance(sketch(b), sketch(a)) == pytest.approx(0.5 / 100, rel=1e-9)


def test_estimates_are_right_on_average() -> None:
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(4_000, generator=generator, dtype=torch.float64)
    ratios = []
    for _ in range(200):
        b = a + 1e-6 * torch.randn(4_000, generator=generator, dtype=torch.float64)
        ratios.append((distance(sketch(b), sketch(a)) / relative_error(b, a)) ** 2)
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.06)
    assert np.std(ratios) == pytest.approx(math.sqrt(2 / 32), rel=0.3)


def test_an_order_is_seen() -> None:
    a = torch.arange(1_000, dtype=torch.float64)
    assert distance(sketch(a.flip(0)), sketch(a)) > 0.1


def test_what_has_no_relative_error() -> None:
    zero, one, nan = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64), torch.full((3,), math.nan)
    assert distance(sketch(zero), sketch(zero)) == relative_error(zero, zero) == 0.0
    assert distance(sketch(one), sketch(zero)) == relative_error(one, zero) == math.inf
    assert math.isnan(distance(sketch(nan), sketch(one)))
    assert math.isnan(relative_error(nan.double(), one))
    assert relative_error(one, torch.ones(4, dtype=torch.float64)) == math.inf
