"""Every command's options, said once: its flags, its generated help, and the keywords of its Python call.

`CompareOptions` are what `lossgap.compare(...)` takes; `CompareFlags` are those and what only a command line needs:
what is said of one run (`RunFlags`) and how the answer is shown (`AnswerFlags`, `PageFlags`). `lossgap train`,
`record` and `canary` take the settings of a training as well (`TrainConfig`). None, where it is the default, means
"not given".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lossgap.config import DEVICES, DTYPES
from lossgap.settings import setting

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
OUTPUT = "Output"
A_RUN = "What a log does not say; RUN is control, test, test2, ..."
MARGIN = 0.01
"""Nats per token: what counts as no difference where nobody says another margin."""
DEVICE_DOC = "cpu, cuda, cuda:N, mps; auto is the first of cuda, mps, cpu"


@dataclass(frozen=True, kw_only=True)
class AnswerFlags:
    """How a command shows its result."""

    full: bool = setting(False, "everything that is known, not only the answer", group=OUTPUT)
    json: bool = setting(False, "one JSON document on standard output", group=OUTPUT)


@dataclass(frozen=True, kw_only=True)
class PageFlags(AnswerFlags):
    """How a command shows a result that has a page and a chart."""

    html: Path | None = setting(None, "one self-contained page", group=OUTPUT, value="FILE")
    png: Path | None = setting(None, "its chart", group=OUTPUT, value="FILE")


@dataclass(frozen=True, kw_only=True)
class RunFlags:
    """The flags that describe one run among several: each may be given again, and Python passes it to `load_run`."""

    config: tuple[str, ...] = setting((), "settings from a config file or a preset", group=A_RUN, value="RUN=FILE")
    set: tuple[str, ...] = setting((), "one setting", group=A_RUN, value="RUN.NAME=VALUE")
    device: tuple[str, ...] = setting(
        (), 'the hardware, e.g. --device test="RTX 4070 Ti"', group=A_RUN, value="RUN=NAME"
    )
    format: tuple[str, ...] = setting((), "the log's format, if it is not recognised", group=A_RUN, value="[RUN=]NAME")
    columns: tuple[str, ...] = setting(
        (),
        "columns of a table, e.g. --columns test=iter:step,val_loss:eval/loss",
        group=A_RUN,
        value="[RUN=]ROLE:NAME",
    )


# ---------------------------------------------------------------------------------------------
# compare, explain


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """The options of `compare`, beside the two runs."""

    margin: float = setting(MARGIN, "gaps within this count as none", "nats per token")
    spread: str | None = setting(
        None, "a known standard deviation over seeds [nats per token], or a file that says it", value="SD|FILE"
    )
    max_gap: float | None = setting(
        None,
        "exit 2 if the upper end of the gap's 95% interval exceeds this, 3 if the verdict is inconclusive or "
        "not-comparable",
        "nats per token",
        value="X",
    )
    reevaluate: bool = setting(False, "evaluate both checkpoints alike, so that the measurement is the same")


@dataclass(frozen=True, kw_only=True)
class CompareFlags(PageFlags, RunFlags, CompareOptions):
    """Flags of `lossgap compare`."""

    reference: bool = setting(False, "hold one run against the reference curves of its recipe, in place of a test")


WHERE = "Where it runs"
RUNNER = "Somebody else's trainer"


@dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """The options of `explain`, beside the two runs."""

    budget: str = setting("20m", "what it may cost: seconds, minutes, hours, days (s, m, h, d), 30runs, or 5e14flops")
    margin: float = setting(MARGIN, "contributions within this count as none", "nats per token")
    coordinates: Literal["iterations", "tokens"] = setting(
        "iterations", "what is kept while batch or context is switched: iterations or tokens"
    )
    factor: Mapping[str, tuple[str, ...]] | None = setting(
        None, "make one factor of these settings; may be given again", value="NAME=A,B"
    )
    screen: bool = setting(False, "first drop the factors whose effect is surely within the margin")
    scale: str = setting("1", "1 is the true scale; auto, or ITERATIONS:SHAPE such as 8:4, divides both ends")
    seed: int = setting(1, "the first of the seeds")
    arm_device: str = setting("auto", DEVICE_DOC, group=WHERE, aliases=DEVICES)
    workers: int = setting(0, "trainings at a time; 0: the fastest, measured", "arms", group=WHERE)
    threads: int = setting(1, "threads of each, where --workers is given", "threads", group=WHERE)
    executor: Literal["local", "ray"] = setting("local", "local, or ray (extra lossgap[ray])", group=WHERE)
    address: str | None = setting(None, "the Ray cluster to join", group=WHERE, value="HOST:PORT")
    runner: str | None = setting(
        None,
        "its command, e.g. 'python train.py config/x.py {overrides}'; {out_dir} and {seed} are filled in",
        group=RUNNER,
        value="COMMAND",
    )
    reader: str = setting("nanogpt", "the format of its log", group=RUNNER)
    seed_arg: str | None = setting(
        None, "its seed flag, if it has one, e.g. '--seed={seed}'", group=RUNNER, value="FLAG"
    )
    override_form: str = setting("--{key}={value}", "how it takes a setting", group=RUNNER)
    runner_folder: Path = setting(Path(), "where it is started", group=RUNNER)
    time_limit: float | None = setting(None, "the longest that one of its trainings may take", "seconds", group=RUNNER)


@dataclass(frozen=True, kw_only=True)
class ExplainFlags(PageFlags, RunFlags, ExplainOptions):
    """Flags of `lossgap explain`."""

    dry_run: bool = setting(False, "show the price, and stop")
    yes: bool = setting(False, "start without asking; needed where there is no terminal")


# ---------------------------------------------------------------------------------------------
# record, replay, canary


@dataclass(frozen=True, kw_only=True)
class RecordOptions:
    """The options of `record`, beside the settings of the training."""

    iters: int = setting(50, "iterations to record", "iterations")
    start: str | None = setting(
        None, "begin at this checkpoint, or at the newest one of this run folder", flag="from", value="CKPT"
    )
    out: Path = setting(Path("bundle.lossgap"), "the bundle", short="-o")
    checkpoints: int = setting(2, "states recorded in full: the first, the last, others evenly between", "states")
    overwrite: bool = setting(False, "replace a bundle that is there")


@dataclass(frozen=True, kw_only=True)
class RecordFlags(AnswerFlags, RecordOptions):
    """Flags of `lossgap record`; its others are settings of the training."""


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """The options of `replay`, beside the bundle. None and `auto` take the recording's choice where it is here."""

    device: str = setting("auto", DEVICE_DOC, aliases=DEVICES)
    dtype: Dtype = setting("auto", "auto is the recording's", aliases=DTYPES)
    compile: bool | None = setting(None, "compile the model; None is the recording's")
    attention: Literal["auto", "plain", "fused"] = setting("auto", "attention kernel; auto is the recording's")
    adamw: Literal["auto", "fused", "loop"] = setting("auto", "AdamW implementation; auto is the recording's")
    threads: int = setting(0, "CPU threads; 0 is the recording's, where there are so many", "threads")
    tf32: bool | None = setting(None, "allow TF32 on CUDA; None is the recording's")
    iters: int = setting(0, "only so many of the recorded iterations; 0 is all", "iterations")
    twins: int = setting(8, "trainings that the envelope is made of", "trainings")
    margin: float = setting(MARGIN, "the widest envelope in which the two count as equivalent", "nats per token")
    fail_on_difference: bool = setting(
        False, "exit 2 if the verdict is different, 3 if it is inconclusive or not-comparable"
    )


@dataclass(frozen=True, kw_only=True)
class ReplayFlags(PageFlags, ReplayOptions):
    """Flags of `lossgap replay`."""


@dataclass(frozen=True, kw_only=True)
class CanaryFlags(AnswerFlags):
    """Flags of `lossgap canary`; its others are settings of the training."""

    fail_on_fault: bool = setting(False, "exit 2 if an operation of the run is out of bounds")


# ---------------------------------------------------------------------------------------------
# bench


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """The options of `bench`, beside the settings of the training."""

    updates: int = setting(50, "updates timed whole, and as many again by part", "updates")
    starts: int = setting(3, "cold starts timed; 0 for none", "starts")
    against: Path | None = setting(
        None, "a nanoGPT checkout with its data prepared: cold runs of both alternate", value="DIR"
    )
    pairs: int = setting(3, "cold runs of each, with --against", "pairs")
    iters: int = setting(200, "last iteration of a cold run", "iterations")


@dataclass(frozen=True, kw_only=True)
class BenchFlags(AnswerFlags, BenchOptions):
    """Flags of `lossgap bench`; its others are settings of the training."""


@dataclass(frozen=True, kw_only=True)
class TuneFlags(AnswerFlags):
    """Flags of `lossgap tune`; its others are settings of the training."""

    apply: Path | None = setting(None, "write what was found as a config", value="FILE")
    minutes: float | None = setting(
        None, "search the recipe with the lowest val loss in so many minutes of updates", "minutes", value="X"
    )
    target: float | None = setting(
        None, "search the shortest way to this val loss, in at most --minutes (60)", "nats per token", value="X"
    )
    dry_run: bool = setting(False, "show the plan of a search and its price, and stop")
    yes: bool = setting(False, "start a search without asking; needed where there is no terminal")
    executor: Literal["local", "ray"] = setting("local", "local, or ray (extra lossgap[ray])", group=WHERE)
    address: str | None = setting(None, "the Ray cluster to join", group=WHERE, value="HOST:PORT")


# ---------------------------------------------------------------------------------------------
# sample, read, runs, train


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """The options of `sample`, beside the runs: nanoGPT's settings and defaults, but `device` and `dtype`."""

    start: str = setting("\n", "the prompt, or FILE:PATH of a UTF-8 file that holds it")
    num_samples: int = setting(10, "texts per run", "texts")
    max_new_tokens: int = setting(500, "length of a text after the prompt", "tokens")
    temperature: float = setting(0.8, "divides the logits: below 1 less random, above 1 more")
    top_k: int | None = setting(200, "how many of the likeliest tokens take part in a draw; None is all", "tokens")
    seed: int = setting(1337, "key of the draws")
    device: str = setting("auto", DEVICE_DOC, aliases=DEVICES)
    dtype: Dtype = setting("auto", "auto is float32 on CPU and MPS, on CUDA bfloat16 or else float16", aliases=DTYPES)
    init_from: Literal["resume", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"] = setting(
        "resume", "resume is a run, gpt2* one of OpenAI's models (extra hf)"
    )


@dataclass(frozen=True, kw_only=True)
class SampleFlags(AnswerFlags, SampleOptions):
    """Flags of `lossgap sample`."""

    out_dir: str | None = setting(None, "the run, where none is named otherwise; None is out", value="FOLDER")
    compile: bool = setting(False, "accepted for nanoGPT's sake; without effect, there as here")


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """The options of `load_run` and `load_runs`, beside the source."""

    format: str | None = setting(None, "read it as this format, if it is not recognised", value="NAME")
    config: str | None = setting(None, "settings that the log does not say, from a config file or preset", value="FILE")
    set: tuple[str, ...] = setting((), "settings, given here", value="NAME=VALUE,...")
    device: str | None = setting(None, "the hardware, in words", value="TEXT")
    columns: Mapping[str, str] | None = setting(
        None, "columns of a table, e.g. iter:step,val_loss:eval/loss", value="ROLE:NAME,..."
    )
    max_iter_rows: int = setting(2_000_000, "iteration rows kept; more are thinned to equal blocks", "rows")


@dataclass(frozen=True, kw_only=True)
class ReadFlags(AnswerFlags, ReadOptions):
    """Flags of `lossgap read`."""


@dataclass(frozen=True, kw_only=True)
class ForecastOptions:
    """The options of `forecast`, beside the runs."""

    iters: int | None = setting(None, "the iteration to forecast; else the run's max_iters", "iterations", value="N")
    lr_decay_iters: int | None = setting(
        None, "another horizon of the decay, from the last iteration on as a resume has it", "iterations", value="N"
    )
    fresh: bool = setting(False, "the horizon is that of a new run, in place of a resume")
    target: float | None = setting(None, "also say when this loss is reached", "nats per token", value="X")
    until: int | None = setting(None, "forecast as if the run had ended here", "iterations", value="N")


@dataclass(frozen=True, kw_only=True)
class ForecastFlags(PageFlags, ForecastOptions):
    """Flags of `lossgap forecast`."""

    config: str | None = setting(None, "settings that the log does not say, from a config file or preset", value="FILE")
    set: tuple[str, ...] = setting((), "settings, given here", value="NAME=VALUE,...")
    format: str | None = setting(None, "read it as this format, if it is not recognised", value="NAME")


@dataclass(frozen=True, kw_only=True)
class BaselineFlags:
    """Flags of `lossgap baseline`."""

    out: Path = setting(Path("baseline.json"), "the baseline; also -o FILE", value="FILE")
    margin: float | None = setting(
        None, "the smallest shift that counts; else 4 standard deviations of these runs", "nats per token", value="X"
    )


@dataclass(frozen=True, kw_only=True)
class GateOptions:
    """The options of `gate`, beside the runs and the baseline."""

    margin: float | None = setting(
        None, "the smallest shift that counts, in place of the baseline's", "nats per token", value="X"
    )
    strict: bool = setting(False, "fail if anything changed, for better or worse, the gradient norm too")


@dataclass(frozen=True, kw_only=True)
class GateFlags(GateOptions):
    """Flags of `lossgap gate`."""

    baseline: Path | None = setting(None, "what the accepted state gave (`lossgap baseline`)", value="FILE")
    md: bool = setting(False, "a table for a comment on a pull request", group=OUTPUT)
    json: bool = setting(False, "one JSON document on standard output", group=OUTPUT)


@dataclass(frozen=True, kw_only=True)
class RunsFlags(AnswerFlags):
    """Flags of `lossgap runs`."""


@dataclass(frozen=True, kw_only=True)
class TrainFlags:
    """Flags of `lossgap train` beside the settings of the training."""

    json: bool = setting(False, "one JSON document at the end; progress goes to standard error", group=OUTPUT)


@dataclass(frozen=True, kw_only=True)
class CompletionFlags:
    """Flags of `lossgap completion`: none, only the shell's name."""


@dataclass(frozen=True, kw_only=True)
class DemoFlags:
    """Flags of `lossgap demo`: none of its own, only the settings of a training."""
