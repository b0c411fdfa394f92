"""JSON documents in a run folder: written whole or not at all, read as data from strangers.

write_json / replace_file   temporary file in the same folder, fsync, rename, fsync of the folder
read_run_json               `run.json` with limits on size, depth and kind of file
plain                       Python values to JSON; NaN and infinities become null plus `why`
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import BinaryIO, NoReturn

from lossgap.errors import RunFolderError
from lossgap.strangers import shown

SCHEMA = "lossgap.run/1"
RUN_FILE = "run.json"
METRICS_FILE = "metrics.jsonl"
MAX_RUN_BYTES = 16 * 1024 * 1024
"""A larger run.json is refused; ours are a few kB."""
MAX_DEPTH = 64
"""Levels of nesting in run.json; ours has six."""

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_READ_FILE = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def plain(value: object) -> object:
    """A copy of `value` made of JSON types only.

    NumPy scalars become int or float, paths and other path-like objects text, tuples lists. A float
    that is not finite becomes null, and the mapping that holds it gets a text `why` that names it
    ("loss is nan"). Raises TypeError for anything else (a tensor, an open file): that is a bug of the caller.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Mapping):
        return _plain_mapping(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"a run record holds JSON values, not {type(value).__name__}")


def _plain_mapping(value: Mapping[object, object]) -> dict[str, object]:
    result: dict[str, object] = {}
    reasons = []
    for key, item in value.items():
        if isinstance(item, (list, tuple)):
            bad = next((entry for entry in item if _not_finite(entry)), None)
        else:
            bad = item if _not_finite(item) else None
        if isinstance(bad, Real):
            verb = "holds" if isinstance(item, (list, tuple)) else "is"
            reasons.append(f"{key} {verb} {float(bad)!r}")
        result[str(key)] = plain(item)
    if reasons:
        given = result.get("why")
        result["why"] = "; ".join([given, *reasons] if isinstance(given, str) and given else reasons)
    return result


def _not_finite(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, Integral) and not math.isfinite(float(value))


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that takes the place of `path` when the block ends without an exception.

    The name of the temporary file is `NAME.tmp-PID`; a reader sees the old file or the new one, and a
    process killed at any moment leaves the old file whole. Raises OSError.
    """
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()  # left by a killed process that had our process id
    try:
        with os.fdopen(os.open(temporary, _NEW_FILE, 0o666), "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive a power cut, where the system can do that. Raises OSError."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def write_json(path: Path, document: Mapping[str, object]) -> None:
    """Write `document` to `path`, whole or not at all. Raises RunFolderError when the disk refuses."""
    data = json.dumps(plain(document), indent=1, allow_nan=False).encode("ascii") + b"\n"
    try:
        with replace_file(path) as stream:
            stream.write(data)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> RunFolderError:
    """The one-line error for a file of the record that could not be written."""
    reason = error.strerror or type(error).__name__
    return RunFolderError(
        "run-record-unwritable",
        f"cannot write {shown(path)}: {reason}; the record must be written for the run to be resumed: "
        "make room or mend the permissions, then resume",
    )


def metrics_unreadable(path: Path, error: OSError) -> RunFolderError:
    """The one-line error for a `metrics.jsonl` that is there and cannot be read."""
    reason = error.strerror or type(error).__name__
    return RunFolderError(
        "metrics-unreadable", f"cannot read {shown(path)}: {reason}; check the path and its permissions"
    )


def open_data(path: Path) -> BinaryIO:
    """Open a regular file for reading; never waits on a pipe or a device. Raises OSError."""
    descriptor = os.open(path, _READ_FILE)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return os.fdopen(descriptor, "rb", buffering=1 << 18)
    except BaseException:
        os.close(descriptor)
        raise


def read_run_json(folder: Path) -> dict[str, object]:
    """The document in `folder/run.json`; text in it is cleaned of lone surrogates, non-finite numbers are null.

    Raises RunFolderError: missing, unreadable, larger than 16 MB, not JSON, nested too deep, or not a
    record of this schema.
    """
    path = folder / RUN_FILE
    try:
        with open_data(path) as stream:
            data = stream.read(MAX_RUN_BYTES + 1)
    except FileNotFoundError:
        raise RunFolderError(
            "run-json-missing", f"{shown(folder)} has no {RUN_FILE}: name a folder that lossgap train wrote"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RunFolderError(
            "run-json-unreadable", f"cannot read {shown(path)}: {reason}; check the path and its permissions"
        ) from None
    if len(data) > MAX_RUN_BYTES:
        _corrupt(path, f"larger than {MAX_RUN_BYTES // 1024**2} MB")
    try:
        document = _clean(json.loads(data.decode("utf-8")), MAX_DEPTH)
    except RecursionError:
        _corrupt(path, f"nested deeper than {MAX_DEPTH} levels")
    except UnicodeDecodeError as error:
        _corrupt(path, f"not UTF-8 at byte {error.start}")
    except json.JSONDecodeError as error:
        _corrupt(path, f"not JSON at line {error.lineno}, column {error.colno}")
    except ValueError:
        _corrupt(path, "holds a number that is too long")
    if not isinstance(document, dict):
        _corrupt(path, "not a JSON object")
    _check_schema(path, document.get("schema"))
    return document


def _clean(value: object, depth: int) -> object:
    """Refuse nesting beyond `depth` and make every text encodable: a lone surrogate would break any printer."""
    if isinstance(value, str):
        return value if value.isascii() else _text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (dict, list)) and depth == 0:
        raise RecursionError
    if isinstance(value, dict):
        return {_text(key): _clean(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item, depth - 1) for item in value]
    return value


def _text(value: str) -> str:
    return value.encode("utf-8", "replace").decode("utf-8")


def _check_schema(path: Path, found: object) -> None:
    if found == SCHEMA:
        return
    if isinstance(found, str) and found.startswith("lossgap.run/"):
        raise RunFolderError(
            "run-json-schema",
            f"{shown(path)} has schema {found[:40]!a}, this lossgap reads {SCHEMA}: use the lossgap that wrote it",
        )
    _corrupt(path, f"no schema {SCHEMA} in it")


def _corrupt(path: Path, reason: str) -> NoReturn:
    raise RunFolderError(
        "run-json-corrupt",
        f"{shown(path)} is not a lossgap run record: {reason}; restore the file from a copy, or name another run",
    ) from None
