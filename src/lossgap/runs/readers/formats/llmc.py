"""llm.c: its main.log (`s:250 tel:6.3097`, `s:250 trl:6.31 lr:… norm:…`) and its stdout.

    step    1/21479 | loss 11.007906 (+nanz)| norm 16.3235 (+nanz)| lr 2.86e-06 | 2734.72 ms | -100.0% bf16 MFU | …

The z-scores in brackets are nan for the first 128 steps and healthy; an MFU of -100.0% means that the GPU
is not in llm.c's table. A `val loss` line has no step: it was made after the last printed step. Steps of stdout
count updates from 1, those of main.log from 0 for the train loss.
"""

from __future__ import annotations

import re

from lossgap.runs.readers.base import NO, SURE, WEAK, Head, RunBuilder, Series, Source, number, whole
from lossgap.runs.readers.legs import Log
from lossgap.runs.readers.nanogpt_lines import NUMBER, is_noise
from lossgap.runs.run import Run

ROW = re.compile(rf"\s*s:(\d+) (tel|trl|eval):({NUMBER})((?: \w+:{NUMBER})*)\s*")
EXTRA = re.compile(rf"\b(\w+):({NUMBER})")
STEP = re.compile(rf"step\s+(\d+)/(\d+)(?: \||:) (?:train )?loss ({NUMBER})\b(.*)")
VAL = re.compile(rf"^\s*val loss:? ({NUMBER})")
HELLA = re.compile(rf"HellaSwag: \d+/\d+ = ({NUMBER})")
NAME = re.compile(r"[\w ()/.%-]+")
"""Matches the name of a setting in the table."""
FIELDS = {
    "grad_norm": re.compile(rf"\bnorm ({NUMBER})"),
    "lr": re.compile(rf"\blr ({NUMBER})"),
    "ms": re.compile(rf"(?<![\d.])({NUMBER}) ms\b"),
    "mfu": re.compile(rf"(?<![\d.])({NUMBER})% (?:\w{{1,40}} )?MFU"),
}
"""The values behind the loss in a line of stdout."""
BATCH = re.compile(r"batch_size B=(\d+) \* seq_len T=(\d+) \* num_processes=(\d+) and total_batch_size=(\d+)")
ACCUMULATION = re.compile(r"=> setting grad_accum_steps=(\d+)")
PARAMETERS = re.compile(r"num_parameters: (\d+)")
_KNOWN = re.compile(
    r"^\s*(allocat|created directory|device memory|memory per sequence| -> estimated|\+-[-+]+|generating:|---|Writing|"
    r"val loss|HellaSwag|train dataset|total average|Multi-GPU|Using)|^\s*-> estimated"
)

SETTINGS = {
    "micro batch size B": "batch_size",
    "sequence length T": "block_size",
    "learning rate (LR)": "learning_rate",
    "warmup iterations": "warmup_iters",
    "weight decay": "weight_decay",
    "max_sequence_length T": "max_sequence_length",
    "num_layers L": "n_layer",
    "num_heads NH": "n_head",
    "channels C": "n_embd",
    "train_num_batches": "max_iters",
    "val_num_batches": "eval_iters",
    "LR scheduler": "lr_scheduler",
    "final LR fraction": "final_lr_fraction",
    "precision": "dtype",
    "val_loss_every": "eval_interval",
}
"""llm.c's table of settings in nanoGPT's words."""


class LlmC:
    """llm.c's two logs."""

    name = "llmc"
    title = "llm.c main.log or stdout"

    def score(self, head: Head) -> float:
        """Rows of either form."""
        if head.folder:
            return NO
        sample = list(head.sample)
        if any(ROW.fullmatch(line) for line in sample):
            return SURE
        if any((found := STEP.search(line)) and " ms" in found[4] for line in sample):
            return SURE
        return WEAK if any(STEP.search(line) for line in sample) else NO

    def read(self, source: Source) -> list[Run]:
        """The runs of the log."""
        log, heading, last = Log(source, self.name), _Heading(), 0
        for line, text in source.lines():
            row, step = ROW.fullmatch(text), STEP.search(text)
            value, hella = VAL.search(text), HELLA.search(text)
            if row:
                _row(log, line, row)
            elif step:
                _step(log, line, step)
                last = whole(step[1]) or last
            elif value:
                # Before the first step of another run, it is that run's.
                log.eval(line, 0 if log.pending is not None else last, mode="sampled", val_loss=value[1])
            elif hella:
                log.current.other(line, "hellaswag", last, hella[1])
            elif not heading.take(log, line, text) and not is_noise(text) and not _KNOWN.match(text):
                log.current.not_understood(line)
        for builder in log.builders():
            _describe(builder)
        return log.runs()


def _row(log: Log, line: int, row: re.Match[str]) -> None:
    extra = dict(EXTRA.findall(row[4]))
    if row[2] == "tel":
        log.eval(line, row[1], mode="sampled", val_loss=row[3])
    elif row[2] == "trl":
        log.iter(line, row[1], loss=row[3], lr=extra.get("lr"), grad_norm=extra.get("norm"))
    else:
        log.current.other(line, "hellaswag", row[1], row[3])


def _step(log: Log, line: int, step: re.Match[str]) -> None:
    rest = step[4]
    fields = {}
    for name, pattern in FIELDS.items():
        found = pattern.search(rest)
        if found:
            fields[name] = found[1]
    mfu = number(fields.pop("mfu", None))
    log.iter(line, step[1], loss=step[3], mfu=mfu / 100 if mfu is not None and mfu > 0 else None, **fields)
    if "max_iters" not in log.current.config:
        log.current.say("max_iters", whole(step[2]), f"line {line}")


class _Heading:
    """The table of settings and the lines after it; the batch is known when both of its lines are."""

    processes: int | None = None

    def take(self, log: Log, line: int, text: str) -> bool:
        """Take the line; return whether it belongs to the heading."""
        cell, batch = _cells(text), BATCH.search(text)
        accumulation, parameters = ACCUMULATION.search(text), PARAMETERS.search(text)
        if batch:
            for name, value in (("batch_size", batch[1]), ("block_size", batch[2]), ("world_size", batch[3])):
                log.heading.say(name, whole(value), f"line {line}")
            log.heading.tokens_per_iter = whole(batch[4])
            self.processes = whole(batch[3])
        elif accumulation:
            steps = whole(accumulation[1])
            if steps is not None and self.processes is not None:
                log.heading.say(
                    "gradient_accumulation_steps", steps * self.processes, f"line {line}, over all processes"
                )
        elif parameters:
            log.heading.parameters["total"] = whole(parameters[1])
        elif cell:
            _cell(log.heading, line, *cell)
        else:
            return False
        return True


def _cells(text: str) -> tuple[str, str] | None:
    """Name and value of a line `| name | value |`, None for any other line."""
    name, bar, value = text.rstrip()[1:-1].partition("|")
    name, value = name.strip(), value.strip()
    whole_row = text.startswith("|") and text.rstrip().endswith("|") and bar and value
    return (name, value) if whole_row and NAME.fullmatch(name) else None


def _cell(builder: RunBuilder, line: int, name: str, value: str) -> None:
    if name == "device":
        builder.device = value
    elif name.startswith("vocab_size"):
        builder.corpus["vocab_size"] = whole(value)
    elif name == "num_parameters":
        builder.parameters["total"] = whole(value)
    elif name in SETTINGS:
        found = number(value)
        kept = value if found is None else whole(value) if whole(value) is not None and "." not in value else found
        builder.say(SETTINGS[name], kept, f"line {line}")


def _describe(builder: RunBuilder) -> None:
    builder.describe("iters.loss", Series(kind="batch", split="train", mode="train", unit="nats/token"))
    builder.describe("evals.val_loss", Series(kind="eval-mean", split="val", mode="eval", unit="nats/token"))
    builder.peak = {"flops": None, "source": "llm.c's table for the GPU and precision"}


READER = LlmC()
