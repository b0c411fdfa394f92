"""Writing the record of a training: `run.json` (what ran) and `metrics.jsonl` (what came out).

1. `RunRecord.create` writes `run.json` with status `running`; `RunRecord.open` continues one.
2. `append` adds a row with one system call; `flush(fsync=True)` before each checkpoint, so that a
   checkpoint never knows more than the record.
3. A resume calls `cut` with the checkpoint's iteration; a branch calls `copy_until` with its parent.
4. `finish` writes how it ended.

The caller holds the `FolderLock` of the folder (`prepare_out_dir` gives it).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

from lossgap.runs import rows
from lossgap.runs.rows import Dropped
from lossgap.runs.run_json import (
    METRICS_FILE,
    RUN_FILE,
    SCHEMA,
    metrics_unreadable,
    open_data,
    plain,
    read_run_json,
    replace_file,
    unwritable,
    write_json,
)
from lossgap.runs.status import Status
from lossgap.runs.values import as_list

FIELDS = frozenset(
    {
        *("name", "created", "status", "config", "given", "effective", "differences", "environment", "corpus"),
        *("parameters", "tokens_per_iter", "flops_per_iter", "peak", "seams", "notices", "final"),
    }
)
"""The top-level fields that `update` may replace."""

_APPEND = (
    os.O_RDWR
    | os.O_APPEND
    | os.O_CREAT
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)  # a link in a stranger's folder must not make us write elsewhere
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)


class RunRecord:
    """The writer of one run folder. Use `create` or `open`; close it, or use it as a context manager."""

    def __init__(self, folder: Path, document: Mapping[str, object]) -> None:
        self.folder = folder
        self._document = cast("dict[str, object]", plain(document))
        self._metrics = folder / METRICS_FILE
        self._open_ended = False
        self._descriptor = self._open_metrics()

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        version: str,
        name: str,
        config: Mapping[str, object],
        given: Mapping[str, object],
        effective: Mapping[str, object],
        differences: Sequence[Mapping[str, object]] = (),
        environment: Mapping[str, object],
        corpus: Mapping[str, object],
        parameters: Mapping[str, object],
        tokens_per_iter: int,
        flops_per_iter: float | None,
        peak: Mapping[str, object] | None = None,
        seams: Sequence[Mapping[str, object]] = (),
        notices: Sequence[object] = (),
        created: str | None = None,
    ) -> Self:
        """Start the record of a new run in an existing folder; `run.schema.json` says what each part holds.

        `created` is ISO 8601 in UTC, by default now. Raises RunFolderError (run-record-unwritable).
        """
        document = {
            "schema": SCHEMA,
            "lossgap": version,
            "name": name,
            "created": created or datetime.now(UTC).isoformat(timespec="seconds"),
            "status": "running",
            "config": config,
            "given": given,
            "effective": effective,
            "differences": list(differences),
            "environment": environment,
            "corpus": corpus,
            "parameters": parameters,
            "tokens_per_iter": tokens_per_iter,
            "flops_per_iter": flops_per_iter,
            "peak": peak or {"flops": None, "source": "unknown"},
            "seams": list(seams),
            "notices": list(notices),
            "final": None,
        }
        record = cls(folder, document)
        record._write_document()
        return record

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Continue the record in `folder`; writes nothing yet. Raises RunFolderError."""
        return cls(folder, read_run_json(folder))

    @property
    def document(self) -> dict[str, object]:
        """A copy of what `run.json` holds."""
        return cast("dict[str, object]", plain(self._document))

    def update(self, **fields: object) -> None:
        """Replace top-level fields of `run.json` and write it. Raises RunFolderError (run-record-unwritable)."""
        unknown = fields.keys() - FIELDS
        assert not unknown, f"not fields of run.json: {sorted(unknown)}"
        self._document |= {key: plain(value) for key, value in fields.items()}
        self._write_document()

    def add_seam(
        self,
        *,
        at: int,
        source: str,
        changed: Sequence[Mapping[str, object]],
        why: str,
        exact: bool,
        note: str = "",
        digest: str = "",
    ) -> None:
        """Record that iteration `at` onwards ran from `source` (a path or a run) with other settings.

        `changed` holds {setting, before, after}; `exact` says whether the continuation is bit-equal to an
        uninterrupted run, `note` why it is not. `digest` is the checkpoint's: two runs that tell the same one continue
        the same state.
        """
        seam = {"iter": at, "from": source, "changed": list(changed), "why": why, "exact": exact, "note": note}
        seam |= {"digest": digest} if digest else {}
        self.update(seams=[*self._listed("seams"), seam])

    def add_notice(self, notice: str) -> None:
        """Record one line that the user was told."""
        self.update(notices=[*self._listed("notices"), notice])

    def finish(self, status: Status, final: Mapping[str, object] | None = None) -> None:
        """Make the rows durable, then write how the run ended. Raises RunFolderError (run-record-unwritable)."""
        self.flush(fsync=True)
        self.update(status=status, final=final)

    def append(self, row: Mapping[str, object]) -> None:
        """Add a row {"kind": iter|eval|final, "iter": i, ...} with one system call.

        A reader at that moment sees the row, or none of it, or (where the row crosses a page of the
        file system's cache, measured on ext4) its beginning, as a torn last line that `read_run` leaves out.
        Raises RunFolderError (run-record-unwritable); a row that the disk took in part is taken back.
        """
        line = rows.encode(row)
        if self._open_ended:  # a killed writer's last line; no new row is glued to it
            line = b"\n" + line
        try:
            written = os.write(self._descriptor, line)
            if written != len(line):
                os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise unwritable(self._metrics, error) from error
        self._open_ended = False

    def flush(self, fsync: bool) -> None:
        """With `fsync`, rows appended so far survive a power cut; without, there is nothing to do.

        Each row is handed to the system at once, so rows survive the death of this process anyway.
        """
        if fsync:
            try:
                os.fsync(self._descriptor)
            except OSError as error:
                raise unwritable(self._metrics, error) from error

    def cut(self, before_iter: int, keep_eval_at: int | None) -> Dropped:
        """Keep the rows before `before_iter`, and the evaluation rows at `keep_eval_at`; say what went.

        Damaged lines and a torn last line go too. Whole or not at all; a second call drops nothing.
        Raises RunFolderError (run-record-unwritable).
        """
        try:
            with open_data(self._metrics) as source:
                dropped = self._rewrite(source, before_iter, keep_eval_at)
        except OSError as error:
            raise unwritable(self._metrics, error) from error
        self._reopen()
        return dropped

    def copy_until(self, source_folder: Path, before_iter: int, keep_eval_at: int | None) -> Dropped:
        """Begin this new record with the rows of another run before `before_iter`, as `cut` chooses them.

        A source without `metrics.jsonl` (a folder of nanoGPT's) gives no rows. Raises RunFolderError
        (metrics-unreadable, run-record-unwritable).
        """
        assert os.fstat(self._descriptor).st_size == 0, "a branch starts with an empty record"
        path = source_folder / METRICS_FILE
        try:
            source = open_data(path)
        except FileNotFoundError:
            return Dropped()
        except OSError as error:
            raise metrics_unreadable(path, error) from error
        try:
            with source:
                dropped = self._rewrite(source, before_iter, keep_eval_at)
        except OSError as error:
            raise unwritable(self._metrics, error) from error
        self._reopen()
        return dropped

    def close(self) -> None:
        """Close the file of rows; the record stays as it is."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _rewrite(self, source: BinaryIO, before_iter: int, keep_eval_at: int | None) -> Dropped:
        with replace_file(self._metrics) as target:
            return rows.sift(source, target, before_iter, keep_eval_at)

    def _listed(self, field: str) -> list[object]:
        """A list of `run.json`; the file may be a stranger's, with anything in that place."""
        return as_list(self._document.get(field))

    def _write_document(self) -> None:
        write_json(self.folder / RUN_FILE, self._document)

    def _reopen(self) -> None:
        self.close()
        self._descriptor = self._open_metrics()

    def _open_metrics(self) -> int:
        """Open for appending, and see whether the last line has its line end."""
        try:
            descriptor = os.open(self._metrics, _APPEND, 0o666)
            try:
                about = os.fstat(descriptor)
                if not stat.S_ISREG(about.st_mode):
                    raise OSError(errno.EINVAL, "not a regular file")
                self._open_ended = False
                if about.st_size:
                    os.lseek(descriptor, -1, os.SEEK_END)
                    self._open_ended = os.read(descriptor, 1) != b"\n"
            except BaseException:
                os.close(descriptor)
                raise
        except OSError as error:
            raise unwritable(self._metrics, error) from error
        return descriptor
