"""The envelope: how far two trainings of one recipe may diverge by rounding alone, iteration by iteration.

Twins (twins.py) are trained from the recorded start. Their differences t[j, i] (twin j, iteration i) give the bound of
a replay's difference:

1. Growth: s[i] is the root mean square of t over the twins, made to grow: the isotonic regression of the mean squares,
   which is the maximum likelihood fit of normal scales that never fall (Robertson, Wright and Dykstra 1988, Order
   Restricted Statistical Inference, 1.5). It is read `LEAD` iterations ahead, as a rounding that shows after two
   updates may as well have come two updates earlier, and is at least half a unit in the last place of the loss.
2. Largest departure: m[j] = max over i of |t[j, i]| / s[i], with s fitted without twin j. log m is close to normal.
3. Bound: |difference at i| <= max(c s[i], 4 units in the last place of the float32 loss), with
   log c = mean(log m) + q sd(log m) sqrt(1 + 1/k): the one-sided prediction limit for one further training of k + 1
   alike ones (Hahn and Meeker 1991, Statistical Intervals, 4.8), q Student's t quantile with k - 1 degrees of freedom
   at 99%. As m is a maximum over the stretch, the 1% holds for the whole stretch together. The sd is taken to be at
   least `LEAST_SPREAD`, since a replay's rounding need not be as large as the twins'.

Where both trainings compute in one dtype, a difference is a twin's loss minus the replay's own. Where the dtypes
differ, rounding to the coarser one is common to all twins in it and would cancel: then t is the difference of two
trainings from one state, one in each dtype, and the states are moved by the coarser unit, so that each rounds anew.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.stats import t as student

from lossgap.parity.rounding import PRECISION, arithmetic, noisy
from lossgap.parity.stretch import Job, Moment, Stretch
from lossgap.parity.twins import ReorderedJob, moved, order, reordered
from lossgap.random import Float64
from lossgap.training.numerics import Numerics, training_attention

LEVEL = 0.01
"""The share of trainings, differing by rounding alone, that is taken for different; over the whole stretch."""
FLOOR = 4
"""Units in the last place of the loss that are always allowed."""
LEAD = 2
"""Iterations by which the growth is read ahead."""
LEAST_SPREAD = 0.25
"""The least spread of the logarithms of the largest departures."""
FEWEST_TWINS = 8
SEED = 1
"""The seed of the twins; a constant, so that an envelope repeats."""


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """The bound of |replayed - recorded| at each iteration of a stretch, in nats per token."""

    first: int
    """The first iteration."""
    width: tuple[float, ...]
    growth: tuple[float, ...]
    """s of the module."""
    factor: float
    """c of the module."""
    twins: int
    coarser: str
    """The dtype whose rounding it is of."""
    paired: bool
    """True if the differences are between two dtypes."""

    @property
    def widest(self) -> float:
        """The largest bound."""
        return max(self.width)


Say = Callable[[str], None]


def ulp(losses: Sequence[float]) -> Float64:
    """One unit in the last place of float32 at each loss, shape (n,); that of 1 for a loss that is not finite."""
    values = np.abs(np.asarray(losses, dtype=np.float64))
    values = np.where(np.isfinite(values), values, 1.0).astype(np.float32)
    unit: Float64 = np.spacing(values).astype(np.float64)
    return unit


def growth(differences: Float64, unit: Float64) -> Float64:
    """s of the module, (n,), of differences (k, n)."""
    fitted = np.sqrt(isotonic_regression(np.square(differences).mean(axis=0)).x)
    ahead = np.concatenate([fitted[LEAD:], np.repeat(fitted[-1:], min(LEAD, len(fitted)))])
    least: Float64 = np.maximum(ahead, unit / 2)
    return least


def largest_departures(differences: Float64, unit: Float64) -> Float64:
    """m of the module, (k,), of differences (k, n)."""
    k = len(differences)
    others = [growth(np.delete(differences, twin, axis=0), unit) for twin in range(k)]
    found: Float64 = np.max(np.abs(differences) / np.stack(others), axis=1)
    return found


def bound(departures: Float64) -> float:
    """c of the module, from largest departures (k,)."""
    k = len(departures)
    logs = np.log(np.maximum(departures, 1.0))  # below 1 nothing departs: all twins may be equal to the last bit
    spread = max(float(np.std(logs, ddof=1)), LEAST_SPREAD)
    return float(np.exp(np.mean(logs) + student.ppf(1 - LEVEL, k - 1) * spread * math.sqrt(1 + 1 / k)))


def envelope(differences: Float64, losses: Sequence[float], *, first: int, coarser: str, paired: bool) -> Envelope:
    """The envelope of twins' differences (k, n) around `losses` (n,)."""
    assert len(differences) >= FEWEST_TWINS, f"an envelope needs {FEWEST_TWINS} twins"
    unit = ulp(losses)
    fitted = growth(differences, unit)
    factor = bound(largest_departures(differences, unit))
    return Envelope(
        first=first,
        width=tuple(np.maximum(factor * fitted, FLOOR * unit).tolist()),
        growth=tuple(fitted.tolist()),
        factor=factor,
        twins=len(differences),
        coarser=coarser,
        paired=paired,
    )


# ---------------------------------------------------------------------------------------------
# Twins


def variants(job: Job, numerics: Numerics) -> list[Numerics]:
    """These numerics, then other kernels of the device that compute the same."""
    eager = dataclasses.replace(numerics, compile=False)
    found = [numerics] + [eager] * numerics.compile
    if training_attention(job.config, numerics) == numerics.attention:
        found.append(dataclasses.replace(eager, attention="plain" if numerics.attention == "fused" else "fused"))
    if numerics.device_type in ("cpu", "cuda"):
        found.append(dataclasses.replace(eager, adamw="loop" if numerics.adamw == "fused" else "fused"))
    if numerics.device_type == "cpu" and numerics.threads > 1:
        found.append(dataclasses.replace(eager, threads=1))
    return found


def twin_losses(
    job: Job,
    numerics: Sequence[Numerics],
    moment: Moment,
    iterations: int,
    *,
    twins: int,
    unit: float | None,
    kernels: bool,
    say: Say,
) -> Iterator[list[Float64]]:
    """For each twin its losses (n,) in each of the numerics, from one state. See twins.py for `unit`."""
    kept: dict[Numerics, Stretch] = {}
    # A mask belongs to a place: with dropout, places of the residual stream and heads stay.
    fixed = job.config.dropout > 0
    for twin in range(twins):
        new = order(job.shape, SEED, twin, fixed)
        state = dataclasses.replace(
            moment,
            weights=reordered(moved(moment.weights, SEED, twin, unit), new),
            exp_avg=reordered(moment.exp_avg, new),
            exp_avg_sq=reordered(moment.exp_avg_sq, new),
        )
        found = []
        for each in numerics:
            found.append(_losses(kept, job, variants(job, each) if kernels else [each], twin, state, iterations))
        say(f"{'pair' if len(numerics) > 1 else 'twin'} {twin + 1} of {twins}")
        yield found


def _losses(
    kept: dict[Numerics, Stretch], job: Job, kernels: Sequence[Numerics], twin: int, state: Moment, iterations: int
) -> Float64:
    """One twin's losses, with one of the kernels."""
    numerics = kernels[twin % len(kernels)]
    # TF32 is CUDA's; elsewhere it is imitated: results of products moved by its unit.
    imitated = numerics.tf32 and numerics.device_type != "cuda"
    numerics = dataclasses.replace(numerics, tf32=numerics.tf32 and not imitated)
    stretch = kept.get(numerics) or kept.setdefault(numerics, Stretch(job, numerics))
    stretch.job = ReorderedJob(job, SEED, twin)
    with noisy(stretch.model, PRECISION["tf32"], twin) if imitated else nullcontext():
        return np.array(stretch.run(state, iterations).losses)


def measure(
    job: Job,
    moment: Moment,
    recorded: Numerics,
    replayed: Numerics,
    losses: Sequence[float],
    *,
    twins: int = FEWEST_TWINS,
    kernels: bool = True,
    say: Say = lambda _: None,
) -> Envelope | str:
    """The envelope of a replay whose own losses are `losses`, or why there is none.

    `recorded` are the recording's numerics as this machine would run them. Where both dtypes are the same, the twins
    run in `replayed` alone. `kernels` says whether some twins run with other kernels, too: not where one of the
    device's may be wrong, for it would widen the envelope until it holds its own fault.
    """
    pair = (arithmetic(recorded), arithmetic(replayed))
    coarser = min(pair, key=lambda name: PRECISION[name])
    paired = PRECISION[pair[0]] != PRECISION[pair[1]]
    found = twin_losses(
        job,
        (recorded, replayed) if paired else (replayed,),
        moment,
        len(losses),
        twins=twins,
        unit=2.0 ** (1 - PRECISION[coarser]) if paired else None,
        kernels=kernels,
        say=say,
    )
    table = np.stack([each[-1] - (each[0] if paired else np.asarray(losses)) for each in found])
    bad = int((~np.isfinite(table)).any(axis=1).sum())
    if bad:
        return f"{bad} of {twins} twins have losses that are not finite, so rounding alone may do that here"
    return envelope(table, losses, first=moment.iteration, coarser=coarser, paired=paired)
