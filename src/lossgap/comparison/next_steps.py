"""The next steps: commands that can be copied and run as they stand, or a sentence where there is no such command.

Every command comes from `lossgap.suggestion`. What only the user can fill in, the value of a setting say, or what a
foreign trainer has to do, is a sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lossgap import suggestion
from lossgap.comparison.comparison import NextStep
from lossgap.comparison.facts import Facts
from lossgap.comparison.findings.command import recipe_of
from lossgap.comparison.rules import Finding, Pair
from lossgap.comparison.training_price import training_price
from lossgap.comparison.verdict import Verdict

MOST_STEPS = 5
MOST_NAMED = 6
"""Settings that a sentence names."""
BUDGET = "1h"
"""The budget of a suggested experiment, which is scaled down until it is within it."""
MANY = 3
"""Groups of settings that differ from which one training of one change settles little."""
DIVIDED = frozenset({"capacity", "context", "batch", "length", "schedule", "optimizer", "regularisation", "init"})
SHIPPED = ("shakespeare_char",)
"""Corpora that an experiment can make here."""


def next_steps(
    pair: Pair, findings: Sequence[Finding], verdict: Verdict, sources: tuple[str, str], *, reevaluate: bool
) -> tuple[NextStep, ...]:
    """At most `MOST_STEPS` steps that would settle what is open, the most useful first.

    `sources` are the runs as the user named them; `reevaluate` says whether both have checkpoints that can be
    evaluated like for like.
    """
    called = tuple((facts.run.name, facts) for _, facts in pair.runs)
    steps = list(_commands(pair, findings, verdict, sources, reevaluate=reevaluate))
    steps = [step for step in steps if step.command]
    lacking = _lacking(findings)
    if lacking is not None:
        steps.append(lacking)
    if not any(step.command for step in steps):
        steps = [*_in_words(pair, findings), *steps]
    first: dict[str, NextStep] = {}
    for step in steps:
        first.setdefault(step.command or step.why, step)
    return tuple(_priced(step, called) for step in tuple(first.values())[:MOST_STEPS])


def _priced(step: NextStep, called: Sequence[tuple[str, Facts]]) -> NextStep:
    if step.price or not step.command.startswith("lossgap train "):
        return step
    return NextStep(command=step.command, why=step.why, price=training_price(step.command, called))


def _commands(
    pair: Pair, findings: Sequence[Finding], verdict: Verdict, sources: tuple[str, str], *, reevaluate: bool
) -> Iterator[NextStep]:
    if reevaluate and verdict.word != "equivalent":
        why = "evaluates both models on the whole val split at one context, so that the measurement is the same"
        yield NextStep(command=suggestion.compare(*sources, reevaluate=True), why=why)
    if verdict.word == "different":
        yield _experiment(pair, sources)
    for item in findings:
        yield NextStep(command=item.command, why=item.settle or item.title)


def _experiment(pair: Pair, sources: tuple[str, str]) -> NextStep:
    """An experiment that divides the gap, where three groups of settings or more differ and both runs are known."""
    groups = {item.factor for item in pair.settings.differ_in_meaning} & DIVIDED
    known = all(recipe_of(facts) is not None and facts.dataset.value in SHIPPED for _, facts in pair.runs)
    given = {source for _, facts in pair.runs for source in facts.run.config_sources.values()}
    # A run from standard input is gone, and what flags said of a run is not in its name.
    if len(groups) < MANY or not known or "-" in sources or "--set" in given or any("--config" in s for s in given):
        return NextStep(command="", why="")
    return NextStep(
        command=suggestion.explain(*sources, budget=BUDGET, scale="auto"),
        why=f"{len(groups)} groups of settings differ; small trainings of both recipes, scaled down alike, say how "
        "much of the gap each makes",
        price="about an hour; it shows its price and asks first",
    )


def _lacking(findings: Sequence[Finding]) -> NextStep | None:
    """Which settings to give, in words: their values are the user's to say."""
    needs = list(dict.fromkeys(need for item in findings for need in item.needs))
    if not needs:
        return None
    more = f" and {len(needs) - MOST_NAMED} more" if len(needs) > MOST_NAMED else ""
    titles = "; ".join(dict.fromkeys(item.title for item in findings if item.needs))
    return NextStep(
        command="",
        why=f"say what the records lack, each with --set, or all of a run's with --config: "
        f"{', '.join(needs[:MOST_NAMED])}{more} ({titles})",
    )


def _in_words(pair: Pair, findings: Sequence[Finding]) -> Iterator[NextStep]:
    """The step that the strongest cause asks for without a command: in the user's own trainer, for a foreign log."""
    cause = next((item for item in findings if item.role == "cause" and item.settle), None)
    if cause is None:
        return
    foreign = not all(facts.is_nanogpt or facts.is_own for _, facts in pair.runs)
    own = "In your own trainer: " if foreign else ""
    yield NextStep(command="", why=f"{own}{cause.settle}")
