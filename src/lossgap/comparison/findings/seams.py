"""R7: places where a run was stopped and resumed, batches that it read twice, and rows that are missing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from lossgap.comparison.curve import Curve
from lossgap.comparison.facts import Facts
from lossgap.comparison.finding import Finding, Pair, Result, RuledOut, cause, remark, rule, ruled_out
from lossgap.comparison.findings.chance import could_be_worse_for
from lossgap.comparison.findings.likeness import within
from lossgap.comparison.metric import Metric
from lossgap.runs.values import as_int, as_list

WINDOW = 20
"""Printed losses before and after a seam that are held against each other."""
SIGMAS = 5.0
LEAST = 0.02
"""Nats: a smaller step at a seam is none."""
RATE = 1.2
"""A learning rate that is this many times another one is another rate."""
REPEATED = 0.2
"""Share of the updates on repeated batches from which a lower train loss may come from them. A choice."""


@dataclass(frozen=True, kw_only=True)
class Seam:
    """A place where a run went on: what was said of it, and how the loss stepped there."""

    at: int
    exact: bool
    changed: tuple[str, ...]
    step: float | None
    """Loss after it minus loss before it; None if no losses tell."""
    error: float
    recovered: int | None
    """Iterations until the loss was back at its level before the seam; None if it never was."""
    rates: tuple[float, float] | None
    """Learning rates before and after, where logged."""

    @property
    def jumped(self) -> bool:
        """Whether the loss stepped up by more than its scatter."""
        return self.step is not None and self.step > max(LEAST, SIGMAS * self.error)

    @property
    def other_rate(self) -> bool:
        """Whether the learning rate is another one after it."""
        return self.rates is not None and not 1 / RATE <= self.rates[1] / self.rates[0] <= RATE


def seams(facts: Facts) -> list[Seam]:
    """The seams of a run in the order of its iterations."""
    found = []
    for item in facts.run.seams:
        at = as_int(item.get("iter")) if isinstance(item, dict) else None
        if at is not None and isinstance(item, dict):
            names = [change.get("setting") if isinstance(change, dict) else change for change in as_list(item.get("changed"))]
            changed = tuple(str(name) for name in names if name)
            found.append(_seam(facts, at, exact=item.get("exact") is True, changed=changed))
    return sorted(found, key=lambda seam: seam.at)


def _seam(facts: Facts, at: int, *, exact: bool, changed: tuple[str, ...]) -> Seam:
    step = _step(facts.train, at, WINDOW) or _step(facts.val, at, 1)
    size, error, recovered = step or (None, 0.0, None)
    return Seam(at=at, exact=exact, changed=changed, step=size, error=error, recovered=recovered, rates=_rates(facts, at))


def _step(curve: Curve | None, at: int, window: int) -> tuple[float, float, int | None] | None:
    """The largest rise of the mean over a few losses after `at`, with its error and when it was gone."""
    if curve is None:
        return None
    before, after = curve.values[curve.iters < at], curve.values[curve.iters >= at]
    later = curve.iters[curve.iters >= at]
    if len(before) < 3 or not len(after):
        return None
    level = before[-window:]
    # Neighbouring differences, not deviations: the loss falls, and that is no scatter.
    nearby = np.concatenate((before[-4 * WINDOW :], after[WINDOW : 4 * WINDOW]))
    scatter = float(np.std(np.diff(nearby))) / math.sqrt(2) if len(nearby) > 4 else float("inf")
    best: tuple[float, float] | None = None
    for count in sorted({1, 3, 10, window}):
        if count > min(window, len(after)):
            continue
        size = float(after[:count].mean() - level.mean())
        error = scatter * math.sqrt(1 / count + 1 / len(level))
        if best is None or size / max(error, 1e-12) > best[0] / max(best[1], 1e-12):
            best = size, error
    assert best is not None
    return *best, _recovery(after, later, at, float(level.mean()))


def _recovery(after: np.ndarray[tuple[int], np.dtype[np.float64]], iters: np.ndarray[tuple[int], np.dtype[np.int64]], at: int, level: float) -> int | None:  # fmt: skip
    """Iterations until the mean of some losses is down at `level` again."""
    count = min(10, len(after))
    means = np.convolve(after, np.ones(count) / count, mode="valid")
    below = np.flatnonzero(means <= level)
    return int(iters[below[0] + count - 1] - at) if len(below) else None


def _rates(facts: Facts, at: int) -> tuple[float, float] | None:
    rows = facts.run.iters.filter(pl.col("lr").is_not_null() & (pl.col("lr") > 0)).sort("iter")
    before, after = rows.filter(pl.col("iter") < at), rows.filter(pl.col("iter") >= at)
    return (float(before["lr"][-1]), float(after["lr"][0])) if before.height and after.height else None


@rule("resume-seam", title="A resumed run does not go on where it stopped", group="D", order=7)
def resume_seam(pair: Pair) -> Result:
    """The loss, or the learning rate, steps where a run was resumed."""
    for label, facts in pair.runs:
        for seam in seams(facts):
            yield _judged(pair, label, seam)


def _judged(pair: Pair, label: str, seam: Seam) -> Finding | RuledOut:
    numbers: dict[str, object] = {"run": label, "iteration": seam.at, "step": seam.step, "recovered": seam.recovered}
    if seam.rates is not None:
        numbers |= {"rate_before": seam.rates[0], "rate_after": seam.rates[1]}
    parts = [f"{label} was resumed at iteration {seam.at:,}"]
    if seam.changed:
        parts.append(f"with other settings ({', '.join(seam.changed)})")
    if seam.jumped:
        back = "had not come down again by its end" if seam.recovered is None else f"was back after {seam.recovered:,} iterations"
        parts.append(f"its loss stepped up by {seam.step:.3f} there (its scatter makes ±{2 * seam.error:.3f}) and {back}")
    if seam.other_rate and seam.rates is not None:
        parts.append(f"its learning rate went from {seam.rates[0]:.3g} to {seam.rates[1]:.3g}")
    text = ", ".join(parts) + "."
    if not seam.jumped and not seam.other_rate:
        known = f", and its loss did not step there ({seam.step:+.3f})" if seam.step is not None else ""
        if seam.step is None and not seam.exact:
            return remark(
                "inferred", f"{text} No losses around it tell whether it went on as it was.", numbers=numbers,
                title="A run was resumed",
            )  # fmt: skip
        exact = ", bit by bit as its trainer records" if seam.exact else ""
        return ruled_out("inferred", f"{text[:-1]}{exact}{known}.", numbers=numbers, title="The resume")
    if seam.jumped:
        text += " A step that goes away is what a lost optimizer state or another place in the data looks like; one that stays, other weights, data or learning rate."
    settle = f"Train {label} again without interruption, or resume with a trainer that restores optimizer, rate and data."
    lasting = (seam.jumped and seam.recovered is None) or seam.other_rate
    if lasting and could_be_worse_for(pair, label):
        return cause("likely", "inferred", text, numbers=numbers, settle=settle)
    return remark("inferred", text, numbers=numbers, settle=settle)


# ---------------------------------------------------------------------------------------------
# Batches that come again


@rule("repeated-batches", title="A resumed run reads the same batches again", group="D", order=7)
def repeated_batches(pair: Pair) -> Result:
    """nanoGPT seeds its generator again at a resume (nanoGPT#467); other trainers may lose their place in the data."""
    for label, facts in pair.runs:
        for at in _restarts(facts):
            found = _again(pair, label, facts, at)
            if found is not None:
                yield found


def _restarts(facts: Facts) -> Iterator[int]:
    """Iterations at which a run went on; the first one of a record that holds the resumed leg only."""
    exact = {seam.at for seam in seams(facts) if seam.exact}
    yield from (seam.at for seam in seams(facts) if seam.at not in exact)
    first = as_int(facts.run.iters["iter"].min())
    if facts.text("init_from").value == "resume" and first is not None and first > 1 and not facts.run.seams:
        yield first


def _again(pair: Pair, label: str, facts: Facts, at: int) -> Finding | RuledOut | None:
    last = facts.last_iter
    if last is None or last <= at:
        return None
    alike = within(facts, at)
    seeded = facts.run.format == "nanogpt"
    if alike is not None and alike.same is False:
        text = f"The losses after {label}'s resume at iteration {at:,} do not follow those of its first iterations ({alike.said})."
        return ruled_out("inferred", text, numbers={"run": label, "iteration": at, "correlation": alike.correlation}, title="Batches read twice")  # fmt: skip
    seen = alike is not None and alike.same is True
    if not seeded and not seen:
        return None
    again = min(at, last - at)
    share = again / last
    why = "nanoGPT seeds its generator with 1337 again at every start (nanoGPT#467)" if seeded else "the data began anew"
    proof = f"; the losses confirm it ({alike.said})" if seen and alike is not None else ""
    text = (
        f"{label} was resumed at iteration {at:,} and from there read the batches of iterations 0 to {again - 1:,} again: "
        f"{why}{proof}. {100 * share:.0f}% of its updates were on batches that it had seen."
    )
    numbers = {"run": label, "iteration": at, "again": again, "share": share}
    numbers |= {"correlation": alike.correlation} if alike is not None else {}
    metric = pair.alignment.metric
    on_train = isinstance(metric, Metric) and metric.name == "train_loss"
    other = "test" if label == "control" else "control"
    if on_train and share >= REPEATED and could_be_worse_for(pair, other):
        text += " That lowers a train loss without a better model."
        return cause("likely" if seen else "possible", "inferred", text, numbers=numbers, settle="Compare val losses.")
    return remark("inferred" if seen else "computed", text, numbers=numbers)


# ---------------------------------------------------------------------------------------------
# Rows that are missing

MISSING_STEPS = 20
MISSING_SHARE = 0.05


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
            first = int(jumps[0])
            more = f" and {len(jumps) - 1} more stretches" if len(jumps) > 1 else ""
            yield remark(
                "inferred",
                f"{label} prints every {usual:,.0f} iterations, but nothing between {iters[first]:,} and "
                f"{iters[first + 1]:,}{more}: what happened there is not in the record.",
                numbers={"run": label, "from": int(iters[first]), "to": int(iters[first + 1]), "stretches": len(jumps)},
            )
