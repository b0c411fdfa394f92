"""The lock with real processes: killed holders, races, forked children."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from lossgap.errors import LossgapWarning, RunFolderError
from lossgap.runs.lock import FolderLock, holder, is_locked

from .example import child

HOLD = """
import sys, time
from pathlib import Path
from lossgap.runs.lock import FolderLock
lock = FolderLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_second_opener_is_refused_with_the_pid(tmp_path: Path) -> None:
    with child(HOLD, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert is_locked(tmp_path)
        with pytest.raises(RunFolderError, match=f"process {process.pid} trains there") as caught:
            FolderLock(tmp_path, patience=0.05).acquire()
        assert caught.value.slug == "run-folder-in-use"
        assert str(tmp_path) in str(caught.value)
        process.communicate()
    assert is_locked(tmp_path) is False


def test_sigkill_frees_the_lock(tmp_path: Path) -> None:
    with child(HOLD, tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        process.wait()
    assert (tmp_path / ".lock.pid").exists()
    assert holder(tmp_path) is None  # the process of that id is gone
    assert is_locked(tmp_path) is False
    with FolderLock(tmp_path, patience=0).acquire():
        assert holder(tmp_path) == os.getpid()
    assert not (tmp_path / ".lock.pid").exists()


def test_sigkill_frees_the_lock_although_a_forked_child_lives(tmp_path: Path) -> None:
    code = """
    import os, sys, time
    from pathlib import Path
    from lossgap.runs.lock import FolderLock
    lock = FolderLock(Path(sys.argv[1])).acquire()
    worker = os.fork()
    if worker == 0:
        time.sleep(60)
        os._exit(0)
    print(worker, flush=True)
    sys.stdin.read()
    """
    with child(code, tmp_path) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        try:
            assert is_locked(tmp_path)
            process.kill()
            process.wait()
            FolderLock(tmp_path, patience=10).acquire().release()  # the child closes its copy soon after the fork
        finally:
            os.kill(worker, signal.SIGKILL)


def test_one_process_of_a_race_wins(tmp_path: Path) -> None:
    code = """
    import sys
    from pathlib import Path
    from lossgap.errors import RunFolderError
    from lossgap.runs.folder import prepare_out_dir
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        out = prepare_out_dir(Path(sys.argv[1]), overwrite=False, resume=False)
        print("won", flush=True)
    except RunFolderError as error:
        print(error.slug, flush=True)
    sys.stdin.read()
    """
    for attempt in range(3):
        processes = [child(code, tmp_path / str(attempt)) for _ in range(3)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        said = sorted(process.stdout.readline().strip() for process in processes if process.stdout is not None)
        for process in processes:
            process.communicate()
        assert said == ["run-folder-in-use", "run-folder-in-use", "won"]


def test_same_process_cannot_take_it_twice(tmp_path: Path) -> None:
    with FolderLock(tmp_path).acquire() as lock:
        assert lock.held
        with pytest.raises(RunFolderError, match="in use"):
            FolderLock(tmp_path, patience=0).acquire()
    assert not lock.held


def test_asking_neither_creates_nor_blocks(tmp_path: Path) -> None:
    assert is_locked(tmp_path) is False
    assert list(tmp_path.iterdir()) == []
    os.mkfifo(tmp_path / ".lock")
    assert is_locked(tmp_path) is False  # a pipe in a stranger's folder
    (tmp_path / ".lock").unlink()
    (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    assert is_locked(tmp_path) is None
    with pytest.raises(RunFolderError) as caught:
        FolderLock(tmp_path).acquire()
    assert caught.value.slug == "out-dir-unwritable"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("text", [b"", b"-1", b"0", b"9" * 30, b"1; rm", b"\xff\xfe", "\u0661".encode()])
def test_hostile_pid_file(tmp_path: Path, text: bytes) -> None:
    (tmp_path / ".lock.pid").write_bytes(text)
    assert holder(tmp_path) is None


def test_missing_folder_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="Not a directory"):
        FolderLock(tmp_path / "none").acquire()
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK])
def test_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    # No such file system is at hand: this stands for the system call of one.
    fcntl = pytest.importorskip("fcntl")

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    lock = FolderLock(tmp_path)
    with pytest.warns(LossgapWarning, match="no file locks"):
        lock.acquire()
    assert not lock.kernel
    assert is_locked(tmp_path) is None
    lock.release()
    assert not (tmp_path / ".lock.pid").exists()
