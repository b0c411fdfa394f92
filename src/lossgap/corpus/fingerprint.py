"""The hash that shows whether two files are the same, without reading a 10 GB file at each start."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from lossgap.corpus.cache import store

BLOCK_BYTES = 1024 * 1024
SAMPLED_BLOCKS = 256
WHOLE_BELOW_BYTES = 1024**3
"""Files larger than this are hashed by their size and a sample of blocks, unless the whole is asked for."""

# Smaller files are hashed each time: that takes some 50 ms at most, and cannot be wrong.
_REMEMBER_ABOVE_BYTES = 64 * 1024 * 1024
# A file changed this recently may change again without a visible change of its time.
_SETTLED_NS = 2_000_000_000

WHOLE = "sha256"
SAMPLED = f"sha256 of the size and {SAMPLED_BLOCKS} evenly spaced blocks of 1 MiB"


@dataclass(frozen=True)
class Fingerprint:
    """A hash in hexadecimal, and what exactly was hashed."""

    sha256: str
    method: str


def fingerprint(path: Path, cache: Path, *, whole: bool = False) -> Fingerprint:
    """The hash of a file. Above 1 GB it is sampled (unless `whole`): a change between the sampled blocks is not seen.

    The hash of a file above 64 MiB is kept in the cache and believed while the file's path, size and times stay the
    same. The file is read in blocks of 1 MiB, not mapped, so the memory stays small. Raises OSError.
    """
    status = path.stat()
    method = WHOLE if whole or status.st_size <= WHOLE_BELOW_BYTES else SAMPLED
    identity: dict[str, str | int] = {
        "path": str(path.resolve()),
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,
        "method": method,
    }
    note = cache / "hashes" / f"{hashlib.sha256(f'{method} {path.resolve()}'.encode()).hexdigest()}.json"
    if status.st_size <= _REMEMBER_ABOVE_BYTES:
        return _hashed(path, method)
    if known := _remembered(note, identity):
        return known
    made = _hashed(path, method)
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED_NS:
        store(note, json.dumps({**identity, **asdict(made)}).encode())
    return made


def sampled_blocks(path: Path, count: int) -> Iterator[bytes]:
    """`count` blocks of 1 MiB, evenly spaced, the first and the last included; every block of a smaller file."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= count * BLOCK_BYTES:
            while block := file.read(BLOCK_BYTES):
                yield block
            return
        for index in range(count):
            # Whole multiples of 8 bytes, so that a block begins at a token.
            file.seek(index * (size - BLOCK_BYTES) // (count - 1) // 8 * 8)
            yield file.read(BLOCK_BYTES if index < count - 1 else BLOCK_BYTES + 8)


def _hashed(path: Path, method: str) -> Fingerprint:
    if method == WHOLE:
        with path.open("rb") as file:
            return Fingerprint(hashlib.file_digest(file, "sha256").hexdigest(), method)
    digest = hashlib.sha256(f"{path.stat().st_size}\n".encode())
    for block in sampled_blocks(path, SAMPLED_BLOCKS):
        digest.update(block)
    return Fingerprint(digest.hexdigest(), method)


def _remembered(note: Path, identity: dict[str, str | int]) -> Fingerprint | None:
    try:
        kept = json.loads(note.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(kept, dict) or any(kept.get(key) != value for key, value in identity.items()):
        return None
    sha256, method = kept.get("sha256"), kept.get("method")
    return Fingerprint(sha256, method) if isinstance(sha256, str) and isinstance(method, str) else None
