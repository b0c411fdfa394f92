"""The cache folder: what can be made again, kept so that it need not be. Losing it costs time and nothing else."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """`$LOSSGAP_CACHE`, else `$XDG_CACHE_HOME/lossgap`, else `~/.cache/lossgap`; it need not exist or be writable."""
    if own := os.environ.get("LOSSGAP_CACHE"):
        return Path(own)
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "lossgap"
    try:
        return Path.home() / ".cache" / "lossgap"
    except RuntimeError:  # no home folder can be determined, as for a bare user id in a container
        return Path(tempfile.gettempdir()) / "lossgap"


def store(path: Path, content: bytes) -> bool:
    """Write `content` to `path` so that a reader sees the old file or the whole new one; False if it cannot be written.

    A cache that cannot be written (read-only, full, a file where the folder should be) is not an error.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        return False
    return True
