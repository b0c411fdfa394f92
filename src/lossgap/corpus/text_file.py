"""A UTF-8 text file, read in pieces as nanoGPT reads it.

nanoGPT's prepare.py opens the text in Python's text mode, so that is what counts as its characters here: a carriage
return, alone or before a line feed, becomes one line feed. A byte order mark stays a character (U+FEFF), as it does
there. The SHA-256 is of the file's bytes as they are.
"""

from __future__ import annotations

import codecs
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lossgap.errors import CorpusError

CODE_POINTS = 0x110000
PIECE_BYTES = 4 * 1024 * 1024


class TextFile:
    """A text file; each pass over it reads it anew, in pieces of 4 MiB, and hashes it on the way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sha256: str | None = None
        """The hash of the file's bytes; set when a pass has reached the end."""

    def code_points(self) -> Iterator[npt.NDArray[np.uint32]]:
        """The characters as Unicode code points, piece after piece.

        Raises:
            CorpusError: `invalid-utf8` names the first invalid byte; `text-changed` if the bytes differ from
                those of the pass before; `unreadable-corpus`.
        """
        newlines = io.IncrementalNewlineDecoder(decoder=None, translate=True)
        for text in self._decoded():
            # UTF-32 holds each character in four bytes: the code points without a loop over characters.
            encoded = newlines.decode(text).encode("utf-32-le")
            yield np.frombuffer(encoded, dtype="<u4")
        yield np.frombuffer(newlines.decode("", final=True).encode("utf-32-le"), dtype="<u4")

    def text(self) -> str:
        """The whole text, for corpora that fit into memory."""
        return b"".join(piece.tobytes() for piece in self.code_points()).decode("utf-32-le")

    def _decoded(self) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")()
        digest = hashlib.sha256()
        done = 0
        try:
            with self.path.open("rb") as file:
                while True:
                    piece = file.read(PIECE_BYTES)
                    digest.update(piece)
                    # The decoder holds back the beginning of a character that the piece cut in two.
                    held_back = len(decoder.getstate()[0])
                    try:
                        text = decoder.decode(piece, final=not piece)
                    except UnicodeDecodeError as problem:
                        raise self._invalid(done - held_back + problem.start, problem) from None
                    yield text
                    done += len(piece)
                    if not piece:
                        break
        except OSError as problem:
            raise CorpusError("unreadable-corpus", f"{self.path} cannot be read: {problem}") from None
        self._remember(digest.hexdigest())

    def _invalid(self, place: int, problem: UnicodeDecodeError) -> CorpusError:
        hint = (
            "; for token files give the folder that holds train.bin and val.bin"
            if self.path.suffix == ".bin"
            else "; convert it, for example with `iconv -f latin1 -t utf-8`"
        )
        byte = problem.object[problem.start]
        return CorpusError(
            "invalid-utf8",
            f"{self.path} is not UTF-8 text: byte {place:,} (0x{byte:02X}) {problem.reason}{hint}",
        )

    def _remember(self, sha256: str) -> None:
        if self.sha256 not in (None, sha256):
            raise CorpusError("text-changed", f"{self.path} changed while it was read: start again when it is complete")
        self.sha256 = sha256
