"""The seam of the readers: one log format is one `Reader`, and everything that reads one is here.

    class Reader(Protocol):
        name: str                                 # "nanogpt"; what --format takes
        title: str                                # "nanoGPT stdout"; what people see
        def score(self, head: Head) -> float      # NO, WEAK, LIKELY or SURE that this is its format
        def read(self, source: Source) -> list[Run]

How to write one (the module `myformat.py`):

1. `score` looks at `head` only: `head.name`, `head.suffix` (with the dot, lower case), `head.folder` and
   `head.entries` (relative paths of a folder, two levels), `head.data` (the first 64 KiB, raw),
   `head.text` and `head.lines` (the same, decoded: UTF-8, UTF-16, ANSI codes and carriage returns
   gone), `head.later` (lines from the middle and the end of the file). It never raises and opens nothing.
   The highest score wins, at equal scores the first in `detect.FORMATS`; generic readers (CSV, JSONL) answer WEAK.
2. `read` makes one `Run` per training in the source, in their order, each through a `RunBuilder`.
   It raises nothing but `SourceError`, whatever the bytes are. A source that holds nothing it understands
   gives runs without rows, or no run.
3. `READER = MyReader()` at the end of the module, and one line in `detect.FORMATS`.

A `Source` is a file, a folder or the standard input: `source.lines()` yields `(line number from 1, text)`
of any text file (decoded, lines of any length cut to 1 MiB); `source.text()` is a whole document (JSON, TOML)
with a limit; `source.open()` is the raw bytes; `source.path` for folders; `source.columns` is what `--columns` said.
Open nothing else but files below `source.path`, through `Source.at(child)`.

All of these are imported from here. `legs.Log` has one builder per run and sorts out several runs in one file,
resumed legs and repeated ranks: `log.heading.say(...)`, `log.iter(line, 10, loss=...)`, `log.eval(...)`, `log.runs()`.

    builder = RunBuilder(source, "myformat")
    builder.describe("iters.loss", Series(kind="batch", split="train", mode="train", unit="nats/token"))
    builder.iter(line, 10, loss="2.3405", lr="6e-4", ms="39.1")     # keys: columns of ITER_COLUMNS
    builder.eval(line, 250, train_loss="2.4293", val_loss="2.4447")  # keys: columns of EVAL_COLUMNS
    builder.other(line, "accuracy", 250, "0.91")                     # metrics without a column
    builder.say("batch_size", 12, f"line {line}")                    # a setting that the log states
    builder.infer("n_layer", 6, "why", alternatives=(4,))            # one that was concluded
    builder.note("text", line); builder.not_understood(line); builder.damaged(line)
    runs.append(builder.build())

Give numbers as the text that was printed where there is one: the builder learns the decimals from it. nan and inf
become null, `why` of the row says so, and a note counts them with their lines. Leave healthy nan (a z-score
that is not there yet) out. Units: losses nats per token, `mfu` a fraction, `ms` milliseconds of the iteration,
`seconds` and `tokens` since the beginning. `parameters`, `corpus`, `environment`, `tokens_per_iter`, `peak`,
`seams`, `final`, `status`, `created`, `device` are attributes of the builder, to be set.
Setting names are nanoGPT's (`batch_size` sequences per micro-batch, `gradient_accumulation_steps` the total over
processes, `block_size`, `n_layer`, `max_iters`, `learning_rate`, `eval_iters`, `dtype`, ...); what has no such name
keeps its own.
"""

from __future__ import annotations

from typing import Final, Protocol

from lossgap.runs.readers.builder import RunBuilder
from lossgap.runs.readers.origin import Head, Source, SourceError
from lossgap.runs.readers.printed import Number, Tally, decimals, number, whole
from lossgap.runs.run import Run, Series

__all__ = [
    "LIKELY",
    "NO",
    "SURE",
    "WEAK",
    "Head",
    "Number",
    "Reader",
    "Run",
    "RunBuilder",
    "Series",
    "Source",
    "SourceError",
    "Tally",
    "decimals",
    "number",
    "whole",
]

NO: Final = 0.0
"""Not this format."""
WEAK: Final = 0.2
"""It could be read so, if nothing else fits."""
LIKELY: Final = 0.6
"""It looks like it."""
SURE: Final = 0.9
"""It has lines or names that only this format has."""


class Reader(Protocol):
    """One log format; see the top of this file."""

    name: str
    title: str

    def score(self, head: Head) -> float:
        """How sure it is that this is its format: NO, WEAK, LIKELY or SURE."""

    def read(self, source: Source) -> list[Run]:
        """The runs in the source, in order. Raises SourceError and nothing else."""
