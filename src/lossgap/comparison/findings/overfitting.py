"""R4: overfitting, and best against last."""

from __future__ import annotations

from lossgap.comparison.curve import Curve, Value
from lossgap.comparison.facts import Facts
from lossgap.comparison.findings import weighing
from lossgap.comparison.findings.recipe import reference_of
from lossgap.comparison.metric import Metric
from lossgap.comparison.rules import Pair, Result, cause, remark, rule, ruled_out

LEAST = 0.02
"""Nats by which two runs must differ in their rise."""
ERRORS = 3.0


@rule("overfitting", title="One run overfits more", group="B", order=4)
def overfitting(pair: Pair) -> Result:
    """val rises after its best while train falls: the gap of the last values then compares two stages of that."""
    found = pair.alignment.metric
    if not isinstance(found, Metric) or found.name != "val_loss":
        return
    rises = {label: _rise(pair, label, facts) for label, facts in pair.runs}
    known = {label: value for label, value in rises.items() if value is not None}
    if not known:
        apart = weighing.distance(pair)
        if apart is not None:
            yield from _memorised(pair, apart)
        elif min(len(found.control), len(found.test)) >= 3:
            yield ruled_out("inferred", "Neither run ends above its own best by more than the noise.")
        return
    for label, facts in pair.runs:
        if rises[label] is not None:
            yield from _described(pair, label, facts, rises[label] or 0.0)
    curves = dict(zip(("control", "test"), (found.control, found.test), strict=True))
    fell = {label: facts for label, facts in pair.runs if not _train_rose(facts, curves[label])}
    yield from _as_cause(pair, found, {label: value for label, value in known.items() if label in fell})


def _memorised(pair: Pair, apart: weighing.Distance) -> Result:
    """No rise, but one run's val loss lies further above its train loss: it knows its own data better."""
    gap = pair.alignment.gap("last") or 0.0
    more = "test" if apart.test > apart.control else "control"
    numbers = {"control_distance": apart.control, "test_distance": apart.test, "train_gap": apart.train_gap}
    text = (
        f"Where the runs end, val lies {apart.control:+.4f} from train in the control and {apart.test:+.4f} in the "
        f"test. The gap is {apart.train_gap:+.4f} on the train split and {gap:+.4f} on val"
    )
    # The run that lies further apart is lower on train and higher on val: it has learned its own text.
    opposite = apart.train_gap * gap < 0 and (gap > 0) == (more == "test")
    if not opposite:
        yield remark(
            "inferred",
            f"{text}: one of them fits its training data more than the other, beside whatever else differs.",
            numbers=numbers,
            settle="Compare the train splits: their sizes, and how often each is read.",
            title="Val and train lie apart by different distances",
        )
        return
    yield cause(
        "strong",
        "inferred",
        f"{text}: the {more} fits its training data better and new text worse. It overfits more, by less data, more "
        "passes over it, a larger model or less dropout.",
        numbers=numbers,
        effect=apart.test - apart.control,
        settle="Compare the sizes of the train splits and the passes over them.",
        title=f"The {more} overfits more",
    )


def _rise(pair: Pair, label: str, facts: Facts) -> float | None:
    """From the curve; else, for a run with single figures, against the best of its recipe."""
    own = weighing.rise(facts, label, pair)
    curves = weighing.curves(pair)
    curve = None if curves is None else curves[label == "test"]
    reference = reference_of(facts)
    if own is not None or curve is None or len(curve) >= 3 or reference is None or pair.alignment.metric is None:
        return own
    best = min(val for _, val in reference[0].evals.values())
    at = next(at for at, (_, val) in reference[0].evals.items() if val == best)
    up = curve.last.value - best
    return up if curve.last.iter > at and up > 2 * reference[0].tolerance["val"] else None


def _described(pair: Pair, label: str, facts: Facts, up: float) -> Result:
    curves = weighing.curves(pair)
    assert curves is not None
    curve = curves[label == "test"]
    passes = facts.passes_at(curve.last.iter).value
    read = f" It reads its data {passes:.3g} times." if passes is not None and passes > 1 else ""
    numbers: dict[str, object] = {"run": label, "last": curve.last.value, "above_best": up, "passes": passes}
    if len(curve) < 3:
        # One figure: the recipe's rule reports it.
        return
    numbers |= {"best": curve.best.value, "best_iter": curve.best.iter}
    yield remark(
        "inferred",
        f"The {label}'s last val loss, {curve.last.value:.4f}, is {up:.4f} above its best, {curve.best.value:.4f} at "
        f"iteration {curve.best.iter:,.0f}.{_train(facts, curve)}{read}",
        strength="strong",
        numbers=numbers,
        settle="Compare best with best; stop there, or use more data or more dropout.",
        title=f"The {label} ends above its own best",
    )


def _meanwhile(facts: Facts, curve: Curve) -> tuple[Value, Value] | None:
    """The train split's loss where val was best and where it ends; None where a log lacks one."""
    train = facts.train_eval
    before, after = (train.at(curve.best.iter), train.at(curve.last.iter)) if train is not None else (None, None)
    return None if before is None or after is None else (before, after)


def _train_rose(facts: Facts, curve: Curve) -> bool:
    """True if the train loss rises with val: a run that diverges, and does not overfit."""
    values = _meanwhile(facts, curve)
    return values is not None and values[1].value > values[0].value


def _train(facts: Facts, curve: Curve) -> str:
    """A clause on what the train split did meanwhile."""
    values = _meanwhile(facts, curve)
    if values is None:
        return ""
    before, after = values
    if after.value < before.value:
        return f" Its train loss fell from {before.value:.4f} to {after.value:.4f} meanwhile: it overfits."
    return f" Its train loss rose too, from {before.value:.4f} to {after.value:.4f}: that is not overfitting."


def _as_cause(pair: Pair, found: Metric, rises: dict[str, float]) -> Result:
    if not rises:
        return
    effect = rises.get("test", 0.0) - rises.get("control", 0.0)
    last, best = pair.alignment.gap("last"), pair.alignment.gap("best")
    if last is None or abs(effect) <= max(LEAST, ERRORS * max(weighing.evaluation_error(pair, name) for name in rises)):
        return
    curves = (found.control, found.test)
    seen = all(len(curve) >= 3 for curve in curves)
    later = "test" if effect > 0 else "control"
    numbers: dict[str, object] = {f"{name}_above_best": value for name, value in rises.items()}
    beside = ""
    if best is not None and seen:
        beside = f" Best against best the gap is {best:+.4f}, last against last {last:+.4f}."
        numbers |= {"gap_best": best, "gap_last": last}
    share = effect / last if last else 0.0
    yield cause(
        "strong" if share >= 0.5 else "likely" if share >= 0.25 else "possible",
        "inferred",
        f"The {later}'s last val loss is {max(rises.values()):.4f} above its best, which makes {effect:+.4f} of the "
        f"gap of the last values.{beside}",
        numbers=numbers,
        effect=effect,
        settle="Compare best with best.",
        title=f"The {later} overfits more",
    )
