"""A text of no known format: read by what its lines name, if that is plainly the output of a training.

Lines are clustered by the names in them. A loss, a counter that rises and enough lines of one form make a log of it;
everything that is concluded stands in `inferred`, with what else it could be. What is not sure is refused, with what
was seen. Notebooks, pages and Markdown come here too: `Source.lines` gives what they printed.
"""

from __future__ import annotations

from typing import Final

from lossgap.runs.readers.base import NO, WEAK, Head, Run, Source, SourceError
from lossgap.runs.readers.metric_names import word_set
from lossgap.runs.readers.printed_rows import PrintedRows
from lossgap.runs.readers.printed_runs import like, printed_runs, sure
from lossgap.strangers import one_line, shown

PROGRAMS: Final = word_set(
    ".py .js .ts .tsx .jsx .c .cc .cpp .cu .h .hpp .java .go .rs .rb .php .cs .swift .kt .scala .lua .jl .r "
    ".m .sql .css .xml .svg .toml .cfg .ini .lock .proto .tex .bib .yaml .yml .patch .diff .srt .vtt .sh .bat "
    ".ps1"
)
"""Suffixes of what is written by people for programs, and is never a log."""
FEW: Final = 3000
"""Characters of a text that is short: a paste."""


def _seen(head: Head) -> PrintedRows:
    seen = PrintedRows()
    for number, line in enumerate(head.sample, 1):
        seen.see(number, line)
    return seen


def is_pointer(head: Head) -> bool:
    """True for a text that Git LFS left in the place of a file; TensorBoard's reader says so itself."""
    return head.data.startswith(b"version https://git-lfs.github.com/spec") and "tfevents" not in head.name


def refusal(head: Head) -> str:
    """Why a text is not read: what was seen in it."""
    if head.folder:
        return "a folder that holds no run of a known format"
    if is_pointer(head):
        return "a Git LFS pointer and not the file itself; get the file with `git lfs pull`"
    if _binary(head):
        return "bytes of no known format"
    if not head.text.strip():
        return "an empty file"
    seen = _seen(head)
    return f"no known log format, and not read by inference: {sure(seen, few=_few(head))} ({like(seen)})"


def _binary(head: Head) -> bool:
    """True for bytes that are no text; a log may begin with zero bytes where it was cut while it was written."""
    text = head.text.lstrip("\0")
    return "\0" in text[:4096] or "\x01" in text[:4096] or text[:4096].count("\ufffd") > 200


def _few(head: Head) -> bool:
    return len(head.text) < FEW


class AnyText:
    """Any text that plainly is a log."""

    name = "inferred"
    title = "a text of no known format"

    def score(self, head: Head) -> float:
        """A bit more than a table of unknown columns, if the text is surely a log; else NO."""
        if head.folder or head.suffix in PROGRAMS or _binary(head):
            return NO
        return WEAK + 0.12 if sure(_seen(head), few=_few(head)) is None else NO

    def read(self, source: Source) -> list[Run]:
        """The runs of the text. Raises SourceError `no-rows` where it holds no losses, or none that are sure."""
        seen = PrintedRows()
        size = 0
        for line, text in source.lines():
            size += len(text)
            seen.see(line, text)
        missing = sure(seen, few=size < FEW)
        if missing is not None and not source.columns:
            raise SourceError(
                "no-rows",
                f"{shown(source.name)}: not read by inference: {missing} ({one_line(like(seen), 200)}); say which "
                "columns with --columns (iter:NAME,loss:NAME), or write a figures file (docs/formats.md)",
            )
        return printed_runs(source, seen, self.name)


READER = AnyText()
