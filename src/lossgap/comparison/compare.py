"""Comparing runs: facts, alignment, noise, verdict, findings, what to do next.

    compare(control, test, margin=0.01) -> Comparison
    compare([a1, a2, a3], [b1, b2]) -> Comparison           # groups: the spread over seeds is measured

`control` and `test` are Runs, or what names one: a run folder, a checkpoint, a log file, ... With several runs on a
side the gap is the difference of the means, and the middle run of each side stands for its settings and its curve.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from lossgap.comparison.alignment import Alignment, align
from lossgap.comparison.comparison import Comparison
from lossgap.comparison.differences import compare_settings
from lossgap.comparison.facts import Facts
from lossgap.comparison.groups import Groups, as_spread, group, middle
from lossgap.comparison.next_steps import next_steps
from lossgap.comparison.noise import noise
from lossgap.comparison.ranking import rank
from lossgap.comparison.reevaluation import FLAG, Reevaluation, without_answered
from lossgap.comparison.reevaluation import findings as measured_findings
from lossgap.comparison.rules import Pair, Rule, find
from lossgap.comparison.spread import KnownSpread
from lossgap.comparison.verdict import MARGIN, judge
from lossgap.errors import ConfigError
from lossgap.runs.run import Run

Side = Run | Path | str | Sequence[Run | Path | str]
"""One run, what names one, or several of them."""

Measure = Callable[[Facts, Facts, Alignment], Reevaluation]
"""Evaluates the checkpoints of control and test alike: `evaluation.reevaluate.measure_alike`, which needs torch."""


def compare(
    control: Side,
    test: Side,
    *,
    margin: float = MARGIN,
    spread: float | KnownSpread | None = None,
    max_gap: float | None = None,
    rules: Sequence[Rule] | None = None,
    sources: tuple[str, str] | None = None,
    measure: Measure | None = None,
) -> Comparison:
    """Compare two runs: what differs, how large the gap is against its noise, which causes the evidence supports.

    `margin` is in nats per token (the gap is test minus control): gaps within it count as none. `spread` is a known
    standard deviation over seeds, in place of a measured or shipped one. `rules` are by default all of them; `sources`
    are names of the runs for the commands that the answer proposes. `measure` evaluates both runs' checkpoints alike;
    it comes from whoever may load torch (`lossgap.compare(reevaluate=True)`). Raises ConfigError `bad-margin`,
    `bad-spread`, `empty-group`, what reading a run raises, and what `measure` does.
    """
    if not 0 <= margin < float("inf"):
        raise ConfigError("bad-margin", f"--margin={margin}: the margin must be a number of at least 0, e.g. {MARGIN}")
    known = as_spread(spread)
    controls, tests = _facts(control), _facts(test)
    named = sources or (_named(control), _named(test))
    groups: Groups | None = None
    if len(controls) == 1 == len(tests):
        first, second = controls[0], tests[0]
        alignment = align(first, second)
        chance = noise(first, second, alignment, known=known)
    else:
        groups, alignment = group(controls, tests, known, margin)
        first, second = middle(controls), middle(tests)
        chance = groups.row("last").noise
    runs = (first.run, second.run)
    gap = alignment.gap("last")
    verdict = judge(gap, chance, alignment, margin)
    if groups is not None and verdict.word == "inconclusive":
        verdict = replace(verdict, settle=groups.settle, seeds=groups.more)
    settings = compare_settings(first, second)
    pair = Pair(control=first, test=second, alignment=alignment, noise=chance, settings=settings)
    measured = None if measure is None else measure(first, second, alignment)
    results = find(pair, rules)
    if measured is not None:
        results = (*without_answered(results, measured), *measured_findings(measured))
        verdict = replace(verdict, settle="") if FLAG in verdict.settle else verdict
    findings, ruled_out = rank(results, gap, verdict, chance.bound)
    both = (named[0], named[1])
    can_evaluate = measured is None and all(run.has_checkpoint() for run in runs)
    return Comparison(
        control=first,
        test=second,
        control_source=both[0],
        test_source=both[1],
        alignment=alignment,
        noise=chance,
        verdict=verdict,
        settings=settings,
        findings=findings,
        ruled_out=ruled_out,
        next=next_steps(pair, findings, verdict, both, reevaluate=can_evaluate),
        max_gap=max_gap,
        reevaluation=measured,
        groups=groups,
    )


def _facts(side: Side) -> tuple[Facts, ...]:
    """The facts of one side's runs."""
    several = [side] if isinstance(side, Run | Path | str) else list(side)
    return tuple(Facts.of(item if isinstance(item, Run) else _load(item)) for item in several)


def _named(side: Side) -> str:
    several = [side] if isinstance(side, Run | Path | str) else list(side)
    return " ".join(str(item.path) if isinstance(item, Run) else str(item) for item in several)


def _load(source: Path | str) -> Run:
    from lossgap.runs.readers.source import load_run

    return load_run(source)
