"""nanoGPT's stdout: `iter 20: loss 3.5233, time 38.98ms, mfu 0.03%` and `step 250: train loss 2.4293, val loss 2.4447`.

Iteration rows in the trainer's own form are taken from a whole block at once; all other lines one by one, where a
row may stand after a time stamp, behind quote marks, glued to another one or next to a progress bar. A row
that has lost its end (no time in a log that prints times, fewer decimals than the log prints) is damaged.
"""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
import polars as pl

from lossgap.runs.readers import iter_table
from lossgap.runs.readers.base import LIKELY, NO, SURE, Head, RunBuilder, Series, Source, decimals, number, whole
from lossgap.runs.readers.builder import join_legs
from lossgap.runs.readers.decoding import MAX_LINE, TextBlock
from lossgap.runs.readers.iter_table import FIRST_BLOCK, Columns, IterTable
from lossgap.runs.readers.legs import Legs, Log, Move
from lossgap.runs.readers.nanogpt_lines import ITER, LLAMA2C, MINGPT, RESUMED, SCRATCH, STEP, Heading, is_noise
from lossgap.runs.readers.printed import FORMATTED
from lossgap.runs.run import Run, Thinned

FAST = (
    r"^ *iter ([0-9]+): loss ([0-9]+\.[0-9][0-9][0-9][0-9]|nan|inf), time ([0-9]+\.[0-9][0-9])ms"
    r"(?:, mfu (-?[0-9]+\.[0-9][0-9])%)?\r?$"
)
LOOSE = FAST.replace("^ *iter", "[^A-Za-z]iter")
"""The same behind a time stamp or a quote mark."""
MANY = 1000
"""Lines of a block that are not a row in the trainer's own form, from which `LOOSE` is tried on all of them."""
FAST_STEP = r"^ *step ([0-9]+): train loss ([0-9]+\.[0-9][0-9][0-9][0-9]), val loss ([0-9]+\.[0-9][0-9][0-9][0-9])\r?$"
"""For the regex engine of polars, without Unicode classes: they halve its speed."""
DIGITS = 4
"""Decimals of a loss in `FAST`."""
ROWS = (ITER, STEP, LLAMA2C, MINGPT)
A100_PEAK = 312e12
"""FLOP/s that nanoGPT's mfu is relative to on every device (its model.py, estimate_mfu)."""


class NanoGPT:
    """nanoGPT's stdout, and what prints like it."""

    name = "nanogpt"
    title = "nanoGPT stdout"

    def score(self, head: Head) -> float:
        """Rows of its form."""
        if head.folder:
            return NO
        rows = sum(1 for line in head.sample if any(row.search(line) for row in ROWS))
        if rows == 0:
            heading = re.search(r"^\s*Overriding: \w+ = |tokens per iteration will be: ", head.text, re.M)
            return LIKELY if heading else NO
        return SURE if rows > 1 else LIKELY

    def read(self, source: Source) -> list[Run]:
        """All runs of the log."""
        parser = Parser(source, self.name)
        for block in source.blocks():
            parser.block(block)
        return parser.runs()


class Parser:
    """Reads blocks of lines; `runs` at the end."""

    def __init__(self, source: Source, format: str) -> None:
        self.log = Log(source, format)
        self.limit = source.max_iter_rows
        self.legs: list[tuple[RunBuilder, list[IterTable]]] = [(self.log.current, [IterTable()])]
        self.heading = Heading(lambda: self.log.heading)
        self.size = 1
        self.held = 0
        self.most = self.limit
        """Rows in memory above which they are thinned."""
        self.timed = False
        self.traceback = False
        self.rates: dict[int, float] = {}
        """Learning rates that a fork prints in its rows, by line."""

    def block(self, block: TextBlock) -> None:
        """Take the rows in bulk and the other lines in between."""
        lines = pl.Series([block.data.decode("utf-8", "replace")]).str.split("\n").explode()
        groups = lines.str.extract_groups(FAST).struct.unnest()
        if groups.to_series(0).null_count() > MANY:
            groups = _loose(lines, groups)
        iters = groups.to_series(0).cast(pl.Int64, strict=False)
        fast = iters.is_not_null()
        places = fast.arg_true().to_numpy()
        rows = groups.filter(fast)
        columns: Columns = {
            "iter": iters.drop_nulls().to_numpy(),
            "line": places.astype(np.int64) + block.line,
            "loss": _floats(rows.to_series(1)),
            "ms": _floats(rows.to_series(2)),
            "mfu": _floats(rows.to_series(3)) / 100,
        }
        columns["mfu"][columns["mfu"] < 0] = np.nan  # nanoGPT's -100.00% is "not yet"
        others = (~fast & (lines.str.len_bytes() > 0)).arg_true()
        texts = lines.gather(others)
        if not self._bulk(columns, texts, others.to_numpy(), block.line):
            self._one_by_one(columns, texts, others.to_numpy(), block.line)

    def _bulk(self, columns: Columns, texts: pl.Series, others: np.ndarray, first: int) -> bool:
        """Take a block of nothing but rising rows, evaluations and saved checkpoints at once; False if it is not."""
        log, at = self.log, columns["iter"]
        groups = texts.str.extract_groups(FAST_STEP).struct.unnest()
        steps = groups.to_series(0).cast(pl.Int64, strict=False)
        saved = texts.str.starts_with("saving checkpoint to ")
        if log.full or log.pending is not None or log.resumed or not len(at) or not (steps.is_not_null() | saved).all():
            return False
        is_step = steps.is_not_null().to_numpy()
        step_at, step_lines = steps.drop_nulls().to_numpy(), others[is_step].astype(np.int64) + first
        # An evaluation comes after the rows before its iteration and before the row of it; and all rise.
        place = np.searchsorted(columns["line"], step_lines)
        before = np.where(place > 0, at[place - 1], -1)
        after = np.where(place < len(at), at[np.minimum(place, len(at) - 1)], np.iinfo(np.int64).max)
        orderly = (before < step_at) & (step_at <= after)
        if (at[1:] <= at[:-1]).any() or (step_at[1:] <= step_at[:-1]).any() or not orderly.all():
            return False
        legs, first_step = log.legs, int(step_at[0]) if len(step_at) else None
        begins = int(at[0]) if first_step is None or place[0] > 0 else first_step
        known = first_step is not None and first_step <= legs.tops["evals"]
        if known or begins < legs.top or at[0] <= legs.tops["iters"]:
            return False
        self._go(Move.NEXT, int(at[0]), int(columns["line"][0]))
        self.timed, self.heading.echo = True, ""
        found = groups.filter(steps.is_not_null())
        losses = [found.to_series(place).cast(pl.Float64).to_list() for place in (1, 2)]
        log.current.evals("sampled", step_lines.tolist(), step_at.tolist(), losses[0], losses[1], digits=DIGITS)
        self._append(columns)
        if legs.first is None:
            legs.first = begins
        for table, items in (("evals", step_at[-1:]), ("iters", at[-Legs.near() :])):
            for item in items.tolist():
                legs.take(table, item)
        return True

    def _one_by_one(self, columns: Columns, texts: pl.Series, others: np.ndarray, first: int) -> None:
        """The other lines, each where it stands between the rows."""
        places = columns["line"] - first
        untils = np.searchsorted(places, others.astype(np.int64)).tolist()
        taken = 0
        for place, until, text in zip(others.tolist(), untils, texts.to_list(), strict=True):
            if until > taken:
                self._rows({name: column[taken:until] for name, column in columns.items()})
                taken = until
            for part in text[:MAX_LINE].rstrip("\r").split("\r"):
                self._line(first + place, part)
        if taken < len(places):
            self._rows({name: column[taken:] for name, column in columns.items()})

    def _rows(self, columns: Columns) -> None:
        """Rows in the order of the file: rising stretches go as they are, each row that does not rise is judged."""
        at = columns["iter"]
        self.timed = True
        ends = [*(np.flatnonzero(at[1:] <= at[:-1]) + 1).tolist(), len(at)]
        start = 0
        for end in ends:
            while start < end:
                if self._enter(int(at[start]), int(columns["line"][start])):
                    self._append({name: column[start:end] for name, column in columns.items()})
                    self._take(at[start:end])
                    start = end
                else:
                    start += 1

    def _enter(self, at: int, line: int) -> bool:
        """Return whether a row at this iteration counts; makes room for it."""
        log = self.log
        move = log.legs.move("iters", at, restarted=log.pending is not None, resumed=log.resumed)
        if log.left_out(move, line):
            return False
        if move is Move.REPEAT:
            log.current.note("an iteration is repeated (several ranks?): its first row is kept", line)
            return False
        self._go(move, at, line)
        return True

    def _go(self, move: Move, at: int, line: int) -> None:
        log, seams = self.log, len(self.log.current.seams)
        log.enter(move, at, line)
        if log.current is not self.legs[-1][0]:
            self.legs.append((log.current, [IterTable(self.size)]))
        elif len(log.current.seams) > seams:
            self.legs[-1][1].append(IterTable(self.size))

    def _take(self, at: np.ndarray) -> None:
        self.log.legs.take("iters", int(at[0]))
        for item in at[-Legs.near() :].tolist():
            self.log.legs.take("iters", item)

    def _append(self, columns: Columns, digits: int | None = DIGITS) -> None:
        builder, legs = self.legs[-1]
        bad = ~np.isfinite(columns["loss"])
        if bad.any():
            places = columns["line"][bad]
            builder.not_finite("iters.loss", [int(line) for line in places[:5]], len(places))
        builder.rows_elsewhere = True
        if digits is not None:
            builder.see_digits("iters.loss", digits)
        legs[-1].append(columns)
        self.held += len(columns["iter"])
        if self.held > self.most:
            self.size = FIRST_BLOCK if self.size == 1 else self.size * 2 if self._full() else self.size
            tables = [table for _, all_of in self.legs for table in all_of]
            for table in tables:
                table.thin(self.size)
            self.held = sum(table.held for table in tables)
            # A leg keeps a row at least: where there are more legs than the limit, looking again must get rarer.
            self.most = max(self.limit // 2, 2 * self.held)

    def _full(self) -> bool:
        """True if whole blocks alone are a quarter of the limit."""
        return sum(table.blocks for _, all_of in self.legs for table in all_of) > self.limit // 4

    def _line(self, line: int, text: str) -> None:
        rows = sorted((found for row in ROWS for found in row.finditer(text)), key=lambda found: found.start())
        if rows:
            self.heading.echo = ""
            for found in rows:
                if found.re is STEP:
                    self._step(line, found)
                else:
                    self._iter(line, found)
            return
        if RESUMED.search(text):
            _ = self.log.heading
            self.log.resumed = not self.log.current.empty
            self.heading.echo = ""
        elif SCRATCH.search(text):
            _ = self.log.heading
            self.log.resumed = False
        if self.heading.take(text, line) or is_noise(text) or RESUMED.search(text):
            return
        if "Traceback (most recent call last)" in text or self.traceback:
            self._trace(line, text)
            return
        self.log.current.not_understood(line)

    def _trace(self, line: int, text: str) -> None:
        """A Python traceback: its last line says how the run ended."""
        self.traceback = True
        ended = re.match(r"(?:\w+\.)*(KeyboardInterrupt|\w+(?:Error|Exception))\b", text)
        if ended:
            self.traceback = False
            current = self.log.current
            current.status = "interrupted" if ended[1] == "KeyboardInterrupt" else "failed"
            current.note(f"the log holds a traceback: {text.strip()[:120]}", line)

    def _iter(self, line: int, found: re.Match[str]) -> None:
        log, loss, said = self.log, found["loss"], found.groupdict()
        ms = said["ms"] if found.re is not MINGPT or number(said["ms"]) else None
        at, digits = whole(found["iter"]), decimals(loss)
        if at is None or self._torn(digits, log.current.digits("iters.loss")) or (self.timed and ms is None):
            log.current.damaged(line)
            return
        self.timed = self.timed or ms is not None
        if not self._enter(at, line):
            return
        self._bits(line, said)
        rate = number(said.get("lr") or said.get("rate"))
        if rate is not None and len(self.rates) < self.limit:
            self.rates[line] = rate
        mfu = number(said.get("mfu"))
        columns = {
            "iter": np.array([at], np.int64),
            "line": np.array([line], np.int64),
            "loss": np.array([_float(loss)]),
            "ms": np.array([_float(ms)]),
            "mfu": np.array([np.nan if mfu is None or mfu < 0 else mfu / 100]),
        }
        self._append(columns, digits)
        self._take(columns["iter"])

    def _step(self, line: int, found: re.Match[str]) -> None:
        log, at = self.log, whole(found["iter"])
        torn = self._torn(decimals(found["val"]), log.current.digits("evals.val_loss"))
        if at is None or torn:
            log.current.damaged(line)
            return
        move = log.legs.move("evals", at, restarted=log.pending is not None, resumed=log.resumed)
        if log.left_out(move, line):
            return
        if move is Move.REPEAT:
            log.current.note("an evaluation is repeated (several ranks?): its first row is kept", line)
            return
        self._go(move, at, line)
        log.legs.take("evals", at)
        self._bits(line, found.groupdict())
        log.current.eval(line, at, kind="eval", mode="sampled", train_loss=found["train"], val_loss=found["val"])

    @staticmethod
    def _torn(digits: int | None, usual: int | None) -> bool:
        return digits is not None and usual is not None and digits < usual <= FORMATTED

    def _bits(self, line: int, said: dict[str, str | None]) -> None:
        """Note losses that are not in nats per token."""
        unit = said.get("bits")
        if unit:
            self.log.current.environment["loss_unit"] = unit.strip()
            self.log.current.note(f"losses are printed in {unit.strip()}, not in nats per token", line)

    def runs(self) -> list[Run]:
        """The runs, numbered, with the tables of their iterations."""
        self.log.builders()
        found = []
        for builder, tables in self.legs:
            run = self._run(builder, tables)
            if run.iters.height or run.evals.height or run.config or run.parameters:
                found.append(run)
        return found

    def _run(self, builder: RunBuilder, tables: list[IterTable]) -> Run:
        describe(builder)
        rows = sum(table.rows for table in tables)
        frame, starts = iter_table.frame(tables)
        if starts:
            frame, replaced = join_legs(frame, starts)
            builder.count_replaced("iters", replaced)
        if self.rates:
            rates = [self.rates.get(line) for line in frame["line"].to_list()]
            frame = frame.with_columns(pl.Series("lr", rates, dtype=pl.Float64))
        thinned = None
        if self.size > 1:
            thinned = Thinned(rows=rows, kept=frame.height, block=self.size)
            size, option = f"{frame.height:,} blocks of {self.size}", f"--max_iter_rows={self.limit}"
            builder.note(f"{rows:,} iteration rows thinned to {size} ({option})")
        last = frame["iter"].max() if frame.height else None
        if builder.status == "unknown" and isinstance(last, int) and last == builder.config.get("max_iters"):
            builder.status = "finished"
        return builder.build(iters=frame, thinned=thinned, leg_rows=[table.rows for table in tables[1:]])


def _loose(lines: pl.Series, groups: pl.DataFrame) -> pl.DataFrame:
    """Rows that stand behind something else, where a line holds one row and no carriage return inside."""
    once = (lines.str.count_matches("iter |step |\r") == 1) & groups.to_series(0).is_null()
    found = lines.str.extract_groups(LOOSE).struct.unnest()
    return groups.select(pl.when(once).then(found[name]).otherwise(pl.col(name)).alias(name) for name in groups.columns)


def describe(builder: RunBuilder) -> None:
    """Record what nanoGPT's numbers mean: one micro-batch in train mode, means over eval_iters batches in eval mode."""
    unit: Literal["nats/token", "unknown"] = "unknown" if "loss_unit" in builder.environment else "nats/token"
    builder.describe("iters.loss", Series(kind="micro-batch", split="train", mode="train", unit=unit, digits=DIGITS))
    builder.describe("evals.train_loss", Series(kind="eval-mean", split="train", mode="eval", unit=unit))
    builder.describe("evals.val_loss", Series(kind="eval-mean", split="val", mode="eval", unit=unit))
    if not builder.peak:
        builder.peak = {"flops": A100_PEAK, "source": "an A100's bfloat16 peak, which nanoGPT takes on every device"}


def _floats(texts: pl.Series) -> np.ndarray:
    """Numbers from texts; null is NaN."""
    return texts.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy().copy()


def _float(text: str | None) -> float:
    value = number(text)
    return np.nan if value is None else value


READER = NanoGPT()
