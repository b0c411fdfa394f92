"""litgpt's stdout, of its several versions.

    iter 4800: val loss 1.7258, val time: 3778.02 ms
    iter 4810 | step 601: loss 0.2745, iter time: 131.68 ms (optimizer.step)
    Epoch 1 | iter 16 step 1 | loss train: 10.939, val: n/a | iter time: 523.32 ms (step) remaining time: 1:02:03

`iter` counts micro-batches of a process and `step` the optimizer updates; nanoGPT's iteration is the update.
Where every line agrees on one number of micro-batches per update, evaluations are put at their update too;
else the micro-batches are kept as they are. A loss is that of one micro-batch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from lossgap.runs.readers.base import NO, SURE, Head, Run, RunBuilder, Series, Source, whole
from lossgap.runs.readers.legs import MAX_RUNS
from lossgap.runs.readers.setting_names import say_all, typed

_NUM = r"[+-]?(?:[\d.]+(?:e[+-]?\d+)?|nan|inf)"
_LINE: Final = re.compile(
    r"(?:Epoch (?P<epoch>\d+) \| )?iter (?P<iter>\d+)(?: \|)? step (?P<step>\d+)\s*[:|] "
    rf"loss(?: train)?:? (?P<loss>{_NUM})(?:, val: (?P<val>{_NUM}|n/a))?"
    rf"(?:,| \|) iter time: (?P<ms>{_NUM}) ?ms",
    re.I | re.A,
)
_EVAL: Final = re.compile(
    rf"(?:iter|step) (?P<iter>\d+): val loss:? (?P<val>{_NUM}), val time: {_NUM} ?ms", re.I | re.A
)
_FINAL: Final = re.compile(rf"Final evaluation \| val loss: (?P<val>{_NUM})", re.I | re.A)
_PARAMETERS: Final = re.compile(r"(?:Total|Number of trainable) parameters: ([\d,]+)")
_SEED: Final = re.compile(r"Seed set to (\d+)")
_ARGUMENT: Final = re.compile(r"^[{ ]'(\w+)': (.+?),?\}?$")
MAX_ROWS: Final = 5_000_000


@dataclass
class _Lines:
    """The contents of one run's lines, before its iterations are known."""

    rows: list[tuple[int, int, int, str, str]] = field(default_factory=list)
    """(line, iter, step, loss, ms)"""
    evals: list[tuple[int, int, str, bool]] = field(default_factory=list)
    """(line, iter, loss, final)"""


class LitgptReader:
    """litgpt's stdout."""

    name = "litgpt"
    title = "litgpt stdout"

    def score(self, head: Head) -> float:
        """SURE for one of its lines."""
        return SURE if not head.folder and any(_LINE.search(line) for line in head.sample) else NO

    def read(self, source: Source) -> list[Run]:
        """The runs of the log. Raises SourceError."""
        builder = RunBuilder(source, self.name)
        found = _Lines()
        runs: list[Run] = []
        for line, text in source.lines():
            if not text.strip() or self._fact(builder, line, text):
                continue
            row = _LINE.search(text)
            at = whole(row["iter"]) if row else None
            if at is not None and found.rows and at < found.rows[-1][1] and at <= found.rows[0][1]:
                if len(runs) == MAX_RUNS - 1:
                    builder.note(f"more than {MAX_RUNS:,} runs; the rest of the log is left out", line)
                    break
                runs.append(_build(builder, found))
                builder, found = RunBuilder(source, self.name, len(runs) + 1), _Lines()
            if not self._row(found, line, text, row):
                builder.not_understood(line)
        runs.append(_build(builder, found))
        return runs

    def _row(self, found: _Lines, line: int, text: str, row: re.Match[str] | None) -> bool:
        if len(found.rows) + len(found.evals) >= MAX_ROWS:
            return False
        if row:
            if len(row["iter"]) > 15 or len(row["step"]) > 15:
                return False
            found.rows.append((line, int(row["iter"]), int(row["step"]), row["loss"], row["ms"]))
            val = row["val"]
            if val and val.lower() != "n/a" and (not found.evals or found.evals[-1][2] != val):
                found.evals.append((line, int(row["iter"]), val, False))
            return True
        measured, final = _EVAL.search(text), _FINAL.search(text)
        if measured and len(measured["iter"]) <= 15:
            found.evals.append((line, int(measured["iter"]), measured["val"], False))
        elif final and found.rows:
            found.evals.append((line, found.rows[-1][1], final["val"], True))
        else:
            return False
        return True

    def _fact(self, builder: RunBuilder, line: int, text: str) -> bool:
        """A line that states a setting or the size of the model."""
        parameters, seed, argument = _PARAMETERS.search(text), _SEED.search(text), _ARGUMENT.match(text)
        if parameters:
            builder.parameters["total"] = typed(parameters[1].replace(",", ""))
        elif seed:
            builder.say("seed", typed(seed[1]), f"line {line}")
        elif argument and len(text) < 500:
            say_all(builder, {argument[1]: typed(argument[2].strip("'\""))}, f"line {line}")
        return bool(parameters or seed or argument)


def _build(builder: RunBuilder, found: _Lines) -> Run:
    per_update = micro_batches([(row[1], row[2]) for row in found.rows])
    builder.describe("iters.loss", Series(kind="micro-batch", split="train", mode="train", unit="nats/token"))
    builder.describe("evals.val_loss", Series(kind="eval-mean", split="val", mode="eval", unit="nats/token"))
    if per_update:
        builder.infer(
            "micro_batches_per_update", per_update, "iter divided by step, the same on every line; per process"
        )
        builder.note("iter is litgpt's step (optimizer updates); its own iter counts micro-batches")
    elif found.rows or found.evals:
        builder.note("iter counts micro-batches of one process, as litgpt prints it, not updates")
    for line, micro, _, loss, ms in found.rows:
        builder.iter(line, micro // per_update if per_update else micro, loss=loss, ms=ms)
    for line, micro, loss, final in found.evals:
        at = micro // per_update if per_update else micro
        builder.eval(line, at, kind="final" if final else "eval", val_loss=loss)
    return builder.build()


def micro_batches(pairs: list[tuple[int, int]]) -> int | None:
    """The one number n with `step == iter // n` on every line; None if there is none, or more than one."""
    low, high = 1, 1 << 40
    for micro, step in pairs:
        if micro < step:
            return None
        if step == 0:  # before the first update
            low = max(low, micro + 1)
            continue
        # micro // n == step  <=>  micro / (step + 1) < n <= micro / step
        low, high = max(low, micro // (step + 1) + 1), min(high, micro // step)
    return low if pairs and low == high else None


READER = LitgptReader()
