"""The Python calls: one for each verb of the command line, which does nothing but call them.

What each takes beside its runs is one dataclass in `lossgap.options`, whose fields are the command's flags as well:
`explain(control, test, budget="1h")` is `lossgap explain CONTROL TEST --budget=1h`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossgap.arguments import Given, asked, read_arguments
from lossgap.config import TrainConfig
from lossgap.config_file import resolve_arguments
from lossgap.keywords import takes
from lossgap.options import (
    BenchOptions,
    CompareOptions,
    ExplainOptions,
    ForecastOptions,
    RecordOptions,
    ReplayOptions,
    SampleOptions,
)
from lossgap.runs.readers.source import load_run as load_run
from lossgap.runs.readers.source import load_runs as load_runs
from lossgap.runs.run import Run
from lossgap.settings import settings_of

if TYPE_CHECKING:
    from lossgap.attribution.explain import Executors, Prepared
    from lossgap.attribution.explanation import Explanation
    from lossgap.attribution.foreign.runner import Runner
    from lossgap.comparison.compare import Measure, Side
    from lossgap.comparison.comparison import Comparison
    from lossgap.comparison.rules import Rule
    from lossgap.forecasting.forecast import Forecast
    from lossgap.gating.accepted import Baseline
    from lossgap.gating.judge import GateResult
    from lossgap.gpt import GPTConfig
    from lossgap.kernels.check import Canary
    from lossgap.pace.bench import Bench
    from lossgap.parity.record import Recorded
    from lossgap.parity.replay_result import Replay
    from lossgap.references.placement import Placement
    from lossgap.runs.listing import Listing
    from lossgap.sampling import Samples, Sampling
    from lossgap.training.numerics import Numerics
    from lossgap.training.progress import Progress
    from lossgap.training.train import Outcome
    from lossgap.tuning.search import Found, Search
    from lossgap.tuning.tune import Tuned

Say = Callable[[str], None]
"""Told, in a line each, what takes its time."""


# ---------------------------------------------------------------------------------------------
# Training and its texts


@takes(TrainConfig)
def train(*configs: str | Path, **settings: object) -> Run:
    """Train a GPT and return its record; the same as `lossgap train CONFIG ... --key=value ...`.

    `configs` are presets or config files, applied in order; `settings` are `TrainConfig` fields and win over them.
    Shows nothing. Raises LossgapError for what the caller can mend (a bad setting, a used out_dir, a loss that is
    not finite), and `lossgap.training.loop.Interrupted` after SIGINT, SIGTERM or SIGHUP: the run is saved then.
    """
    return train_given(_with(resolve_arguments([str(config) for config in configs]), settings)).run


def train_given(given: Given, progress: Progress | None = None) -> Outcome:
    """Train what a command line gave; `progress` shows how far it is. Raises as `train`."""
    from lossgap.training.progress import Silence
    from lossgap.training.train import train_given as train_resolved

    return train_resolved(given, progress or Silence(), certify)


def certify(config: TrainConfig, shape: GPTConfig, numerics: Numerics, micro_batch: int) -> str:
    """The check of the device that every training is handed, for `--canary`: see `lossgap.kernels.check.certify`."""
    from lossgap.kernels.check import certify as check_device

    return check_device(config, shape, numerics, micro_batch)


@takes(SampleOptions)
def sample(*runs: str | Path, **options: object) -> Sequence[Samples]:
    """Text from one checkpoint or several, `num_samples` of `max_new_tokens` tokens each; nanoGPT's defaults.

    `runs` are run folders or checkpoints. Raises LossgapError (missing checkpoint, prompt outside the vocabulary).
    """
    return prepare_samples(*runs, **options).samples()


def prepare_samples(*runs: str | Path, **options: object) -> Sampling:
    """The opened models, whose texts come one by one as they are drawn. Arguments and errors as `sample`."""
    from lossgap.sampling import Sampling

    return Sampling.open(runs, asked(SampleOptions, options, "sample"))


# ---------------------------------------------------------------------------------------------
# Runs


def list_runs(folder: str | Path = ".") -> Listing:
    """The run folders below `folder`, up to three levels deep. Raises RunFolderError for a folder that is not there."""
    from lossgap.runs.listing import listing

    return listing(Path(folder))


# ---------------------------------------------------------------------------------------------
# Two runs


@takes(CompareOptions)
def compare(
    control: Side,
    test: Side,
    *,
    rules: Sequence[Rule] | None = None,
    sources: tuple[str, str] | None = None,
    say: Say | None = None,
    **options: object,
) -> Comparison:
    """Compare two runs: what differs, how big the gap is against its noise, and which causes the evidence supports.

    `control` and `test` are Runs, or what names one: a run folder, a checkpoint, a log, a preset; or several of them,
    whose spread over seeds is then measured. The gap is test minus control, in nats per token. `rules` are by default
    all of them; `sources` name the runs in the commands that the answer proposes. Raises LossgapError for what the
    caller can mend.
    """
    from lossgap.comparison.compare import compare as compare_runs
    from lossgap.comparison.spread import KnownSpread, known_spread

    given = options.pop("spread", None)
    spread = given if isinstance(given, KnownSpread) else known_spread(str(given)) if given is not None else None
    wanted = asked(CompareOptions, options, "compare")
    measure: Measure | None = None
    if wanted.reevaluate:
        from lossgap.evaluation.reevaluate import measure_alike

        measure = partial(measure_alike, say=say)
    return compare_runs(
        control,
        test,
        margin=wanted.margin,
        spread=spread,
        max_gap=wanted.max_gap,
        rules=rules,
        sources=sources,
        measure=measure,
    )


@takes(ExplainOptions)
def prepare_explanation(
    control: Run | str | Path, test: Run | str | Path, *, sources: tuple[str, str] | None = None, **options: object
) -> Prepared:
    """The experiment that `explain` would run, with its price; trains nothing but a few iterations to time them.

    `prepared.price` says what it takes; `prepared.run(watch)` runs it. Raises LossgapError for what the caller can
    mend.
    """
    from lossgap.attribution.explain import prepare

    wanted = asked(ExplainOptions, options, "explain")
    executors = _executors(wanted.executor, wanted.address)
    return prepare(control, test, wanted, sources=sources, executor=executors, runner=_runner(wanted))


def _executors(executor: str, address: str | None) -> Executors:
    """Return what trains the arms: this machine, or a Ray cluster."""
    if executor == "ray":
        from lossgap.attribution.ray_executor import ray_executor

        return ray_executor(address)
    from lossgap.attribution.local import LocalExecutor

    return LocalExecutor


def _runner(wanted: ExplainOptions) -> Runner | None:
    """Somebody else's trainer, if one is named."""
    if wanted.runner is None:
        return None
    from lossgap.attribution.foreign.runner import Runner

    return Runner.parse(
        wanted.runner,
        reader=wanted.reader,
        seed_arg=wanted.seed_arg or "",
        override_form=wanted.override_form,
        folder=wanted.runner_folder,
        time_limit=wanted.time_limit,
    )


@takes(ExplainOptions)
def explain(control: Run | str | Path, test: Run | str | Path, **options: Any) -> Explanation:
    """Divide the gap between two runs among its causes, by training mixtures of the two recipes within a budget.

    Runs without asking and without a word. Raises LossgapError for what the caller can mend; KeyboardInterrupt after
    Ctrl-C before a seed was complete.
    """
    return prepare_explanation(control, test, **options).run(lambda ended: None)


# ---------------------------------------------------------------------------------------------
# Two machines


@takes(RecordOptions)
def record(*configs: str | Path, say: Say = lambda line: None, **settings: object) -> Recorded:
    """Record a stretch of a training as a bundle; the same as `lossgap record RUN_OR_CONFIG --from START -o OUT`.

    `configs` are one run folder or checkpoint, or presets and config files; `settings` that are not keywords of this
    call are `TrainConfig` fields and win over them. The bundle holds text of the corpus. Raises LossgapError for what
    the caller can mend.
    """
    own = {name: settings.pop(name) for name in settings_of(RecordOptions) if name in settings}
    if isinstance(own.get("start"), Path):
        own["start"] = str(own["start"])
    options = asked(RecordOptions, own, "record")
    return record_given([str(config) for config in configs], options, settings, say=say)


def record_given(
    argv: Sequence[str],
    options: RecordOptions,
    settings: Mapping[str, object] | None = None,
    *,
    say: Say = lambda line: None,
) -> Recorded:
    """Record what the words of a command line mean, with `settings` on top. Raises as `record`."""
    from lossgap.parity.record import record as record_resolved
    from lossgap.training.recipe_source import read_given

    return record_resolved(
        _with(read_given(argv), settings or {}),
        options.out,
        iters=options.iters,
        start=options.start or "",
        checkpoints=options.checkpoints,
        overwrite=options.overwrite,
        say=say,
    )


@takes(TrainConfig)
def canary(*configs: str | Path, **settings: object) -> Canary:
    """The operations of a run at its own shapes on this device, against float64; the same as `lossgap canary`.

    `configs` are one run folder or checkpoint, or presets and config files (none: the laptop recipe); `settings` are
    `TrainConfig` fields and win over them. `canary(...).faults` is empty where all is well. Raises LossgapError for
    what the caller can mend.
    """
    return canary_given([str(config) for config in configs], settings)


def canary_given(argv: Sequence[str], settings: Mapping[str, object] | None = None) -> Canary:
    """Check the run that the words of a command line mean, with `settings` on top. Raises as `canary`."""
    from lossgap.kernels.check import canary as check_given

    return check_given(_recipe(argv, settings))


@takes(BenchOptions)
def bench(*configs: str | Path, say: Say = lambda line: None, **settings: object) -> Bench:
    """How fast a training is on this machine, by part; the same as `lossgap bench`.

    `configs` are one run folder or checkpoint, or presets and config files (none: the laptop recipe); `settings` that
    are not keywords of this call are `TrainConfig` fields and win over them. Raises LossgapError for what the caller
    can mend.
    """
    own = {name: settings.pop(name) for name in settings_of(BenchOptions) if name in settings}
    if own.get("against") is not None:
        own["against"] = Path(str(own["against"]))
    return bench_given([str(config) for config in configs], asked(BenchOptions, own, "bench"), settings, say=say)


def bench_given(
    argv: Sequence[str],
    options: BenchOptions,
    settings: Mapping[str, object] | None = None,
    *,
    say: Say = lambda line: None,
) -> Bench:
    """Measure the training that the words of a command line mean, with `settings` on top. Raises as `bench`."""
    from lossgap.pace.bench import bench as measure

    given = _recipe(argv, settings)
    return measure(_config(given), options, ", ".join(map(str, given.positionals)) or LAPTOP, say)


@takes(TrainConfig)
def tune(*configs: str | Path, say: Say = lambda line: None, **settings: object) -> Tuned:
    """Which settings are faster on this machine, and what each does to the loss; the same as `lossgap tune`.

    `configs` are one run folder or checkpoint, or presets and config files (none: the laptop recipe); `settings` are
    `TrainConfig` fields and win over them. It takes about a minute. Raises LossgapError for what the caller can mend.
    """
    return tune_given([str(config) for config in configs], settings, say=say)


def tune_given(
    argv: Sequence[str], settings: Mapping[str, object] | None = None, *, say: Say = lambda line: None
) -> Tuned:
    """Try settings against the training that the words of a command line mean. Raises as `tune`."""
    from lossgap.tuning.tune import tune as try_settings

    given = _recipe(argv, settings)
    return try_settings(_config(given), ", ".join(map(str, given.positionals)) or LAPTOP, say)


def prepare_search(
    argv: Sequence[str],
    *,
    minutes: float | None = None,
    target: float | None = None,
    executor: str = "local",
    address: str | None = None,
    say: Say = lambda line: None,
) -> Search:
    """A search that was not started: `price` has its plan and cost, `run(say)` starts it. Raises as `search_recipe`."""
    from lossgap.tuning.search import Search

    return Search(_config(_recipe(argv, None)), minutes, target, _executors(executor, address), say)


def search_recipe(argv: Sequence[str], *, say: Say = lambda line: None, **given: Any) -> Found:
    """The recipe with the lowest val loss in so many `minutes` of updates here, or the shortest way to a `target`.

    It begins with the training that the words of a command line mean; `given` are the keywords of `prepare_search`. It
    takes up to seven times as long as the recipe may (for a target: for each time that it tries); stopped, it goes on
    where it was. Raises LossgapError for what the caller can mend.
    """
    return prepare_search(argv, say=say, **given).run(say)


def _recipe(argv: Sequence[str], settings: Mapping[str, object] | None) -> Given:
    """Return what a command line and `settings` name: a run or configs, or the laptop recipe where they name none."""
    from lossgap.training.recipe_source import read_given

    is_named = any(isinstance(item, str) for item in read_arguments(argv, TrainConfig))
    return _with(read_given(argv if is_named else [LAPTOP, *argv]), settings or {})


def _config(given: Given) -> TrainConfig:
    from lossgap.training.recipe_source import source_of

    return source_of(given, "")[0]


@takes(ReplayOptions)
def replay(bundle: str | Path, *, say: Say = lambda line: None, **options: object) -> Replay:
    """Repeat a recorded stretch here, and separate hardware from every other cause; the same as `lossgap replay`.

    `replay(...).verdict` is different, equivalent, inconclusive or not-comparable. Nothing in the bundle is executed.
    Raises LossgapError for what the caller can mend (a damaged bundle, a device that is not here).
    """
    from lossgap.parity.replay import replay as replay_asked

    return replay_asked(bundle, asked(ReplayOptions, options, "replay"), say=say)


LAPTOP = "shakespeare_char_cpu"
"""The recipe that stands for a run where none is named."""


def _with(given: Given, settings: Mapping[str, object]) -> Given:
    """Return what was given, with `settings` on top of it."""
    sources = {**given.sources, **{name: f"--{name}={value}" for name, value in settings.items()}}
    return Given({**given.values, **settings}, sources, given.positionals, echo=given.echo)


def on_track(run: Run | str | Path) -> Placement:
    """Where a run lies in the band that its recipe gave over seeds; as `lossgap compare RUN --reference`.

    `on_track(...).word` is on track, above, below or unknown. Raises LossgapError for a run that cannot be read.
    """
    from lossgap.references.placement import place_run

    return place_run(run if isinstance(run, Run) else load_run(run))


@takes(ForecastOptions)
def forecast(*runs: Run | str | Path, **options: object) -> Forecast:
    """The train and val loss of a run at a later iteration, with a back-tested 90% interval; as `lossgap forecast`.

    Several runs are seeds of one recipe, whose mean is forecast. `forecast(...).val.loss` is None where nothing can be
    said, and `.val.why` has the reason. Raises LossgapError for what the caller can mend.
    """
    from lossgap.forecasting.forecast import forecast as forecast_runs

    wanted = asked(ForecastOptions, options, "forecast")
    return forecast_runs(
        _runs(runs),
        iters=wanted.iters,
        horizon=wanted.lr_decay_iters,
        fresh=wanted.fresh,
        target=wanted.target,
        until=wanted.until,
    )


def baseline(*runs: Run | str | Path, margin: float | None = None, out: str | Path | None = None) -> Baseline:
    """Summarise these runs of the accepted state for `gate`; the same as `lossgap baseline RUN ... -o OUT`.

    Three runs at least, or a folder of runs. `margin` (nats per token) is the smallest shift that counts, by default 4
    standard deviations of these runs. With `out` it is written. Raises LossgapError for what the caller can mend.
    """
    from lossgap.gating.accepted import make_baseline

    made = make_baseline(_runs(runs), margin)
    if out is not None:
        made.write(Path(out))
    return made


def gate(
    *runs: Run | str | Path, baseline: Baseline | str | Path, margin: float | None = None, strict: bool = False
) -> GateResult:
    """Judge whether the runs of a change pass, fail or need more; the same as `lossgap gate RUN ... --baseline FILE`.

    `gate(...).exit_code` is 0, 2 or 3. `strict` fails any change, in either direction, of any signal. One may look
    after every run. Raises LossgapError for what the caller can mend.
    """
    from lossgap.gating.accepted import Baseline, read_baseline
    from lossgap.gating.judge import gate as judge_gate

    known = baseline if isinstance(baseline, Baseline) else read_baseline(Path(baseline))
    return judge_gate(_runs(runs), known, margin=margin, strict=strict)


def _runs(named: Sequence[Run | str | Path]) -> list[Run]:
    """The runs, folders of runs expanded."""
    from lossgap.comparison.sides import expand
    from lossgap.runs.readers.source import load_run

    found: list[Run] = []
    for item in named:
        found += [item] if isinstance(item, Run) else [load_run(source) for source in expand(str(item))]
    return found
