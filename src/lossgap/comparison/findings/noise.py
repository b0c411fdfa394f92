"""R6: how noisy the measurement is, what chance makes, and gaps that are no more than rounding."""

from __future__ import annotations

import math

from lossgap.comparison.fact import Known
from lossgap.comparison.facts import Facts
from lossgap.comparison.finding import Finding, Pair, Result, lacking, remark, rule, ruled_out
from lossgap.comparison.findings.chance import chance, times
from lossgap.comparison.metric import Metric
from lossgap.comparison.noise import Part

NOTABLE = 2.0
"""Standard errors of two evaluations that differ by less are called alike."""


def _parts(pair: Pair, kind: str) -> tuple[Part | None, Part | None]:
    """Control's and test's part of the noise."""
    found = {part.name: part for part in pair.noise.parts}
    return found.get(f"{kind} of control"), found.get(f"{kind} of test")


@rule("evaluation-noise", title="The evaluations have a sampling error", group="F", order=6)
def evaluation_noise(pair: Pair) -> Result:
    """What gap the sampling of the evaluation windows could make alone, and which evaluation is the noisier."""
    first, second = _parts(pair, "evaluation")
    if first is None or second is None:
        return
    errors = first.standard_error, second.standard_error
    if errors[0] is None or errors[1] is None:
        missing = [
            facts.eval_tokens if part.standard_error is None else Known(0, "stated", "")
            for (_, facts), part in zip(pair.runs, (first, second), strict=True)
        ]
        yield lacking(*missing, what="how noisy the evaluations are (eval_iters x batch_size x context)")
        return
    low, high = sorted(errors)
    alone = 1.96 * math.hypot(low, high)
    gap = pair.alignment.gap("last") or 0.0
    uneven = high > NOTABLE * low and 1.96 * high > 0.005
    if not uneven and abs(gap) > alone:
        return
    noisier = "control" if errors[0] > errors[1] else "test"
    said = [_said(label, facts, error) for (label, facts), error in zip(pair.runs, errors, strict=True)]
    which = f" The {noisier}'s is the noisier." if uneven else ""
    could = "could make this gap" if abs(gap) <= alone else "does not make this gap"
    yield remark(
        "inferred" if "inferred" in (first.evidence, second.evidence) else "computed",
        f"Standard errors of one evaluation: {said[0]}, {said[1]}.{which} The choice of windows alone makes gaps of up "
        f"to ±{alone:.4f} (95%), so it {could} of {gap:+.4f}.",
        numbers={"control_error": errors[0], "test_error": errors[1], "reach": alone, "gap": gap},
        settle="" if abs(gap) > alone else "Evaluate both on the whole val split, or with more eval_iters.",
    )


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
    """Whether seeds, windows and rounding together make a gap of this size."""
    found = chance(pair)
    if found is None or pair.alignment.coincide:
        return
    numbers = {"gap": found.gap, "reach": found.reach, "bounded": found.bounded}
    bound = ", with the upper bounds of what nobody measured" if found.bounded else ""
    reach = f"two runs that differ by chance alone end up to ±{found.reach:.4f} {found.unit} apart (95%{bound})"
    seeds = _seeds(pair)
    if found.is_beyond:
        known = (
            "inferred" if found.bounded or "inferred" in {part.evidence for part in pair.noise.parts} else "computed"
        )
        yield ruled_out(
            known,
            f"{_capital(reach)}; this gap of {found.gap:+.4f} is {times(abs(found.gap) / found.reach)} that.{seeds}",
            numbers=numbers,
        )
        return
    yield remark(
        "inferred",
        f"Chance alone can make this gap: {reach}, and this one is {found.gap:+.4f}.{seeds}",
        numbers=numbers,
        settle="Train both recipes with more seeds.",
    )


def _seeds(pair: Pair) -> str:
    """What the records say about the seeds, where nothing else differs."""
    seeds = pair.control.seed.value, pair.test.seed.value
    differing = {item.name for item in pair.settings.differ_in_meaning}
    if None in seeds or seeds[0] == seeds[1] or differing - {"seed"}:
        return ""
    return f" The records differ in the seed alone ({seeds[0]} and {seeds[1]})."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


@rule("only-rounding", title="The gap is no more than rounding", group="F", order=6)
def only_rounding(pair: Pair) -> Result:
    """The last values differ by less than the printed digits can say, or not at all."""
    found, gap = pair.alignment.metric, pair.alignment.gap("last")
    if not isinstance(found, Metric) or gap is None or pair.alignment.row("last").exact:
        return
    units = [
        _unit(found.control.meaning.digits, found.control_factor),
        _unit(found.test.meaning.digits, found.test_factor),
    ]
    if units[0] is None or units[1] is None:
        return
    # Each printed value is within half a unit of the true one.
    most = (units[0] + units[1]) / 2
    if abs(gap) > most * (1 + 1e-9):
        return
    yield _rounding(pair, gap, most)


def _unit(digits: int | None, scale: float) -> float | None:
    return None if digits is None else 10.0**-digits * scale


def _rounding(pair: Pair, gap: float, most: float) -> Finding:
    iters = [value.iter for value in (pair.alignment.row("last").control, pair.alignment.row("last").test) if value]
    where = f"at iteration {iters[0]:,.0f}" if len(set(iters)) == 1 else "at their ends"
    return remark(
        "computed",
        f"The losses {where} differ by {abs(gap):.2g}; the printed digits leave ±{most:.2g} open, so they are equal as "
        "far as the records say.",
        numbers={"gap": gap, "rounding": most},
    )
