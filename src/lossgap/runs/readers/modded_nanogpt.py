"""modded-nanogpt and parameter-golf: `step:125/1530 val_loss:4.5110 train_time:75180ms step_avg:601.44ms`.

The log begins with the program itself and a picture of nvidia-smi; what of it looks like a row is source code, not
a row. Settings are taken from the class `Hyperparameters` in it. `step_avg:nanms` in the first steps is
healthy. The train loss is that of one rank's last micro-batch; train_time leaves the validation out and
may start again after the warm-up steps. parameter-golf adds val_bpb, its own heading, and the loss after compression.
"""

from __future__ import annotations

import re

from lossgap.runs.readers.base import NO, SURE, Head, RunBuilder, Series, Source, number, whole
from lossgap.runs.readers.legs import Log
from lossgap.runs.readers.nanogpt_lines import NUMBER, is_noise
from lossgap.runs.readers.statements import ASSIGNMENT, constant, plain
from lossgap.runs.run import Run

ROW = re.compile(
    rf"(?<![\w'\"])step:(\d+)/(\d+) (?:(train_loss|val_loss):({NUMBER}))(?: val_bpb:({NUMBER}))?"
    rf"(?:[ ,]+train_time:({NUMBER})(ms|s))?(?: step_avg:({NUMBER})ms)?"
)
FINAL = re.compile(rf"^(final_\w+) val_loss:({NUMBER}) val_bpb:({NUMBER})")
SOURCE_END = re.compile(r"^={20,}\s*$")
CODE = re.compile(r'^(?:import |from |"""|#!|# |@|def |class |with )')
FIELDS = re.compile(r"(?<!\S)([a-z_]+):(\S+)")
GOLF = re.compile(r"^(?:train_batch_tokens|model_params|world_size|seed|tie_embeddings|attention_mode|sdp_backends):")
GPU = re.compile(r"^\|\s+\d+\s+(NVIDIA .+?|Tesla .+?)\s{2,}|^GPU \d+: (.+?) \(UUID")
_KNOWN = re.compile(
    r"^(?:[|+].*|nvidia-smi:|Running (?:[Pp]ython|[Pp]y[Tt]orch)|logs?/|\S+/\S+\.txt$|W\d{4} |"
    r"\w{3} \w{3} +\d+ [\d:]{8} |(?:Training|Validation) DataLoader|peak memory|Serialized|Code size|"
    r"Total submission|stopping_early|warmup_step:|val_bpb:enabled|train_loader:|val_loader:|experiment=|command=|"
    r"[0-9a-f]{40}$|gcc |numpy |torch |final_|Compil)"
)
NAMES = {
    "num_iterations": "max_iters",
    "iterations": "max_iters",
    "sequence_length": "block_size",
    "train_seq_len": "block_size",
    "seq_len": "block_size",
    "val_loss_every": "eval_interval",
}
"""Settings in nanoGPT's words where the meaning is the same; `batch_size` here is of the whole update."""


class ModdedNanoGPT:
    """modded-nanogpt's log files and stdout, parameter-golf's too."""

    name = "modded-nanogpt"
    title = "modded-nanogpt or parameter-golf log"

    def score(self, head: Head) -> float:
        """Its rows."""
        if head.folder:
            return NO
        return SURE if any(ROW.search(line) for line in head.sample) else NO

    def read(self, source: Source) -> list[Run]:
        """The runs of the log."""
        log, program = Log(source, self.name), _Program()
        for line, text in source.lines():
            row = ROW.search(text)
            if row:
                program.going = False
                _row(log, line, row)
            elif not program.take(log, line, text) and not _heading(log, line, text) and not is_noise(text):
                log.current.not_understood(line)
        for builder in log.builders():
            _describe(builder)
        return log.runs()


def _row(log: Log, line: int, row: re.Match[str]) -> None:
    time = number(row[6])
    seconds = None if time is None else time / 1000 if row[7] == "ms" else time
    if row[3] == "train_loss":
        before = log.current.last("iters", "seconds")
        if seconds is not None and isinstance(before, float) and seconds < before:
            log.current.note("train_time starts again here (the first steps are left out)", line)
        log.iter(line, row[1], loss=row[4], seconds=seconds)
    else:
        log.eval(line, row[1], mode="exact", val_loss=row[4], val_bpb=row[5])
    if "max_iters" not in log.current.config:
        log.current.say("max_iters", whole(row[2]), f"line {line}")


class _Program:
    """The source code at the beginning of a log."""

    def __init__(self) -> None:
        self.going = False
        self.settings = False

    def take(self, log: Log, line: int, text: str) -> bool:
        """Whether the line is part of a program; its settings are said."""
        if SOURCE_END.match(text):
            self.going = self.settings = False
            return True
        if not self.going and CODE.match(text):
            self.going = True
        if not self.going:
            return False
        log.heading.note("source code of the program, read for its settings only", line)
        if re.match(r"class Hyperparameters\b", text):
            self.settings = True
        elif self.settings and re.match(r"\S", text) and not text.startswith("#"):
            self.settings = False
        if self.settings:
            self._setting(log, line, text)
        return True

    @staticmethod
    def _setting(log: Log, line: int, text: str) -> None:
        found = ASSIGNMENT.fullmatch(text)
        if not found:
            return
        try:
            value = plain(constant(found[2]))
        except ValueError:
            return
        name = "sequences_per_update" if found[1] == "batch_size" else NAMES.get(found[1], found[1])
        log.heading.say(name, value, f"line {line} (source code)")


def _heading(log: Log, line: int, text: str) -> bool:
    final, gpu = FINAL.match(text), GPU.match(text)
    if final:
        log.current.final = {
            "train_loss": None, "val_loss": number(final[2]), "val_bpb": number(final[3]), "why": final[1], "line": line
        }  # fmt: skip
        return True
    if gpu:
        builder = log.heading
        builder.device = gpu[1] or gpu[2]
        builder.environment["gpus"] = (whole(str(builder.environment.get("gpus", 0))) or 0) + 1
        return True
    if GOLF.match(text):
        _golf(log.heading, line, text)
        return True
    return bool(_KNOWN.match(text)) or not text.strip("\x00 \t")


def _golf(builder: RunBuilder, line: int, text: str) -> None:
    for name, value in FIELDS.findall(text):
        if name == "model_params":
            builder.parameters["total"] = whole(value)
        elif name == "train_batch_tokens":
            builder.tokens_per_iter = whole(value)
        else:
            found = number(value)
            kept = value if found is None else found if whole(value) is None or "." in value else whole(value)
            builder.say(NAMES.get(name, name), kept, f"line {line}")


def _describe(builder: RunBuilder) -> None:
    builder.describe("iters.loss", Series(kind="micro-batch", split="train", mode="train", unit="nats/token"))
    builder.describe("evals.val_loss", Series(kind="eval-mean", split="val", mode="eval", unit="nats/token"))
    builder.describe("evals.val_bpb", Series(kind="eval-mean", split="val", mode="eval", unit="bits/byte"))
    sequences, length = builder.config.get("sequences_per_update"), builder.config.get("block_size")
    if builder.tokens_per_iter is None and isinstance(sequences, int) and isinstance(length, int):
        builder.tokens_per_iter = sequences * length
        builder.infer("tokens_per_iter", sequences * length, "batch_size x sequence_length of the source code")


READER = ModdedNanoGPT()
