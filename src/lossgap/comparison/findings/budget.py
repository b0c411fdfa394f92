"""R2: how much an update reads, and how many updates there are."""

from __future__ import annotations

import math

import polars as pl

from lossgap.comparison.fact import Fact, Known, Unknown
from lossgap.comparison.facts import Facts
from lossgap.comparison.findings import weighing
from lossgap.comparison.findings.command import is_trained, retrain
from lossgap.comparison.rules import (
    Evidence,
    Finding,
    Pair,
    Result,
    Strength,
    cause,
    lacking,
    remark,
    rule,
    ruled_out,
)
from lossgap.runs.readers.recipe_match import A100
from lossgap.runs.values import as_float

BATCH_SETTINGS = ("batch_size", "gradient_accumulation_steps")
BATCH_SHARE = 0.5
"""An update on k times the tokens is worth k to this power more updates: between 1 (a small batch, whose noise
averages out) and 0 (beyond the critical size; McCandlish et al. 2018, arXiv:1812.06162). Rough."""

FAR = 10.0
"""Ratio of lengths beside which nothing else matters much."""

WORK_RATIO = 1.6
"""Ratio of implied FLOPs per iteration from which they count as different: MFU is a moving average, times vary."""
SCATTER_RATIO = 1.4
"""Ratio of the scatter of iteration losses from which batches of another size are concluded: twice the batch."""
SCATTER_ERRORS = 4.0
LEAST_SCATTER = 0.003
"""Nats; a smaller scatter is of averages or of whole data sets, not of batches. A choice."""
SAME_LEVEL = 0.35
"""Nats within which two loss levels have a comparable scatter: measured, a run at 3.4 nats scatters half as much as
one at 2.6 with the same batch."""


def per_update(facts: Facts) -> Fact[float]:
    """Tokens of one update: from the settings, else from the rows."""
    said = facts.tokens_per_iter
    if isinstance(said, Known):
        return Known(float(said.value), said.evidence, said.how)
    last = facts.last_iter
    tokens = facts.tokens_at(last) if last else said
    if last and isinstance(tokens, Known) and tokens.value > 0:
        return Known(tokens.value / last, "computed", "tokens in the rows / iterations")
    return said


@rule("batch", title="Batch size differs", group="A", order=2)
def batch(pair: Pair) -> Result:
    """Sequences per update over all processes and micro-batches; by tokens where only those are known."""
    control, test = pair.control.batch, pair.test.batch
    if isinstance(control, Known) and isinstance(test, Known):
        if control.value != test.value:
            yield _other_batch(pair, control.value, test.value, weighing.evidence(control, test), "sequences")
            return
        yield from _same_batch(pair, control.value)
        yield from _by_scatter(pair, stated=control.value)
        return
    tokens = per_update(pair.control), per_update(pair.test)
    if isinstance(tokens[0], Known) and isinstance(tokens[1], Known):
        ratio = tokens[1].value / tokens[0].value
        contexts = [facts.block_size.value or facts.eval_context.value for _, facts in pair.runs]
        by_context = contexts[1] / contexts[0] if contexts[0] and contexts[1] else 1.0
        if abs(ratio / by_context - 1) > 0.02:
            known = weighing.evidence(tokens[0], tokens[1])
            yield _other_batch(pair, tokens[0].value, tokens[1].value, known, "tokens")
        else:
            yield ruled_out("computed", f"Both read about {tokens[0].value:,.0f} tokens per update.")
        return
    yield from _by_scatter(pair, stated=None)
    yield from _one_device(pair)
    yield lacking(control, test, what="whether an update has as many tokens in both")


def _other_batch(pair: Pair, control: float, test: float, known: Evidence, unit: str) -> Finding:
    ratio = test / control
    effect = -BATCH_SHARE * weighing.slope(pair) * math.log(ratio)
    weight = weighing.weigh(pair, BATCH_SETTINGS, signed=None if weighing.overfits(pair) else effect, size=abs(effect))
    numbers: dict[str, object] = {"control": control, "test": test, "unit": unit, "ratio": ratio}
    tokens = per_update(pair.control).value, per_update(pair.test).value
    per = ""
    if unit == "sequences" and tokens[0] and tokens[1]:
        per = f" ({tokens[0]:,.0f} and {tokens[1]:,.0f} tokens)"
        numbers |= {"control_tokens": tokens[0], "test_tokens": tokens[1]}
    equal = pair.alignment.row("tokens")
    beside = ""
    if equal.gap is not None and equal.at is not None:
        beside = f" At equal tokens ({equal.at:,.0f}) the gap is {equal.gap:+.4f}."
        numbers["gap_at_equal_tokens"] = equal.gap
    return cause(
        weight.strength,
        known,
        f"An update of the control has {control:,.0f} {unit}, one of the test {test:,.0f}{per}: "
        f"{ratio:.3g} times.{_accumulation(pair)}{beside}{weight.said}",
        numbers=numbers,
        effect=weight.effect,
        size=weight.size,
        settle="Train the test with the control's tokens per update.",
        command=_with_batch_of_control(pair),
    )


def _one_device(pair: Pair) -> Result:
    """The batch of one device differs, and neither record says over how many devices and micro-batches it is summed."""
    sizes = pair.control.batch_size, pair.test.batch_size
    if not (isinstance(sizes[0], Known) and isinstance(sizes[1], Known)) or sizes[0].value == sizes[1].value:
        return
    ratio = sizes[1].value / sizes[0].value
    size = BATCH_SHARE * weighing.slope(pair) * abs(math.log(ratio))
    yield cause(
        "possible",
        weighing.evidence(*sizes),
        f"A device reads {sizes[0].value:,} sequences at a time in the control and {sizes[1].value:,} in the test. "
        "Devices and accumulation are not in both records, so the updates may differ by another ratio, or not at all.",
        numbers={"control": sizes[0].value, "test": sizes[1].value, "ratio": ratio, "unit": "sequences"},
        effect=None if weighing.overfits(pair) else -math.copysign(size, math.log(ratio)),
        size=size,
        settle="Give gradient_accumulation_steps (over all devices) of both.",
        title="The batch of one device differs",
    )


def _with_batch_of_control(pair: Pair) -> str:
    changes = {name: pair.control.setting(name).value for name in BATCH_SETTINGS}
    return "" if None in changes.values() else retrain(pair.test, **changes)


def _accumulation(pair: Pair) -> str:
    """A sentence where gradient accumulation makes the difference; 40 is nanoGPT's default."""
    steps = [facts.integer("gradient_accumulation_steps").value for _, facts in pair.runs]
    sizes = [facts.batch_size.value for _, facts in pair.runs]
    if steps[0] == steps[1] or None in steps or sizes[0] != sizes[1]:
        return ""
    default = " (40 is nanoGPT's default)" if 40 in steps else ""
    return f" gradient_accumulation_steps is {steps[0]} and {steps[1]}{default}."


def _same_batch(pair: Pair, size: int) -> Result:
    split = weighing.differing(pair, *BATCH_SETTINGS)
    if not split:
        yield ruled_out("computed", f"Both have {size:,} sequences per update.", numbers={"batch": size})
        return
    said = " and ".join(f"{item.name} {item.control} and {item.test}" for item in split)
    text = f"{said}: the product is {size:,} sequences per update in both, so it is the same update."
    if any(item.name == "gradient_accumulation_steps" for item in split) and not all(
        facts.is_nanogpt or facts.is_own for _, facts in pair.runs
    ):
        yield remark(
            "computed",
            f"{text} That holds for sequences of one length. Where lengths differ, a mean of the micro-batches' means "
            "is not the mean over their tokens: short micro-batches count for more.",
            numbers={"batch": size},
            settle="Divide the summed loss by the tokens of the whole update, or train without accumulation.",
            title="A mean of means under accumulation",
        )
        return
    yield ruled_out("computed", text, numbers={"batch": size})


def _by_scatter(pair: Pair, stated: int | None) -> Result:
    """From the scatter of iteration losses, which goes with 1 / sqrt(tokens of a printed loss)."""
    both = pair.control.train, pair.test.train
    if both[0] is None or both[1] is None or both[0].meaning.kind != both[1].meaning.kind:
        return
    if both[0].meaning.kind not in ("micro-batch", "batch") or pair.settings.differing("block_size") is not None:
        return
    found = weighing.scatter(both[0]), weighing.scatter(both[1])
    if found[0] is None or found[1] is None or min(found[0][0], found[1][0]) < LEAST_SCATTER:
        return
    log_ratio = math.log(found[1][0] / found[0][0])
    # The sd of a log sd is about sqrt(1 / 2n), and half as much again for differences of neighbours.
    error = 1.2 * math.sqrt(1 / (2 * found[0][1]) + 1 / (2 * found[1][1]))
    if abs(found[0][2] - found[1][2]) > SAME_LEVEL or abs(log_ratio) < max(
        math.log(SCATTER_RATIO), SCATTER_ERRORS * error
    ):
        return
    times = math.exp(-2 * log_ratio)
    what = "micro-batches" if both[0].meaning.kind == "micro-batch" else "updates"
    effect = -BATCH_SHARE * weighing.slope(pair) * math.log(times)
    gap = pair.alignment.gap("last")
    said = (
        ""
        if stated is None
        else (
            f" The settings say {stated:,} sequences in both, so they cannot both have run so: a run may not have "
            "accumulated, or its processes drew the same batches (ranks that are not seeded apart)."
        )
    )
    numbers = {"control_scatter": found[0][0], "test_scatter": found[1][0], "implied_ratio": times}
    text = (
        f"Losses of single iterations scatter by {found[0][0]:.3f} in the control and {found[1][0]:.3f} in the test; "
        f"as {what} of {times:.2g} times the tokens do.{said}"
    )
    settle = "Give batch_size, gradient_accumulation_steps and block_size of both."
    if gap is None or effect * gap < 0:
        yield remark("inferred", text, numbers=numbers, settle=settle, title="Iteration losses scatter differently")
    else:
        yield cause("strong", "inferred", text, numbers=numbers, effect=effect, settle=settle)


@rule("work-per-iteration", title="Work per iteration differs", group="A", order=2, formats=("nanogpt",))
def work_per_iteration(pair: Pair) -> Result:
    """MFU x time: FLOPs of an iteration, on whatever device, where a log says neither model nor batch.

    Both logs relate MFU to the same peak (an A100's), so it cancels in the ratio.
    """
    if all(facts.flops_per_iter.known for _, facts in pair.runs):
        return
    work = [_implied(facts) for _, facts in pair.runs]
    if work[0] is None or work[1] is None or not all(facts.is_nanogpt for _, facts in pair.runs):
        return
    ratio = work[1] / work[0]
    numbers = {"control": work[0], "test": work[1], "ratio": ratio}
    if abs(math.log(ratio)) < math.log(WORK_RATIO):
        text = f"By MFU and time an iteration does about as much work in both ({ratio:.2g} times)."
        yield ruled_out("inferred", text, numbers=numbers)
        return
    effect = -BATCH_SHARE * weighing.slope(pair) * math.log(ratio)
    weight = weighing.weigh(pair, (*BATCH_SETTINGS, "block_size", "n_layer", "n_embd"), signed=effect)
    strength: Strength = "strong" if weight.strength == "likely" else weight.strength
    yield cause(
        strength,
        "inferred",
        f"By MFU and time an iteration does about {work[0]:.2g} FLOPs in the control and {work[1]:.2g} in the test, "
        f"{ratio:.2g} times: more or fewer tokens per update (gradient accumulation, batch, context), or another model."
        f"{_equal_iterations(pair)}",
        numbers=numbers,
        effect=weight.effect,
        size=weight.size,
        settle="Give batch_size, gradient_accumulation_steps, block_size and the model of both.",
    )


def _implied(facts: Facts) -> float | None:
    """FLOPs of an iteration by MFU and time, up to rounding; None where MFU is under 0.1% (two digits of print)."""
    rows = facts.run.iters.filter((pl.col("mfu") > 0.001) & (pl.col("ms") > 0))
    found = as_float(rows.select((pl.col("mfu") * pl.col("ms") / 1000 * A100).median()).item()) if rows.height else None
    return found if found and found > 0 else None


def _equal_iterations(pair: Pair) -> str:
    equal = pair.alignment.row("iterations")
    if equal.gap is None or equal.at is None or weighing.length_ratio(pair) == 1.0:
        return ""
    return f" At equal iterations ({equal.at:,.0f}) the gap is {equal.gap:+.4f}."


@rule("length", title="One run trained longer", group="A", order=2)
def length(pair: Pair) -> Result:
    """Iterations done, with what the longer run had where the shorter one ends."""
    both = weighing.curves(pair)
    ratio = weighing.length_ratio(pair)
    if both is None or ratio is None:
        yield from _asked_only(pair)
        return
    if ratio == 1.0:
        at = both[0].last.iter
        yield ruled_out("computed", f"Both have their last value at iteration {at:,.0f}.", numbers={"iteration": at})
        return
    longer = 1 if ratio > 1 else 0
    name = ("control", "test")[longer]
    end = both[1 - longer].last.iter
    numbers: dict[str, object] = {"control": both[0].last.iter, "test": both[1].last.iter, "ratio": ratio}
    before = both[longer].at(end)
    after = ""
    if before is not None:
        fell = before.value - both[longer].last.value
        # The shorter run lacks what the longer one gained after that point.
        size = -fell if longer == 1 else fell
        after = f" At iteration {end:,.0f} the {name} had {before.value:.4f}, so it fell by {fell:.4f} after it."
        if fell < 0:
            after = f" At iteration {end:,.0f} the {name} had {before.value:.4f}, so it rose by {-fell:.4f} after it."
        numbers |= {"longer_at_end_of_shorter": before.value, "fell_after": fell}
    else:
        # The curve of one of them is not in the record down to the other's end.
        size = -max(weighing.slope(pair), weighing.DATA_EXPONENT * weighing.level(pair)) * math.log(ratio)
    strength, effect = _length_weight(pair, size, seen=before is not None)
    equal = pair.alignment.row("iterations")
    beside = f" The gap at equal iterations is {equal.gap:+.4f}." if equal.gap is not None else ""
    numbers |= {"gap_at_equal_iterations": equal.gap}
    yield cause(
        strength,
        "computed" if before is not None else "inferred",
        f"The control's last value is at iteration {both[0].last.iter:,.0f}, the test's at {both[1].last.iter:,.0f}."
        f"{_stopped(pair)}{after}{beside}",
        numbers=numbers,
        effect=effect,
        settle=_settle(pair, longer),
        command=_longer(pair, longer),
    )


def _length_weight(pair: Pair, size: float, *, seen: bool) -> tuple[Strength, float]:
    """By elimination; or strong where the gap is gone at equal iterations; or by its share of the gap."""
    weight = weighing.weigh(pair, ("max_iters", "lr_decay_iters"), signed=size)
    gap, equal = pair.alignment.gap("last"), pair.alignment.gap("iterations")
    effect = size if seen or weight.effect is None else weight.effect
    if gap is None:
        return weight.strength, effect
    gone = seen and equal is not None and abs(equal) <= max(0.25 * abs(gap), min(weighing.error(pair), 0.5 * abs(gap)))
    if weight.strength == "strong" or gone:
        return "strong", effect
    if not seen and abs(math.log(pair_ratio(pair))) >= math.log(FAR):
        return "strong", effect
    return ("likely" if abs(size) >= 0.25 * abs(gap) else "possible"), effect


def pair_ratio(pair: Pair) -> float:
    """The ratio of the lengths; 1 where it is not known."""
    return weighing.length_ratio(pair) or 1.0


def _stopped(pair: Pair) -> str:
    """Who ends before the iterations it was asked for."""
    said = ""
    for label, facts in pair.runs:
        asked, last = facts.max_iters.value, facts.last_iter
        if asked and last is not None and last < 0.98 * asked:
            said += f" The {label} was asked for {asked:,} and ends at {last:,}."
    return said


def _longer(pair: Pair, longer: int) -> str:
    goal, shorter = pair.runs[longer][1], pair.runs[1 - longer][1]
    end = goal.max_iters.value or goal.last_iter
    return retrain(shorter, goal, max_iters=end, lr_decay_iters=end) if end else ""


def _settle(pair: Pair, longer: int) -> str:
    """Train the shorter run as long, unless that is the longer run already."""
    goal, shorter = pair.runs[longer][1], pair.runs[1 - longer][1]
    end = goal.max_iters.value or goal.last_iter
    if end and is_trained(shorter, goal, max_iters=end, lr_decay_iters=end):
        return (
            f"Nothing to train: {goal.run.name} already is {shorter.run.name}'s recipe at {end:,} iterations, and "
            "shows what they bring. A run of either with another seed would say how far chance alone goes."
        )
    return "Compare at equal iterations or tokens, or train the shorter run as long as the longer one."


def _asked_only(pair: Pair) -> Result:
    control, test = pair.control.max_iters, pair.test.max_iters
    if isinstance(control, Unknown) or isinstance(test, Unknown):
        yield lacking(control, test, what="whether both are trained for as many iterations")
    elif control.value != test.value:
        said = f"The control is to be trained for {control.value:,} iterations, the test for {test.value:,}."
        numbers = {"control": control.value, "test": test.value}
        yield cause("possible", weighing.evidence(control, test), said, numbers=numbers)
