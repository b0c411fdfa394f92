"""Twins, and the envelope that they make: what it holds, what it does not, and how wide it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from lossgap.parity.envelope import (
    Envelope,
    bound,
    envelope,
    growth,
    largest_departures,
    measure,
    ulp,
    variants,
)
from lossgap.parity.stretch import Job, Moment, Stretch
from lossgap.parity.twins import ReorderedJob, moved, order, reordered
from lossgap.random import Float64
from lossgap.training.numerics import Numerics

from .small import config, job, numerics

K, N = 8, 40


def unit() -> Float64:
    return np.full(N, 1e-9)


# ---------------------------------------------------------------------------------------------
# The formulas


def test_ulp_is_the_distance_to_the_next_float32() -> None:
    assert ulp([4.17, 3.5, float("nan"), 1.0]).tolist() == [2.0**-21, 2.0**-22, 2.0**-23, 2.0**-23]


def test_growth_never_falls_and_finds_the_scale() -> None:
    rng = np.random.default_rng(1)
    scale = 1e-5 * np.sqrt(1 + np.arange(N))
    found = growth(rng.normal(size=(200, N)) * scale, unit())
    assert (np.diff(found) >= 0).all()
    assert np.allclose(found[:-2], scale[2:], rtol=0.15)  # it is read two iterations ahead


def test_growth_is_at_least_half_a_unit() -> None:
    assert growth(np.zeros((K, N)), unit()).tolist() == [5e-10] * N


def test_departures_are_judged_by_the_other_twins() -> None:
    differences = np.ones((K, N))
    differences[3] = 10.0
    found = largest_departures(differences, unit())
    assert found[3] == pytest.approx(10.0)
    assert found[0] < 1


def test_bound_is_a_prediction_limit() -> None:
    """A further draw of a log-normal is above the bound of eight in one of a hundred."""
    rng = np.random.default_rng(2)
    draws = np.exp(1.0 + 0.5 * rng.normal(size=(20_000, K + 1)))
    above = np.mean([row[-1] > bound(row[:-1]) for row in draws])
    assert 0.006 < above < 0.012


def test_alike_twins_do_not_make_a_narrow_bound() -> None:
    assert bound(np.full(K, 3.0)) > 6.0


def trainings(rng: np.random.Generator, count: int) -> Float64:
    """Differences that grow like those of trainings: a walk, and noise that each batch adds."""
    walk = np.cumsum(rng.normal(size=(count, N)), axis=1)
    found: Float64 = 1e-5 * (walk + 2 * rng.normal(size=(count, N)))
    return found


def test_rounding_alone_leaves_the_envelope_seldom() -> None:
    rng = np.random.default_rng(3)
    outside = 0
    for _ in range(300):
        drawn = trainings(rng, K + 1)
        made = envelope(drawn[:K], [3.0] * N, first=0, coarser="float32", paired=False)
        outside += bool((np.abs(drawn[K]) > made.width).any())
    assert outside <= 6


def test_a_difference_ten_times_as_large_does_not_fit() -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        drawn = trainings(rng, K + 1)
        made = envelope(drawn[:K], [3.0] * N, first=0, coarser="float32", paired=False)
        assert (10 * np.abs(drawn[K]) > made.width).any()


def test_equal_twins_leave_the_floor() -> None:
    made = envelope(np.zeros((K, N)), [4.17] * N, first=0, coarser="float32", paired=False)
    assert made.width == (4 * 2.0**-21,) * N
    assert made.widest == 4 * 2.0**-21


def test_fewer_than_eight_twins_make_none() -> None:
    with pytest.raises(AssertionError):
        envelope(np.zeros((7, N)), [4.17] * N, first=0, coarser="float32", paired=False)


# ---------------------------------------------------------------------------------------------
# Twins


def trained(which: Job, how: Numerics, moment: Moment, iterations: int) -> Mapping[str, Tensor]:
    """Weights after some updates, computed in float64."""
    stretch = Stretch(which, how)
    stretch.model.double()
    return stretch.run(moment, iterations, keep=(iterations,)).moments[iterations].weights


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("bias", [False, True])
def test_a_reordered_training_is_the_same_training(bias: bool, dropout: float) -> None:
    settings = config(bias=bias, dropout=dropout, gradient_accumulation_steps=2, grad_clip=0.1, weight_decay=0.1)
    whole, moment = job(settings, 3)
    how = numerics(settings, adamw="loop")
    new = order(whole.shape, 1, 0, fixed=dropout > 0)
    twin = dataclasses.replace(moment, weights=reordered(moment.weights, new))
    straight = reordered(trained(whole, how, moment, 3), new)
    other = trained(ReorderedJob(whole, 1, 0), how, twin, 3)
    # AdamW divides by a root: where a gradient is nearly 0, an error of 1e-16 of it is seen.
    assert all(torch.allclose(straight[name], other[name], rtol=0, atol=1e-8) for name in straight)
    assert not torch.equal(
        twin.weights["transformer.h.0.mlp.c_fc.weight"], moment.weights["transformer.h.0.mlp.c_fc.weight"]
    )


def test_sums_run_in_another_order_everywhere() -> None:
    whole, moment = job(config(bias=True))
    new = order(whole.shape, 1, 0, fixed=False)
    for name, tensor in reordered(moment.weights, new).items():
        assert torch.equal(tensor.flatten().sort().values, moment.weights[name].flatten().sort().values)
        if tensor.dim() == 2:
            assert not torch.equal(tensor, moment.weights[name]), name


def test_every_weight_moves_by_one_float32() -> None:
    _, moment = job(config())
    twin, other = moved(moment.weights, 1, 0, None), moved(moment.weights, 1, 1, None)
    for name, weight in moment.weights.items():
        up, down = torch.nextafter(weight, torch.tensor(torch.inf)), torch.nextafter(weight, torch.tensor(-torch.inf))
        assert bool(((twin[name] == up) | (twin[name] == down)).all())
        share = float((twin[name] == up).float().mean())
        assert share == pytest.approx(0.5, abs=0.25)
    assert not torch.equal(twin["transformer.wte.weight"], other["transformer.wte.weight"])
    assert all(torch.equal(moved(moment.weights, 1, 0, None)[name], twin[name]) for name in twin)


def test_with_a_unit_weights_move_by_a_part_of_it() -> None:
    _, moment = job(config())
    weight = moment.weights["transformer.wte.weight"].double()
    apart = (moved(moment.weights, 1, 0, 2.0**-7)["transformer.wte.weight"].double() - weight) / weight
    assert float(apart.abs().max()) <= 2.0**-7
    assert float(apart.std()) == pytest.approx(2.0**-7 / 3**0.5, rel=0.1)


def test_variants_are_kernels_of_the_same_arithmetic() -> None:
    whole, _ = job(config())
    how = numerics(config(), threads=2)
    found = variants(whole, how)
    assert [each.dtype for each in found] == ["float32"] * 4
    assert {each.attention for each in found} == {"plain", "fused"}
    assert {each.adamw for each in found} == {"fused", "loop"}
    assert {each.threads for each in found} == {1, 2}
    # Keyed masks need the plain kernel, so there is no other.
    masked, _ = job(config(dropout=0.1))
    assert {each.attention for each in variants(masked, numerics(config(attention="fused")))} == {"fused"}


# ---------------------------------------------------------------------------------------------
# Of real trainings


SLOW: dict[str, object] = {"learning_rate": 1e-3}
"""At the higher rate of these tests, rounding grows by a factor of a hundred in ten updates."""


def made(settings: dict[str, object], recorded: str, replayed: str, iterations: int = 12) -> Envelope:
    whole, moment = job(config(**settings), iterations)
    how = numerics(config(**settings), dtype=replayed)
    losses = Stretch(whole, how).run(moment, iterations).losses
    found = measure(whole, moment, dataclasses.replace(how, dtype=recorded), how, losses)
    assert isinstance(found, Envelope)
    return found


def test_an_envelope_repeats() -> None:
    assert made({}, "float32", "float32") == made({}, "float32", "float32")


def test_the_coarser_dtype_decides() -> None:
    fine = made(SLOW, "float32", "float32")
    coarse = made(SLOW, "bfloat16", "bfloat16")
    assert (fine.coarser, fine.paired, coarse.coarser, coarse.paired) == ("float32", False, "bfloat16", False)
    assert fine.widest < 1e-5 < coarse.widest < 1e-3
    for pair in (made(SLOW, "float32", "bfloat16"), made(SLOW, "bfloat16", "float32")):
        assert (pair.coarser, pair.paired) == ("bfloat16", True)
        assert 1e-5 < pair.widest < 1e-3


def test_with_dropout_twins_keep_the_masks() -> None:
    """With other masks the losses would be apart by far more than rounding."""
    assert made({**SLOW, "dropout": 0.2}, "float32", "float32").widest < 1e-5


def test_tf32_of_another_machine_is_imitated() -> None:
    whole, moment = job(config(**SLOW), 12)
    how = numerics(config())
    losses = Stretch(whole, how).run(moment, 12).losses
    found = measure(whole, moment, dataclasses.replace(how, tf32=True), how, losses)
    assert isinstance(found, Envelope)
    assert (found.coarser, found.paired) == ("tf32", True)
    assert 1e-6 < found.widest < 1e-3


def test_twins_that_diverge_make_no_envelope() -> None:
    whole, moment = job(config(), 4)
    weights = {name: weight * torch.nan for name, weight in moment.weights.items()}
    found = measure(
        whole, dataclasses.replace(moment, weights=weights), numerics(config()), numerics(config()), [3.0] * 4
    )
    assert found == "8 of 8 twins have losses that are not finite, so rounding alone may do that here"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recorded", "replayed", "limit"),
    [("float32",) * 2 + (1e-5,), ("bfloat16",) * 2 + (1e-3,), ("float32", "bfloat16", 1e-3)],
)
def test_the_laptop_recipe_has_a_narrow_envelope(recorded: str, replayed: str, limit: float) -> None:
    from lossgap.presets import preset

    settings = {**preset("shakespeare_char_cpu"), "device": "cpu", "compile": False, "threads": 2}
    whole, moment = job(config(**settings), 50)
    how = numerics(config(**settings), dtype=replayed)
    losses = Stretch(whole, how).run(moment, 50).losses
    found = measure(whole, moment, dataclasses.replace(how, dtype=recorded), how, losses)
    assert isinstance(found, Envelope)
    assert found.widest < limit
