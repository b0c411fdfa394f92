"""modded-nanogpt and parameter-golf: `step:125/1530 val_loss:4.5110 train_time:75180ms step_avg:601.44ms`,
in later parameter-golf programs `500/20000 train_loss: 3.0046 train_time: 0.8m tok/s: 7923282`.

The log begins with the program itself and a picture of nvidia-smi; what of it looks like a row is source code, not
a row. Settings are taken from the class `Hyperparameters` in it. `step_avg:nanms` in the first steps is
healthy. The train loss is that of one rank's last micro-batch; train_time leaves the validation out and
may start again after the warm-up steps. parameter-golf adds val_bpb, its own heading or a list of all its settings,
and losses after compression, of which the last one counts.
"""

from __future__ import annotations

import hashlib
import re

from lossgap.runs.readers.base import LIKELY, NO, SURE, Head, RunBuilder, Series, Source, number, whole
from lossgap.runs.readers.legs import Log
from lossgap.runs.readers.nanogpt_lines import NUMBER, is_noise
from lossgap.runs.readers.statements import assignment, constant, plain
from lossgap.runs.run import Run

_STAMP = re.compile(r"^\d{9,11}\.\d{1,6} (?=\S| )")
_SPENT = rf"(?:(?: \w+:{NUMBER})*?[ ,]+(?:train_time|t):\s?(?P<time>{NUMBER})(?P<unit>ms|s|m)\b)?"
ROW = re.compile(
    rf"(?<![\w'\"])step:(?P<iter>\d+)/(?P<of>\d+) (?:\[[^\]]{{1,40}}\] )?(?P<split>train_loss|val_loss|loss):"
    rf"(?P<loss>{NUMBER})(?: val_bpb:(?P<bpb>{NUMBER}))?{_SPENT}"
)
BARE_ROW = re.compile(
    rf"^(?P<iter>\d+)/(?P<of>\d+) (?P<split>train_loss|val_loss): (?P<loss>{NUMBER})"
    rf"(?: val_bpb: (?P<bpb>{NUMBER}))?{_SPENT}"
)
TIME_ROW = re.compile(
    rf"(?<![\w'\"])step:(?P<iter>\d+)/(?P<of>\d+) train_time:(?P<time>{NUMBER})(?P<unit>ms|s) step_avg:"
)
"""An iteration of the later programs, which print its time only."""
FINAL = re.compile(
    rf"^(?P<why>(?:final_|diagnostic |quantized|legal_ttt|pre-quantization)[\w -]*?)(?: stride:\d+)?"
    rf" (?:sliding )?val_loss:(?P<loss>{NUMBER}) (?:sliding )?val_bpb:(?P<bpb>{NUMBER})",
    re.I,
)
SOURCE_END = re.compile(r"^={20,}\s*$")
CODE = re.compile(r'^(?:import |from |"""|#!|# |@|def |class |with )')
FIELDS = re.compile(r"(?<!\S)([a-z_]+):(\S+)")
GOLF = re.compile(r"^(?:train_batch_tokens|model_params|world_size|seed|tie_embeddings|attention_mode|sdp_backends):")
GPU = re.compile(r"^\|\s+\d+\s+(NVIDIA .+?|Tesla .+?)\s{2,}|^GPU \d+: (.+?) \(UUID")
_KNOWN = re.compile(
    r"^(?:[|+].*|nvidia-smi:|Running (?:[Pp]ython|[Pp]y[Tt]orch)|logs?/|(?=.[^\s/]*+/)\S++(?<=\.txt)$|W\d{4} |"
    r"\w{3} \w{3} +\d+ [\d:]{8} |(?:Training|Validation) DataLoader|peak memory|Serialized|Code size|"
    r"Total submission|stopping_early|warmup_step:|val_bpb:enabled|train_loader:|val_loader:|experiment=|command=|"
    r"[0-9a-f]{40}$|gcc |numpy |torch |final_|Compil)"
)
LISTING = re.compile(r"^(?:Hyperparameters:|--- Hyperparameters ---)\s*$")
LISTED = re.compile(r"^\s+([a-z_]\w{0,63}):(.*)$", re.A)
LISTED_INLINE = re.compile(r"(?<!\S)([a-z_]\w{0,63})=(\S*)", re.A)
INLINE_LEAST = 5
"""`name=value` that make a line a list of settings."""
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}
NAMES = {
    "num_iterations": "max_iters",
    "iterations": "max_iters",
    "sequence_length": "block_size",
    "train_seq_len": "block_size",
    "seq_len": "block_size",
    "val_loss_every": "eval_interval",
    "train_log_every": "log_interval",
    "grad_clip_norm": "grad_clip",
}
"""Settings in nanoGPT's words where the meaning is the same; `batch_size` here is of the whole update, and
the sizes of these models do not give nanoGPT's number of parameters."""
TOKENS_OF = re.compile(r"_(?:sp|byte|bpe)\w{0,64}$")
"""The tokenizer in the name of a folder: `corpus_sp4096` and `corpus_sp8192` hold one text."""
PLACES = re.compile(r"(?:.*_)?(?:path|dir|files|rank|process)|run_id|logfile|distributed")
"""Settings that say where a run ran and what it was called, not how it trained."""


class ModdedNanoGPT:
    """modded-nanogpt's log files and stdout, parameter-golf's too."""

    name = "modded-nanogpt"
    title = "modded-nanogpt or parameter-golf log"

    def score(self, head: Head) -> float:
        """Its rows; where thousands of other lines stand around them, its list of settings."""
        if head.folder:
            return NO
        if any(_row_of(_STAMP.sub("", line)) for line in head.sample):
            return SURE
        settings = {found[1] for line in head.lines if (found := LISTED.match(_STAMP.sub("", line)))}
        return LIKELY if {"train_batch_tokens", "val_loss_every"} <= settings else NO

    def read(self, source: Source) -> list[Run]:
        """The runs of the log."""
        log, program = Log(source, self.name), _Program()
        for line, stamped in source.lines():
            text = _STAMP.sub("", stamped)
            row = _row_of(text)
            if row:
                program.going = program.listing = False
                _row(log, line, row)
            elif not program.take(log, line, text) and not _heading(log, line, text) and not is_noise(text):
                log.current.not_understood(line)
        for builder in log.builders():
            _describe(builder)
        return log.runs()


def _row_of(text: str) -> re.Match[str] | None:
    return ROW.search(text) or TIME_ROW.search(text) or BARE_ROW.match(text)


def _row(log: Log, line: int, row: re.Match[str]) -> None:
    time = number(row["time"])
    seconds = None if time is None else time * SECONDS[row["unit"]]
    said = row.groupdict()
    if said.get("split") == "val_loss":
        log.eval(line, row["iter"], mode="exact", val_loss=row["loss"], val_bpb=row["bpb"])
    else:
        before = log.current.last("iters", "seconds")
        if seconds is not None and isinstance(before, float) and seconds < before:
            log.current.note("train_time starts again here (the first steps are left out)", line)
        log.iter(line, row["iter"], loss=said.get("loss"), seconds=seconds)
    if "max_iters" not in log.current.config:
        log.current.say("max_iters", whole(row["of"]), f"line {line}")


class _Program:
    """The source code at the beginning of a log."""

    def __init__(self) -> None:
        self.going = False
        self.settings = False
        self.listing = False
        self.text = hashlib.sha256()

    def take(self, log: Log, line: int, text: str) -> bool:
        """Take the line; return whether it is part of a program, whose settings are recorded."""
        if SOURCE_END.match(text):
            if self.going:
                log.heading.say("source_code", f"sha256 {self.text.hexdigest()[:12]}", f"line {line}")
            self.going = self.settings = self.listing = False
            return True
        if LISTING.match(text) and not self.going:
            self.listing = True
            return True
        if self.listing and self._listed(log, line, text):
            return True
        if not self.going and CODE.match(text):
            self.going = True
        if not self.going:
            return False
        self.text.update(text.rstrip().encode() + b"\n")
        log.heading.note("source code of the program, read for its settings only", line)
        if re.match(r"class Hyperparameters\b", text):
            self.settings = True
        elif self.settings and re.match(r"\S", text) and not text.startswith("#"):
            self.settings = False
        if self.settings:
            self._setting(log, line, text)
        return True

    def _listed(self, log: Log, line: int, text: str) -> bool:
        """Take a line of parameter-golf's settings, `  name: value` or all in one line; return whether it is one."""
        found = LISTED.match(text)
        inline = [] if found else LISTED_INLINE.findall(text)
        self.listing = found is not None
        if not found and len(inline) < INLINE_LEAST:
            return False
        for name, value in [(found[1], found[2].strip())] if found else inline:
            if name == "datasets_dir":
                corpus = TOKENS_OF.sub("", value.rstrip("/").rpartition("/")[2])
                log.heading.say("dataset", corpus, f"line {line}")
            elif not PLACES.fullmatch(name):
                _say(log.heading, line, name, value)
        return True

    @staticmethod
    def _setting(log: Log, line: int, text: str) -> None:
        found = assignment(text)
        if not found:
            return
        try:
            value = plain(constant(found[1]))
        except ValueError:
            return
        name = "sequences_per_update" if found[0] == "batch_size" else NAMES.get(found[0], found[0])
        log.heading.say(name, value, f"line {line} (source code)")


def _heading(log: Log, line: int, text: str) -> bool:
    final, gpu = FINAL.match(text), GPU.match(text)
    if final:
        log.current.final = {
            "train_loss": None, "val_loss": number(final["loss"]), "val_bpb": number(final["bpb"]), "why": final["why"],
            "line": line,
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
        _say(builder, line, name, value)


def _say(builder: RunBuilder, line: int, name: str, value: str) -> None:
    if name == "model_params":
        builder.parameters["total"] = whole(value)
    elif name == "train_batch_tokens":
        builder.tokens_per_iter = whole(value)
    else:
        found = None if "," in value else number(value)
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
