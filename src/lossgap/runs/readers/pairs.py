"""Named numbers in a line of text: `Epoch 2 | Step 20/6501 | Loss: 6.68 (avg 7.01)` holds epoch, step and loss.

A name is the run of words before a number; `:`, `=`, brackets and bars part runs. `20/6501` is a number with a total.
Time stamps, clocks, versions, percentages and numbers glued to letters (`3D`, `v1.2.3`) are no values. The work is one
pass over a line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from lossgap.runs.readers.metric_names import word_set

MAX_LINE: Final = 4000
"""Characters of a line that are looked at; a longer one is a progress bar or a document in one line."""
MAX_PAIRS: Final = 120
MAX_WORDS: Final = 8
"""Words of a name that are kept."""

_STAMP: Final = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}[T_ ]?(?:\d{1,2}:\d\d(?::\d\d)?(?:[.,]\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?"
    r"|(?<![\d/])\d{1,2}/\d{1,2}[ ,]{1,2}\d{1,2}:\d\d(?::\d\d)?"
    r"|\d{1,3}:\d\d(?::\d\d)?(?:[.,]\d{1,9})?(?![\d/])(?: ?[AP]M\b)?"
    r"|\b[A-Za-z_]\w{0,40}\.(?:py|cc|cpp|c|go|java|rs|lua):\d{1,7}",
    re.A,
)
"""Dates, clocks and places in a program: text that holds numbers but no values."""
_TOKEN: Final = re.compile(
    r"(?P<number>(?<![\w.])[+-]?(?:\d{1,3}(?:,\d{3}){1,6}(?![\d,])(?:\.\d{1,20})?|\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})"
    r"(?:[eE][+-]?\d{1,4})?)(?P<unit>%|[a-zA-Zµ][\w/]{0,12}(?!\w)|(?![\w]))"
    r"|(?P<special>\b(?:nan|inf|NaN|Inf|NAN|-inf)\b)"
    r"|(?P<word>[^\W\d]\w{0,80}(?:[./@'#-]{1,2}\w{1,80}){0,8})"
    r"|(?P<mark>[:=|;,()\[\]{}<>\t]|->|→|  +|[\"'`/*])"
    r"|(?P<other>[^\s])"
)
UNITS: Final = word_set(
    "s ms us µs ns m h d sec secs second seconds min mins x k K M B G T KB MB GB TB KiB MiB GiB it/s s/it "
    "it/sec tok/s tok/sec tokens/s ex/s steps/s step/s samples/s words/s ms/step s/step us/step s/iter "
    "s/epoch img/s TFLOPs TFLOPS"
)
_MILLIS: Final = {"s": 1000.0, "sec": 1000.0, "secs": 1000.0, "seconds": 1000.0, "us": 0.001, "µs": 0.001}


@dataclass(frozen=True, slots=True)
class NamedNumber:
    """One number of a line."""

    name: str
    """The words before it, one blank between; empty if it has none."""
    value: str
    """As printed, without its unit."""
    total: str = ""
    """The number behind a `/`."""
    unit: str = ""
    parent: str = ""
    """The words before the name, parted from it by a colon or a bracket: `Loss` of `Loss: train 1.2`."""


class _Waiting:
    """The words that wait for their number."""

    def __init__(self) -> None:
        self.pairs: list[NamedNumber] = []
        self.words: list[str] = []
        self.parent: list[str] = []
        self.parted = False
        """A mark stands between the words and what comes next."""
        self.slash = False
        self.fresh = False
        """The last token was a number, so a `/` may follow it."""

    def word(self, text: str) -> None:
        if self.parted and self.words:
            self.parent, self.words = self.words, []
        self.parted = self.slash = self.fresh = False
        if len(self.words) < MAX_WORDS:
            self.words.append(text)
        else:
            self.words = [*self.words[1:], text]

    def number(self, value: str, unit: str) -> None:
        last = self.pairs[-1] if self.pairs else None
        if self.slash and last is not None and not last.total and not unit:
            self.pairs[-1] = NamedNumber(last.name, last.value, value, last.unit, last.parent)
        elif len(self.pairs) < MAX_PAIRS:
            self.pairs.append(NamedNumber(" ".join(self.words), value, "", unit, " ".join(self.parent)))
        if self.words:
            self.parent = self.words
        self.words, self.parted, self.slash, self.fresh = [], False, False, True

    def mark(self, text: str) -> None:
        if text == "/" and self.fresh:
            self.slash, self.fresh = True, False
            return
        if text in "\"'`*":
            return
        if text in "|;,\t:=([{)]}" or text.isspace():
            self.parted = True
        self.fresh = False


def pairs(text: str) -> list[NamedNumber]:
    """The named numbers of a line, in their order."""
    line = _Waiting()
    for found in _TOKEN.finditer(_STAMP.sub(" | ", text[:MAX_LINE])):
        kind = found.lastgroup
        if kind == "unit" or kind == "number":
            unit = found["unit"] or ""
            if unit and unit != "%" and unit not in UNITS:
                line.word(found[0])
                continue
            line.number(found["number"], unit)
        elif kind == "special":
            line.number(found[0], "")
        elif kind == "word":
            line.word(found[0])
        elif kind == "mark":
            line.mark(found[0])
        else:
            line.fresh = False
    return line.pairs
