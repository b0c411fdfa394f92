"""The output folder of a training: taken for one writer, empty of another run unless told otherwise."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from lossgap.errors import RunFolderError
from lossgap.runs.listing import RunSummary, list_runs, summarise
from lossgap.runs.lock import FolderLock, in_use, is_locked, unusable
from lossgap.strangers import shown

__all__ = ["OutDir", "RunSummary", "list_runs", "prepare_out_dir", "summarise"]

_RUN_FILES = re.compile(r"run\.json|metrics\.jsonl|ckpt.*\.pt", re.DOTALL)
_LEFTOVERS = re.compile(r"\.?(?:run\.json|metrics\.jsonl|ckpt.*\.pt|\.lock\.pid)\.tmp-[0-9]+", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class OutDir:
    """A folder in which this process alone writes until `lock` is released; a context manager that does so."""

    path: Path
    lock: FolderLock
    used: bool
    """True if it holds a run (to resume)."""
    removed: tuple[str, ...]
    """Names of the files that `overwrite` and the tidying of a killed writer removed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lock.release()


def prepare_out_dir(path: Path | str, *, overwrite: bool, resume: bool) -> OutDir:
    """Make the folder if needed, take its lock, and see that no other run is lost.

    A folder is used if it holds `run.json`, `metrics.jsonl` or `ckpt*.pt` (nanoGPT's too). `overwrite`
    removes exactly these, at once, so check the settings first; nothing else is touched, and of a link
    only the link goes. Temporary files of a killed writer are removed in every case.

    Raises RunFolderError: out-dir-used, out-dir-unwritable, run-folder-in-use, out-dir-overwrite-resume.
    """
    folder = Path(path)
    if overwrite and resume:
        raise RunFolderError(
            "out-dir-overwrite-resume",
            f"cannot both resume and overwrite {shown(folder)}: a resume needs the checkpoint that overwriting "
            "removes; drop --overwrite=True or --init_from=resume",
        )
    try:
        if os.path.lexists(folder) and not folder.is_dir():
            raise NotADirectoryError("it is there and not a folder")
        folder.mkdir(parents=True, exist_ok=True)
        if not (overwrite or resume):
            _refuse_used(folder, ours=False)  # before the lock, so that a refused folder stays as it was
    except (OSError, ValueError) as error:
        raise unusable(folder, error) from None
    lock = FolderLock(folder).acquire()
    try:
        if not (overwrite or resume):
            _refuse_used(folder, ours=True)  # another process may have come and gone
        removed = [name for name in _names(folder) if _LEFTOVERS.fullmatch(name)]
        if overwrite:
            removed += _run_files(folder)
        for name in removed:
            (folder / name).unlink()
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError("no permission to write in it")
        return OutDir(path=folder, lock=lock, used=bool(_run_files(folder)), removed=tuple(removed))
    except (OSError, ValueError) as error:
        lock.release()
        raise unusable(folder, error) from None
    except BaseException:
        lock.release()
        raise


def _refuse_used(folder: Path, *, ours: bool) -> None:
    """Raise if `folder` holds a run; `ours` says that this process has its lock."""
    used = _run_files(folder)
    if not used:
        return
    if not ours and is_locked(folder):
        raise in_use(folder)
    listed = ", ".join(shown(name) for name in used[:3]) + (f" and {len(used) - 3} more" if len(used) > 3 else "")
    raise RunFolderError(
        "out-dir-used",
        f"out_dir {shown(folder)} already holds a run ({listed}), and a new run writes over no other; "
        "choose another --out_dir, go on with --init_from=resume, or remove that run with --overwrite=True",
    )


def _run_files(folder: Path) -> list[str]:
    return sorted(name for name in _names(folder) if _RUN_FILES.fullmatch(name))


def _names(folder: Path) -> list[str]:
    """Names in `folder` of files and links; folders are never ours."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not entry.is_dir(follow_symlinks=False))
