"""From the results of arms to the division of a gap, and whether the arms are still what they left on the disk.

reported = not_reproduced + measurement + common,   common = contributions + screened_out
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lossgap.attribution import measure
from lossgap.attribution.arm import ArmResult, arm_folder
from lossgap.attribution.design import together
from lossgap.attribution.effects import Effects, Floats, Mean, another, effects, mean, verdict
from lossgap.attribution.explanation import At, Contribution, Division, EndEffects, Interaction, Quantity
from lossgap.attribution.factor import Factor
from lossgap.attribution.gather import Gathered
from lossgap.errors import TrainingError

TOLERANCE = 1e-9
"""Nats per token: sums of a few dozen numbers of size 1 in float64 are exact to 1e-14."""


@dataclass(frozen=True, kw_only=True)
class Reported:
    """The gap as the two runs say it, nats per token."""

    gap: Quantity
    error: float | None = None
    """Standard error of both values as evaluations of the same weights; None, with `why`, where it is not known."""
    why: str = ""


def divide(
    gathered: Gathered, factors: Mapping[str, Factor], at: At, margin: float, reported: Reported, scaled: bool
) -> Division:
    """The division at `last` or `best`. Raises TrainingError `sum-not-gap` through `check`."""
    design = gathered.design
    found = effects(design, gathered.games(at))
    intervals = together(len(found.factors))
    ends = [[gathered.result(seed, arm) for seed in design.seeds] for arm in (frozenset[str](), design.everything)]
    common = [np.array([_loss(result, at) for result in side]) for side in ends]
    own = [np.array([_own(result, at) for result in side]) for side in ends]
    gains = [one - other for one, other in zip(own, common, strict=True)]
    return Division(
        at=at,
        reported=reported.gap,
        measurement=_quantity(mean(gains[1] - gains[0])),
        common=_quantity(found.mean("gaps", intervals=intervals)),
        ends=(float(common[0].mean()), float(common[1].mean())),
        own_context=(float(gains[0].mean()), float(gains[1].mean())),
        contributions=_contributions(found, factors, margin, intervals),
        interactions=_interactions(found),
        not_reproduced=_not_reproduced(reported, own[1] - own[0], scaled),
        screened_out=_quantity(found.mean("dropped"))
        if design.dropped
        else Quantity(value=0.0, why="nothing was dropped"),
        end_effects=_end_effects(found),
        higher_order=_quantity(found.mean("higher_order"))
        if design.kind == "factorial" or len(found.factors) < 3
        else Quantity(value=None, why="it takes every factor switched alone and last, which orders do not have"),
    )


def _contributions(
    found: Effects, factors: Mapping[str, Factor], margin: float, intervals: int
) -> tuple[Contribution, ...]:
    made = []
    for place, name in enumerate(found.factors):
        values: Floats = found.contributions[:, place]
        of_factor = found.mean("contributions", place, intervals)
        made.append(
            Contribution(
                factor=factors[name],
                value=of_factor.value,
                ci=of_factor.ci,
                verdict=verdict(of_factor, margin),
                per_seed=() if found.errors else tuple(values.tolist()),
                error=of_factor.error,
                why=of_factor.why,
            )
        )
    return tuple(sorted(made, key=lambda item: -abs(item.value)))


def _interactions(found: Effects) -> tuple[Interaction, ...]:
    made = []
    for place, pair in enumerate(found.pairs):
        of_pair = found.mean("interactions", place, len(found.pairs))
        made.append(Interaction(factors=pair, value=of_pair.value, ci=of_pair.ci, why=of_pair.why))
    return tuple(sorted(made, key=lambda item: -abs(item.value)))


def _end_effects(found: Effects) -> tuple[EndEffects, ...]:
    made, intervals = [], 2 * len(found.factors)
    order = np.argsort(-np.abs(found.contributions.mean(axis=0)), kind="stable")
    for place in order.tolist():
        ends = (found.mean(part, place, intervals) for part in ("in_control", "in_test"))
        in_control, in_test = map(_quantity, ends)
        made.append(EndEffects(factor=found.factors[place], in_control=in_control, in_test=in_test))
    return tuple(made)


def _not_reproduced(reported: Reported, own_gaps: Floats, scaled: bool) -> Quantity:
    """`own_gaps` (seeds,): of the re-trained ends, each at its own context.

    The interval allows for what one more seed would give: the runs are one seed each.
    """
    gap = reported.gap.value
    if gap is None:
        return Quantity(value=None, why=reported.gap.why)
    if scaled:
        return Quantity(value=None, why="the reported gap is of the true scale, the arms are of a smaller one")
    found = another(own_gaps, reported.error or 0.0)
    if reported.error is None or found.ci is None:
        return Quantity(value=gap - found.value, why=found.why or reported.why)
    return Quantity(value=gap - found.value, ci=(gap - found.ci[1], gap - found.ci[0]))


def _quantity(found: Mean) -> Quantity:
    return Quantity(value=None if math.isnan(found.value) else found.value, ci=found.ci, why=found.why)


def _loss(result: ArmResult, at: At) -> float:
    return result.val_loss if at == "last" else result.best_val_loss


def _own(result: ArmResult, at: At) -> float:
    return result.own_val_loss if at == "last" else result.own_best_val_loss


def check(division: Division, gathered: Gathered, root: Path) -> None:
    """Every arm against what it left on the disk under its digest, and the sum of the parts against the ends there.

    The sum is the gap by construction: what this finds is files that changed and faults of the program, and it says
    nothing of whether a contribution is right. Raises TrainingError `sum-not-gap`, naming the
    arm or the difference.
    """
    kept: dict[str, ArmResult] = {}
    for (seed, switched), arm in gathered.arms.items():
        if seed not in gathered.design.seeds:
            continue
        found = measure.stored(arm.key, root)
        used = gathered.results[arm.key]
        if found is None or _loss(found, division.at) != _loss(used, division.at):
            name = ", ".join(sorted(switched)) or "none"
            raise TrainingError(
                "sum-not-gap",
                f"the arm of seed {seed} with these factors switched: {name} is not what it left in "
                f"{arm_folder(arm.key, root)}: remove that folder, and run the same command again",
            )
        kept[arm.key] = found
    gaps = []
    for seed in gathered.design.seeds:
        control, test = (kept[gathered.arms[seed, end].key] for end in (frozenset[str](), gathered.design.everything))
        gaps.append(_loss(test, division.at) - _loss(control, division.at))
    parts = sum(item.value for item in division.contributions) + (division.screened_out.value or 0.0)
    difference = parts - sum(gaps) / len(gaps)
    if not abs(difference) <= TOLERANCE:
        raise TrainingError(
            "sum-not-gap",
            f"the contributions ({division.at}) differ from the gap of the re-trained ends by {difference:.3g}, more "
            f"than {TOLERANCE:g}: this is a fault of lossgap; please report it with the command",
        )
