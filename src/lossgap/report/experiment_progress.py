"""Progress of a running experiment: a bar with the time left on a terminal, a line at every tenth elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lossgap.attribution.gather import Ended
from lossgap.attribution.price import Price
from lossgap.duration import duration
from lossgap.report.terminal import Terminal
from lossgap.strangers import visible

TENTHS = 10


class ExperimentProgress:
    """Follows the arms of one experiment, on the standard error: a document on the standard output stays alone."""

    def __init__(self, price: Price, console: Console | None = None) -> None:
        self.price = price
        self.console = console or Terminal(stderr=True)
        self._start = time.monotonic()
        self._first: int | None = None
        self._tenth = -1
        self._bar = Progress(
            TextColumn("arms"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> ExperimentProgress:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take it away."""
        self._bar.stop()

    def ended(self, ended: Ended) -> None:
        """One arm ended."""
        if ended.what:
            print(f"lossgap: an arm failed: {visible(ended.what)}", file=sys.stderr, flush=True)
        self._bar.update(self._task, total=ended.total, completed=ended.done)
        if self.console.is_terminal:
            return
        tenth = TENTHS * ended.done // max(ended.total, 1)
        if self._first is None:
            self._first = ended.done - 1
        if tenth > self._tenth:
            self._tenth = tenth
            self.console.print(f"{ended.done:,} of {ended.total:,} arms, {self._left(ended)} left", soft_wrap=True)

    def _left(self, ended: Ended) -> str:
        """At the pace so far, which cached arms do not count in."""
        trained = ended.done - (self._first or 0)
        if trained <= 0:
            return "an unknown time"
        return f"about {duration((time.monotonic() - self._start) / trained * (ended.total - ended.done))}"
