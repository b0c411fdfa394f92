"""The lines of a nanoGPT log, but its iteration rows in bulk: headings, settings, evaluations, remains.

The heading is, in nanoGPT's order: the config files as raw Python, `Overriding: key = value` for each flag,
facts about data and model. Ranks repeat it. Flags win over the files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from lossgap.runs.readers.builder import RunBuilder
from lossgap.runs.readers.printed import whole
from lossgap.runs.readers.statements import assignment, constant, entry, plain, printed

NUMBER = r"[-+]?(?:\d+(?:\.\d+)?(?:e[-+]?\d+)?|nan|inf)"
BITS = r"\s+(?:BPC|bpc|BPB|bpb)\b"
"""Forks print their losses in bits per character or byte."""
ITER = re.compile(
    rf"(?<![A-Za-z])iter\s*(?P<iter>\d+)\s*:\s*loss\s+(?P<loss>{NUMBER})(?P<bits>{BITS})?"
    rf"(?:,\s*lr\s+(?P<lr>{NUMBER}))?(?P<rest>(?:,\s*time\s+(?P<ms>{NUMBER})\s*ms)?(?:,\s*mfu\s+(?P<mfu>{NUMBER})\s*%)?"
    rf"(?:,\s*lr\s+(?P<rate>{NUMBER}))?)"
)
STEP = re.compile(
    rf"(?<![A-Za-z])step\s+(?P<iter>\d+)\s*:\s*train loss\s+(?P<train>{NUMBER})(?:{BITS})?,"
    rf"\s*val loss\s+(?P<val>{NUMBER})(?P<bits>{BITS})?"
)
LLAMA2C = re.compile(
    rf"(?<!\S)(?P<iter>\d+) \| loss (?P<loss>{NUMBER}) \| lr (?P<lr>{NUMBER}) \| (?P<ms>{NUMBER})ms"
    rf"(?: \| mfu (?P<mfu>{NUMBER})%)?"
)
"""llama2.c's row of an iteration; its evaluations are printed as nanoGPT prints them."""
MINGPT = re.compile(rf"iter_dt (?P<ms>{NUMBER})ms; iter (?P<iter>\d+): train loss (?P<loss>{NUMBER})")
"""minGPT's row: the time is that of the iteration before, 0.00 where there is none."""
OVERRIDING = re.compile(r"Overriding: ([A-Za-z_]\w{0,63}+) = ")
ECHO = re.compile(r"Overriding config with (.{1,500}?):\s*$")

_QUOTE = re.compile(r"^[\s>|#`*-]*+(?:(?:\.{2,}+|…|\[\.{3}\])[\s`]*+)?$")
_BAR = re.compile(r"\d{1,3}%\|.{0,200}\||\bit/s\b|\bs/it\b|it \[\d+:\d")
_REMAINS = re.compile(
    r"saving checkpoint|loading weights from|compiling the model|Initializing|using fused|number of parameters"
    r"|WARNING: using slow attention"
    r"|wandb: |(?<!\d)\d+\.\d+ real |% cpu .{0,100} total$|^\s*(?:\d{4}-\d\d-\d\d[T ][\d:., ]+)?$|OMP_NUM_THREADS"
    r"|^\*{5,}\s*$|torchrun|sdp_kernel|FutureWarning|UserWarning|NCCL|^breaking change|^/.*Warning|No module named"
)


def _corpus(name: str) -> Callable[[RunBuilder, re.Match[str], int], None]:
    def take(builder: RunBuilder, found: re.Match[str], line: int) -> None:
        builder.corpus[name] = whole(found[1])

    return take


def _tokens(builder: RunBuilder, found: re.Match[str], line: int) -> None:
    builder.tokens_per_iter = whole(found[1])


def _vocabulary(builder: RunBuilder, found: re.Match[str], line: int) -> None:
    builder.corpus["vocab_size"] = whole(found[1])
    folders = re.split(r"[\\/]", (found[2] or "").partition(")")[0])
    name = next((name for data, name in zip(folders[-3::-1], folders[-2::-1], strict=False) if data == "data"), "")
    if 0 < len(name) <= 80:
        builder.corpus["name"] = name
        builder.config.setdefault("dataset", name)
        builder.config_sources.setdefault("dataset", f"line {line}")


def _parameters(builder: RunBuilder, found: re.Match[str], line: int) -> None:
    digits = len(found[1].partition(".")[2])
    scale = {"M": 10**6, "B": 10**9, "K": 10**3}[found[2]]
    builder.parameters["nanogpt_count"] = round(float(found[1]) * scale)
    builder.parameters["rounded_to"] = round(scale / 10**digits)


def _tensors(builder: RunBuilder, found: re.Match[str], line: int) -> None:
    """`num decayed … with 802,944 parameters`: with those that are not decayed, all of them, exactly."""
    parts = builder.parameters.setdefault("by_group", {})
    assert isinstance(parts, dict)
    parts["not decayed" if found[1] else "decayed"] = whole(found[2])
    if len(parts) == 2 and all(isinstance(count, int) for count in parts.values()):
        builder.parameters["total"] = sum(parts.values())


def _forced(builder: RunBuilder, found: re.Match[str], line: int) -> None:
    """GPT-2's weights come with their sizes."""
    builder.corpus["vocab_size"] = whole(found[1])
    builder.say("bias", found[3] == "True", f"line {line}")


def _dropout(builder: RunBuilder, found: re.Match[str], line: int) -> None:
    builder.say("dropout", float(found[1]), f"line {line}")


def _weights(builder: RunBuilder, found: re.Match[str], line: int) -> None:
    builder.config.setdefault("init_from", found[1])
    builder.config_sources.setdefault("init_from", f"line {line}")


def _lossgap(builder: RunBuilder, found: re.Match[str], line: int) -> None:
    builder.format = "lossgap"
    builder.environment["lossgap"] = found[1]
    builder.peak = {"flops": None, "source": found[2]}


FACTS: tuple[tuple[re.Pattern[str], Callable[[RunBuilder, re.Match[str], int], None]], ...] = (
    (re.compile(r"tokens per iteration will be: ([\d,]{1,24})"), _tokens),
    (re.compile(r"found vocab_size = (\d{1,12})(?: \(inside (.{1,400}))?"), _vocabulary),
    (re.compile(r"using GPT-2 default of (\d{1,12})()"), _vocabulary),
    (re.compile(r"defaulting to vocab_size of GPT-2 to (\d{1,12})()"), _vocabulary),
    (re.compile(r"number of parameters: (\d{1,9}(?:\.\d{1,4})?)([MBK])"), _parameters),
    (re.compile(r"num (non-)?decayed parameter tensors: \d+, with ([\d,]{1,24}) parameters"), _tensors),
    (re.compile(r"forcing vocab_size=(\d{1,12}), block_size=(\d{1,9}), bias=(True|False)"), _forced),
    (re.compile(r"overriding dropout rate to (\d(?:\.\d+)?)"), _dropout),
    (re.compile(r"Initializing from OpenAI GPT-2 weights: ([\w-]{1,40})"), _weights),
    (re.compile(r"^\s*length of dataset in characters: ([\d,]{1,24})"), _corpus("characters")),
    (re.compile(r"^\s*vocab size: ([\d,]{1,24})"), _corpus("vocab_size")),
    (re.compile(r"^\s*train has ([\d,]{1,24}) tokens"), _corpus("train_tokens")),
    (re.compile(r"^\s*val has ([\d,]{1,24}) tokens"), _corpus("val_tokens")),
    (re.compile(r"lossgap (\d\S{0,40}), mfu relative to (.{1,200}), time without evaluation"), _lossgap),
)
RESUMED = re.compile(r"Resuming training from ")
SCRATCH = re.compile(r"Initializing a new model from scratch|Initializing from OpenAI")


class Heading:
    """Settings as a log prints them; knows where a config file's text ends, and that flags win over it.

    `target` gives the run that a heading belongs to; it is asked for only by a line that says something, as
    asking for it after rows begins the next leg.
    """

    def __init__(self, target: Callable[[], RunBuilder]) -> None:
        self.target = target
        self.echo = ""
        """The config file whose text is going on."""
        self.flags: set[str] = set()
        self._last: RunBuilder | None = None

    def take(self, text: str, line: int) -> bool:
        """Take the line; return whether it belongs to a heading."""
        found = ECHO.search(text)
        flags = list(_overridden(text))
        if found:
            self._builder()
            self.echo = found[1]
            return True
        for name, value in flags:
            self._builder().say(name, printed(name, value), f"line {line} (Overriding)")
            self.flags.add(name)
            self.echo = ""
        said = bool(flags)
        for pattern, fact in FACTS:
            for match in pattern.finditer(text):
                fact(self._builder(), match, line)
                self.echo, said = "", True
        return said or self._statement(text, line)

    def _builder(self) -> RunBuilder:
        builder = self.target()
        if builder is not self._last:
            self._last, self.flags = builder, set()
        return builder

    def _statement(self, text: str, line: int) -> bool:
        """A line of a config file's text, or of a printed dict."""
        found = (assignment if self.echo else entry)(text)
        if not found:
            return bool(self.echo)
        name, said = found
        try:
            value = constant(said)
        except ValueError:
            return bool(self.echo)
        # A rank's text may come after the flags that another rank printed.
        if name not in self.flags:
            source = f"line {line}" + (f" ({self.echo})" if self.echo else "")
            self._builder().say(name, plain(value), source)
        return True


def _overridden(text: str) -> Iterator[tuple[str, str]]:
    """Name and value of each `Overriding: name = value`; several ranks may print on one line."""
    for found in OVERRIDING.finditer(text):
        end = text.find("Overriding", found.end())
        yield found[1], text[found.end() : None if end < 0 else end].rstrip()


def is_noise(text: str) -> bool:
    """Blank, a quote mark, an ellipsis, a progress bar, or a line of the trainer that says nothing we keep."""
    return bool(_QUOTE.match(text) or _BAR.search(text) or _REMAINS.search(text))
