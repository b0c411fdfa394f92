"""nanochat's stdout: `step 00010/21400 (0.05%) | loss: 7.473279 | lrm: 1.00 | dt: 996.81ms | tok/sec: 525,967 | …`.

The loss is an exponential moving average of the training loss without its bias; the validation line
(`Step 00500 | Validation bpb: 1.147239`) is in bits per byte, another unit. `total time` leaves the first steps
out; `lrm` multiplies the learning rates of all groups. `mfu` is relative to the peak that this version assumes.
"""

from __future__ import annotations

import re

from lossgap.runs.readers.base import LIKELY, NO, SURE, Head, RunBuilder, Series, Source, number, whole
from lossgap.runs.readers.legs import Log
from lossgap.runs.readers.nanogpt_lines import NUMBER, is_noise
from lossgap.runs.run import Run

STEP = re.compile(rf"step\s+(\d+)(?:/(\d+))? \([\d.]+%\) \| loss: ({NUMBER}) \| (.*)")
EVAL = re.compile(
    rf"Step\s+(\d+)(?:/\d+)? \| (Validation bpb|Validation loss|CORE metric|ChatCORE\w*)\s*:\s*({NUMBER})"
)
TUNING = re.compile(rf"Step\s+(\d+)/(\d+) \| Training loss: ({NUMBER})\s*\| lrm: ({NUMBER})")
"""A row of its fine-tuning: the loss is that of one micro-batch."""
FIELD = re.compile(r"(lrm|dt|tok/sec|(?:bf16_)?mfu|total time|epoch): ([\d.,]+)")
FACTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^Vocab size: ([\d,]+)"), "vocab_size"),
    (re.compile(r"^num_layers: (\d+)"), "n_layer"),
    (re.compile(r"^model_dim: (\d+)"), "n_embd"),
    (re.compile(r"^num_heads: (\d+)"), "n_head"),
    (re.compile(r"^num_kv_heads: (\d+)"), "n_kv_head"),
    (re.compile(r"^Number of parameters: ([\d,]+)"), "parameters"),
    (re.compile(r"^Total batch size ([\d,]+) "), "tokens"),
    (re.compile(r"=> gradient accumulation steps: (\d+)"), "accumulation"),
    (re.compile(r"^Tokens / micro-batch / rank: (\d+) x \d+"), "batch_size"),
    (re.compile(r"^Tokens / micro-batch / rank: \d+ x (\d+)"), "block_size"),
    (re.compile(r"^Estimated FLOPs per token: ([\d.e+]+)"), "flops"),
)
_KNOWN = re.compile(
    r"^(Tokens :|Total |Scaling|Calculated|Peak memory|Minimum validation|Using |Final|Downloading|Warning)"
)


class Nanochat:
    """nanochat's base training."""

    name = "nanochat"
    title = "nanochat stdout"

    def score(self, head: Head) -> float:
        """Its step line has a percentage and `lrm`."""
        if head.folder:
            return NO
        found = [match for line in head.sample if (match := STEP.search(line))]
        if any("lrm:" in match[4] for match in found):
            return SURE
        return LIKELY if found or any(EVAL.search(line) for line in head.sample) else NO

    def read(self, source: Source) -> list[Run]:
        """The runs of the log."""
        log = Log(source, self.name)
        for line, text in source.lines():
            step, evaluation, tuning = STEP.search(text), EVAL.search(text), TUNING.search(text)
            if step:
                _step(log, line, step)
            elif tuning:
                _tuning(log, line, tuning)
            elif evaluation:
                _evaluation(log, line, evaluation)
            elif not _fact(log, line, text) and not is_noise(text) and not _KNOWN.match(text):
                log.current.not_understood(line)
        for builder in log.builders():
            _describe(builder)
        return log.runs()


def _step(log: Log, line: int, found: re.Match[str]) -> None:
    fields: dict[str, str] = dict(FIELD.findall(found[4]))
    minutes, mfu = number(fields.get("total time")), number(fields.get("bf16_mfu", fields.get("mfu")))
    ms, rate = number(fields.get("dt")), number(fields.get("tok/sec"))
    log.iter(
        line,
        found[1],
        loss=found[3],
        ms=fields.get("dt"),
        # 0.00 is printed for a GPU whose peak nanochat does not know.
        mfu=mfu / 100 if mfu else None,
        seconds=minutes * 60 if minutes else None,
    )
    lrm = fields.get("lrm")
    if lrm is not None:
        log.current.other(line, "lrm", found[1], lrm)
    if found[2] and "max_iters" not in log.current.config:
        log.current.say("max_iters", whole(found[2]), f"line {line}")
    if log.current.tokens_per_iter is None and ms and rate:
        log.current.tokens_per_iter = _round_tokens(log.current, ms * rate / 1000)


def _tuning(log: Log, line: int, found: re.Match[str]) -> None:
    log.iter(line, found[1], loss=found[3])
    builder = log.current
    builder.other(line, "lrm", found[1], found[4])
    builder.describe("iters.loss", Series(kind="micro-batch", split="train", mode="train", unit="nats/token"))
    if "max_iters" not in builder.config:
        builder.say("max_iters", whole(found[2]), f"line {line}")


def _round_tokens(builder: RunBuilder, tokens: float) -> int | None:
    """The power of two that `dt x tok/sec` comes to, if it comes to one within the rounding of both."""
    near = 1 << max(round(tokens).bit_length() - 1, 0)
    for candidate in (near, 2 * near):
        if abs(tokens - candidate) < 2e-4 * candidate:
            builder.infer("tokens_per_iter", candidate, "dt x tok/sec of the first step, to the nearest power of two")
            return candidate
    return None


def _evaluation(log: Log, line: int, found: re.Match[str]) -> None:
    if found[2] == "Validation bpb":
        log.eval(line, found[1], mode="sampled", val_bpb=found[3])
    elif found[2] == "Validation loss":
        log.eval(line, found[1], mode="sampled", val_loss=found[3])
    else:
        log.current.other(line, found[2], found[1], found[3])


def _fact(log: Log, line: int, text: str) -> bool:
    said = False
    for pattern, name in FACTS:
        found = pattern.search(text)
        value = number(found[1]) if found else None
        if value is None:
            continue
        said, builder = True, log.heading
        if name == "vocab_size":
            builder.corpus[name] = int(value)
        elif name == "parameters":
            builder.parameters["total"] = int(value)
        elif name == "tokens":
            builder.tokens_per_iter = int(value)
        elif name == "flops":
            builder.environment["flops_per_token"] = value
        else:
            label = "gradient_accumulation_steps_per_process" if name == "accumulation" else name
            builder.say(label, int(value), f"line {line}")
    return said


def _describe(builder: RunBuilder) -> None:
    if "iters.loss" not in builder.series:
        builder.describe("iters.loss", Series(kind="moving-average", split="train", mode="train", unit="nats/token"))
    builder.describe("evals.val_bpb", Series(kind="eval-mean", split="val", mode="eval", unit="bits/byte"))
    builder.describe("evals.val_loss", Series(kind="eval-mean", split="val", mode="eval", unit="nats/token"))
    builder.peak = {"flops": None, "source": "what this nanochat assumes for the GPU"}


READER = Nanochat()
