"""build-nanogpt: its stdout (`step    10 | loss: 9.875681 | lr 9.2308e-06 | …`) and its log.txt (`10 train 9.875681`).

The loss is that of the whole batch of the update, mean over micro-batches and ranks; a validation line has no
step of its own and stands before the row of the step that it was made at. Text that the model generated
(`rank 1 sample 0: …` and what follows) is passed over.
"""

from __future__ import annotations

import re

from lossgap.runs.readers.base import LIKELY, NO, SURE, Head, RunBuilder, Series, Source, whole
from lossgap.runs.readers.legs import Log
from lossgap.runs.readers.nanogpt_lines import FACTS, NUMBER, is_noise
from lossgap.runs.run import Run

STEP = re.compile(
    rf"step\s+(\d+) \|\|? (?:train )?loss: ({NUMBER})(?: \|\|? lr:? ({NUMBER}))?(?: \|\|? norm: ({NUMBER}))?"
    rf"(?: \|\|? (?:elapsed_time: )?dt[:=] ?({NUMBER})ms)?(?: \|\|? tok/sec: ({NUMBER}))?"
)
VAL = re.compile(rf"validation loss: ({NUMBER})")
HELLA = re.compile(rf"HellaSwag accuracy: \d+/\d+=({NUMBER})")
ROW = re.compile(rf"\s*(\d+) (train|val|hella) ({NUMBER})\s*")
SAMPLE = re.compile(r"rank \d+ sample \d+: ")
BATCH = re.compile(r"total desired batch size: ([\d,]+)")
ACCUMULATION = re.compile(r"=> calculated gradient accumulation steps: (\d+)")
_KNOWN = re.compile(r"^\s*(found \d+ shards for split|I am GPU|using device|loading weights)")


class BuildNanoGPT:
    """build-nanogpt's two logs."""

    name = "build-nanogpt"
    title = "build-nanogpt stdout or log.txt"

    def score(self, head: Head) -> float:
        """Rows of either form."""
        if head.folder:
            return NO
        lines = [line for line in head.sample if line.strip()]
        steps = sum(1 for line in lines if (found := STEP.search(line)) and found[5])
        if steps:
            return SURE
        rows = sum(1 for line in lines if ROW.fullmatch(line))
        if rows > 0.9 * len(lines):
            return SURE if rows > 2 else LIKELY
        return LIKELY if any(STEP.search(line) for line in lines) else NO

    def read(self, source: Source) -> list[Run]:
        """The runs of the log."""
        log, parser = Log(source, self.name), _Parser()
        for line, text in source.lines():
            if not parser.take(log, line, text):
                log.current.not_understood(line)
        parser.flush(log)
        for builder in log.builders():
            _describe(builder)
        return log.runs()


class _Parser:
    """One line at a time; a validation waits for the step that it belongs to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, str, str]] = []
        self.last = -1
        self.in_sample = False

    def take(self, log: Log, line: int, text: str) -> bool:
        """Take the line; return whether it was understood."""
        step, row = STEP.search(text), ROW.fullmatch(text)
        if step:
            self.in_sample = False
            at = whole(step[1])
            self.flush(log, at)
            log.iter(line, step[1], loss=step[2], lr=step[3], grad_norm=step[4], ms=step[5])
            self.last = self.last if at is None else at
            return True
        if row:
            if row[2] == "train":
                log.iter(line, row[1], loss=row[3])
            elif row[2] == "val":
                log.eval(line, row[1], mode="sampled", val_loss=row[3])
            else:
                log.current.other(line, "hellaswag", row[1], row[3])
            return True
        for pattern, name in ((VAL, "val"), (HELLA, "hella")):
            found = pattern.search(text)
            if found:
                self.in_sample = False
                self.waiting.append((line, name, found[1]))
                return True
        if self.in_sample or SAMPLE.search(text):
            self.in_sample = True
            log.current.note("text that the model generated, passed over", line)
            return True
        return self._heading(log, line, text)

    def flush(self, log: Log, at: int | None = None) -> None:
        """Place what waits: at the step that follows, or after the last one."""
        at = self.last + 1 if at is None else at
        for line, name, value in self.waiting:
            if name == "val":
                log.eval(line, at, mode="sampled", val_loss=value)
            else:
                log.current.other(line, "hellaswag", at, value)
        self.waiting = []

    def _heading(self, log: Log, line: int, text: str) -> bool:
        batch, accumulation = BATCH.search(text), ACCUMULATION.search(text)
        if batch:
            log.heading.tokens_per_iter = whole(batch[1])
        elif accumulation:
            log.heading.say("gradient_accumulation_steps_per_process", whole(accumulation[1]), f"line {line}")
        else:
            for pattern, fact in FACTS:
                found = pattern.search(text)
                if found:
                    fact(log.heading, found, line)
                    return True
            return bool(_KNOWN.match(text)) or is_noise(text)
        return True


def _describe(builder: RunBuilder) -> None:
    builder.describe("iters.loss", Series(kind="batch", split="train", mode="train", unit="nats/token"))
    builder.describe("evals.val_loss", Series(kind="eval-mean", split="val", mode="eval", unit="nats/token"))


READER = BuildNanoGPT()
