"""The Python calls: one for each verb of the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lossgap.arguments import Given
from lossgap.comparison.verdict import MARGIN
from lossgap.config_file import resolve_arguments
from lossgap.runs.run import Run

if TYPE_CHECKING:
    from lossgap.attribution.explain import Executors, Prepared
    from lossgap.attribution.explanation import Explanation
    from lossgap.comparison.compare import Measure, Side
    from lossgap.comparison.comparison import Comparison
    from lossgap.comparison.rules import Rule
    from lossgap.comparison.spread import KnownSpread
    from lossgap.config import TrainConfig
    from lossgap.gpt import GPTConfig
    from lossgap.kernels.check import Canary
    from lossgap.parity.record import Recorded
    from lossgap.parity.replay_result import Replay
    from lossgap.sampling import Samples
    from lossgap.training.numerics import Numerics


def train(*configs: str | Path, **settings: object) -> Run:
    """Train a GPT and return its record; the same as `lossgap train CONFIG … --key=value …`.

    `configs` are presets or config files, applied in order; `settings` are `TrainConfig` fields and win over them.
    Shows nothing. Raises LossgapError for what the caller can mend (a bad setting, a used out_dir, a loss that is
    not finite), and `lossgap.training.loop.Interrupted` after SIGINT, SIGTERM or SIGHUP: the run is saved then.
    """
    from lossgap.training.progress import Silence
    from lossgap.training.train import train_given

    given = resolve_arguments([str(config) for config in configs])
    sources = {**given.sources, **{name: f"--{name}={value}" for name, value in settings.items()}}
    merged = Given({**given.values, **settings}, sources, given.positionals, echo=given.echo)
    return train_given(merged, Silence(), certify).run


def certify(config: TrainConfig, shape: GPTConfig, numerics: Numerics, micro_batch: int) -> str:
    """The check of the device that every training is handed, for `--canary`: see `lossgap.kernels.check.certify`."""
    from lossgap.kernels.check import certify as check_device

    return check_device(config, shape, numerics, micro_batch)


def compare(
    control: Side,
    test: Side,
    *,
    margin: float = MARGIN,
    spread: float | KnownSpread | None = None,
    max_gap: float | None = None,
    rules: Sequence[Rule] | None = None,
    sources: tuple[str, str] | None = None,
    reevaluate: bool = False,
    say: Callable[[str], None] | None = None,
) -> Comparison:
    """What differs between two runs, how big the gap is against its noise, and which causes the evidence supports.

    The same as `lossgap compare CONTROL TEST`; several runs on a side are a group. `margin` is in nats per token (the
    gap is test minus control): gaps within it count as none. `spread` is a known standard deviation over seeds, in
    place of a measured or shipped one. `rules` are by default all of them; `sources` are names of the runs for the
    commands that the answer proposes. `reevaluate` evaluates both runs' checkpoints alike, on the whole val split, and
    hands `say` a line for each evaluation that takes its time. Raises LossgapError for what the caller can mend.
    """
    from lossgap.comparison.compare import compare as compare_runs

    measure: Measure | None = None
    if reevaluate:
        from lossgap.evaluation.reevaluate import measure_alike

        measure = partial(measure_alike, say=say)
    return compare_runs(
        control,
        test,
        margin=margin,
        spread=spread,
        max_gap=max_gap,
        rules=rules,
        sources=sources,
        measure=measure,
    )


def sample(
    *runs: str | Path,
    start: str = "\n",
    num_samples: int = 10,
    max_new_tokens: int = 500,
    temperature: float = 0.8,
    top_k: int = 200,
    seed: int = 1337,
    device: str = "auto",
    dtype: str = "auto",
) -> Sequence[Samples]:
    """Text from one checkpoint or several, `num_samples` of `max_new_tokens` tokens each; nanoGPT's defaults.

    `runs` are run folders or checkpoints. Raises LossgapError (missing checkpoint, prompt outside the vocabulary).
    """
    from lossgap.sampling import sample as sample_runs

    return sample_runs(
        [Path(run) for run in runs],
        start=start,
        num_samples=num_samples,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        seed=seed,
        device=device,
        dtype=dtype,
    )


def prepare_explanation(
    control: Run | str | Path,
    test: Run | str | Path,
    *,
    budget: str = "20m",
    margin: float = 0.01,
    coordinates: Literal["iterations", "tokens"] = "iterations",
    factor: Mapping[str, Sequence[str]] | None = None,
    screen: bool = False,
    scale: str = "1",
    seed: int = 1,
    device: str = "auto",
    workers: int = 0,
    threads: int = 1,
    executor: Literal["local", "ray"] = "local",
    address: str = "",
    runner: str = "",
    reader: str = "nanogpt",
    seed_arg: str = "",
    override_form: str = "--{key}={value}",
    runner_folder: str | Path = ".",
    time_limit: float | None = None,
    sources: tuple[str, str] | None = None,
) -> Prepared:
    """The experiment that `explain` would run, with its price; trains nothing but a few iterations to time them.

    `prepared.price` says what it takes; `prepared.run(watch)` runs it. Arguments as in `lossgap explain --help`. Raises
    LossgapError for what the caller can mend.
    """
    from lossgap.attribution.explain import Asked, prepare
    from lossgap.attribution.foreign.runner import Runner
    from lossgap.attribution.local import LocalExecutor

    asked = Asked(
        budget=budget,
        margin=margin,
        coordinates=coordinates,
        factor=dict(factor or {}),
        scale=scale,
        seed=seed,
        screen=screen,
        device=device,
        workers=workers,
        threads=threads,
    )
    started: Executors = LocalExecutor
    if executor == "ray":
        from lossgap.attribution.ray_executor import ray_executor

        started = ray_executor(address or None)
    trainer = None
    if runner:
        trainer = Runner.parse(
            runner,
            reader=reader,
            seed_arg=seed_arg,
            override_form=override_form,
            folder=runner_folder,
            time_limit=time_limit,
        )
    return prepare(control, test, asked, sources=sources, executor=started, runner=trainer)


def explain(control: Run | str | Path, test: Run | str | Path, **asked: Any) -> Explanation:
    """Divide the gap between two runs among its causes, by training mixtures of the two recipes within a budget.

    `asked` are the arguments of `prepare_explanation`. Runs without asking and without a word. Raises LossgapError for
    what the caller can mend; KeyboardInterrupt after Ctrl-C before a seed was complete.
    """
    return prepare_explanation(control, test, **asked).run(lambda ended: None)


def record(
    *configs: str | Path,
    iters: int = 50,
    start: str | Path | None = None,
    out: str | Path = "bundle.lossgap",
    checkpoints: int = 2,
    overwrite: bool = False,
    **settings: object,
) -> Recorded:
    """Record a stretch of a training as a bundle; the same as `lossgap record RUN_OR_CONFIG --from START -o OUT`.

    `configs` are one run folder or checkpoint, or presets and config files; `settings` are `TrainConfig` fields and win
    over them. The bundle holds text of the corpus. Raises LossgapError for what the caller can mend.
    """
    from lossgap.parity.record import record as record_given
    from lossgap.training.source import read_given

    given = read_given([str(config) for config in configs])
    sources = {**given.sources, **{name: f"--{name}={value}" for name, value in settings.items()}}
    merged = Given({**given.values, **settings}, sources, given.positionals, echo=given.echo)
    return record_given(
        merged,
        Path(out),
        iters=iters,
        start="" if start is None else str(start),
        checkpoints=checkpoints,
        overwrite=overwrite,
    )


def canary(*configs: str | Path, **settings: object) -> Canary:
    """The operations of a run at its own shapes on this device, against float64; the same as `lossgap canary`.

    `configs` are one run folder or checkpoint, or presets and config files (none: the laptop recipe); `settings` are
    `TrainConfig` fields and win over them. `canary(...).faults` is empty where all is well. Raises LossgapError for
    what the caller can mend.
    """
    from lossgap.kernels.check import canary as check_given
    from lossgap.training.source import read_given

    given = read_given([str(config) for config in configs] or ["shakespeare_char_cpu"])
    sources = {**given.sources, **{name: f"--{name}={value}" for name, value in settings.items()}}
    return check_given(Given({**given.values, **settings}, sources, given.positionals, echo=given.echo))


def replay(
    bundle: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    compile: bool | None = None,
    attention: str = "auto",
    adamw: str = "auto",
    threads: int = 0,
    tf32: bool | None = None,
    iters: int = 0,
    twins: int = 8,
    margin: float = 0.01,
) -> Replay:
    """Repeat a recorded stretch here, and tell the hardware from everything else; the same as `lossgap replay`.

    `replay(...).verdict` is different, equivalent, inconclusive or not-comparable. Nothing in the bundle is executed.
    Raises LossgapError for what the caller can mend (a damaged bundle, a device that is not here).
    """
    from lossgap.parity.replay import Asked
    from lossgap.parity.replay import replay as replay_asked

    return replay_asked(
        bundle,
        Asked(
            device=device,
            dtype=dtype,
            compile=compile,
            attention=attention,
            adamw=adamw,
            threads=threads,
            tf32=tf32,
            iters=iters,
            twins=twins,
            margin=margin,
        ),
    )
