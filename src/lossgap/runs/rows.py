"""Lines of `metrics.jsonl`: encode, decode, walk, and sift those before an iteration.

One line is one JSON object with `kind` (iter, eval, final) and `iter`, written with one system call.
A line that is not such an object is *damaged*; a last line without a line end that is not a whole
row is *torn* (its writer was killed, or writes it at this moment). A whole row whose line end alone
is missing is a row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, cast

from lossgap.runs.run_json import plain

Row = dict[str, object]
KINDS = ("iter", "eval", "final")
MAX_LINE_BYTES = 1 << 20
"""A longer line is damaged; ours are under 400 bytes, the final one with its stretches of val under 6,000."""
MAX_INT = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """How many lines a cut left out, by kind, and how many rows it kept."""

    kept: int = 0
    iters: int = 0
    evals: int = 0
    finals: int = 0
    others: int = 0
    """Rows of a kind that this version does not know."""
    damaged: int = 0
    torn: bool = False

    @property
    def lines(self) -> int:
        """All lines left out."""
        return self.iters + self.evals + self.finals + self.others + self.damaged + int(self.torn)

    def __str__(self) -> str:
        counted = [
            (self.iters, "iter"),
            (self.evals, "eval"),
            (self.finals, "final"),
            (self.others, "other"),
            (self.damaged, "damaged"),
            (int(self.torn), "torn"),
        ]
        parts = [f"{count} {word}" for count, word in counted if count]
        return f"{', '.join(parts) or 'no'} row{'' if self.lines == 1 else 's'}"


def encode(row: Mapping[str, object]) -> bytes:
    """One line for `row`, floats at full `repr` precision, with its line end; NaN and inf are null plus `why`."""
    kind, at = row.get("kind"), row.get("iter")
    assert kind in KINDS, f"unknown kind of row: {kind!r}"
    assert isinstance(at, int) and 0 <= at <= MAX_INT, f"a row needs its iteration, got {at!r}"  # noqa: PT018
    line = json.dumps(plain(row), allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"
    assert len(line) <= MAX_LINE_BYTES, "a reader would refuse this row"
    return line


def decode(line: bytes) -> Row | None:
    """The row in `line`, or None if the line is damaged. `kind` is text and `iter` an int of at least 0."""
    if len(line) > MAX_LINE_BYTES:
        return None
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not isinstance(row.get("kind"), str):
        return None
    at = row.get("iter")
    return row if type(at) is int and 0 <= at <= MAX_INT else None


def walk(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of `stream` with their line ends, a line of any length in bounded memory.

    Of a line longer than `MAX_LINE_BYTES` only the beginning comes, cut so that `decode` refuses it,
    with its line end if it has one.
    """
    while line := stream.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            rest = line
            while rest and not rest.endswith(b"\n"):
                rest = stream.readline(MAX_LINE_BYTES)
            line += rest[-1:]
        yield line
        if not line.endswith(b"\n"):
            return  # a live file may have grown since: its rest would look like a damaged line


def is_torn(line: bytes) -> bool:
    """True if a damaged `line` is the last one of its file, cut off in the middle."""
    return not line.endswith(b"\n")


def sift(source: BinaryIO, target: BinaryIO, before_iter: int, keep_eval_at: int | None) -> Dropped:
    """Copy the rows of `source` before `before_iter`, byte for byte, to `target`; say what was left out.

    Evaluation rows at exactly `keep_eval_at` are copied too: a checkpoint before update N holds the
    evaluation at N, so a resume does not repeat it.
    """
    counts = dict.fromkeys((*KINDS, "other", "damaged", "kept"), 0)
    torn = False
    for line in walk(source):
        row = decode(line)
        if row is None:
            torn = is_torn(line)
            counts["damaged"] += not torn
        elif cast("int", row["iter"]) < before_iter or (row["kind"] == "eval" and row["iter"] == keep_eval_at):
            counts["kept"] += 1
            target.write(line if line.endswith(b"\n") else line + b"\n")
        else:
            counts[str(row["kind"]) if row["kind"] in KINDS else "other"] += 1
    return Dropped(
        kept=counts["kept"],
        iters=counts["iter"],
        evals=counts["eval"],
        finals=counts["final"],
        others=counts["other"],
        damaged=counts["damaged"],
        torn=torn,
    )
