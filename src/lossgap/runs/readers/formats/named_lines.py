"""Logs of widely used trainers whose lines name their numbers: one `Lines` each, read by the parser of named numbers.

A format says by which line it is known, which of its names mean something of their own, and what its losses are:
their unit, and over what they are means. Everything else is the same as for a text of no known format, but nothing is
inferred.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from lossgap.runs.readers.base import NO, SURE, Head, Run, Source
from lossgap.runs.readers.printed_rows import PrintedRows
from lossgap.runs.readers.printed_runs import LineFacts, printed_runs


@dataclass(frozen=True, kw_only=True)
class LineFormat:
    """A `Reader` of one trainer's lines."""

    name: str
    title: str
    mark: re.Pattern[str]
    """A line that only this format has."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Names with a meaning of their own: {as printed, lower case: the name that says it}."""
    rewrites: tuple[tuple[re.Pattern[str], str], ...] = ()
    """Changes that make a line one of named numbers."""
    facts: LineFacts
    if_seen: tuple[tuple[re.Pattern[str], LineFacts], ...] = ()
    """Other facts, where the beginning of the log has such a line."""

    def score(self, head: Head) -> float:
        """SURE for one of its lines."""
        if head.folder:
            return NO
        return SURE - 0.02 if any(self.mark.search(line[:4000]) for line in head.sample) else NO

    def read(self, source: Source) -> list[Run]:
        """The runs of the log. Raises SourceError."""
        seen = PrintedRows(self.names)
        facts, known = self.facts, False
        for line, text in source.lines():
            text = text[:100_000]
            for pattern, put in self.rewrites:
                text = pattern.sub(put, text)
            for pattern, other in () if known else self.if_seen:
                if pattern.search(text):
                    facts, known = other, True
            seen.see(line, text)
        return printed_runs(source, seen, self.name, facts)


_TOKENS: Final = LineFacts(unit="nats/token", kind="interval-mean")
_BITS: Final = "fairseq prints losses in bits (base 2): times ln 2, in nats per token"
_COST: Final = "the cost is the mean over sentences of a sum over tokens: nats per sentence, not per token"

FORMATS: Final = (
    LineFormat(
        name="megatron",
        title="Megatron-LM, GPT-NeoX and Megatron-DeepSpeed",
        mark=re.compile(
            r"iteration +\d+/ *\d+ \| (?:consumed samples|elapsed time per iteration)"
            r"|validation (?:loss|results) at (?:iteration|the end of training)"
        ),
        names={
            "lm loss value": "lm loss",
            "lm_loss value": "lm loss",
            "lm loss ppl": "lm ppl",
            "lm_loss_ppl value": "lm ppl",
        },
        facts=_TOKENS,
    ),
    LineFormat(
        name="nemo",
        title="NeMo",
        mark=re.compile(r"reduced_train_loss[=:] ?\d"),
        names={"reduced_train_loss": "train_loss", "train_step_timing in s": "train_step_timing"},
        facts=_TOKENS,
    ),
    LineFormat(
        name="fairseq",
        title="fairseq",
        mark=re.compile(r"[|,] ?\"?(?:train_|valid_)?num_updates\"?[ =:]{1,2}\"?\d"),
        names={
            "valid_num_updates": "num_updates",
            "train_num_updates": "num_updates",
            "update": "fraction of the epochs",
            "wall": "wall seconds",
            "train_wall": "train wall seconds",
        },
        # The means over an epoch are another series than the values in between.
        rewrites=(
            (re.compile(r"^(.{0,80}?)\| train \| epoch (\d+) \| loss "), r"\1| epoch \2 | train loss_epoch "),
            (re.compile(r"\"train_loss\": "), '"train_loss_epoch": '),
        ),
        facts=LineFacts(unit="nats/token", kind="interval-mean", base=2, notes=(_BITS,)),
    ),
    LineFormat(
        name="marian",
        title="Marian",
        mark=re.compile(r"\bEp\. [\d.]+ : Up\. \d"),
        names={
            "up": "updates",
            "ep": "epoch",
            "valid ep": "val epoch",
            "sen": "sentences",
            "l.r": "lr",
            "gnorm": "grad norm",
            "ce-mean-words": "loss",
            "time": "interval seconds",
        },
        facts=LineFacts(unit="nats/sequence", kind="interval-mean", notes=(_COST,), units={"val loss": "nats/token"}),
        if_seen=(
            (
                re.compile(r" : Cost [\d.]+ \* "),
                LineFacts(unit="nats/token", kind="interval-mean", units={"val cross-entropy": "nats/sequence"}),
            ),
        ),
    ),
    LineFormat(
        name="mlx",
        title="MLX",
        mark=re.compile(r"\bIter \d+: (?:Train|Val) loss [\dn]"),
        names={"trained tokens": "tokens"},
        facts=_TOKENS,
    ),
    LineFormat(
        name="keras-fit",
        title="Keras fit()",
        mark=re.compile(r"\b\d{1,9}/\d{1,9} (?:\[[=>.]{5}|━{5}|- \d{1,6}m?s\b).{0,160}?\bloss: "),
        facts=LineFacts(kind="interval-mean", epochs=True, notes=("iter counts epochs, from 1",)),
    ),
    LineFormat(
        name="opennmt",
        title="OpenNMT",
        mark=re.compile(r"Step \d+/ ?\d+; acc: "),
        facts=LineFacts(unit="nats/token", kind="interval-mean"),
    ),
    LineFormat(
        name="maxtext",
        title="MaxText",
        mark=re.compile(r"completed step: \d+, seconds: "),
        names={"seconds": "step seconds"},
        facts=LineFacts(unit="nats/token", kind="batch"),
    ),
    LineFormat(
        name="levanter",
        title="Levanter",
        mark=re.compile(r"Progress on:train .{0,160}?postfix:loss="),
        rewrites=((re.compile(r"Progress on:(\w+) +(\d+)it/\S* rate:"), r"\1 step \2 | rate:"),),
        facts=LineFacts(unit="nats/token", kind="batch"),
    ),
    LineFormat(
        name="torchtune",
        title="torchtune",
        mark=re.compile(r"^Step \d{1,12} \| (?:\w{1,40}:\S{1,40} ){0,6}loss:[\dn]", re.M),
        facts=LineFacts(unit="nats/token", kind="batch"),
    ),
    LineFormat(
        name="deepspeed",
        title="DeepSpeed",
        mark=re.compile(r"steps: \d{1,12} loss: [\dn].{0,40}?iter time \(s\)"),
        facts=LineFacts(kind="batch"),
    ),
    LineFormat(
        name="minimind",
        title="MiniMind",
        mark=re.compile(r"Epoch:\[\d+/\d+\]\(\d+/\d+\)"),
        facts=LineFacts(unit="nats/token", kind="micro-batch"),
    ),
    LineFormat(
        name="ignite",
        title="PyTorch-Ignite",
        mark=re.compile(r"Epoch\[\d+\] Iteration\[\d+/\d+\]|ignite\.engine"),
        facts=LineFacts(),
    ),
)

READERS: Final = {lines.name: lines for lines in FORMATS}
