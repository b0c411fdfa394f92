"""The record of a training, `Run`, and reading a run folder into one, while it is written or after.

    run.json      -> settings, environment, corpus, how it ended
    metrics.jsonl -> two tables: one row per iteration, one row per evaluation

Everything in the folder is data: a value of the wrong type becomes null, a damaged line costs that
line and is counted, and nothing is executed. Reading takes no lock. Logs of other trainers become a
`Run` through `readers/`; `load_run` reads whatever names a run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from lossgap.runs import rows
from lossgap.runs.run_json import METRICS_FILE, metrics_unreadable, open_data, read_run_json
from lossgap.runs.status import true_status
from lossgap.runs.values import as_float, as_int, as_list, as_mapping, as_text
from lossgap.shown import Shown

EvalRow = dict[str, object]

ITER_COLUMNS: dict[str, type[pl.DataType]] = {
    "iter": pl.Int64,
    "loss": pl.Float64,
    "lr": pl.Float64,
    "grad_norm": pl.Float64,
    "tokens": pl.Int64,
    "seconds": pl.Float64,
    "ms": pl.Float64,
    "mfu": pl.Float64,
    "why": pl.String,
    "line": pl.Int64,
    "count": pl.Int64,
    "loss_min": pl.Float64,
    "loss_max": pl.Float64,
}
"""Losses in nats per token; `tokens` and `seconds` since iteration 0, `seconds` without evaluation;
`mfu` as a fraction; `why` names the values that were not finite ("loss is nan"), which are null;
`line` is the line of the file, from 1. `count`, `loss_min` and `loss_max` are null but in a thinned
table, where a row stands for `count` rows: `iter`, `tokens`, `seconds` and `line` of the first, means of the rest."""

EVAL_COLUMNS: dict[str, type[pl.DataType]] = {
    "kind": pl.String,
    "iter": pl.Int64,
    "mode": pl.String,
    "train_loss": pl.Float64,
    "val_loss": pl.Float64,
    "train_se": pl.Float64,
    "val_se": pl.Float64,
    "eval_iters": pl.Int64,
    "context": pl.Int64,
    "stride": pl.Int64,
    "windows": pl.Int64,
    "seconds": pl.Float64,
    "why": pl.String,
    "val_bpb": pl.Float64,
    "line": pl.Int64,
}
"""`kind` is eval, or final for the losses after the last update; `seconds` is what this evaluation took;
`val_bpb` in bits per byte, where a log gives that."""

MOST_BLOCKS = 1024
"""Stretches of val in a final row; a stranger's row may have more, which are not read."""

OTHER_COLUMNS: dict[str, type[pl.DataType]] = {
    "metric": pl.String,
    "iter": pl.Int64,
    "value": pl.Float64,
    "line": pl.Int64,
}
"""One row per value of a metric that has no column of its own (accuracy, a second loss)."""


def no_iters() -> pl.DataFrame:
    """An empty table of iterations."""
    return pl.DataFrame(schema=ITER_COLUMNS)


def no_evals() -> pl.DataFrame:
    """An empty table of evaluations."""
    return pl.DataFrame(schema=EVAL_COLUMNS)


def no_others() -> pl.DataFrame:
    """An empty table of other metrics."""
    return pl.DataFrame(schema=OTHER_COLUMNS)


Kind = Literal["micro-batch", "batch", "eval-mean", "moving-average", "interval-mean", "run-mean", "unknown"]
"""The kind of one value of a series: the loss of one micro-batch; of the whole batch of an update; the mean
of an evaluation; an exponential moving average; the mean since the last value; the mean over the run."""


Unit = Literal["nats/token", "bits/byte", "bits/char", "nats/sequence", "unknown"]
"""The unit of a loss. `nats/sequence` is a sum over the tokens of a sentence; a perplexity is no unit but exp(loss)."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """The meaning of the values of one column, so that two logs are compared in like terms."""

    kind: Kind = "unknown"
    split: Literal["train", "val", "unknown"] = "unknown"
    mode: Literal["train", "eval", "unknown"] = "unknown"
    """Train mode means with dropout."""
    unit: Unit = "unknown"
    digits: int | None = None
    """Decimals as printed, so that the rounding error is 0.5 x 10^-digits; None for full precision or unknown."""


@dataclass(frozen=True, kw_only=True)
class Inferred:
    """A value that the record does not say and that was concluded from it."""

    name: str
    value: object
    why: str
    alternatives: tuple[object, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Note:
    """Something about the reading that a person should know, with the first few line numbers."""

    text: str
    lines: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NotUnderstood:
    """Lines that hold text which the reader made nothing of: how many, and the first few numbers."""

    count: int = 0
    lines: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Thinned:
    """Iteration rows that were too many to keep: rows before, rows after, rows per block."""

    rows: int
    kept: int
    block: int


@dataclass(frozen=True, repr=False, kw_only=True)
class Run(Shown):
    """The record of one training. Unknown is an empty mapping, an empty table or None."""

    path: Path
    name: str
    format: str
    """The format of the source; `lossgap` for a run folder, else the name of the reader."""
    number: int = 1
    """Which run of the file it is, from 1."""
    config: dict[str, object] = field(default_factory=dict)
    """Settings as given: every one."""
    given: dict[str, object] = field(default_factory=dict)
    """The settings that the user named, with their sources."""
    effective: dict[str, object] = field(default_factory=dict)
    """Settings as they ran."""
    differences: list[object] = field(default_factory=list)
    """{setting, asked, ran, why} for each setting that ran otherwise than asked."""
    environment: dict[str, object] = field(default_factory=dict)
    corpus: dict[str, object] = field(default_factory=dict)
    parameters: dict[str, object] = field(default_factory=dict)
    tokens_per_iter: int | None = None
    flops_per_iter: float | None = None
    peak: dict[str, object] = field(default_factory=dict)
    """{flops, source}: the peak that MFU is relative to, in FLOP/s."""
    seams: list[object] = field(default_factory=list)
    """{iter, from, changed, why, exact, note} for each place where the run went on with other settings."""
    notices: list[object] = field(default_factory=list)
    created: str | None = None
    status: str = "unknown"
    """running, interrupted, finished, failed; unknown if the record does not say."""
    final: dict[str, object] | None = None
    iters: pl.DataFrame = field(default_factory=no_iters)
    """One row per iteration, in the order of the file; columns as in `ITER_COLUMNS`."""
    evals: pl.DataFrame = field(default_factory=no_evals)
    """One row per evaluation, in the order of the file; columns as in `EVAL_COLUMNS`."""
    val_blocks: tuple[float, ...] = ()
    """The final val loss by stretch: means over so many equal stretches of the val split, cut by token, nats per token.
    Empty where the record has none."""
    damaged_lines: int = 0
    """Lines with a value that cannot be one, such as half a row; they cost themselves only."""
    others: pl.DataFrame = field(default_factory=no_others)
    """Other metrics; columns as in `OTHER_COLUMNS`."""
    series: dict[str, Series] = field(default_factory=dict)
    """By `iters.loss`, `evals.train_loss`, `evals.val_loss`, `evals.val_bpb`, `others.NAME`: what the values mean."""
    config_sources: dict[str, str] = field(default_factory=dict)
    """For each setting in `config` where it was said (`line 12`, `--set`, `config.py`)."""
    inferred: list[Inferred] = field(default_factory=list)
    device: str | None = None
    """The hardware as the record or the user names it."""
    not_understood: NotUnderstood = NotUnderstood()
    notes: list[Note] = field(default_factory=list)
    thinned: Thinned | None = None

    def setting(self, name: str) -> object | None:
        """The value of a setting: as it ran, as the record says, or as inferred; None if unknown."""
        for said in (self.effective, self.config):
            if said.get(name) is not None:
                return said[name]
        return next((item.value for item in self.inferred if item.name == name), None)

    def has_checkpoint(self) -> bool:
        """There is a checkpoint of the run at its path, ours or nanoGPT's. Looks at names only."""
        if self.format == "checkpoint":
            return self.path.exists()
        # A log beside somebody's checkpoint may be of another run; a run folder is one run's.
        return self.format == "lossgap" and self.path.is_dir() and any(self.path.glob("ckpt*.pt"))

    @property
    def span(self) -> tuple[int, int] | None:
        """The lowest and the highest iteration that has a row; None without rows."""
        every = pl.concat([self.iters["iter"], self.evals["iter"], self.others["iter"]]).drop_nulls()
        return None if every.is_empty() else (int(every.sort()[0]), int(every.sort()[-1]))

    @property
    def last_eval(self) -> EvalRow | None:
        """The last evaluation during training that has a val loss, as {column: value}; None if there is none.

        The val loss is `val_loss`, or `val_bpb` in a record that has nothing else.
        """
        usable, _ = self._usable()
        return usable.row(-1, named=True) if usable.height else None

    @property
    def best_eval(self) -> EvalRow | None:
        """The evaluation during training with the lowest val loss, the earliest of equals; None if there is none.

        Evaluations of different `mode` are compared as they are.
        """
        usable, metric = self._usable()
        at = usable[metric].arg_min()
        return None if at is None else usable.row(at, named=True)

    def _usable(self) -> tuple[pl.DataFrame, str]:
        evals = self.evals.filter(pl.col("kind") == "eval")
        metric = "val_loss" if evals["val_loss"].null_count() < evals.height else "val_bpb"
        return evals.filter(pl.col(metric).is_not_null()), metric


def read_run(folder: Path | str) -> Run:
    """Read a run folder, of a live run too.

    While the status is `running`, a torn last line is a row that is just being written and no damage.
    A run whose record says `running` although no process holds its lock was killed: its status is
    `interrupted`. Raises RunFolderError: run-json-missing, run-json-unreadable, run-json-corrupt,
    run-json-schema, metrics-unreadable.
    """
    folder = Path(folder)
    document = read_run_json(folder)
    recorded = document.get("status")
    tables = _read_metrics(folder / METRICS_FILE, running=recorded == "running")
    final = document.get("final")
    return Run(
        path=folder,
        name=as_text(document.get("name")) or folder.resolve().name,
        format="lossgap",
        config=as_mapping(document.get("config")),
        given=as_mapping(document.get("given")),
        effective=as_mapping(document.get("effective")),
        differences=as_list(document.get("differences")),
        environment=as_mapping(document.get("environment")),
        corpus=as_mapping(document.get("corpus")),
        parameters=as_mapping(document.get("parameters")),
        tokens_per_iter=as_int(document.get("tokens_per_iter")),
        flops_per_iter=as_float(document.get("flops_per_iter")),
        peak=as_mapping(document.get("peak")),
        seams=as_list(document.get("seams")),
        notices=as_list(document.get("notices")),
        created=as_text(document.get("created")),
        status=true_status(folder, recorded),
        final=final if isinstance(final, dict) else None,
        iters=tables.iters,
        evals=tables.evals,
        val_blocks=tables.val_blocks,
        damaged_lines=tables.damaged,
    )


@dataclass(frozen=True)
class _Metrics:
    """The contents of `metrics.jsonl`."""

    iters: pl.DataFrame
    evals: pl.DataFrame
    val_blocks: tuple[float, ...] = ()
    damaged: int = 0


def _read_metrics(path: Path, *, running: bool) -> _Metrics:
    """The tables of `metrics.jsonl`, empty without the file, and how many of its lines are damaged."""
    iters: dict[str, list[object]] = {column: [] for column in ITER_COLUMNS}
    evals: dict[str, list[object]] = {column: [] for column in EVAL_COLUMNS}
    val_blocks: tuple[float, ...] = ()
    damaged = 0
    try:
        with open_data(path) as stream:
            for number, line in enumerate(rows.walk(stream), 1):
                row = rows.decode(line)
                if row is None:
                    damaged += not (running and rows.is_torn(line))
                elif row["kind"] == "iter":
                    _take(row | {"line": number}, iters, ITER_COLUMNS)
                elif row["kind"] in ("eval", "final"):
                    _take(row | {"line": number}, evals, EVAL_COLUMNS)
                    val_blocks = _val_blocks(row) if row["kind"] == "final" else val_blocks
    except FileNotFoundError:
        return _Metrics(no_iters(), no_evals())
    except OSError as error:
        raise metrics_unreadable(path, error) from error
    evaluations = pl.DataFrame(evals, schema=EVAL_COLUMNS)
    return _Metrics(pl.DataFrame(iters, schema=ITER_COLUMNS), evaluations, val_blocks, damaged)


def _val_blocks(row: rows.Row) -> tuple[float, ...]:
    """The stretches of a final row; none at all where one is not a finite number, or where they are too many."""
    given = as_list(row.get("val_blocks"))
    values = [as_float(value) for value in given[: MOST_BLOCKS + 1]]
    known = tuple(value for value in values if value is not None)
    return known if len(known) == len(given) else ()


def _take(row: rows.Row, table: dict[str, list[object]], columns: dict[str, type[pl.DataType]]) -> None:
    for name, kind in columns.items():
        value = row.get(name)
        if kind is pl.Float64:
            table[name].append(as_float(value))
        elif kind is pl.Int64:
            table[name].append(as_int(value))
        else:
            table[name].append(as_text(value))
