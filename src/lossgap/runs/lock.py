"""One writer per run folder: a kernel lock on `FOLDER/.lock`.

The system frees the lock when its process ends, however it ends, so nothing is ever stale. The file
`.lock` itself stays: unlinking a file that others may wait on would let two writers in. The process
id in `.lock.pid` is for messages only. Reading a run needs no lock.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from lossgap.errors import RunFolderError, warn
from lossgap.strangers import shown

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # the module is the only other value

LOCK_FILE = ".lock"
PID_FILE = ".lock.pid"
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class FolderLock:
    """The right to write in a run folder, held from `acquire` to `release` or the end of the process.

    `patience` is in seconds: `lossgap runs` looks at locks for some microseconds, which must not
    refuse a training that starts in that moment.
    """

    def __init__(self, folder: Path, *, patience: float = 0.5) -> None:
        self.folder = folder
        self.kernel = True
        """False where the file system has no locks: then nothing keeps a second writer out."""
        self._lock = FileLock(
            folder / LOCK_FILE,
            timeout=patience,
            poll_interval=0.02,
            thread_local=False,
            fallback_to_soft=False,  # a soft lock would outlive a killed process
        )

    @property
    def held(self) -> bool:
        """True if this object holds the kernel lock."""
        return self._lock.is_locked

    def acquire(self) -> Self:
        """Take the lock; needs an existing folder.

        Raises RunFolderError: run-folder-in-use (with the process id if it is known), out-dir-unwritable.
        Where the file system has no locks, goes on with the warning run-folder-unlocked.
        """
        try:
            if not self.folder.is_dir():  # filelock would make it
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            self._lock.acquire()
        except Timeout:
            raise in_use(self.folder) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise unusable(self.folder, error) from error
            self.kernel = False
            warn(
                "run-folder-unlocked",
                f"the file system of {shown(self.folder)} has no file locks: make sure that no second training "
                "writes there, or choose an out_dir on a local disk",
            )
        self._write_pid()
        return self

    def release(self) -> None:
        """Give the lock back; does nothing if it is not held."""
        if self.held or not self.kernel:
            with contextlib.suppress(OSError):
                (self.folder / PID_FILE).unlink()
        self._lock.release()

    def __enter__(self) -> Self:
        return self if self.held else self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _write_pid(self) -> None:
        path = self.folder / PID_FILE
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
        with contextlib.suppress(OSError):  # for messages only: a training does not fail for it
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            descriptor = os.open(path, flags, 0o666)
            try:
                os.write(descriptor, f"{os.getpid()}\n".encode())
            finally:
                os.close(descriptor)


def in_use(folder: Path) -> RunFolderError:
    """The one-line error for a folder in which another process writes."""
    pid = holder(folder)
    who = f"process {pid}" if pid is not None else "another process"
    return RunFolderError(
        "run-folder-in-use",
        f"{shown(folder)} is in use: {who} trains there, and a run folder has one writer; "
        "wait for it, stop it, or choose another out_dir",
    )


def unusable(folder: Path, error: OSError | ValueError) -> RunFolderError:
    """The one-line error for an out_dir in which nothing can be written."""
    reason = getattr(error, "strerror", None) or str(error)
    return RunFolderError(
        "out-dir-unwritable",
        f"cannot write in out_dir {shown(folder)}: {reason}; choose another out_dir, or mend its permissions",
    )


def holder(folder: Path) -> int | None:
    """The process id in `.lock.pid`, if a process of that id lives on this machine; None if unknown."""
    try:
        descriptor = os.open(folder / PID_FILE, _READ)
    except OSError:
        return None
    try:
        text = os.read(descriptor, 32).strip()
    except OSError:
        return None
    finally:
        os.close(descriptor)
    if not text.isdigit():
        return None
    pid = int(text)
    return pid if 0 < pid < 2**31 and _lives(pid) else None


def _lives(pid: int) -> bool:
    if os.name == "nt":  # signal 0 would end the process there
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:  # another user's
        return True
    except OSError:
        return False
    return True


def is_locked(folder: Path) -> bool | None:
    """True if a process writes in `folder`; None where that cannot be known. Creates and changes nothing."""
    try:
        descriptor = os.open(folder / LOCK_FILE, _READ)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        return _refused(descriptor)
    finally:
        os.close(descriptor)


def _refused(descriptor: int) -> bool | None:
    """True if the system refuses a shared lock on the open file, which it gives back at once."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return True if error.errno in (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK) else None
    return False
