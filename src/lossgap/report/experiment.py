"""How an experiment was done, what failed in it, and what would settle what it left open: as sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lossgap.attribution.explanation import Explanation, FailedArm, Scale
from lossgap.duration import duration
from lossgap.report.division import MARK, UNIT, scale_words

LISTED = 12
"""Seeds, or failed arms, that are named one by one."""
COORDINATES = {
    "iterations": "equal iterations: switching batch or context keeps the iterations and changes the tokens",
    "tokens": "equal tokens: switching batch or context keeps the tokens and changes the iterations",
}


def number_words(numbers: Sequence[int | None]) -> str:
    """`1 to 5`, or a list."""
    known = [number for number in numbers if number is not None]
    if len(known) > 2 and known == list(range(known[0], known[0] + len(known))):
        return f"{known[0]} to {known[-1]}"
    more = [f"and {len(known) - LISTED} more"] if len(known) > LISTED else []
    return ", ".join([*map(str, known[:LISTED]), *more])


def several(count: int, noun: str) -> str:
    """`1 seed`, `5 seeds`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def arm_words(factors: Sequence[str]) -> str:
    """An arm by what is switched in it."""
    return " + ".join(factors) if factors else "nothing switched"


def scale_lines(scale: Scale) -> list[str]:
    """Sentences that a reader of numbers at this scale must know; empty at the true one."""
    if scale.true:
        return []
    return [
        f"Scaled down to {scale_words(scale)}: {MARK} marks every number of that scale.",
        f"{scale.rule[:1].upper()}{scale.rule[1:]}.",
    ]


def stopped(explanation: Explanation) -> str:
    """The sentence about an experiment that was stopped."""
    seeds = several(len(explanation.design.seeds), "seed")
    return f"Stopped before its end: these numbers are of the {seeds} that ended."


def design_words(kind: str, factors: int, seeds: int, arms_per_seed: int, repeated: int = 0) -> str:
    """The design in one sentence."""
    if repeated:
        again = f"{repeated:,} of them {seeds} times" if repeated < arms_per_seed else f"each {seeds} times"
        every = f"every combination of {several(factors, 'factor')}: {several(arms_per_seed, 'arm')}, {again}"
        return f"{every}, each run with a seed of its own; exact Shapley values and interactions"
    of = f"{several(arms_per_seed, 'arm')} for {'each of ' if seeds != 1 else ''}{several(seeds, 'seed')}"
    if kind == "factorial":
        return f"every combination of {several(factors, 'factor')}: {of}; exact Shapley values and interactions"
    return f"one order of {several(factors, 'factor')} and its reverse: {of}; Shapley values, no interactions"


def fact_lines(explanation: Explanation) -> list[tuple[str, str]]:
    """How it was done: (label, text)."""
    design, budget, arms = explanation.design, explanation.budget, explanation.arms
    confirmed = len(explanation.factors) - len(explanation.screened_out)
    words = design_words(design.kind, confirmed, len(design.seeds), design.arms_per_seed, design.repeated)
    seeds = number_words(design.seeds) or "the trainer has none"
    if design.repeated:
        seeds = f"rounds {seeds}"
    cached = sum(arm.cached for arm in arms)
    logged = sum(not arm.exact for arm in arms)
    how = "losses exact, on all of val"
    if logged:
        how = "all" if logged == len(arms) else f"{logged:,} of them"
        how += " from logged losses, which carry sampling error"
    resolution = f"unknown: {budget.resolvable_why or 'no spread over seeds is known'}"
    if budget.resolvable is not None and math.isfinite(budget.resolvable):
        small = "" if explanation.scale.true else MARK
        resolution = f"contributions known to about ±{budget.resolvable:.2g}{small} {UNIT}"
        resolution += f" ({budget.resolvable_why})" if budget.resolvable_why else ""
    found = [
        ("coordinates", COORDINATES[explanation.coordinates]),
        ("scale", "the true scale of both runs" if explanation.scale.true else scale_words(explanation.scale)),
        ("design", words),
        ("seeds", seeds + _screening(explanation)),
        ("margin", f"±{explanation.margin:g} {UNIT}: contributions within it count as none"),
        ("arms", f"{len(arms):,}: {cached:,} from earlier experiments, {len(arms) - cached:,} trained now; {how}"),
        ("budget", f"{budget.asked}: {several(budget.runs, 'run')}; spent {_spent(explanation)}"),
        ("expected", resolution),
    ]
    return [*found, *(("note", note) for note in explanation.notes)]


def _screening(explanation: Explanation) -> str:
    design, said = explanation.design, ""
    if design.screening_seeds:
        said += f"; screening by {number_words(design.screening_seeds)}"
    if design.replaced_seeds:
        said += f"; replaced after failures: {number_words(design.replaced_seeds)}"
    return said


def _spent(explanation: Explanation) -> str:
    budget = explanation.budget
    return f"{several(budget.spent_runs, 'run')}, {duration(budget.spent_seconds)}"


def failure_lines(explanation: Explanation) -> list[str]:
    """Arms that gave no result, one line each."""
    shown = [_failure(item) for item in explanation.failed[:LISTED]]
    more = len(explanation.failed) - LISTED
    return [*shown, *([f"and {more} more; --json has them all"] if more > 0 else [])]


def _failure(item: FailedArm) -> str:
    seed = "" if item.seed is None else f"seed {item.seed}, "
    return f"{seed}{arm_words(item.factors)}: {item.failure}: {item.why or 'it left no message'}"


# ---------------------------------------------------------------------------------------------
# What next


def open_words(explanation: Explanation) -> str:
    """The seeds that each open factor needs; empty if none is open, or one that `Explanation.next` names."""
    found = [(item.name, item.seeds) for item in explanation.open_factors]
    if not found or (len(found) == 1 and found[0][1] is not None and None not in explanation.design.seeds):
        return ""
    if None in explanation.design.seeds:
        return "Not settled: one repetition gives no interval, and the trainer has no seed for another."
    needs = [f"{name} takes about {several(seeds, 'seed')}" for name, seeds in found if seeds is not None]
    never = [name for name, seeds in found if seeds is None]
    said = f"To settle {', '.join(needs)}; so far {len(explanation.design.seeds)}." if needs else ""
    if never:
        said += f" No affordable number of seeds settles {', '.join(never)}; a larger --margin may."
    return said.strip()
