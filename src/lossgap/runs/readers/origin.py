"""Where a run is read from: a file, a folder or the standard input, and what detection may look at of it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from lossgap.errors import LossgapError
from lossgap.runs.readers import decoding, markup
from lossgap.runs.run_json import open_data
from lossgap.strangers import shown

HEAD_BYTES = 1 << 16
LATER_BYTES = 1 << 14
MAX_TEXT_BYTES = 64 << 20
"""A larger document (JSON, TOML) is refused: it must be held in memory as a whole."""
MAX_ENTRIES = 2000
SHOWN_LINES = 5
"""Line numbers that a note or a count keeps."""
MAX_ITER_ROWS = 2_000_000
"""Iteration rows that are kept as they are; more are thinned (`--max_iter_rows`)."""

Number = int | float | str | bytes | None


class SourceError(LossgapError):
    """A run that cannot be read: missing, unreadable, of no known format, without the run that was named."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """The part of a source that detection may look at."""

    name: str
    suffix: str
    folder: bool = False
    entries: tuple[str, ...] = ()
    """Paths in a folder, relative, with `/`, files and folders, two levels, sorted."""
    data: bytes = b""
    text: str = ""
    later: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """The lines of `text`."""
        return self.text.split("\n")

    @property
    def sample(self) -> Iterator[str]:
        """Lines of the beginning, the middle and the end."""
        yield from self.lines
        yield from self.later


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a run is read from: a path, or bytes from the standard input."""

    path: Path
    name: str
    data: bytes | None = None
    """The bytes, if they came from the standard input or from a test."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """The user's choice of columns: {role: column}, for formats whose columns are guessed."""
    max_iter_rows: int = MAX_ITER_ROWS

    def open(self) -> BinaryIO:
        """The raw bytes. Raises SourceError `source-unreadable`."""
        if self.data is not None:
            return io.BytesIO(self.data)
        try:
            return open_data(self.path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SourceError(
                "source-unreadable", f"cannot read {shown(self.path)}: {reason}; check the path and its permissions"
            ) from None

    def at(self, child: Path) -> Source:
        """The same for a file below the folder `path`."""
        return replace(self, path=child, name=child.name, data=None)

    @property
    def is_folder(self) -> bool:
        """True if it is a folder."""
        return self.data is None and self.path.is_dir()

    def head(self) -> Head:
        """The part that detection looks at. Raises SourceError `source-unreadable`."""
        suffix = self.path.suffix.lower()
        if self.is_folder:
            return Head(name=self.name, suffix=suffix, folder=True, entries=_entries(self.path))
        with self.open() as stream:
            try:
                data, later = _samples(stream)
            except OSError as error:
                raise self._unreadable(error) from None
        codec = decoding.encoding(data)
        text = self._unwrapped()
        if text is not None:
            later = [text[-LATER_BYTES:].encode("utf-8", "replace")] if len(text) > HEAD_BYTES else []
            codec = "utf-8"
        return Head(
            name=self.name,
            suffix=suffix,
            data=data,
            text=decoding.clean(decoding.decode(data, codec) if text is None else text[:HEAD_BYTES]),
            later=tuple(line for block in later for line in decoding.clean(decoding.decode(block, codec)).split("\n")),
        )

    def lines(self) -> Iterator[tuple[int, str]]:
        """`(number, text)` of each line, from 1, in bounded memory; what a carriage return parts shares its number.

        Raises SourceError `source-unreadable`.
        """
        for block in self.blocks():
            yield from decoding.numbered(block)

    def blocks(self) -> Iterator[decoding.TextBlock]:
        """The file as UTF-8 in blocks of whole lines, without ANSI codes. Raises SourceError `source-unreadable`."""
        text = self._unwrapped()
        with self.open() if text is None else io.BytesIO(text.encode("utf-8", "replace")) as stream:
            try:
                yield from decoding.blocks(stream)
            except OSError as error:
                raise self._unreadable(error) from None

    def _unwrapped(self) -> str | None:
        """The text that a notebook printed, or the words of a page; None for any other source."""
        with self.open() as stream:
            try:
                start = stream.read(LATER_BYTES)
            except OSError as error:
                raise self._unreadable(error) from None
        begins = decoding.decode(start, decoding.encoding(start))
        if not (markup.is_notebook(begins) or markup.is_html(begins)):
            return None
        text = self.text()
        return markup.notebook_text(text) if markup.is_notebook(begins) else markup.html_text(text)

    def text(self, limit: int = MAX_TEXT_BYTES) -> str:
        """The whole text. Raises SourceError `source-unreadable`, `source-too-large`."""
        with self.open() as stream:
            try:
                data = stream.read(limit + 1)
            except OSError as error:
                raise self._unreadable(error) from None
        if len(data) > limit:
            raise SourceError(
                "source-too-large", f"{shown(self.name)} is larger than {limit:,} bytes, which no such document is"
            )
        return decoding.decode(data, decoding.encoding(data[:HEAD_BYTES]))

    def _unreadable(self, error: OSError) -> SourceError:
        reason = error.strerror or type(error).__name__
        return SourceError("source-unreadable", f"cannot read {shown(self.name)}: {reason}; check the path")


def _samples(stream: BinaryIO) -> tuple[bytes, list[bytes]]:
    """The beginning, and blocks from the middle and the end where the file is larger."""
    data = stream.read(HEAD_BYTES)
    size = stream.seek(0, 2)
    later = []
    for start in (size // 2, max(size - LATER_BYTES, len(data))):
        if len(data) <= start < size:
            stream.seek(start - start % 4)  # a code unit of UTF-16 or UTF-32 is not parted
            later.append(stream.read(LATER_BYTES))
    return data, later


def _entries(folder: Path) -> tuple[str, ...]:
    """Files and folders below `folder`, two levels, at most `MAX_ENTRIES`."""
    found: list[str] = []
    for level in ("*", "*/*"):
        try:
            for path in folder.glob(level):
                if len(found) >= MAX_ENTRIES:
                    break
                found.append(path.relative_to(folder).as_posix())
        except OSError:  # a folder that may not be listed has no entries for us
            continue
    return tuple(sorted(found))
