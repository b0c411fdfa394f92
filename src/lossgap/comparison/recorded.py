"""The curves of a run, as its record has them, with what their values mean."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import polars as pl

from lossgap.comparison.curve import Curve, Value, curve
from lossgap.runs.run import Run, Series
from lossgap.runs.values import as_int

OWN = "lossgap"
NANOGPT_FORMATS = frozenset({"nanogpt", "figures"})
"""Formats whose settings mean what they mean in nanoGPT's train.py."""

_OWN_SERIES = {
    "iters.loss": Series(kind="batch", split="train", mode="train", unit="nats/token"),
    "evals.train_loss": Series(kind="eval-mean", split="train", mode="eval", unit="nats/token"),
    "evals.val_loss": Series(kind="eval-mean", split="val", mode="eval", unit="nats/token"),
}


@dataclass(frozen=True, eq=False)
class RecordedCurves:
    """The curves. Each is made at its first use and kept."""

    run: Run

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.name

    @property
    def is_own(self) -> bool:
        """True if our trainer wrote it."""
        return self.run.format == OWN

    @property
    def is_nanogpt(self) -> bool:
        """True if nanoGPT wrote it, or a person copied figures from such a log."""
        return self.run.format in NANOGPT_FORMATS

    def meaning(self, column: str) -> Series:
        """The meaning of the values in a column."""
        default = _OWN_SERIES.get(column) if self.is_own else None
        return self.run.series.get(column) or default or Series()

    @cached_property
    def evals(self) -> pl.DataFrame:
        """Evaluations during training, of the mode that the last one has."""
        table = self.run.evals.filter(pl.col("kind").fill_null("eval") == "eval")
        modes = table.filter(pl.col("val_loss").is_not_null() | pl.col("train_loss").is_not_null())["mode"]
        return table.filter(pl.col("mode").eq_missing(modes[-1])) if len(modes) else table

    @cached_property
    def val(self) -> Curve | None:
        """Validation loss, nats per token unless `meaning` says otherwise."""
        return curve(self.evals, "val_loss", "evals.val_loss", self.meaning("evals.val_loss"), error="val_se")

    @property
    def unit_of_val(self) -> str:
        """nats/token, bits/byte, or unknown."""
        return self.val.meaning.unit if self.val is not None else "unknown"

    @cached_property
    def train_eval(self) -> Curve | None:
        """Loss of the train split in evaluation mode."""
        name = "evals.train_loss"
        return curve(self.evals, "train_loss", name, self.meaning(name), error="train_se")

    @cached_property
    def train(self) -> Curve | None:
        """The loss that iterations print."""
        return curve(self.run.iters, "loss", "iters.loss", self.meaning("iters.loss"))

    @cached_property
    def bpb(self) -> Curve | None:
        """Validation loss in bits per byte, where the record gives that."""
        meaning = self.run.series.get("evals.val_bpb") or Series(kind="eval-mean", split="val", unit="bits/byte")
        return curve(self.evals, "val_bpb", "evals.val_bpb", meaning)

    @cached_property
    def final(self) -> Value | None:
        """The exact val loss of the final state, where the record has one."""
        rows = self.run.evals.filter((pl.col("kind") == "final") & pl.col("val_loss").is_not_null())
        if rows.is_empty():
            return None
        row = rows.row(-1, named=True)
        return Value(value=row["val_loss"], iter=float(row["iter"]), standard_error=row["val_se"], line=row["line"])

    @cached_property
    def last_iter(self) -> int | None:
        """The highest iteration in the record."""
        found = [as_int(table["iter"].max()) for table in (self.run.iters, self.run.evals)]
        return max((item for item in found if item is not None), default=None)
