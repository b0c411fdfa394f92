"""SIGINT, SIGTERM and SIGHUP: finish the iteration, save, say how to go on, exit with 128 + number."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

HANDLED = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class StopRequest:
    """While entered, a signal sets `number` instead of ending the process; a second SIGINT ends it at once.

    A signal that was ignored at the start stays ignored, so that a `nohup` run survives the logout.
    """

    def __init__(self) -> None:
        self.number = 0
        self.at_once = False
        """A signal ends what runs and does not wait for it: while torch compiles, which takes a minute."""
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in HANDLED:
                handler = signal.getsignal(number)
                if handler not in (signal.SIG_IGN, None):  # None: a handler from outside Python, not ours to replace
                    self._before[number] = handler
                    signal.signal(number, self._request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what getsignal gave
        self._before.clear()

    def _request(self, number: int, frame: FrameType | None) -> None:
        again = number == signal.SIGINT and self.number == signal.SIGINT
        self.number = number
        if again or self.at_once:
            raise KeyboardInterrupt
