"""Bytes of a log to text: encodings, ANSI codes, carriage returns, in blocks of bounded memory.

UTF-8 and UTF-16 or UTF-32 with and without a byte order mark are recognised; bytes that are none of it
become U+FFFD. Escape sequences of terminals go, also where a paste kept only their printable part
(`[1;36m`). `\\n` ends a line and counts; `\\r\\n` is one line end; what a lone `\\r` parts (a progress bar)
are lines with the same number, but in a file that has `\\r` alone each one counts.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

BLOCK_BYTES = 1 << 21
MAX_LINE = 1 << 20
"""Characters of a line that are looked at."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ESCAPE = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)|[PX^_][^\x1b]{0,4096}\x1b\\|[ -/]*[0-~])"
_PASTED = r"(?:\^\[|\\x1b|\\u001b|\\033)?\[(?:\d{1,3};){0,4}\d{1,3}m"
_ANSI = re.compile(f"{_ESCAPE}|{_PASTED}")
_ANSI_BYTES = re.compile(f"{_ESCAPE}|{_PASTED}".encode("ascii"))


@dataclass(frozen=True)
class TextBlock:
    """Whole lines as UTF-8, and the number of the first."""

    data: bytes
    line: int


def encoding(data: bytes) -> str:
    """The codec of text that begins with `data`; UTF-16 and UTF-32 without a mark show by their zero bytes."""
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return codec
    start = data[:4096]
    start = start[: len(start) // 4 * 4]
    if start.count(0) * 3 < len(start):
        return "utf-8"
    quarter = len(start) // 4
    zeros = [start[at::4].count(0) for at in range(4)]
    if min(zeros[1:]) > 0.9 * quarter or min(zeros[:3]) > 0.9 * quarter:
        return "utf-32-le" if zeros[3] > zeros[0] else "utf-32-be"
    return "utf-16-le" if zeros[1] + zeros[3] > zeros[0] + zeros[2] else "utf-16-be"


def decode(data: bytes, codec: str) -> str:
    """Text without byte order mark; what cannot be decoded becomes U+FFFD."""
    return data.decode(codec, "replace").removeprefix("\ufeff")


def clean(text: str) -> str:
    """`text` without ANSI codes, every line end as `\\n`."""
    return _ANSI.sub("", text).replace("\r\n", "\n").replace("\r", "\n")


def blocks(stream: BinaryIO, size: int = BLOCK_BYTES) -> Iterator[TextBlock]:
    """The stream as UTF-8 in blocks that end where a line ends; raises OSError.

    A line longer than a block is parted where it has a blank, so that memory stays bounded.
    """
    first = stream.read(min(size, 1 << 16))
    codec = encoding(first)
    decoder = None if codec == "utf-8" else codecs.getincrementaldecoder(codec)("replace")
    rest, line, returns_only = b"", 1, False
    data, start = first, True
    while data or start:
        more = decoder.decode(data).encode("utf-8", "replace") if decoder else data
        if start:
            more = more.removeprefix(codecs.BOM_UTF8)
            returns_only = b"\n" not in more and b"\r" in more.rstrip(b"\r")
            start = False
        if returns_only:
            more = more.replace(b"\r", b"\n")
        rest += more
        cut = _cut(rest, size)
        if cut:
            block, rest = rest[:cut], rest[cut:]
            yield TextBlock(_plain(block), line)
            line += block.count(b"\n")
        data = stream.read(size)
    if rest:
        yield TextBlock(_plain(rest), line)


def _cut(data: bytes, size: int) -> int:
    """Where a block may end: after the last line end, else, in a line that fills a block, after its last blank."""
    cut = data.rfind(b"\n") + 1
    if cut or len(data) < size:
        return cut
    return max(data.rfind(b"\r"), data.rfind(b" "), data.rfind(b"\t")) + 1 or len(data)


def _plain(data: bytes) -> bytes:
    # One byte is found many times faster than three.
    coloured = b"\x1b" in data or (b"[" in data and b"[0m" in data)
    return _ANSI_BYTES.sub(b"", data) if coloured else data


def numbered(block: TextBlock) -> Iterator[tuple[int, str]]:
    """`(number, text)` of the lines in the block."""
    text = block.data.decode("utf-8", "replace")
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    for number, line in enumerate(lines, block.line):
        if "\r" not in line:
            yield number, line[:MAX_LINE]
            continue
        for part in line.removesuffix("\r").split("\r"):
            yield number, part[:MAX_LINE]
