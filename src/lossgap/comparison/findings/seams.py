"""R7: places where a run was stopped and resumed, and rows that are missing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from lossgap.comparison.curve import Curve, Floats, Ints
from lossgap.comparison.facts import Facts
from lossgap.comparison.findings.chance import could_be_worse_for
from lossgap.comparison.rules import Finding, Pair, Result, RuledOut, cause, remark, rule, ruled_out
from lossgap.runs.values import as_int, as_list, as_mapping

WINDOW = 20
"""Printed losses before and after a seam that are held against each other."""
COUNTS = (1, 3, 10, 20)
"""Losses after a seam whose mean is looked at: a step that is soon gone is seen in few, a small one in many."""
SIGMAS = 5.0
LEAST = 0.02
"""Nats: a smaller step at a seam is none."""
RATE = 1.2
"""A learning rate that is this many times another one is another rate."""

SCHEDULE = frozenset(("learning_rate", "min_lr", "warmup_iters", "lr_decay_iters", "max_iters", "decay_lr"))


@dataclass(frozen=True, kw_only=True)
class SettingStep:
    """How the loss stepped at a seam: mean after minus mean before, and the standard error of that."""

    size: float
    error: float
    recovered: int | None
    """Iterations until the loss was down at its level before; None if it never was."""

    @property
    def is_up(self) -> bool:
        """True if it is a rise, beyond the scatter of the losses."""
        return self.size > max(LEAST, SIGMAS * self.error)


@dataclass(frozen=True, kw_only=True)
class Seam:
    """A place where a run went on, and what is seen there."""

    at: int
    exact: bool
    """True if its trainer says that it went on bit by bit."""
    changed: tuple[str, ...]
    """Settings that are others from here on."""
    step: SettingStep | None
    rates: tuple[float, float] | None
    """Learning rates before and after, where the record has them."""

    @property
    def is_up(self) -> bool:
        """True if the loss stepped up."""
        return self.step is not None and self.step.is_up

    @property
    def lasts(self) -> bool:
        """True if the loss stepped up and never came down again."""
        return self.step is not None and self.step.is_up and self.step.recovered is None

    @property
    def has_other_rate(self) -> bool:
        """True if the learning rate is another one from here on."""
        return self.rates is not None and not 1 / RATE <= self.rates[1] / self.rates[0] <= RATE


def seams(facts: Facts) -> list[Seam]:
    """The seams of a run in the order of its iterations."""
    found = []
    for item in map(as_mapping, facts.run.seams):
        at = as_int(item.get("iter"))
        if at is None:
            continue
        said = as_list(item.get("changed"))
        names = [as_mapping(change).get("setting") if isinstance(change, dict) else change for change in said]
        found.append(
            Seam(
                at=at,
                exact=item.get("exact") is True,
                changed=tuple(str(name) for name in names if name),
                step=_step(facts.train, at, WINDOW) or _step(facts.val, at, 1),
                rates=_rates(facts, at),
            )
        )
    return sorted(found, key=lambda seam: seam.at)


def _step(curve: Curve | None, at: int, window: int) -> SettingStep | None:
    """The clearest rise of the mean of a few losses after `at` over the mean of those before it."""
    if curve is None:
        return None
    place = int(np.searchsorted(curve.iters, at))
    before, after = curve.values[:place], curve.values[place:]
    # Scatter from neighbouring differences: the loss falls, and that is no scatter. The step itself is left out.
    moves = np.concatenate((np.diff(before[-4 * WINDOW :]), np.diff(after[WINDOW : 4 * WINDOW])))
    if len(before) < 3 or not len(after) or len(moves) < 4:
        return None
    with np.errstate(over="ignore"):
        scatter, level = float(np.std(moves)) / math.sqrt(2), before[-window:]
    if not math.isfinite(scatter):
        return None
    best: SettingStep | None = None
    for count in (count for count in COUNTS if count <= min(window, len(after))):
        size = float(after[:count].mean() - level.mean())
        error = max(1e-9, scatter * math.sqrt(1 / count + 1 / len(level)))
        if best is None or size / error > best.size / best.error:
            best = SettingStep(
                size=size, error=error, recovered=_recovered(after, curve.iters[place:], float(level.mean()))
            )
    return best


def _recovered(after: Floats, iters: Ints, level: float) -> int | None:
    """Iterations from the first loss until the mean of ten is down at `level`."""
    count = min(10, len(after))
    means = np.convolve(after, np.ones(count) / count, mode="valid")
    below = np.flatnonzero(means <= level)
    return int(iters[below[0] + count - 1] - iters[0]) if len(below) else None


def _rates(facts: Facts, at: int) -> tuple[float, float] | None:
    rows = facts.run.iters.filter((pl.col("lr") > 0) & pl.col("iter").is_not_null()).sort("iter")
    before, after = rows.filter(pl.col("iter") < at)["lr"], rows.filter(pl.col("iter") >= at)["lr"]
    return (float(before[-1]), float(after[0])) if len(before) and len(after) else None


@rule("resume-seam", title="A resumed run does not go on where it stopped", group="D", order=7)
def resume_seam(pair: Pair) -> Result:
    """The loss, or the learning rate, steps where a run was resumed."""
    for label, facts in pair.runs:
        for seam in seams(facts):
            numbers: dict[str, object] = {"run": label, "iteration": seam.at, "changed": list(seam.changed)}
            if seam.step is not None:
                numbers |= {"step": seam.step.size, "error": seam.step.error, "recovered": seam.step.recovered}
            if seam.rates is not None:
                numbers |= {"rate_before": seam.rates[0], "rate_after": seam.rates[1]}
            steps = seam.is_up or seam.has_other_rate
            yield _steps(pair, label, seam, numbers) if steps else _goes_on(label, seam, numbers)


def _goes_on(label: str, seam: Seam, numbers: dict[str, object]) -> Finding | RuledOut:
    changed = f" with other settings ({', '.join(seam.changed)})" if seam.changed else ""
    text = f"{label} was resumed at iteration {seam.at:,}{changed}"
    if seam.exact:
        said = f"{text}; its trainer records that it went on bit by bit."
        return ruled_out("computed", said, numbers=numbers, title="A resume that does not go on where it stopped")
    if seam.step is None:
        said = f"{text}. No losses around it tell whether it went on as it was."
        return remark("inferred", said, numbers=numbers, title="A run was resumed")
    said = f"{text}, and its loss did not step up there ({seam.step.size:+.3f}, standard error {seam.step.error:.3f})."
    return ruled_out("inferred", said, numbers=numbers, title="A resume that does not go on where it stopped")


def _steps(pair: Pair, label: str, seam: Seam, numbers: dict[str, object]) -> Finding:
    changed = f" with other settings ({', '.join(seam.changed)})" if seam.changed else ""
    text = f"{label} was resumed at iteration {seam.at:,}{changed}."
    if seam.is_up and seam.step is not None:
        back = "and never came down again"
        if seam.step.recovered is not None:
            back = f"and was down again after {seam.step.recovered:,} iterations"
        text += (
            f" Its loss stepped up by {seam.step.size:.3f} (standard error {seam.step.error:.3f}) {back}. A step that "
            "goes away is what a lost optimizer state or another place in the data makes; one that stays, other "
            "weights, data or rate."
        )
    if seam.has_other_rate and seam.rates is not None:
        text += f" Its learning rate went from {seam.rates[0]:.3g} to {seam.rates[1]:.3g}."
    settle = f"Train {label} without interruption, or resume it with its optimizer state, rate and place in the data."
    # A schedule that was changed on purpose is another rule's; a rate can also do good.
    rate = seam.has_other_rate and not SCHEDULE & set(seam.changed)
    harmed = could_be_worse_for(pair, label)
    if (seam.lasts and harmed) or rate:
        return cause("likely" if harmed else "possible", "inferred", text, numbers=numbers, settle=settle)
    return remark("inferred", text, numbers=numbers, settle=settle)


# ---------------------------------------------------------------------------------------------
# Rows that are missing

MISSING_STEPS = 20
MISSING_SHARE = 0.05
"""A jump of the counter is one that is this many times its usual step, and this share of the run. Choices."""


@rule("missing-rows", title="The record leaves iterations out", group="D", order=7)
def missing_rows(pair: Pair) -> Result:
    """The counter of the printed iterations jumps ahead, far beyond its usual step."""
    for label, facts in pair.runs:
        iters = facts.run.iters["iter"].drop_nulls().unique().sort().to_numpy()
        if len(iters) < 5 or facts.run.thinned is not None:
            continue
        steps = np.diff(iters)
        usual, span = float(np.median(steps)), float(iters[-1] - iters[0])
        jumps = np.flatnonzero((steps > MISSING_STEPS * usual) & (steps > MISSING_SHARE * span))
        if len(jumps):
            first, last = int(iters[jumps[0]]), int(iters[jumps[0] + 1])
            more = f", and {len(jumps)} such stretches in all" if len(jumps) > 1 else ""
            step = "every iteration" if usual == 1 else f"every {usual:,.0f} iterations"
            yield remark(
                "inferred",
                f"{label} prints {step}, but nothing between {first:,} and {last:,}{more}: what happened there is not "
                "in the record.",
                numbers={"run": label, "from": first, "to": last, "stretches": len(jumps)},
            )
