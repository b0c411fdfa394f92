"""The process of another trainer: started under the supervisor, watched, ended; its end is reported in one line.

exit = run(command, folder, log, environment, time_limit=3600)      # exit.code
failure, why = failed(exit, last_text(log))
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lossgap.attribution.arm import Failure
from lossgap.attribution.foreign import supervisor
from lossgap.runs.readers import decoding
from lossgap.strangers import one_line

MOST_LOG_BYTES: Final = 2 << 30
"""A log that grows beyond this ends its arm: a trainer that prints without end must not fill the disk."""
TAIL_BYTES: Final = 64 << 10
_POLL: Final = 0.5
_PATIENCE: Final = supervisor.GRACE + 20.0
_MEMORY: Final = re.compile(
    r"out of memory|OutOfMemoryError|^MemoryError|can't allocate memory|Cannot allocate memory|std::bad_alloc", re.M
)
_ERROR: Final = re.compile(r"^(?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt|Exit|Warning)\b.*|^cannot start .*")
_WORDLESS: Final = re.compile(r"^[\w.]+:?\s*$")
_DECORATION: Final = re.compile(r"^\W*$|^\s*[\d.]+%\|")
_ENDED_BY_OTHERS: Final = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT})


@dataclass(frozen=True, kw_only=True)
class Exit:
    """How the process ended: its status, or why we ended it."""

    code: int | None
    seconds: float
    ended_because: str = ""


def run(
    command: Sequence[str], folder: Path, log: Path, environment: Mapping[str, str], time_limit: float | None = None
) -> Exit:
    """Run `command` in `folder` without a shell, stdout and stderr into `log`; its process group never outlives us.

    It is ended after `time_limit` seconds, if its log grows without end, and when this process ends in any way.
    """
    start = time.monotonic()
    # -I -S: the supervisor needs nothing, and must not be led astray by what the trainer's environment sets.
    watched = [sys.executable, "-I", "-S", supervisor.__file__, *command]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            watched,
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=dict(environment),
            start_new_session=True,
        )
    try:
        why = _watched(process, log, start, time_limit)
    finally:
        _end(process)
    return Exit(code=None if why else process.returncode, seconds=time.monotonic() - start, ended_because=why)


def _watched(process: subprocess.Popen[bytes], log: Path, start: float, time_limit: float | None) -> str:
    """Wait; empty when it ended by itself, else why it has to be ended."""
    while True:
        left = _POLL if time_limit is None else min(_POLL, start + time_limit - time.monotonic())
        if left <= 0:
            return f"it did not end within the time limit of {time_limit:g} s"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(left)
            return ""
        with contextlib.suppress(OSError):
            if log.stat().st_size > MOST_LOG_BYTES:
                return f"its log grew beyond {MOST_LOG_BYTES:,} bytes"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the pipe, at which the supervisor ends the group, and wait for both."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def environment(threads: int, extra: Mapping[str, str]) -> dict[str, str]:
    """Ours, with the threads of the arithmetic libraries (0: theirs to choose), and nothing told to the outside."""
    found = dict(os.environ)
    if threads:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
            found[name] = str(threads)
    found.update(PYTHONUNBUFFERED="1", WANDB_MODE="disabled", PYTHONIOENCODING="utf-8:replace")
    found.setdefault("PYTHONHASHSEED", "0")  # the order of sets decides vocabularies of some scripts
    return found | dict(extra)


# ---------------------------------------------------------------------------------------------
# What it said last


def last_text(log: Path) -> str:
    """The end of a log, decoded, without ANSI codes; "" if there is none."""
    try:
        with log.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - TAIL_BYTES))
            data = stream.read(TAIL_BYTES)
    except OSError:
        return ""
    return decoding.clean(data.decode("utf-8", "replace"))


def last_line(tail: str) -> str:
    """The line that says most of an end: the last error that a traceback names, else the last line with words."""
    lines = [line for line in tail.split("\n") if not _DECORATION.match(line)]
    errors = [at for at, line in enumerate(lines) if _ERROR.match(line)]
    if not lines:
        return "it printed nothing"
    at = errors[-1] if errors else len(lines) - 1
    line = lines[at].strip()
    if at and _WORDLESS.match(line):  # a bare AssertionError: the line of code above it says what was asserted
        line = f"{line.rstrip(':')} at {lines[at - 1].strip()}"
    return one_line(line)


def failed(exit: Exit, tail: str) -> tuple[Failure, str]:
    """The kind of a failure and one line about it."""
    said = last_line(tail)
    if exit.code is None:
        return "killed", f"{exit.ended_because}; its last line: {said}"
    number = exit.code - 128 if exit.code > 128 else -exit.code
    if _MEMORY.search(tail):
        return "out-of-memory", said
    if number > 0 and number in set(signal.Signals):
        name = signal.Signals(number).name
        if number in _ENDED_BY_OTHERS:
            hint = ", as a system does whose memory has run out" if number == signal.SIGKILL else ""
            return "killed", f"ended by {name}{hint}; its last line: {said}"
        return "failed", f"ended by {name}; its last line: {said}"
    return "failed", f"exit status {exit.code}: {said}"
