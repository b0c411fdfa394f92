"""R6: how noisy the measurement is, what chance makes, and gaps that are no more than rounding."""

from __future__ import annotations

import math

from lossgap.comparison.fact import Fact, Known, Unknown
from lossgap.comparison.facts import Facts
from lossgap.comparison.findings.chance import chance
from lossgap.comparison.metric import Metric
from lossgap.comparison.noise import Part
from lossgap.comparison.rules import Finding, Pair, Result, lacking, remark, rule, ruled_out

NOTABLE = 2.0
"""Standard errors of two evaluations that differ by less are called alike."""


def _parts(pair: Pair, kind: str) -> tuple[Part | None, Part | None]:
    """Control's and test's part of the noise."""
    found = {part.name: part for part in pair.noise.parts}
    return found.get(f"{kind} of control"), found.get(f"{kind} of test")


@rule("evaluation-noise", title="The evaluations have a sampling error", group="F", order=6)
def evaluation_noise(pair: Pair) -> Result:
    """The gap that the sampling of evaluation windows alone could make, and which evaluation is the noisier."""
    first, second = _parts(pair, "evaluation")
    if first is None or second is None:
        return
    control, test = first.standard_error, second.standard_error
    if control is None or test is None:
        yield _unknown_noise(pair, first, second)
        return
    low, high = sorted((control, test))
    if high == 0.0:
        return
    alone = 1.96 * math.hypot(low, high)
    gap = pair.alignment.gap("last") or 0.0
    uneven = high > NOTABLE * low and 1.96 * high > 0.005
    if not uneven and abs(gap) > alone:
        return
    noisier = "control" if control > test else "test"
    said = [_said(label, facts, error) for (label, facts), error in zip(pair.runs, (control, test), strict=True)]
    which = f" The {noisier}'s is the noisier." if uneven else ""
    could = "could make this gap" if abs(gap) <= alone else "does not make this gap"
    yield remark(
        "inferred" if "inferred" in (first.evidence, second.evidence) else "computed",
        f"Standard errors of one evaluation: {said[0]}, {said[1]}.{which} The choice of windows alone makes gaps of up "
        f"to ±{alone:.4f} (95%), so it {could} of {gap:+.4f}.",
        numbers={"control_error": control, "test_error": test, "reach": alone, "gap": gap},
        settle="" if abs(gap) > alone else "Evaluate both on the whole val split, or with more eval_iters.",
    )


def _unknown_noise(pair: Pair, *parts: Part) -> Finding:
    """Which settings would tell the sampling error, or that none would."""
    what = "how noisy the evaluations are"
    known: Fact[object] = Known(None, "stated", "")
    sides: list[Fact[object]] = []
    for (_, facts), part in zip(pair.runs, parts, strict=True):
        unknown = facts.eval_tokens if part.standard_error is None else known
        sides.append(Unknown(part.how) if part.standard_error is None and unknown.known else unknown)
    return lacking(*sides, what=what)


def _said(label: str, facts: Facts, error: float) -> str:
    """`control 0.0141 (20 x 12 x 64 = 15,360 tokens)`."""
    iters, size, context, tokens = facts.eval_iters, facts.batch_size, facts.eval_context, facts.eval_tokens.value
    if error == 0.0:
        return f"{label} 0 (exact)"
    if tokens is None or facts.eval_mode.value == "exact":
        return f"{label} {error:.4f}"
    split = facts.val_tokens.value
    again = f", each val token about {tokens / split:.0f} times" if split and tokens > 2 * split else ""
    return f"{label} {error:.4f} ({iters.value} x {size.value} x {context.value} = {tokens:,} tokens{again})"


@rule("chance", title="Chance: another seed or data order", group="F", order=6)
def chance_alone(pair: Pair) -> Result:
    """The rule asks if seeds, windows and rounding together make a gap of this size."""
    found = chance(pair)
    if found is None or pair.alignment.coincide:
        return
    numbers = {"gap": found.gap, "reach": found.reach, "bounded": found.bounded}
    bound = ", using upper bounds for what was not measured" if found.bounded else ""
    reach = f"two runs that differ by chance alone end up to ±{found.reach:.4f} {found.unit} apart (95%{bound})"
    seeds = _seeds(pair)
    if found.is_beyond:
        inferred = found.bounded or any(part.evidence == "inferred" for part in pair.noise.parts)
        yield ruled_out(
            "inferred" if inferred else "computed",
            f"{_capital(reach)}; this gap of {found.gap:+.4f} is {found.times_reach}.{seeds}",
            numbers=numbers,
        )
        return
    yield remark(
        "inferred",
        f"{'It is not known whether chance can make' if found.bounded else 'Chance alone can make'} this gap: {reach}, "
        f"and this one is {found.gap:+.4f}.{seeds}",
        numbers=numbers,
        settle="Train both recipes with more seeds.",
    )


def _seeds(pair: Pair) -> str:
    """A sentence on what the records say about the seeds, where nothing else differs."""
    seeds = pair.control.seed.value, pair.test.seed.value
    differing = {item.name for item in pair.settings.differ_in_meaning}
    if None in seeds or seeds[0] == seeds[1] or differing - {"seed"}:
        return ""
    return f" The records differ in the seed alone ({seeds[0]} and {seeds[1]})."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


@rule("only-rounding", title="The gap is no more than rounding", group="F", order=6)
def only_rounding(pair: Pair) -> Result:
    """At one and the same iteration the values differ by less than the printed digits can say, or not at all."""
    found, row = pair.alignment.metric, pair.alignment.row("last")
    if not isinstance(found, Metric) or row.control is None or row.test is None or row.exact:
        return
    digits = found.control.meaning.digits, found.test.meaning.digits
    if digits[0] is None or digits[1] is None or row.control.iter != row.test.iter:
        return
    # Each printed value is within half a unit of the true one.
    most = (10.0 ** -digits[0] * found.control_factor + 10.0 ** -digits[1] * found.test_factor) / 2
    gap = row.test.value - row.control.value
    if abs(gap) <= most * (1 + 1e-9):
        yield remark(
            "computed",
            f"The losses at iteration {row.control.iter:,.0f} differ by {abs(gap):.2g}; their printed digits leave "
            f"±{most:.2g} open, so they are equal as far as the records say.",
            numbers={"gap": gap, "rounding": most},
        )
