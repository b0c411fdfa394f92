"""Files that the user asked for."""

from __future__ import annotations

from pathlib import Path

from lossgap.errors import LossgapError
from lossgap.strangers import one_line


def put(path: Path, content: bytes) -> None:
    """Write a file. Raises LossgapError `not-written`."""
    try:
        path.write_bytes(content)
    except OSError as error:
        said = f"{one_line(str(path))} could not be written: {error.strerror}; give another path"
        raise LossgapError("not-written", said) from error
