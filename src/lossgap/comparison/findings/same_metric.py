"""R0: is it the same metric? Split, mode, unit, averaging, context of the evaluation."""

from __future__ import annotations

import math

from lossgap.comparison.curve import Curve
from lossgap.comparison.fact import Unknown
from lossgap.comparison.facts import Facts
from lossgap.comparison.findings import weighing
from lossgap.comparison.metric import Metric, NoMetric
from lossgap.comparison.rules import Pair, Result, cause, lacking, remark, rule

CONTEXT_EFFECT = 0.05
"""Nats per e-fold of context in evaluation. A rough size: character models of 64 to 256 tokens of context."""

WORDS = {
    "micro-batch": "the loss of one micro-batch",
    "batch": "the loss of the whole batch of an update",
    "eval-mean": "the mean of an evaluation",
    "moving-average": "a moving average",
    "interval-mean": "the mean since the last value",
    "run-mean": "the mean over the run so far",
    "unknown": "not said",
}
AVERAGED = ("moving-average", "interval-mean", "run-mean")
SAME_FACTOR = 0.03
"""Relative spread of the ratio of two curves within which they count as multiples of each other."""
LEAST_FACTOR = math.log(1.3)
LEAST_FALL = 0.15


@rule("not-the-same-metric", title="Not the same metric", group="C", order=0)
def not_the_same_metric(pair: Pair) -> Result:
    """Nothing that both logs have measures the same."""
    found = pair.alignment.metric
    if isinstance(found, Metric):
        if found.unit == "nats/byte":
            yield remark(
                "computed",
                "The logs count in different units; both losses are shown in nats per byte of text. "
                f"The control's were multiplied by {found.control_factor:.4g}, the test's by {found.test_factor:.4g}.",
                numbers={"control_factor": found.control_factor, "test_factor": found.test_factor},
            )
        return
    shown = [(label, curve) for label, facts in pair.runs if (curve := _shown(facts)) is not None]
    if len(shown) < 2:
        yield remark("computed", f"There is no loss to compare: {found.why}.", settle=found.remedy)
        return
    values = " and ".join(f"{label} {curve.last.value:.4g} ({_called(curve)})" for label, curve in shown)
    yield cause(
        "strong",
        "computed",
        f"The last losses are {values}, and they cannot be subtracted: {found.why}.",
        numbers={label: curve.last.value for label, curve in shown},
        settle=found.remedy,
    )


def _shown(facts: Facts) -> Curve | None:
    """The loss that a person would read off."""
    return facts.val or facts.bpb or facts.train_eval or facts.train


def _called(curve: Curve) -> str:
    meaning = curve.meaning
    split = {"train": "train split", "val": "val split"}.get(meaning.split, curve.name)
    unit = "" if meaning.unit == "unknown" else f", {meaning.unit}"
    return f"{split}, {WORDS[meaning.kind]}{unit}"


@rule("averaging", title="The losses are averaged differently", group="C", order=0)
def averaging(pair: Pair) -> Result:
    """A mean over many iterations is late: while the loss falls it lies above the loss of the moment."""
    both = weighing.curves(pair)
    if both is None:
        return
    kinds = [curve.meaning.kind for curve in both]
    late = [kind in AVERAGED for kind in kinds]
    if kinds[0] == kinds[1] or not any(late):
        return
    effect = None
    if late[0] != late[1]:
        effect = weighing.slope(pair) * 0.1 * (1 if late[1] else -1)
    yield cause(
        "possible" if "unknown" in kinds else "likely",
        "computed",
        f"The control's values are {WORDS[kinds[0]]}, the test's {WORDS[kinds[1]]}. A mean over past iterations lies "
        "above the loss of the moment as long as the loss falls.",
        numbers={"control": kinds[0], "test": kinds[1]},
        effect=effect,
        settle="Compare val losses, or losses of both that are averaged alike.",
    )


@rule("constant-factor", title="One loss is a constant multiple of the other", group="C", order=0)
def constant_factor(pair: Pair) -> Result:
    """Summed instead of averaged micro-batches, or bits instead of nats: the ratio is the same all the way."""
    common = pair.alignment.common
    if common is None or len(common) < 4 or (common.control <= 0).any() or (common.test <= 0).any():
        return
    ratios = common.test / common.control
    mean, spread = float(ratios.mean()), float(ratios.std() / ratios.mean())
    fall = 1 - float(common.control[-1] / common.control.max())
    if spread > SAME_FACTOR or abs(math.log(mean)) < LEAST_FACTOR or fall < LEAST_FALL:
        return
    high = mean if mean > 1 else 1 / mean
    bits = " It is 1 / ln 2: bits against nats." if abs(high - 1 / math.log(2)) < 0.02 else ""
    whole = (
        "" if bits or abs(high - round(high)) > 0.1 else " A whole number of micro-batches, summed instead of averaged?"
    )
    gap = pair.alignment.gap("last")
    yield cause(
        "strong",
        "inferred",
        f"At {len(common)} common iterations the test's loss is {mean:.4g} times the control's, within "
        f"{spread:.1%}, while the control's falls by {fall:.0%}. Two trainings do not do that; two units or two ways "
        f"to average do.{bits}{whole}",
        numbers={"ratio": mean, "spread": spread, "points": len(common)},
        effect=gap,
        settle="Look at how each loss is reduced (mean or sum over tokens and micro-batches), or evaluate both alike.",
    )


@rule("evaluation-context", title="Evaluation contexts differ", group="C", order=0)
def evaluation_context(pair: Pair) -> Result:
    """The same model has a lower loss at a longer context, so part of such a gap is measurement."""
    control, test = pair.control.eval_context, pair.test.eval_context
    if isinstance(control, Unknown) or isinstance(test, Unknown):
        yield lacking(control, test, what="whether both are evaluated at the same context")
        return
    if control.value == test.value:
        return
    ratio = test.value / control.value
    effect = -CONTEXT_EFFECT * math.log(ratio)
    text = (
        f"The control is evaluated at a context of {control.value:,} tokens, the test at {test.value:,}. At a longer "
        "context the mean loss of one and the same model is lower, since fewer tokens have little before them"
    )
    numbers = {"control": control.value, "test": test.value, "ratio": ratio}
    settle = "Evaluate both at the smaller context, on the same tokens (compare --reevaluate, with checkpoints)."
    trained = pair.settings.differing("block_size")
    if trained is not None and (trained.control, trained.test) == (control.value, test.value):
        # The same setting as the context of the training; that rule reports the cause.
        yield remark(
            weighing.evidence(control, test),
            f"{text}; roughly {effect:+.2f} nats of the gap is measurement.",
            numbers=numbers,
            effect=effect,
            settle=settle,
        )
        return
    weight = weighing.weigh(pair, ("block_size",), signed=effect)
    yield cause(
        weight.strength,
        weighing.evidence(control, test),
        f"{text}. {weight.said}".strip(),
        numbers=numbers,
        effect=weight.effect,
        size=weight.size,
        settle=settle,
    )


@rule("evaluation-mode", title="One evaluation is exact and the other sampled", group="C", order=0)
def evaluation_mode(pair: Pair) -> Result:
    """No cause: sampling has no bias. It decides how large the noise is."""
    control, test = pair.control.eval_mode, pair.test.eval_mode
    if control.value is None or test.value is None or control.value == test.value:
        return
    if isinstance(pair.alignment.metric, NoMetric) or pair.alignment.row("last").exact:
        return
    yield remark(
        weighing.evidence(control, test),
        f"The control's evaluations are {control.value}, the test's {test.value}. A sample of windows has no bias, "
        "only noise, which the standard error counts.",
        numbers={"control": control.value, "test": test.value},
    )


@rule("loss-meaning", title="What a loss means is not in the record", group="C", order=0)
def loss_meaning(pair: Pair) -> Result:
    """A log of unknown make may hold anything under `loss`."""
    both = weighing.curves(pair)
    if both is None or pair.control.run.format == pair.test.run.format:
        return
    unsaid = [label for (label, _), curve in zip(pair.runs, both, strict=True) if "unknown" in (curve.meaning.unit,)]
    if unsaid:
        yield remark(
            "unknown",
            f"The log of {' and '.join(unsaid)} does not say in which unit its loss is; nats per token are assumed, as "
            "in the other.",
            settle="Evaluate both models alike (compare --reevaluate, with checkpoints).",
        )
