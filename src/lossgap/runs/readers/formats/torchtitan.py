"""torchtitan's console, of one or all ranks, and the `step loss` files of its tests.

    [rank0]:[titan] 2026-02-24 19:46:17,508 - root - INFO - step:  4  loss:  7.62585  grad_norm: 26.6250 \
memory: 66.91GiB(37.51%)  tps: 10,050  tflops: 314.71  mfu: 13.99%
    [titan] ... - validate step: 10  loss:  7.1  memory: ...
    1 8.049097061157227

The loss is the mean over all ranks of one step's batch. `tps` and `tflops` are per device; `mfu` is relative to the
peak that the log names. Copies of a step by other ranks are one row.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from lossgap.runs.readers.base import NO, SURE, WEAK, Head, Run, RunBuilder, Series, Source, number
from lossgap.runs.readers.formats.jsonl import parse, plain_json
from lossgap.runs.readers.setting_names import say_all, typed

_NUM = r"[+-]?(?:[\d.,]*\d(?:e[+-]?\d+)?|nan|inf)"
_STEP: Final = re.compile(
    rf"(?P<validate>validate )?step:\s*(?P<step>\d+)\s+loss:\s*(?P<loss>{_NUM})(?P<rest>\s.*|$)", re.I | re.A
)
_FIELD: Final = re.compile(rf"\b(grad_norm|memory|tps|wps|tflops|mfu|lr):\s*({_NUM})(%|GiB)?", re.I | re.A)
_MARK: Final = re.compile(r"\[titan\]|\btorchtitan\b| - root - INFO - ")
_PREFIX: Final = re.compile(r"\s*(?:\[rank\d{1,6}\]:)?(?:\[titan\].{0,100}? - )?")
_PAIR: Final = re.compile(r"\s*(\d{1,15})[ \t]+([+-]?\d+\.\d+(?:e[+-]?\d+)?|nan|inf)\s*", re.I | re.A)
_START: Final = re.compile(r"Training starts at step (\d+)")
_COUNTS: Final = {
    "batch_size": re.compile(r"local batch size:? (\d+)"),
    "global_batch_size": re.compile(r"global batch size:? (\d+)"),
    "accumulation_per_process": re.compile(r"gradient accumulation steps:? (\d+)"),
    "block_size": re.compile(r"sequence length:? (\d+)"),
    "max_iters": re.compile(r"total steps:? (\d+)"),
    "warmup_iters": re.compile(r"\(warmup:? (\d+)\)"),
}
_PEAK: Final = re.compile(r"Peak FLOPS used for computing MFU: ([\d.]+e?[+-]?\d*)", re.A)
_DEVICE: Final = re.compile(r"(?:GPU|CUDA|XPU|ROCM) capacity: (.{1,100}?)(?: \(\d+\))? with [\d.]+ ?GiB")
_SIZE: Final = re.compile(r"Model (.{1,100}?) size: ([\d,]+) total parameters")
NEAR: Final = 8
"""Steps back within which a step that comes again is another rank's."""
MAX_CONFIG_LINES: Final = 5000
_CONFIG: Final = re.compile(r"(?:Running with (?:args|config|configs)|Job config): (\{.*)")


class TorchtitanReader:
    """torchtitan's console."""

    name = "torchtitan"
    title = "torchtitan console"

    def score(self, head: Head) -> float:
        """SURE for a step line with its mark or its figures; a bit more than WEAK for `step loss` pairs only."""
        if head.folder:
            return NO
        for line in head.sample:
            found = _STEP.search(line)
            if found and (
                _MARK.search(line) or {"memory", "tps"} <= {name for name, _, _ in _FIELD.findall(found["rest"])}
            ):
                return SURE
        lines = [line for line in head.lines[:200] if line.strip()][:50]
        pairs = [pair for pair in (_PAIR.fullmatch(line) for line in lines) if pair]
        rising = all(int(one[1]) < int(two[1]) for one, two in pairwise(pairs))
        return WEAK + 0.15 if len(pairs) == len(lines) >= 3 and rising else NO

    def read(self, source: Source) -> list[Run]:
        """The runs of the log. Raises SourceError."""
        log = _Console(source)
        for line, text in source.lines():
            if text.strip():
                log.take(line, text)
        return log.runs()


class _Console:
    """The state while reading: the run, and the steps that other ranks repeat."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.done: list[RunBuilder] = []
        self.current = self._new()
        self.seen: dict[tuple[str, int], str] = {}
        self.first: int | None = None
        self.top = {"iters": -1, "evals": -1}
        self.restarted = False
        self.config: list[str] | None = None
        """The lines of a config that goes over several, while it does."""

    def _new(self) -> RunBuilder:
        builder = RunBuilder(self.source, TorchtitanReader.name, len(self.done) + 1)
        builder.describe("iters.loss", Series(kind="batch", split="train", mode="train", unit="nats/token"))
        builder.describe("evals.val_loss", Series(kind="eval-mean", split="val", mode="eval", unit="nats/token"))
        return builder

    def take(self, line: int, text: str) -> None:
        """One line."""
        if self.config is not None and self._config_line(line, text):
            return
        found = _steps(text)
        if found:
            for match in found:
                self._step(line, match)
        elif pair := _PAIR.fullmatch(text):
            if self._place("iters", line, pair[1], pair[2]):
                self.current.iter(line, pair[1], loss=float(pair[2]))  # full precision: no decimals to learn
        elif not self._fact(line, text):
            self.current.not_understood(line)

    def _step(self, line: int, match: re.Match[str]) -> None:
        table = "evals" if match["validate"] else "iters"
        if len(match["step"]) > 15 or number(match["loss"]) is None:
            self.current.damaged(line)
            return
        if not self._place(table, line, match["step"], match["loss"]):
            return
        fields = {name.lower(): (value, unit) for name, value, unit in _FIELD.findall(match["rest"])}
        if table == "evals":
            self.current.eval(line, match["step"], val_loss=match["loss"])
        else:
            mfu = number(fields["mfu"][0]) if "mfu" in fields else None
            self.current.iter(
                line,
                match["step"],
                loss=match["loss"],
                grad_norm=fields["grad_norm"][0] if "grad_norm" in fields else None,
                lr=fields["lr"][0] if "lr" in fields else None,
                mfu=None if mfu is None else mfu / 100,
            )
        names = {
            "memory": "memory_gib",
            "tps": "tps_per_device",
            "wps": "tps_per_device",
            "tflops": "tflops_per_device",
        }
        for name, (value, _) in fields.items():
            if name in names and table == "iters" and number(value) is not None:
                self.current.other(line, names[name], match["step"], value)

    def _place(self, table: str, line: int, step: str, loss: str) -> bool:
        """Return whether the row is new: another rank's copy is not, and an earlier step begins a run or a leg."""
        at, top = int(step), self.top[table]
        before = self.seen.get((table, at))
        if before is not None and top - at <= NEAR and (before == loss or not self.restarted):
            same = "the same loss" if before == loss else "another loss, of which the first is kept"
            self.current.note(f"a step is there more than once (several ranks?), with {same}", line)
            return False
        if self.first is not None and at <= top:
            if at <= self.first:
                self._finish()
            else:
                self.current.seam(at, max(self.top.values()), line, [], heading=self.restarted)
                self.seen = {key: value for key, value in self.seen.items() if key[1] < at}
                self.top = dict.fromkeys(self.top, at - 1)
        self.restarted = False
        self.first = at if self.first is None else min(self.first, at)
        self.top[table] = at
        if len(self.seen) < 2_000_000:
            self.seen[table, at] = loss
        return True

    def _finish(self) -> None:
        self.done.append(self.current)
        self.current = self._new()
        self.seen, self.first, self.top = {}, None, {"iters": -1, "evals": -1}

    def _fact(self, line: int, text: str) -> bool:
        """A line that states a setting or a fact."""
        where = f"line {line}"
        start = _START.search(text)
        if start:
            self._start(line, text)
        elif config := _CONFIG.search(text):
            self.config = []
            self._config_line(line, config[1])
        elif peak := _PEAK.search(text):
            self.current.peak = {"flops": number(peak[1]), "source": where}
        elif device := _DEVICE.search(text):
            self.current.device = self.current.device or device[1].strip()
        elif size := _SIZE.search(text):
            self.current.parameters["total"] = typed(size[2].replace(",", ""))
            self.current.say("model", size[1].strip(), where)
        else:
            return False
        return True

    def _config_line(self, line: int, text: str) -> bool:
        """One more line of the config; it ends where it is whole, and it was none if a step comes first."""
        assert self.config is not None
        if _STEP.search(text) or len(self.config) >= MAX_CONFIG_LINES:
            self.config = None
            return False
        self.config.append(text[_PREFIX.match(text).end() :] if self.config else text)  # type: ignore[union-attr]  # it matches the empty text
        if text.rstrip().endswith("}") and isinstance(settings := plain_json(parse("\n".join(self.config))), dict):
            say_all(self.current, settings, f"line {line}")
            self.config = None
        return True

    def _start(self, line: int, text: str) -> None:
        if self.first is not None:
            self.restarted = True
        found = {name: match[1] for name, pattern in _COUNTS.items() if (match := pattern.search(text))}
        for name, value in found.items():
            self.current.say(name, int(value[:15]), f"line {line}")
        if "global_batch_size" in found and "block_size" in found:
            self.current.tokens_per_iter = int(found["global_batch_size"][:9]) * int(found["block_size"][:9])
            if "batch_size" in found and int(found["batch_size"][:9]):
                batches = int(found["global_batch_size"][:9]) // int(found["batch_size"][:9])
                self.current.infer(
                    "gradient_accumulation_steps",
                    batches,
                    "global batch size / local batch size: micro-batches of all processes",
                )

    def runs(self) -> list[Run]:
        """All runs."""
        return [builder.build() for builder in [*self.done, self.current]]


def _steps(text: str) -> list[re.Match[str]]:
    """The step lines in a line, which ranks may have glued together."""
    if text.count("step:") < 2:
        found = _STEP.search(text)
        return [found] if found else []
    parts = re.split(r"(?=(?:validate )?step:)", text.replace("validate step:", "\0step:"))
    matches = (_STEP.search(part.replace("\0step:", "validate step:").replace("\0", "validate ")) for part in parts)
    return [match for match in matches if match]


READER = TorchtitanReader()
