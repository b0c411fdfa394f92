"""R5: dropout, by the settings and by what the curves say of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lossgap.comparison.curve import Curve
from lossgap.comparison.fact import Known, Unknown
from lossgap.comparison.facts import Facts
from lossgap.comparison.findings import weighing
from lossgap.comparison.findings.command import retrain
from lossgap.comparison.rules import Pair, Result, cause, lacking, remark, rule, ruled_out

DROPOUT_EFFECT = 0.5
"""Nats per unit of dropout. Rough: 0.2 costs a run of few passes about 0.1, and saves one of many passes that."""
SHOWS = 0.04
"""Nats by which dropout lifts the printed loss above the same split in evaluation mode, at the least."""
ERRORS = 4.0
SAME_LEVEL = 0.4
"""Share of the loss within which two train losses are comparable: beyond it other things lift a loss. A choice."""
TOKEN_SPREAD = 1.8
"""Deviation of a token's loss, with the correlation inside a window: 0.22 x sqrt(64), the laptop recipe's windows."""
UNKNOWN_ERROR = 0.015
"""The error of an evaluation of unknown size: that of nanoGPT's laptop recipe, the coarsest in common use."""


@dataclass(frozen=True, kw_only=True)
class Lift:
    """Mean of (printed loss - train loss in evaluation mode) over the later half, with its standard error."""

    value: float
    error: float
    points: int


def lift(facts: Facts, end: float | None = None) -> Lift | None:
    """How much the printed losses lie above the train split's evaluations; None where a log lacks one of them.

    Over the later half of the evaluations up to iteration `end`, of all of them by default.
    """
    printed, evaluated = facts.train, facts.train_eval
    if printed is None or evaluated is None or printed.meaning.kind not in ("micro-batch", "batch"):
        return None
    if len(evaluated) < 4 or evaluated.meaning.mode != "eval":
        return None
    if end is not None:
        evaluated = evaluated.until(end)
    if len(evaluated) < 4:
        return None
    low, high = evaluated.iters[-1] / 2, evaluated.iters[-1]
    inside = (printed.iters >= low) & (printed.iters <= high)
    if int(inside.sum()) < 10:
        return None
    expected = np.interp(printed.iters[inside], evaluated.iters, evaluated.values)
    apart = printed.values[inside] - expected
    # All evaluations may be of the same windows, so their errors are one error, not averaged over them.
    error = math.hypot(float(apart.std(ddof=1)) / math.sqrt(len(apart)), _evaluation_error(facts, evaluated))
    error = math.hypot(error, _chord_error(evaluated, low))
    return Lift(value=float(apart.mean()), error=error, points=len(apart))


def _chord_error(evaluated: Curve, low: float) -> float:
    """How far a falling curve may lie below the straight line between two evaluations: |second difference| / 8.

    The bound of linear interpolation, h^2 |f''| / 8, with the largest second difference of the evaluations from
    `low` on.
    """
    since = max(0, min(int(np.searchsorted(evaluated.iters, low)) - 1, len(evaluated) - 3))
    return float(np.abs(np.diff(evaluated.values[since:], 2)).max()) / 8


def _evaluation_error(facts: Facts, evaluated: Curve) -> float:
    """Standard error of one evaluation of the train split: as recorded, from its tokens, or a bound."""
    recorded = evaluated.errors[~np.isnan(evaluated.errors)]
    if len(recorded):
        return float(recorded[-1])
    tokens = facts.eval_tokens.value
    return UNKNOWN_ERROR if tokens is None else TOKEN_SPREAD / math.sqrt(tokens)


@rule("dropout", title="Dropout differs", group="C", order=5)
def dropout(pair: Pair) -> Result:
    """dropout as set; else as the distance of printed losses from evaluations shows it."""
    control, test = pair.control.dropout, pair.test.dropout
    if isinstance(control, Unknown) or isinstance(test, Unknown):
        yield from _by_curves(pair)
        yield lacking(control, test, what="whether both train with the same dropout")
        return
    if control.value == test.value:
        yield from _not_as_set(pair, control.value)
        return
    size = DROPOUT_EFFECT * abs(test.value - control.value)
    gap = pair.alignment.gap("last")
    weight = weighing.weigh(pair, ("dropout",), size=size)
    which = ""
    if gap and weight.alone:
        more = "test" if test.value > control.value else "control"
        higher = "test" if gap > 0 else "control"
        which = (
            " It slows learning, and here the run with more of it ends higher."
            if more == higher
            else " It slows overfitting, and here the run with more of it ends lower."
        )
    yield cause(
        weight.strength,
        weighing.evidence(control, test),
        f"Dropout is {control.value:g} in the control and {test.value:g} in the test.{which}{weight.said}",
        numbers={"control": control.value, "test": test.value},
        effect=weight.effect,
        size=weight.size,
        settle="Train the test with the control's dropout.",
        command=retrain(pair.test, dropout=control.value),
    )


def _lifts(pair: Pair) -> tuple[Lift | None, Lift | None]:
    """Both lifts over the same iterations; none where the runs are not at comparable levels of the train loss there."""
    curves = [facts.train_eval for _, facts in pair.runs]
    if curves[0] is None or curves[1] is None:
        return None, None
    end = min(curves[0].last.iter, curves[1].last.iter)
    levels = [curve.at(end) for curve in curves if curve is not None]
    if None in levels or len({curve.meaning.unit for curve in curves if curve is not None}) > 1:
        return None, None
    values = [level.value for level in levels if level is not None]
    if abs(values[0] - values[1]) > SAME_LEVEL * max(values):
        return None, None
    return lift(pair.control, end), lift(pair.test, end)


def _by_curves(pair: Pair) -> Result:
    found = _lifts(pair)
    if found[0] is None or found[1] is None or not _apart(found[0], found[1]):
        return
    if any(item.value < -max(SHOWS / 2, ERRORS * item.error) for item in found if item is not None):
        return  # printed losses below the evaluations are no dropout's work
    gap = pair.alignment.gap("last")
    size = abs(found[1].value - found[0].value)
    yield cause(
        "strong",
        "inferred",
        f"Printed losses lie {found[0].value:+.3f} from the train split's evaluations in the control and "
        f"{found[1].value:+.3f} in the test. Dropout lifts the printed ones, and it is off in evaluations: the runs "
        "train with different dropout.",
        numbers=_numbers(found[0], found[1]),
        effect=math.copysign(0.5 * size, gap) if gap else None,
        settle="Give dropout of both with --set.",
    )


def _not_as_set(pair: Pair, value: float) -> Result:
    found = _lifts(pair)
    if found[0] is None or found[1] is None or not _apart(found[0], found[1]):
        yield ruled_out("computed", f"Both train with a dropout of {value:g}.")
        return
    more = "test" if found[1].value > found[0].value else "control"
    gap = pair.alignment.gap("last")
    yield cause(
        "strong",
        "inferred",
        f"Both say dropout {value:g}, but printed losses lie {found[0].value:+.3f} from the train split's evaluations "
        f"in the control and {found[1].value:+.3f} in the test. Dropout was not on and off at the same places in both: "
        f"the {more} trains with more of it, or the other evaluates with it.",
        numbers=_numbers(found[0], found[1]),
        effect=gap,
        settle="Check that training and evaluation mode are switched (model.train, model.eval) in both.",
        title="Dropout did not run as set",
    )


def _apart(first: Lift, second: Lift) -> bool:
    by = abs(first.value - second.value)
    return by > max(SHOWS, ERRORS * math.hypot(first.error, second.error))


def _numbers(first: Lift, second: Lift) -> dict[str, object]:
    return {
        "control_lift": first.value,
        "test_lift": second.value,
        "standard_error": math.hypot(first.error, second.error),
    }


@rule("training-mode", title="Printed losses are not the evaluations of the train split", group="C", order=5)
def training_mode(pair: Pair) -> Result:
    """val below the printed loss, or the printed loss above train: dropout, not luck."""
    for label, facts in pair.runs:
        found, rate = lift(facts), facts.dropout
        if found is None or not isinstance(rate, Known):
            continue
        numbers: dict[str, object] = {"run": label, "lift": found.value, "standard_error": found.error}
        if rate.value > 0 and found.value > max(SHOWS, ERRORS * found.error):
            yield remark(
                "inferred",
                f"The losses that the {label}'s iterations print lie {found.value:.3f} above its train split in "
                f"evaluation mode, since they have dropout {rate.value:g}. They are not to be held against a val loss.",
                numbers=numbers,
            )
        elif (
            rate.value >= 0.1 and found.value < -0.5 * SHOWS + 2 * found.error and found.value + 2 * found.error < SHOWS
        ):
            yield remark(
                "inferred",
                f"The {label} says dropout {rate.value:g}, but its printed losses are not above its evaluations "
                f"({found.value:+.3f}): dropout was off in training, or on in evaluation.",
                numbers=numbers,
                settle="Check that training and evaluation mode are switched (model.train, model.eval).",
            )
