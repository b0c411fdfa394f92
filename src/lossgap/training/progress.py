"""What a training shows while it runs: nanoGPT's lines in a pipe, a live bar on a terminal."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from lossgap.training.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What is told before the first iteration."""

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


class Live:
    """A bar with iterations, tokens/s, losses, time left and MFU; evaluations stay above it as lines."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=4,
        )
        self.task: TaskID | None = None
        self.tokens_per_iter = 0
        self.losses = ""
        self.seconds: float | None = None

    def open(self, opening: Opening) -> None:
        """The decisions, then the bar."""
        for line in opening.decisions:
            self.console.print(line, markup=False, highlight=False)
        self.tokens_per_iter = opening.tokens_per_iter
        self.bar.start()
        self.task = self.bar.add_task(
            "training", total=opening.last_iter + 1, completed=opening.first_iter, figures="starting"
        )

    def evaluated(self, evaluation: Evaluation) -> None:
        """One line, with the standard error of the val loss."""
        e = evaluation
        error = f" +- {e.val_se:.4f}" if e.val_se else ""
        self.losses = f"val {e.val_loss:.4f}"
        self.console.print(
            f"step {e.iter:>6}: train loss {e.train_loss:.4f}, val loss {e.val_loss:.4f}{error}",
            markup=False,
            highlight=False,
        )

    def iterated(self, iteration: int, loss: float, seconds: float, mfu: float | None, shown: bool) -> None:
        """Move the bar; the rate is smoothed over about ten iterations."""
        self.seconds = seconds if self.seconds is None else 0.9 * self.seconds + 0.1 * seconds
        rate = f"{self.tokens_per_iter / self.seconds:,.0f} tok/s" if self.seconds else ""
        known = "mfu unknown" if mfu is None else f"mfu {mfu:.1%}"
        if self.task is not None:
            figures = f"loss {loss:.4f} {self.losses} {rate} {known}"
            self.bar.update(self.task, completed=iteration + 1, figures=figures)

    def saving(self, folder: str) -> None:
        """Nothing: it happens at every evaluation."""

    def note(self, line: str) -> None:
        """Above the bar."""
        self.console.print(line, markup=False, highlight=False)

    def close(self) -> None:
        """Take the bar away."""
        if self.task is not None:
            self.bar.stop()
