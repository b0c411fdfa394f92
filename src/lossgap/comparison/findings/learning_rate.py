"""R3: the learning rate: peak, horizon, phase, warm-up."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import polars as pl

from lossgap.comparison.fact import Fact, Known, Unknown
from lossgap.comparison.facts import Facts
from lossgap.comparison.findings import weighing
from lossgap.comparison.findings.command import retrain
from lossgap.comparison.rules import Finding, Pair, Result, Strength, cause, lacking, remark, rule, ruled_out
from lossgap.runs.values import as_float

RATE = ("learning_rate", "min_lr")
SCHEDULE = ("lr_decay_iters", "decay_lr", "min_lr")
SAME_RATE = 0.02
SAME_SHAPE = 0.02
"""Share of the peak within which two schedules are one."""
Shape = npt.NDArray[np.float64]
RATE_EFFECT = 0.03
"""Nats per e-fold of the peak near its optimum: a tuned rate against its neighbours moves a loss by 0.02 to 0.05
(MarinFold#75). Far from it the loss of a young run follows the number of updates that the rate is worth."""
DECAY_EFFECT = 0.05
"""Nats that the decay from the peak to a tenth of it is worth, roughly: 0.02 to 0.06 in runs of both kinds."""

MIN_LR_EFFECT = 0.01
"""Nats that another min_lr is worth where the record gives no number of it. A choice."""


@rule("learning-rate", title="Learning rate differs", group="B", order=3)
def learning_rate(pair: Pair) -> Result:
    """learning_rate as set, or the highest that the rows log."""
    control, test = _peak(pair.control), _peak(pair.test)
    if isinstance(control, Unknown) or isinstance(test, Unknown):
        yield lacking(control, test, what="whether both have the same learning rate")
        return
    if control.value <= 0 or test.value <= 0:
        return
    ratio = test.value / control.value
    numbers = {"control": control.value, "test": test.value, "ratio": ratio}
    if abs(math.log(ratio)) < SAME_RATE:
        yield from _lowest(pair, numbers)
        yield from _not_as_set(pair, control.value)
        return
    size = max(RATE_EFFECT, 0.5 * weighing.slope(pair)) * abs(math.log(ratio))
    weight = weighing.weigh(pair, RATE, size=size)
    yield cause(
        weight.strength,
        weighing.evidence(control, test),
        f"The learning rate peaks at {control.value:g} in the control and at {test.value:g} in the test: {ratio:.3g} "
        f"times. {_which(pair, ratio)}{weight.said}",
        numbers=numbers,
        effect=weight.effect,
        size=weight.size,
        settle="Train the test with the control's rate.",
        command=retrain(pair.test, learning_rate=control.value, min_lr=pair.control.min_lr.value)
        if pair.control.min_lr.known
        else "",
    )


def _peak(facts: Facts) -> Known[float] | Unknown:
    said = facts.learning_rate
    rows = facts.run.iters["lr"].drop_nulls()
    if said.known or rows.is_empty():
        return said
    return Known(float(rows.to_numpy().max()), "computed", "the highest in the rows")


def _which(pair: Pair, ratio: float) -> str:
    gap = pair.alignment.gap("last")
    if not gap:
        return "The sign of its effect is not known in advance."
    high, worse = ratio > 1, gap > 0
    if high == worse:
        return "The higher rate ends higher, so it is too high for this recipe, or its decay is not finished."
    return "The lower rate ends higher: for this many updates it is too low."


def _lowest(pair: Pair, numbers: dict[str, float]) -> Result:
    lowest = pair.settings.differing("min_lr")
    if lowest is None:
        yield ruled_out("computed", f"Both peak at a learning rate of {numbers['control']:g}.", numbers=numbers)
        return
    low = [value for value in (as_float(lowest.control), as_float(lowest.test)) if value is not None]
    # What the decay to a tenth of the peak is worth, by the share of the peak that is decayed more or less.
    size = DECAY_EFFECT * abs(low[1] - low[0]) / numbers["control"] if len(low) == 2 else MIN_LR_EFFECT
    weight = weighing.weigh(pair, ("min_lr",), size=size)
    yield cause(
        weight.strength,
        weighing.of_settings((lowest,)),
        f"min_lr is {lowest.control} in the control and {lowest.test} in the test, at equal peaks.{weight.said}",
        numbers={"control": lowest.control, "test": lowest.test},
        effect=weight.effect,
        size=weight.size,
        settle="Train the test with the control's min_lr.",
        command=retrain(pair.test, min_lr=lowest.control),
        title="min_lr differs",
    )


def _not_as_set(pair: Pair, stated: float) -> Result:
    """Equal settings, and logged rates that are not."""
    tables = [table for _, facts in pair.runs if (table := _rates(facts)).height >= 5]
    if len({int(table["iter"][0]) for table in tables}) > 1:
        return  # the record of one begins at a checkpoint, after the peak perhaps
    peaks = [float(table["lr"].to_numpy().max()) for table in tables]
    warm = [facts.warmup_iters.value for _, facts in pair.runs]
    if len(peaks) < 2 or min(peaks) <= 0 or warm[0] != warm[1] or weighing.length_ratio(pair) != 1.0:
        return
    ratio = peaks[1] / peaks[0]
    if abs(math.log(ratio)) < SAME_RATE:
        return
    gap = pair.alignment.gap("last")
    yield cause(
        "strong",
        "computed",
        f"Both say a learning rate of {stated:g}, but the highest that they log is {peaks[0]:g} in the control and "
        f"{peaks[1]:g} in the test: one of them ran otherwise than set.",
        numbers={"control": peaks[0], "test": peaks[1], "ratio": ratio},
        effect=gap,
        settle="Look at the schedule in the code of both.",
        title="A learning rate did not run as set",
    )


@rule("learning-rate-horizon", title="Learning-rate decay differs", group="B", order=3)
def learning_rate_horizon(pair: Pair) -> Result:
    """Where the decay ends, and how far each run is in it at its last value."""
    ends = [curve.last.iter for curve in weighing.curves(pair) or ()]
    constant = [facts.decay_lr.value is False for _, facts in pair.runs]
    horizons = pair.control.horizon, pair.test.horizon
    if not all(constant) and any(not item.known and not flat for item, flat in zip(horizons, constant, strict=True)):
        yield from _by_rows(pair, stated=False)
        return
    if all(constant) or (horizons[0].value == horizons[1].value and constant[0] == constant[1]):
        if len(ends) == 2 and not all(constant) and weighing.length_ratio(pair) not in (None, 1.0):
            yield from _unfinished(pair, ends)
            return
        yield ruled_out("computed", "Both learning rates decay over the same horizon.")
        if pair.settings.differing("warmup_iters") is None and pair.settings.differing("min_lr") is None:
            yield from _by_rows(pair, stated=True)
        return
    phases = _phases(pair, ends)
    if phases is not None and min(phases) > 0.99 and weighing.length_ratio(pair) not in (None, 1.0):
        yield ruled_out("computed", f"Each learning rate decays over its own run. {_done(phases)}")
        return
    names = [f"{item.value:,} iterations" if item.known else "none (constant)" for item in horizons]
    size = _horizon_size(pair, phases, ends)
    # A horizon that goes with the length is one decision with it, and the length carries the weight.
    together = weighing.length_ratio(pair) not in (None, 1.0)
    weight = weighing.weigh(pair, (*SCHEDULE, "max_iters") if together else SCHEDULE, size=size)
    done = f" {_done(phases)}" if phases else ""
    yield cause(
        "possible" if together and phases and abs(phases[1] - phases[0]) < 0.1 else weight.strength,
        weighing.evidence(*horizons),
        f"The learning rate decays over {names[0]} in the control and {names[1]} in the test.{done}{weight.said}",
        numbers={
            "control": horizons[0].value,
            "test": horizons[1].value,
            "control_decayed": phases[0] if phases else None,
            "test_decayed": phases[1] if phases else None,
        },
        effect=weight.effect,
        size=weight.size,
        settle="Train both with lr_decay_iters equal to max_iters, so that the decay ends with the run.",
        command=retrain(pair.test, lr_decay_iters=pair.test.max_iters.value) if pair.test.max_iters.known else "",
    )


def _horizon_size(pair: Pair, phases: tuple[float, float] | None, ends: list[float]) -> float:
    """The size of another decay: the updates that a lower mean rate loses, against the decay that was not completed.

    slope x ln(ratio of the mean rates) for the first, as for a warm-up, DECAY_EFFECT x (difference of the phases) for
    the second. A longer horizon gains the one and loses the other.
    """
    if phases is None:
        return DECAY_EFFECT
    decay = DECAY_EFFECT * (phases[0] - phases[1])
    means = [_mean_rate(facts, end) for (_, facts), end in zip(pair.runs, ends, strict=True)]
    if means[0] is None or means[1] is None or weighing.length_ratio(pair) != 1.0:
        return max(0.2 * DECAY_EFFECT, abs(decay))
    return max(0.2 * DECAY_EFFECT, abs(decay - weighing.slope(pair) * math.log(means[1] / means[0])))


MEAN_POINTS = 64


def _mean_rate(facts: Facts, end: float) -> float | None:
    """The mean learning rate up to iteration `end` as a share of its peak; None where the schedule is not known."""
    at = (np.arange(MEAN_POINTS) + 0.5) / MEAN_POINTS * end
    rates = [facts.lr_at(float(x)).value for x in at]
    peak = facts.learning_rate.value or 0.0
    known = [rate / peak for rate in rates if rate is not None and peak > 0]
    return float(np.mean(known)) if len(known) == MEAN_POINTS and max(known) > 0 else None


def _phases(pair: Pair, ends: list[float]) -> tuple[float, float] | None:
    """Which part of the decay each run has behind it at its last value; a constant rate has none."""
    if len(ends) < 2:
        return None
    found = []
    for (_, facts), end in zip(pair.runs, ends, strict=True):
        part = 0.0 if facts.decay_lr.value is False else facts.decayed_at(end).value
        if part is None and facts.horizon.value:
            part = (1 - math.cos(math.pi * min(1.0, end / facts.horizon.value))) / 2
        if part is None:
            return None
        found.append(part)
    return found[0], found[1]


def _done(phases: tuple[float, float]) -> str:
    return f"At its last value the control has completed {phases[0]:.0%} of its decay, the test {phases[1]:.0%}."


def _unfinished(pair: Pair, ends: list[float]) -> Result:
    """One horizon, two lengths: the shorter run was stopped before its decay."""
    phases = _phases(pair, ends)
    if phases is None or abs(phases[1] - phases[0]) < 0.1:
        return
    effect = -DECAY_EFFECT * (phases[1] - phases[0])
    weight = weighing.weigh(pair, ("max_iters",), signed=effect)
    yield cause(
        "likely" if weight.strength == "strong" else "possible",
        weighing.evidence(pair.control.horizon, pair.test.horizon),
        f"Both decay over {pair.control.horizon.value:,} iterations, but {_done(phases)[0].lower()}{_done(phases)[1:]} "
        "A run that is stopped early is not a short run.",
        numbers={"control_decayed": phases[0], "test_decayed": phases[1]},
        effect=weight.effect,
        size=weight.size,
        settle="Train the shorter run with a horizon of its own length.",
    )


def _by_rows(pair: Pair, *, stated: bool) -> Result:
    """Both logs give the rate of each iteration: where they part, the schedules differ.

    `stated` says that the settings have one schedule, so that a difference is a fault.
    """
    shapes = _common_shapes(pair)
    if shapes is None:
        if not stated:
            what = "over how many iterations each learning rate decays"
            yield lacking(pair.control.horizon, pair.test.horizon, what=what)
        return
    iters, control, test, slack, equal_peaks = shapes
    apart = np.flatnonzero(np.abs(control - test) > SAME_SHAPE + slack)
    if not len(apart):
        ends = [float(_rates(facts)["iter"].to_numpy()[-1]) for _, facts in pair.runs]
        if not stated and max(ends) <= 1.05 * min(ends):
            yield ruled_out("computed", f"Both logs have the same schedule over all of their {len(iters)} rows.")
        elif not stated:
            what = f"the schedules are the same up to iteration {iters[-1]:,.0f}, where the shorter log ends"
            yield lacking(pair.control.horizon, pair.test.horizon, what=f"whether they go on alike: {what}")
        return
    at = int(iters[apart[0]])
    weight = weighing.weigh(pair, SCHEDULE, size=DECAY_EFFECT * max(0.2, abs(float(control[-1] - test[-1]))))
    strength: Strength = "likely" if equal_peaks and weighing.length_ratio(pair) == 1.0 else "possible"
    said = " The settings say one schedule in both, so one of them ran otherwise." if stated else ""
    yield cause(
        "strong" if stated else strength,
        "computed",
        f"The logged learning rates follow other schedules from iteration {at:,} on; at the last common one they are "
        f"at {control[-1]:.0%} and {test[-1]:.0%} of their peaks.{said}",
        numbers={"first_apart": at, "control_of_peak": float(control[-1]), "test_of_peak": float(test[-1])},
        effect=weight.effect,
        size=weight.size,
        settle="Give warmup_iters, lr_decay_iters, min_lr and decay_lr of both.",
    )


def _rates(facts: Facts) -> pl.DataFrame:
    """Iteration and rate of all rows that have one, each iteration once."""
    rows = facts.run.iters.filter(pl.col("lr").is_not_null() & pl.col("iter").is_not_null())
    return rows.unique(subset="iter", keep="last").sort("iter").select("iter", "lr")


def _common_shapes(pair: Pair) -> tuple[Shape, Shape, Shape, Shape, bool] | None:
    """Iterations that both cover, both rates as shares of their peaks, the slack of these, whether the peaks are equal.

    None below 5 rows. Rates between two rows are interpolated: the rows of a decay may stand where the other log has
    none. The slack of an interpolated rate is the change from one of its rows to the next: between them the schedule
    may bend, as at the end of a warm-up.
    """
    tables = [_rates(facts) for _, facts in pair.runs]
    if min(table.height for table in tables) < 5:
        return None
    places = [table["iter"].to_numpy().astype(float) for table in tables]
    low, high = max(at[0] for at in places), min(at[-1] for at in places)
    iters = np.unique(np.concatenate(places))
    iters = iters[(iters >= low) & (iters <= high)]
    if len(iters) < 5:
        return None
    logged = [table["lr"].to_numpy() for table in tables]
    rates = [np.interp(iters, at, lr) for at, lr in zip(places, logged, strict=True)]
    # The peaks are of all rows: the stretch in common may lie behind one of them.
    peaks = [float(lr.max()) for lr in logged]
    if min(peaks) <= 0:
        return None
    slack = sum(_between(iters, at, lr) / peak for at, lr, peak in zip(places, logged, peaks, strict=True))
    equal = abs(math.log(peaks[0] / peaks[1])) < SAME_RATE
    return iters, rates[0] / peaks[0], rates[1] / peaks[1], np.asarray(slack), equal


def _between(iters: Shape, at: Shape, lr: Shape) -> Shape:
    """The change of the rate from the row before each of `iters` to the row after it; 0 where a row stands there."""
    after = np.searchsorted(at, iters).clip(1, len(at) - 1)
    return np.where(np.isin(iters, at), 0.0, np.abs(lr[after] - lr[after - 1]))


def _warm_up_by_rows(facts: Facts) -> Known[int] | None:
    """The iteration of the highest logged rate, where the rate rises to it and the rows go beyond it."""
    table = _rates(facts)
    if table.height < 5:
        return None
    rates, iters = table["lr"].to_numpy(), table["iter"].to_numpy()
    top = int(np.argmax(rates >= rates.max() * (1 - 1e-9)))
    rises = 0 < top < len(rates) - 1 and bool((np.diff(rates[: top + 1]) > 0).all())
    return Known(int(iters[top]), "computed", "the iteration of the highest logged rate") if rises else None


@rule("warm-up", title="Warm-up differs", group="B", order=3)
def warm_up(pair: Pair) -> Result:
    """warmup_iters, and who never left it."""
    control, test = (_warm_up(facts) for _, facts in pair.runs)
    for label, facts in pair.runs:
        warm, last = facts.warmup_iters.value, facts.last_iter
        if warm and last is not None and last <= warm and facts.decay_lr.value is not False:
            yield remark(
                weighing.evidence(facts.warmup_iters),
                f"The {label} ends at iteration {last:,}, inside its warm-up of {warm:,}: the rate never reached "
                "its peak.",
                numbers={"run": label, "warmup_iters": warm, "last": last},
            )
    if isinstance(control, Unknown) or isinstance(test, Unknown):
        yield lacking(control, test, what="whether both warm up over as many iterations")
        return
    if control.value == test.value:
        yield ruled_out("computed", f"Both warm up over {control.value:,} iterations.")
        return
    yield _other_warm_up(pair, control.value, test.value)


def _warm_up(facts: Facts) -> Fact[int]:
    said = facts.warmup_iters
    return said if said.known else _warm_up_by_rows(facts) or said


def _other_warm_up(pair: Pair, control: int, test: int) -> Finding:
    last = max(1, min(facts.last_iter or facts.max_iters.value or 1 for _, facts in pair.runs))
    # Half of a linear warm-up's updates are lost to it, on average over its rates.
    lost = [min(0.9, 0.5 * min(warm, last) / last) for warm in (control, test)]
    effect = weighing.slope(pair) * math.log((1 - lost[0]) / (1 - lost[1]))
    weight = weighing.weigh(pair, ("warmup_iters",), size=abs(effect))
    return cause(
        weight.strength,
        weighing.evidence(pair.control.warmup_iters, pair.test.warmup_iters),
        f"The control warms up over {control:,} iterations, the test over {test:,}, that is "
        f"{min(1.0, control / last):.0%} and {min(1.0, test / last):.0%} of the shorter run.{weight.said}",
        numbers={"control": control, "test": test, "of": last},
        effect=weight.effect,
        size=weight.size,
        settle="Train the test with the control's warmup_iters.",
        command=retrain(pair.test, warmup_iters=control),
    )


@rule("resumed-with-another-horizon", title="A resume changed the schedule", group="B", order=3)
def resumed_with_another_horizon(pair: Pair) -> Result:
    """A seam at which the schedule changed: the rate jumps, and the whole follows neither schedule."""
    names = ("learning_rate", "min_lr", "warmup_iters", "lr_decay_iters", "decay_lr")
    for label, facts in pair.runs:
        for seam in facts.run.seams:
            if not isinstance(seam, dict) or not isinstance(seam.get("changed"), list):
                continue
            changed = [item for item in seam["changed"] if isinstance(item, dict) and item.get("setting") in names]
            if not changed:
                continue
            at = seam.get("iter")
            said = ", ".join(
                f"{item.get('setting')} from {item.get('before')} to {item.get('after')}" for item in changed
            )
            yield cause(
                "likely",
                "computed",
                f"The {label} was resumed at iteration {at} with another schedule ({said}), so its rate jumps there "
                "and it follows neither schedule.",
                numbers={"run": label, "iteration": at if isinstance(at, int) else None},
                settle="Train it in one go with the schedule it ended with.",
            )
