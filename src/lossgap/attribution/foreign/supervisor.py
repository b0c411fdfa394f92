"""Runs a command in a process group of its own, and ends the group when whoever started it has gone.

    python supervisor.py COMMAND ARGUMENTS       its standard input is a pipe that the starter holds open

The starter may end in any way, by SIGKILL too: then its end of the pipe closes, and nobody is left who could tell
the training to stop; it would go on on the cores and in the folder of the next attempt. What the command leaves behind
when it ends is ended, too. Exits with the command's status, 128 + N after signal N, or 127 if it cannot be started.
A program of its own, so that an interpreter with nothing loaded watches.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

GRACE = 3.0
"""Seconds between SIGTERM and SIGKILL: torchrun needs them to end workers in groups of their own."""
NOT_STARTED = 127


def main(command: Sequence[str]) -> int:
    """Run it; the exit status."""
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        sys.stderr.write(f"cannot start {command[0]!r}: {reason}\n")
        return NOT_STARTED
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: threading.Thread(target=_end, args=(child,), daemon=True).start())
    threading.Thread(target=_attend, args=(child,), daemon=True).start()
    code = child.wait()
    _signal(child, signal.SIGKILL)
    return code if code >= 0 else 128 - code


def _attend(child: subprocess.Popen[bytes]) -> None:
    """Wait until the other end of the pipe is closed."""
    with contextlib.suppress(OSError):
        while os.read(sys.stdin.fileno(), 4096):
            pass
    _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    _signal(child, signal.SIGTERM)
    time.sleep(GRACE)
    _signal(child, signal.SIGKILL)


def _signal(child: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
