"""The display of a training while it runs: nanoGPT's lines in a pipe, a live bar on a terminal."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column
from rich.text import Text

from lossgap.evaluation.splits import Evaluation


@dataclass(frozen=True, kw_only=True)
class Opening:
    """The facts that are shown before the first iteration."""

    version: str
    peak: str
    first_iter: int
    last_iter: int
    tokens_per_iter: int
    echo: tuple[str, ...]
    facts: tuple[str, ...]
    """nanoGPT's own lines: vocabulary, parameters, optimizer groups."""
    decisions: tuple[str, ...]
    """How it runs and why, one line each."""
    departures: tuple[str, ...] = ()
    """The settings that run otherwise than they were asked, one line each."""


class Progress(Protocol):
    """Where a training reports to."""

    def open(self, opening: Opening) -> None:
        """Called once, before the first iteration."""

    def evaluated(self, evaluation: Evaluation) -> None:
        """After each evaluation."""

    def iterated(self, iteration: int, loss: float, seconds: float, mfu: float | None, shown: bool) -> None:
        """After each iteration whose loss is known; `shown` at multiples of `log_interval`."""

    def saving(self, folder: str) -> None:
        """Where nanoGPT prints that it saves a checkpoint."""

    def note(self, line: str) -> None:
        """Something the user should know."""

    def close(self) -> None:
        """Called once, at the end, whatever happened."""


class Silence:
    """Shows nothing: for the processes that are not the first, and for callers of the Python API."""

    def open(self, opening: Opening) -> None:
        """Nothing."""

    def evaluated(self, evaluation: Evaluation) -> None:
        """Nothing."""

    def iterated(self, iteration: int, loss: float, seconds: float, mfu: float | None, shown: bool) -> None:
        """Nothing."""

    def saving(self, folder: str) -> None:
        """Nothing."""

    def note(self, line: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Lines:
    """nanoGPT's log format under one line of our own; an unknown MFU is nanoGPT's -100.00%."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def _print(self, line: str) -> None:
        print(line, file=self.stream, flush=True)

    def open(self, opening: Opening) -> None:
        """The line that says what differs from nanoGPT's log, then nanoGPT's."""
        self._print(f"lossgap {opening.version}, mfu relative to {opening.peak}, time without evaluation")
        for line in (*opening.echo, f"tokens per iteration will be: {opening.tokens_per_iter:,}", *opening.facts):
            self._print(line)
        for line in opening.departures:
            self.note(line)

    def evaluated(self, evaluation: Evaluation) -> None:
        """`step 250: train loss 2.4293, val loss 2.4447`."""
        e = evaluation
        self._print(f"step {e.iter}: train loss {e.train_loss:.4f}, val loss {e.val_loss:.4f}")

    def iterated(self, iteration: int, loss: float, seconds: float, mfu: float | None, shown: bool) -> None:
        """`iter 20: loss 3.5233, time 38.98ms, mfu 0.03%`."""
        if shown:
            percent = -100.0 if mfu is None else mfu * 100
            self._print(f"iter {iteration}: loss {loss:.4f}, time {seconds * 1000:.2f}ms, mfu {percent:.2f}%")

    def saving(self, folder: str) -> None:
        """nanoGPT's line."""
        self._print(f"saving checkpoint to {folder}")

    def note(self, line: str) -> None:
        """On standard error, so that the log stays nanoGPT's."""
        print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing."""


class ProgressFigures(ProgressColumn):
    """Loss, last val loss, tokens/s and MFU: as many of them, in this order, as leave the bar some room."""

    ORDER = ("loss", "val", "rate", "mfu")
    BESIDE = 16
    """Columns that a short bar, the time left and the spaces between take."""

    def __init__(self, console: Console) -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self.console = console

    def render(self, task: Task) -> Text:
        """One line, never wrapped."""
        room = self.console.width - self.BESIDE - len(f"{task.total:.0f}/{task.total:.0f}")
        shown = ""
        for name in self.ORDER:
            part = str(task.fields.get(name, ""))
            longer = f"{shown}  {part}" if shown and part else shown or part
            if len(longer) > room:
                break
            shown = longer
        return Text(shown, no_wrap=True)


class Live:
    """A bar with iterations, tokens/s, losses, time left and MFU; evaluations stay above it as lines."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = Bar(
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            BarColumn(bar_width=None),
            ProgressFigures(console),
            TimeRemainingColumn(),
            console=console,
            expand=True,
            refresh_per_second=4,
        )
        self.task: TaskID | None = None
        self.tokens_per_iter = 0
        self.seconds: float | None = None

    def open(self, opening: Opening) -> None:
        """The decisions, then the bar."""
        for line in (*opening.decisions, *opening.departures):
            self.note(line)
        self.tokens_per_iter = opening.tokens_per_iter
        self.bar.start()
        self.task = self.bar.add_task("", total=opening.last_iter + 1, completed=opening.first_iter, loss="starting")

    def evaluated(self, evaluation: Evaluation) -> None:
        """One line, with the standard error of the val loss."""
        e = evaluation
        error = f" +- {e.val_se:.4f}" if e.val_se else ""
        self.note(f"step {e.iter:>6}: train loss {e.train_loss:.4f}, val loss {e.val_loss:.4f}{error}")
        if self.task is not None:
            self.bar.update(self.task, val=f"val {e.val_loss:.4f}")

    def iterated(self, iteration: int, loss: float, seconds: float, mfu: float | None, shown: bool) -> None:
        """Move the bar; the rate is smoothed over about ten iterations."""
        self.seconds = seconds if self.seconds is None else 0.9 * self.seconds + 0.1 * seconds
        if self.task is not None:
            self.bar.update(
                self.task,
                completed=iteration + 1,
                loss=f"loss {loss:.4f}",
                rate=f"{self.tokens_per_iter / self.seconds:,.0f} tok/s" if self.seconds else "",
                mfu="mfu ?" if mfu is None else f"mfu {mfu:.1%}",
            )

    def saving(self, folder: str) -> None:
        """Nothing: it happens at every evaluation."""

    def note(self, line: str) -> None:
        """Above the bar, broken by the terminal alone, so that a command in it can be copied."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.task is not None:
            self.bar.stop()
