"""R10: traces of faults in bare curves: what a gap without a known cause looks like, and what would settle it.

Each rule looks for one trace that a healthy pair does not leave, whatever its seeds. A trace is evidence of a kind of
fault and no proof: these causes are `possible`, stand behind every other, and are silent where another rule explains
the gap. The thresholds are choices; none fires on the 315 pairs of equal recipes in the gallery.
"""

from __future__ import annotations

import math

import numpy as np

from lossgap.comparison.curve import Curve
from lossgap.comparison.facts import Facts
from lossgap.comparison.findings import weighing
from lossgap.comparison.findings.chance import chance, explained
from lossgap.comparison.findings.dropout_rate import lift
from lossgap.comparison.rules import Pair, Result, cause, rule

LEAST_GAP = 0.02
"""Nats; a smaller gap needs no cause."""
AHEAD = 0.3
"""Autocorrelation of neighbouring printed losses from which data is called read in order."""
ERRORS = 4.0


def _is_open(pair: Pair) -> bool:
    """True if there is a gap that may be real and no rule before this one explains it."""
    found = chance(pair)
    if found is None or abs(found.gap) <= LEAST_GAP or pair.alignment.coincide or explained(pair):
        return False
    return found.is_beyond or found.bounded


@rule("looks-like-data-in-order", title="Looks like data read in order", group="F", order=10)
def data_in_order(pair: Pair) -> Result:
    """Neighbouring printed losses go together in one run: its batches follow each other in the text."""
    if not _is_open(pair):
        return
    one, two = (_serial(facts.train) for _, facts in pair.runs)
    if one is None or two is None:
        return
    (first, count), (second, other) = one, two
    error = math.sqrt(1 / count + 1 / other)
    if abs(second - first) <= max(0.2, ERRORS * error) or max(first, second) < AHEAD:
        return
    which = "test" if second > first else "control"
    yield cause(
        "possible",
        "inferred",
        f"Neighbouring printed losses of the {which} go together (autocorrelation {max(first, second):.2f}, in the "
        f"other run {min(first, second):.2f}): its batches seem to be read in the order of the text, not drawn.",
        numbers={"control": first, "test": second, "losses": min(count, other)},
        settle=f"Print the places of the first batches of the {which}.",
    )


def _serial(curve: Curve | None) -> tuple[float, int] | None:
    """Autocorrelation at one step of printed losses about their trend, and their number; None with few losses."""
    if curve is None or len(curve) < 60 or curve.meaning.kind not in ("micro-batch", "batch"):
        return None
    values = curve.values[len(curve) // 4 :]
    width = 15
    trend = np.convolve(values, np.ones(width) / width, mode="valid")
    rest = values[width // 2 : len(values) - width // 2] - trend
    if float(np.ptp(rest)) == 0.0:
        return None
    ranks = np.argsort(np.argsort(rest)).astype(float)
    return float(np.corrcoef(ranks[1:], ranks[:-1])[0, 1]), len(rest)


@rule(
    "looks-like-another-evaluation", title="Looks like an evaluation that measures something else", group="F", order=10
)
def another_evaluation(pair: Pair) -> Result:
    """Evaluations of the train split far above the printed losses: dropout cannot do that."""
    if not _is_open(pair):
        return
    found = [lift(facts) for _, facts in pair.runs]
    for label, mine, other in zip(("control", "test"), found, reversed(found), strict=True):
        if mine is None or other is None or mine.value >= -max(0.06, ERRORS * mine.error):
            continue
        if other.value - mine.value <= max(0.06, ERRORS * math.hypot(mine.error, other.error)):
            continue
        yield cause(
            "possible",
            "inferred",
            f"The {label}'s evaluations of the train split lie {-mine.value:.3f} above the losses that its iterations "
            f"print; the other run's lie {-other.value:+.3f} from them. Dropout makes the opposite. It looks like an "
            "evaluation in training mode, of other data, of older weights, or one that averages the untrained model.",
            numbers={"run": label, "lift": mine.value, "other": other.value},
            settle=f"Evaluate one of the {label}'s training batches, and compare with the loss that it printed.",
        )


@rule("looks-like-another-split", title="Looks like splits of other data", group="F", order=10)
def another_split(pair: Pair) -> Result:
    """val below train all the way, in one run alone."""
    if not _is_open(pair):
        return
    found = [_distances(facts) for _, facts in pair.runs]
    if found[0] is None or found[1] is None:
        return
    for index, (label, _) in enumerate(pair.runs):
        mine, other = found[index], found[1 - index]
        assert mine is not None
        assert other is not None
        error = math.sqrt(2) * weighing.evaluation_error(pair, label)
        if mine < -max(0.12, ERRORS * error) and other - mine > max(0.2, ERRORS * error):
            yield cause(
                "possible",
                "inferred",
                f"The {label}'s val loss lies {-mine:.3f} below its train loss, the other run's {other:+.3f} from it. "
                "It looks like val text inside the training data, swapped splits, or dropout in one evaluation alone.",
                numbers={"run": label, "val_minus_train": mine, "other": other},
                settle="Look for pieces of val in the training data, and at the mode of both evaluations.",
            )


def _distances(facts: Facts) -> float | None:
    """Mean of val minus train over the later half of the evaluations."""
    val, train = facts.val, facts.train_eval
    if val is None or train is None or train.meaning.mode != "eval":
        return None
    _, first, second = np.intersect1d(val.iters, train.iters, return_indices=True)
    if len(first) < 4:
        return None
    late = len(first) // 2
    return float(np.mean(val.values[first[late:]] - train.values[second[late:]]))


@rule("looks-like-another-rate", title="Looks like another learning rate or warm-up", group="F", order=10)
def another_rate(pair: Pair) -> Result:
    """Equal losses at the start, and another fall over the first iterations."""
    if not _is_open(pair) or any(facts.learning_rate.known for _, facts in pair.runs):
        return
    for name in ("train", "val"):
        first, second = getattr(pair.control, name), getattr(pair.test, name)
        found = None if first is None or second is None else _falls(first, second)
        if found is None:
            continue
        at, one, two = found
        yield cause(
            "possible",
            "inferred",
            f"Both begin at the same loss, and the first {at:,} iterations lower it by {one:.3f} in the control and by "
            f"{two:.3f} in the test. It looks like updates of another size: learning rate, warm-up, clipping, "
            "or a narrower model.",
            numbers={"iterations": at, "control": one, "test": two},
            settle="Print the learning rate of the first iterations of both.",
        )
        return


EARLY = 50
"""Iterations from the start in which the updates are compared."""
FASTER = 1.6
"""How many times further one run must have fallen. Among the 315 null pairs of the gallery none exceeds 1.41; a tenth
of the rate makes 4 to 10, ten times the rate 2 to 3."""
LEAST_FALL = 0.2


def _falls(first: Curve, second: Curve) -> tuple[int, float, float] | None:
    """An iteration up to `EARLY`, and how far each run has fallen there; None where they fall alike."""
    iters, one, two = np.intersect1d(first.iters, second.iters, return_indices=True)
    if len(iters) < 10 or iters[0] != 0:
        return None
    scatter = max((found[0] for curve in (first, second) if (found := weighing.scatter(curve))), default=0.03)
    values = first.values[one], second.values[two]
    if abs(float(values[1][0] - values[0][0])) > 0.1:
        return None
    for at in range(10, EARLY + 1, 5):
        near = (iters > at - 5) & (iters <= at)
        if not near.any():
            continue
        falls = [float(value[0] - value[near].mean()) for value in values]
        low, high = sorted(falls)
        least = max(LEAST_FALL, 5 * scatter * math.sqrt(2 / int(near.sum())))
        if high - low > least and high > FASTER * max(low, 0.0):
            return at, falls[0], falls[1]
    return None


@rule("looks-like-stuck", title="Looks like a model that stopped learning", group="F", order=10)
def stuck(pair: Pair) -> Result:
    """One curve is flat over its later half, far above the other, which goes on falling."""
    both = weighing.curves(pair)
    if both is None or not _is_open(pair) or weighing.length_ratio(pair) != 1.0:
        return
    falls = [_late_fall(curve) for curve in both]
    if falls[0] is None or falls[1] is None:
        return
    for index, label in enumerate(("control", "test")):
        mine, other = falls[index], falls[1 - index]
        above = both[index].last.value - both[1 - index].last.value
        if mine is None or other is None or above < 0.3 or other < 0.08 or mine > 0.2 * other:
            continue
        yield cause(
            "possible",
            "inferred",
            f"The {label} falls by {mine:.3f} over the later half and stays at {both[index].last.value:.3f}, while the "
            f"other run falls by {other:.3f}. It looks like a floor: ln of the vocabulary without any learning, the "
            "frequencies of single tokens or of pairs where attention, positions or targets are wrong, or a learning "
            "rate that is nearly 0.",
            numbers={"run": label, "fall": mine, "other": other, "level": both[index].last.value},
            settle="Overfit one batch with both: a healthy model brings its loss near 0.",
        )


def _late_fall(curve: Curve) -> float | None:
    half = curve.at(curve.last.iter / 2)
    return None if half is None or len(curve) < 5 else half.value - curve.last.value


@rule("looks-like-a-leak", title="Looks like targets within sight", group="F", order=10)
def leak(pair: Pair) -> Result:
    """One loss is below half of the other: no setting of one recipe does that."""
    both = weighing.curves(pair)
    if both is None or not _is_open(pair) or weighing.length_ratio(pair) != 1.0:
        return
    ends = [curve.last.value for curve in both]
    starts = [curve.first.value for curve in both]
    low = 0 if ends[0] < ends[1] else 1
    if not 0 < ends[low] < 0.5 * ends[1 - low] or abs(starts[0] - starts[1]) > 0.2 * max(starts):
        return
    label = ("control", "test")[low]
    yield cause(
        "possible",
        "inferred",
        f"Both begin near {max(starts):.2f}, and the {label} ends at {ends[low]:.4f}, below half of the other's "
        f"{ends[1 - low]:.4f}. It looks like targets within the model's sight: no causal mask, targets that are the "
        "inputs, or val text in the training data.",
        numbers={"run": label, "low": ends[low], "high": ends[1 - low]},
        settle=f"Change a later token of the {label}'s input: no earlier prediction may change.",
    )


@rule("looks-like-a-scaled-loss", title="Looks like a loss scaled by a constant", group="F", order=10)
def scaled_loss(pair: Pair) -> Result:
    """Printed losses are a constant multiple of the run's own evaluations: summed micro-batches, or divided twice."""
    if not _is_open(pair):
        return
    ratios = [_ratio(facts) for _, facts in pair.runs]
    for (label, facts), ratio in zip(pair.runs, ratios, strict=True):
        if ratio is None or abs(math.log(ratio)) < math.log(1.4):
            continue
        steps = facts.integer("gradient_accumulation_steps").value
        times = ratio if ratio > 1 else 1 / ratio
        said = f" It accumulates {steps} micro-batches." if steps and abs(times / steps - 1) < 0.1 else ""
        yield cause(
            "possible",
            "inferred",
            f"The {label}'s printed losses are {ratio:.3g} times its evaluations of the train split all the way."
            f"{said} It looks like a loss that is summed over micro-batches, or divided twice; its gradients, and what "
            "clipping does to them, are then scaled alike.",
            numbers={"run": label, "ratio": ratio},
            settle="Print the loss of one batch with and without accumulation.",
        )


def _ratio(facts: Facts) -> float | None:
    """Printed over evaluated train loss, where it is constant within 5% from the second evaluation to the last."""
    printed, evaluated = facts.train, facts.train_eval
    if printed is None or evaluated is None or len(evaluated) < 4 or (evaluated.values <= 0).any():
        return None
    inside = (printed.iters >= evaluated.iters[1]) & (printed.iters <= evaluated.iters[-1])
    if int(inside.sum()) < 20:
        return None
    expected = np.interp(printed.iters[inside], evaluated.iters, evaluated.values)
    ratios = np.array_split(printed.values[inside] / expected, 4)
    means = [float(part.mean()) for part in ratios]
    steady = min(means) > 0 and max(means) / min(means) < 1.1
    return float(np.mean(means)) if steady else None


@rule("looks-like-an-average", title="Looks like a mean that includes the untrained model", group="F", order=10)
def averaged_from_the_start(pair: Pair) -> Result:
    """Taking a mean over all evaluations so far apart again gives the other run's curve."""
    common = pair.alignment.common
    if common is None or len(common) < 8 or common.iters[0] != 0 or not _is_open(pair):
        return
    counts = np.arange(1, len(common) + 1)
    for label, mine, other in (("control", common.control, common.test), ("test", common.test, common.control)):
        apart = np.diff(mine * counts, prepend=0.0)
        before, after = float(np.abs(mine - other)[2:].mean()), float(np.abs(apart - other)[2:].mean())
        if before > 0.1 and after < 0.15 * before:
            yield cause(
                "possible",
                "inferred",
                f"The {label}'s values look like means over all evaluations so far, the untrained model's included: "
                f"taken apart again they lie {after:.3f} from the other run's, as printed {before:.3f}.",
                numbers={"run": label, "apart": after, "as_printed": before},
                settle=f"Look at how the {label}'s trainer averages its evaluations, and when it starts anew.",
            )
