"""The training log of the book *Build a Large Language Model (From Scratch)* and its many descendants.

    Ep 5 (Step 000040): Train loss 6.065, Val loss 6.925

Both losses are means over a few batches in evaluation mode; lines of generated text stand between.
"""

from __future__ import annotations

import re
from typing import Final

from lossgap.runs.readers.base import NO, SURE, Head, Run, Series, Source
from lossgap.runs.readers.legs import Log

_NUM = r"[+-]?(?:\d+(?:\.\d+)?|nan|inf)"
_LINE: Final = re.compile(
    rf"Ep (?P<epoch>\d{{1,9}}) \((?:Step|Iter) (?P<step>\d{{1,15}})\): Train loss (?P<train>{_NUM}), "
    rf"Val loss (?P<val>{_NUM})",
    re.A | re.I,
)


class LlmsFromScratchReader:
    """The book's training log."""

    name = "llms-from-scratch"
    title = "LLMs from Scratch"

    def score(self, head: Head) -> float:
        """SURE for one of its lines."""
        return SURE if not head.folder and any(_LINE.search(line) for line in head.sample) else NO

    def read(self, source: Source) -> list[Run]:
        """The runs of the log. Raises SourceError."""
        log = Log(source, self.name)
        for line, text in source.lines():
            found = _LINE.search(text)
            if found:
                log.eval(line, int(found["step"]), train_loss=found["train"], val_loss=found["val"])
                log.current.other(line, "epoch", int(found["step"]), found["epoch"])
            elif text.strip():
                log.current.not_understood(line)
        for builder in log.builders():
            for split, column in (("train", "evals.train_loss"), ("val", "evals.val_loss")):
                builder.describe(column, Series(kind="eval-mean", split=split, mode="eval", unit="nats/token"))  # type: ignore[arg-type]  # the two literals
        return log.runs()


READER = LlmsFromScratchReader()
