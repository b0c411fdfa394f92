"""`explain`: from two runs and a budget to the division of their gap. What runs is known, and priced, before it runs.

    prepared = prepare("shakespeare_char_cpu", "shakespeare_char", ExplainOptions(budget="20m", scale="auto"))
    prepared.price                      # arms, seeds, minutes, the smallest contribution that can be resolved
    explanation = prepared.run(watch)   # trains what is not cached

The same command later is the same experiment, and resumes where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lossgap.attribution import allowance as budgets
from lossgap.attribution import design as designs
from lossgap.attribution import scale as scales
from lossgap.attribution.arm import Arm
from lossgap.attribution.design import Design, Switched
from lossgap.attribution.divide import Reported, check, divide
from lossgap.attribution.effects import all_marginals, effects
from lossgap.attribution.ends import Ends, ends
from lossgap.attribution.executor import Executor
from lossgap.attribution.explanation import (
    ArmRow,
    At,
    Budget,
    DesignSummary,
    Division,
    Explanation,
    Quantity,
    Scale,
)
from lossgap.attribution.factor import COORDINATES, Factor, FactorPlan, factors
from lossgap.attribution.foreign.runner import Runner
from lossgap.attribution.gather import ArmOf, Gathered, Watch, gather
from lossgap.attribution.local import LocalExecutor
from lossgap.attribution.price import Price
from lossgap.attribution.pricing import Experiment, Pricing, some_arms
from lossgap.attribution.quote import quote
from lossgap.attribution.speed import Workers, most_workers
from lossgap.attribution.trainer import Trainer
from lossgap.comparison import Comparison, compare
from lossgap.comparison.metric import NoMetric
from lossgap.comparison.noise import noise
from lossgap.corpus.cache import cache_folder
from lossgap.errors import ConfigError
from lossgap.machine.device import resolve_device
from lossgap.options import ExplainOptions
from lossgap.runs.run import Run
from lossgap.strangers import one_line

ALIGNMENTS: tuple[At, ...] = ("last", "best")
Executors = Callable[[Path, int], Executor]
"""(root, arms at a time) -> executor."""


IDENTITY = ("budget", "margin", "coordinates", "scale", "seed", "screen", "workers", "threads")
"""The options that make an experiment another one."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Prepared:
    """An experiment that is ready to run."""

    asked: ExplainOptions
    comparison: Comparison
    ends: Ends
    experiment: Experiment
    root: Path
    arm_of: ArmOf
    price: Price
    executor: Executors

    @property
    def plan(self) -> FactorPlan:
        """The factors."""
        return self.experiment.plan

    def run(self, watch: Watch) -> Explanation:
        """Train what is not cached, and divide the gap. Raises TrainingError `arms-fail`, `sum-not-gap`.

        After Ctrl-C: the explanation of the seeds that are complete, or KeyboardInterrupt where none is.
        """
        screened, design = None, self.experiment.design
        dropped: tuple[str, ...] = ()
        with self.executor(self.root, self.experiment.speed.workers.at_once) as executor:
            if self.experiment.screening is not None:
                screened = gather(self.experiment.screening, self.arm_of, executor, self.root, watch)
                if not screened.complete:
                    raise KeyboardInterrupt
                kept, dropped = sift(screened, self.asked.margin)
                design = self._confirmation(screened, kept, dropped)
            assert design is not None
            gathered = gather(design, self.arm_of, executor, self.root, watch)
        if not gathered.design.seeds:
            raise KeyboardInterrupt
        return self._explanation(screened, gathered, dropped)

    def _confirmation(self, screened: Gathered, kept: Sequence[str], dropped: Sequence[str]) -> Design:
        """With seeds that screening has not seen: else its luck would be counted twice."""
        first = max((*screened.design.seeds, *screened.replaced)) + 1
        cost = self.experiment.cost
        spent = sum(cost(arm) for seed in screened.design.seeds for arm in screened.design.arms(seed))
        return designs.design(kept, self.experiment.allowed - spent, first, dropped=dropped, cost=cost)

    def _explanation(self, screened: Gathered | None, gathered: Gathered, dropped: Sequence[str]) -> Explanation:
        by_name = {item.name: item for item in self.plan.factors}
        divisions = {at: self._division(gathered, by_name, at) for at in ALIGNMENTS}
        stages = [item for item in (screened, gathered) if item is not None]
        return Explanation(
            control=self.comparison.control_source,
            test=self.comparison.test_source,
            coordinates=self.plan.coordinates,
            margin=self.asked.margin,
            factors=tuple(by_name[name] for name in (*gathered.design.factors, *dropped)),
            screened_out=tuple(dropped),
            not_switched=self.plan.not_switched,
            last=divisions["last"],
            best=divisions["best"],
            scale=self.experiment.scale,
            design=DesignSummary(
                kind=gathered.design.kind,
                seeds=gathered.design.seeds,
                arms_per_seed=gathered.design.arms_per_seed,
                repeated=gathered.design.repeated,
                screening_seeds=screened.design.seeds if screened else (),
                replaced_seeds=tuple(seed for item in stages for seed in item.replaced),
            ),
            budget=Budget(
                asked=self.asked.budget,
                runs=self.experiment.runs,
                spent_runs=sum(len(item.results.keys() - item.cached) for item in stages),
                spent_seconds=sum(item.spent for item in stages),
                resolvable=self.price.resolvable,
                resolvable_why=self.price.resolvable_why,
            ),
            arms=tuple(row for item in stages for row in rows(item, screening=item is screened)),
            failed=tuple(failure for item in stages for failure in item.failed),
            notes=self.price.notes,
            complete=all(item.complete for item in stages),
        )

    def _division(self, gathered: Gathered, by_name: Mapping[str, Factor], at: At) -> Division:
        scaled = not self.experiment.scale.true
        found = divide(gathered, by_name, at, self.asked.margin, reported(self.comparison, at), scaled)
        check(found, gathered, self.root)
        return found


def explain_root() -> Path:
    """Where arms and plans are kept: `explain` in the cache folder."""
    return cache_folder() / "explain"


def prepare(
    control: Run | Path | str,
    test: Run | Path | str,
    asked: ExplainOptions,
    *,
    sources: tuple[str, str] | None = None,
    root: Path | None = None,
    executor: Executors = LocalExecutor,
    runner: Runner | None = None,
) -> Prepared:
    """Decide and price the experiment; trains nothing but a few iterations for the price.

    Raises ConfigError: `bad-budget`, `bad-scale`, `bad-setting`, `bad-factor`, `bad-choice`, `nothing-to-explain`,
    `setting-unknown`, `bad-mixture`, `small-budget`, `out-of-reach`; CorpusError; what reading the runs raises.
    """
    allowance, wanted, forced = budgets.parse(asked.budget), scales.parse(asked.scale), _forced(asked)
    if asked.coordinates not in COORDINATES:
        raise ConfigError("bad-choice", f"--coordinates={one_line(asked.coordinates)}: take {' or '.join(COORDINATES)}")
    comparison = compare(control, test, margin=asked.margin, sources=sources)
    pair = ends(comparison.control, comparison.test, own=runner is None)
    device = resolve_device(asked.arm_device).value
    root = explain_root() if root is None else root
    regroup = asked.factor or {}

    def plan_at(scale: Scale) -> FactorPlan:
        first, second = (scales.scaled(config, scale) for config in (pair.control, pair.test))
        fixed = pair.fixed | (runner.fixed(first.to_dict()) if runner else {})
        return factors(first, second, coordinates=asked.coordinates, regroup=regroup, fixed=fixed)

    _check(plan_at(Scale()), regroup)
    trainer = Trainer(
        runner=runner,
        ends=pair,
        device=device,
        root=root,
        first_seed=asked.seed,
        workers=forced,
        timed=allowance.unit == "seconds",
    )
    pricing = Pricing(
        plan_at=plan_at,
        timer=trainer.speed,
        vocab_size=trainer.vocab_size,
        val_tokens=len(pair.corpus.val) if pair.corpus else 0,
        corpus=pair.corpus.tokens_sha256 if pair.corpus else "",
        device=device,
        allowance=allowance,
        seed=asked.seed,
        screen=asked.screen,
        one_seed=trainer.why_one_seed != "",
        root=root,
        identity={name: getattr(asked, name) for name in IDENTITY}
        | {"device": asked.arm_device, "factor": {name: list(names) for name, names in regroup.items()}}
        | {"runner": [*runner.command, runner.reader, str(runner.folder)] if runner else []},
    )
    experiment = pricing.choose(wanted)
    length = len(pair.corpus.train) if pair.corpus and runner is None else None
    scale = scales.with_corpus(experiment.scale, pair.control, pair.test, length)
    experiment = replace(experiment, scale=scale)

    def arm_of(switched: Switched, seed: int) -> Arm:
        return trainer.arm(experiment.plan, switched, seed, experiment.speed.workers.threads, scale.train_tokens)

    notes = [*pair.notes, *([trainer.why_one_seed] if trainer.why_one_seed else [])]
    lost = [name for name in plan_at(Scale()).names if name not in experiment.plan.names]
    if lost:
        notes.append(f"at this scale both ends have the same {', '.join(lost)}: not switched, and its part is unknown")
    return Prepared(
        asked=asked,
        comparison=comparison,
        ends=pair,
        experiment=experiment,
        root=root,
        arm_of=arm_of,
        price=quote(experiment, pricing, comparison, notes, arm_of),
        executor=executor,
    )


def _forced(asked: ExplainOptions) -> Workers | None:
    """The workers that are asked for; None: the fastest. Raises ConfigError `bad-setting`."""
    from lossgap.training.numerics import MOST_THREADS  # loads torch, which reading and pricing need not

    if not 0 <= asked.workers <= most_workers():
        raise ConfigError(
            "bad-setting",
            f"--workers={asked.workers}: arms at a time, from 1 to {most_workers()} on this machine (4 for each core); "
            "0 takes the fastest",
        )
    if not 1 <= asked.threads <= MOST_THREADS:
        raise ConfigError("bad-setting", f"--threads={asked.threads}: each arm takes 1 to {MOST_THREADS} threads")
    return Workers(at_once=asked.workers, threads=asked.threads) if asked.workers else None


def _check(plan: FactorPlan, regroup: Mapping[str, Sequence[str]]) -> None:
    """There is something to divide, what was asked for differs, and every mixture is a config."""
    for name, settings in regroup.items():
        if name not in {*plan.names, *(item.name for item in plan.not_switched)}:
            raise ConfigError(
                "bad-factor",
                f"--factor {name}={','.join(settings)}: both recipes have the same there, and nothing to switch; "
                "leave it out",
            )
    if not plan.factors:
        held = ", ".join(item.name for item in plan.not_switched)
        raise ConfigError(
            "nothing-to-explain",
            "the two configs differ in no setting that an arm can switch"
            + (f" (what differs is not switched: {held})" if held else "")
            + ": the gap is measurement, chance, or the machine; lossgap compare shows the first two, lossgap replay "
            "the last; --factor NAME=SETTING switches a setting on request",
        )
    for switched in some_arms(plan.names):
        try:
            plan.settings(switched)
        except ConfigError as error:
            raise ConfigError(
                "bad-mixture",
                f"with {', '.join(sorted(switched))} switched and the rest not: {error}; put the settings that belong "
                "together into one factor (--factor NAME=A,B)",
            ) from error


def sift(screened: Gathered, margin: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(kept, dropped): dropped is what screening found to do nothing beyond the margin, at last and at best.

    A contribution whose interval lies within the margin is not enough: a factor that harms here and helps there has a
    mean of 0. Every marginal that was measured, the mean over the seeds that have it, must lie within the margin, too.
    """
    dropped = set(screened.design.factors)
    for at in ALIGNMENTS:
        games = screened.games(at)
        found = effects(screened.design, games)
        for place, name in enumerate(found.factors):
            interval = found.mean("contributions", place, designs.together(len(found.factors))).ci
            if interval is None or not (-margin <= interval[0] and interval[1] <= margin):
                dropped.discard(name)
            if any(abs(value) > margin for value in all_marginals(games, name).values()):
                dropped.discard(name)
    names = screened.design.factors
    return tuple(name for name in names if name not in dropped), tuple(name for name in names if name in dropped)


def reported(comparison: Comparison, at: At) -> Reported:
    """The gap as the two runs say it, in nats per token, and the noise of their evaluations."""
    alignment = comparison.alignment
    gap = alignment.gap(at)
    if isinstance(alignment.metric, NoMetric) or gap is None:
        return Reported(gap=Quantity(value=None, why=alignment.row(at).why or "the runs report no loss in common"))
    if alignment.metric.unit != "nats/token":
        return Reported(gap=Quantity(value=None, why=f"the runs report {alignment.metric.unit}, the arms nats/token"))
    chance = noise(comparison.control, comparison.test, alignment, at)
    if at == "best" and not alignment.row(at).exact:
        why = "the lowest of several sampled evaluations lies below the loss that it samples"
        return Reported(gap=Quantity(value=gap, why=why), why=why)
    again = chance.without_seeds
    return Reported(gap=Quantity(value=gap, ci=chance.widest_interval(gap)), error=again.standard_error, why=again.why)


def rows(gathered: Gathered, *, screening: bool) -> Iterator[ArmRow]:
    """Every arm of the complete seeds, as it ran."""
    for seed in gathered.design.seeds:
        for switched in gathered.design.arms(seed):
            found, arm = gathered.result(seed, switched), gathered.arms[seed, switched]
            yield ArmRow(
                factors=tuple(
                    name for name in (*gathered.design.factors, *gathered.design.dropped) if name in switched
                ),
                seed=arm.seed,
                stage="screening" if screening else "confirmation",
                val_loss=found.val_loss,
                best_val_loss=found.best_val_loss,
                seconds=found.seconds,
                run=found.run,
                exact=found.exact,
                cached=found.key in gathered.cached,
                curve=found.curve,
            )
