"""How the gallery's runs are kept: one gzip file per recipe, a run per line; and how they become what readers read.

Kept are the settings, what the rules read of run.json, and the rows with six significant digits. A run goes back into
the world as a run folder, as nanoGPT's stdout with its settings, as that stdout without them, or as the
trainer_state.json of Hugging Face's Trainer, which says the steps, the batch of one device and the rates of its rows.
"""

from __future__ import annotations

import gzip
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from lossgap.config import NANOGPT_FIELDS

DATA = Path(__file__).parent / "data"
Form = Literal["folder", "stdout", "stripped", "huggingface"]

KEPT = ("schema", "lossgap", "status", "effective", "differences", "parameters", "tokens_per_iter", "flops_per_iter")
KEPT_CORPUS = ("sha256", "tokens_sha256", "hash_method", "train_tokens", "val_tokens", "vocab_size")
KEPT_ENVIRONMENT = ("python", "torch", "cpu", "architecture")
A100 = 312e12
"""FLOP/s that nanoGPT's mfu is relative to."""

Columns = dict[str, list[object]]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One run: its name in the gallery, what is kept of run.json, and its rows by column, for each kind of row."""

    key: str
    record: dict[str, object]
    rows: dict[str, Columns]

    def with_settings(self, changes: Mapping[str, object]) -> Stored:
        """The same run whose record says other settings."""
        record = {**self.record, "config": {**cast("dict[str, object]", self.record["config"]), **changes}}
        return Stored(key=self.key, record=record, rows=self.rows)

    def thinned(self, *, log_interval: int, eval_interval: int) -> Stored:
        """The run as it is with these intervals: our draws depend on neither, so rows are left out and none changes."""
        steps = {"iter": log_interval, "eval": eval_interval, "final": 1}
        rows = {}
        for kind, columns in self.rows.items():
            keep = [index for index, at in enumerate(columns["iter"]) if cast("int", at) % steps[kind] == 0]
            rows[kind] = {name: [values[index] for index in keep] for name, values in columns.items()}
        changes = {"log_interval": log_interval, "eval_interval": eval_interval}
        return Stored(key=self.key, record=self.record, rows=rows).with_settings(changes)


# ---------------------------------------------------------------------------------------------
# Keeping


def take(key: str, folder: Path, claims: Mapping[str, object]) -> Stored:
    """What is kept of a run folder; the names of corpora lose the folder of the machine."""
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    config = {**record["config"], **claims, "out_dir": "out"}
    config["dataset"] = Path(str(config["dataset"])).name
    kept = {name: record.get(name) for name in KEPT}
    kept["config"] = config
    kept["corpus"] = {name: record["corpus"].get(name) for name in KEPT_CORPUS} | {"name": config["dataset"]}
    kept["environment"] = {name: record["environment"].get(name) for name in KEPT_ENVIRONMENT}
    kept["seams"] = [{**seam, "from": "ckpt.pt"} if "from" in seam else seam for seam in record["seams"]]
    rows: dict[str, Columns] = {}
    for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        columns = rows.setdefault(row.pop("kind"), {})
        size = len(columns.get("iter", []))
        for name in [*columns, *(name for name in row if name not in columns)]:
            if name not in ("tokens", "mfu"):
                columns.setdefault(name, [None] * size).append(_short(row.get(name)))
    if "iter" in rows:
        del rows["iter"]["seconds"]
    return Stored(key=key, record=kept, rows=rows)


def _short(value: object) -> object:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def save(name: str, runs: Sequence[Stored]) -> Path:
    """Write one file of the gallery, the same bytes for the same runs."""
    path = DATA / f"{name}.jsonl.gz"
    lines = [json.dumps({"key": run.key, "record": run.record, "rows": run.rows}, sort_keys=True) for run in runs]
    path.write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    return path


def load() -> dict[str, Stored]:
    """Every run of the gallery by its key."""
    found = {}
    for path in sorted(DATA.glob("*.jsonl.gz")):
        for line in gzip.decompress(path.read_bytes()).decode().splitlines():
            item = Stored(**json.loads(line))
            found[item.key] = item
    return found


# ---------------------------------------------------------------------------------------------
# Writing what readers read


def write(run: Stored, path: Path, form: Form) -> Path:
    """The run as a folder or a log at `path`."""
    if form == "folder":
        path.mkdir(parents=True)
        (path / "run.json").write_text(json.dumps({**run.record, "name": path.name}), encoding="utf-8")
        (path / "metrics.jsonl").write_text("\n".join(_json_rows(run)) + "\n", encoding="utf-8")
        return path
    if form == "huggingface":
        path.mkdir(parents=True)
        (path / "trainer_state.json").write_text(json.dumps(_trainer_state(run), indent=1), encoding="utf-8")
        return path
    heading = _heading(run) if form == "stdout" else []
    path.write_text("\n".join([*heading, *_printed_rows(run)]) + "\n", encoding="utf-8")
    return path


def _each(run: Stored, kind: str) -> list[dict[str, object]]:
    columns = run.rows.get(kind, {})
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _in_order(run: Stored) -> list[tuple[str, dict[str, object]]]:
    """All rows; an evaluation before the update of its iteration."""
    rows = [(kind, row) for kind in ("eval", "iter", "final") for row in _each(run, kind)]
    rank = {"eval": 0, "iter": 1, "final": 2}
    return sorted(rows, key=lambda item: (cast("int", item[1]["iter"]), rank[item[0]]))


def _json_rows(run: Stored) -> list[str]:
    per_iter, seconds, lines = cast("int", run.record["tokens_per_iter"]), 0.0, []
    usual = _usual_ms(run)
    for kind, row in _in_order(run):
        own: dict[str, object] = {}
        if kind == "iter":
            seconds = (cast("int", row["iter"]) + 1) * usual / 1000
            own = {"tokens": (cast("int", row["iter"]) + 1) * per_iter, "seconds": seconds, "mfu": None}
        lines.append(json.dumps({"kind": kind, **row, **own}))
    return lines


def _usual_ms(run: Stored) -> float:
    return statistics.median(cast("list[float]", run.rows["iter"]["ms"]))


def _heading(run: Stored) -> list[str]:
    """nanoGPT's heading: each setting as a flag, tokens, vocabulary, parameters."""
    config, corpus = (cast("dict[str, object]", run.record[name]) for name in ("config", "corpus"))
    parameters = cast("dict[str, int]", run.record["parameters"])
    sizes = [cast("int", config[name]) for name in ("batch_size", "gradient_accumulation_steps", "block_size")]
    return [
        *(f"Overriding: {name} = {config[name]}" for name in NANOGPT_FIELDS),
        f"tokens per iteration will be: {sizes[0] * sizes[1] * sizes[2]:,}",
        f"found vocab_size = {corpus['vocab_size']} (inside data/{corpus['name']}/meta.pkl)",
        "Initializing a new model from scratch",
        f"number of parameters: {parameters['nanogpt_count'] / 1e6:.2f}M",
    ]


def _printed_rows(run: Stored) -> list[str]:
    """nanoGPT's rows: its clock runs on through evaluations, its MFU is a moving average from the sixth row on."""
    lines, evaluated, mfu, count = [], 0.0, -1.0, 0
    flops = cast("float", run.record["flops_per_iter"])
    for kind, row in _in_order(run):
        if kind == "eval":
            losses = f"train loss {_four(row['train_loss'])}, val loss {_four(row['val_loss'])}"
            lines.append(f"step {row['iter']}: {losses}")
            evaluated = 1000 * cast("float", row["seconds"])
        elif kind == "iter":
            ms = cast("float", row["ms"]) + evaluated
            now = flops / (ms / 1000) / A100
            mfu = mfu if count < 5 else now if mfu == -1.0 else 0.9 * mfu + 0.1 * now
            count, evaluated = count + 1, 0.0
            lines.append(f"iter {row['iter']}: loss {_four(row['loss'])}, time {ms:.2f}ms, mfu {100 * mfu:.2f}%")
    return lines


LOGGING_STEPS = 10


def _trainer_state(run: Stored) -> dict[str, object]:
    """What the Trainer keeps: means of the losses since the last entry, rates, gradient norms, evaluations of val."""
    config = cast("dict[str, object]", run.record["config"])
    history: list[dict[str, object]] = []
    since: list[float] = []
    for kind, row in _in_order(run):
        step = cast("int", row["iter"])
        # The Trainer neither evaluates nor logs before its first update.
        if kind == "iter":
            since.append(math.nan if row["loss"] is None else cast("float", row["loss"]))
            if (step + 1) % LOGGING_STEPS == 0 and since:
                own = {"loss": round(statistics.fmean(since), 4), "learning_rate": row["lr"]}
                history.append({"step": step + 1, "epoch": 0.1, **own, "grad_norm": row.get("grad_norm")})
                since = []
        elif kind == "eval" and step:
            loss = math.nan if row["val_loss"] is None else row["val_loss"]
            history.append({"step": step, "epoch": 0.1, "eval_loss": loss, "eval_runtime": 1.0})
    last = max(cast("int", row["iter"]) for row in _each(run, "eval"))
    return {
        "epoch": 0.1,
        "global_step": last,
        "max_steps": config["max_iters"],
        "logging_steps": LOGGING_STEPS,
        "eval_steps": config["eval_interval"],
        "train_batch_size": config["batch_size"],
        "num_train_epochs": 1,
        "log_history": sorted(history, key=lambda entry: cast("int", entry["step"])),
    }


def _four(value: object) -> str:
    """As nanoGPT prints a loss; what is null was not a number."""
    return "nan" if value is None else f"{value:.4f}"
