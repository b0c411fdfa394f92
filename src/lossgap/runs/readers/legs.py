"""Rows of a log in the order they were printed, put into runs and legs.

A log may hold several runs, a run that was stopped and resumed further back, and every row once per rank.
`Legs` looks at the iterations as they come and says of each row which of these it is:

    NEXT    the run goes on
    REPEAT  an iteration that was there a moment ago: another rank, or a line that was pasted twice
    SEAM    the run goes on from an earlier iteration: resumed from a checkpoint
    RUN     another run begins

`Log` does it for readers that go row by row: it has one `RunBuilder` per run, and what is said (settings, facts)
after rows and before the next row belongs to what begins there.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from lossgap.runs.readers.base import Number, RunBuilder, Source, whole
from lossgap.runs.run import Run

NEAR = 8
"""Rows back from which an iteration that comes again is a repetition; a resume goes further back."""


MAX_RUNS = 1000
"""Runs that are read of one log: each has its own tables, and a file with more runs than that is not a log."""


class Move(Enum):
    """The place of a row after the rows before it."""

    NEXT = "next"
    REPEAT = "repeat"
    SEAM = "seam"
    RUN = "run"


class Legs:
    """Follows the iterations of one run; `table` is iters or evals, which repeat each other's iterations."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.top = -1
        self.tops = {"iters": -1, "evals": -1}
        self.recent: deque[int] = deque(maxlen=NEAR)

    @staticmethod
    def near() -> int:
        """How many rows back are remembered."""
        return NEAR

    def move(self, table: str, at: int, *, restarted: bool = False, resumed: bool = False) -> Move:
        """Return the place of the row at iteration `at`; `restarted` after a heading, `resumed` if that says so."""
        if self.first is None:
            return Move.NEXT
        if restarted and at <= max(self.tops[table], self.top - 1):
            return Move.SEAM if resumed or at > max(self.first, 0) else Move.RUN
        if at > self.tops[table] and (at >= self.top or at in self.recent):
            return Move.NEXT
        if at == self.tops[table] or at in self.recent:
            return Move.REPEAT
        return Move.RUN if at <= max(self.first, 0) else Move.SEAM

    def take(self, table: str, at: int) -> None:
        """A row that is kept."""
        if self.first is None:
            self.first = at
        self.top = max(self.top, at)
        self.tops[table] = max(self.tops[table], at)
        if not self.recent or self.recent[-1] != at:
            self.recent.append(at)

    def back(self, at: int) -> None:
        """The run went back to `at`."""
        self.top = at - 1
        self.tops = dict.fromkeys(self.tops, at - 1)
        self.recent.clear()


class Log:
    """The runs of one log, built row by row."""

    def __init__(self, source: Source, format: str) -> None:
        self.source = source
        self.format = format
        self.current = RunBuilder(source, format)
        self.pending: RunBuilder | None = None
        self.resumed = False
        self.full = False
        self.legs = Legs()
        self._done: list[RunBuilder] = []

    @property
    def heading(self) -> RunBuilder:
        """The builder that takes settings and facts: the run that has no row yet."""
        if self.current.empty:
            return self.current
        if self.pending is None:
            self.pending = RunBuilder(self.source, self.format)
        return self.pending

    def iter(self, line: int, iter: Number, **values: Number) -> None:
        """A row of an iteration."""
        if self._place("iters", line, iter):
            self.current.iter(line, iter, **values)

    def eval(self, line: int, iter: Number, *, mode: str | None = None, **values: Number) -> None:
        """A row of an evaluation."""
        if self._place("evals", line, iter):
            self.current.eval(line, iter, kind="eval", mode=mode, **values)

    def _place(self, table: str, line: int, iter: Number) -> bool:
        at = whole(iter)
        if at is None:
            self.current.damaged(line)
            return False
        move = self.legs.move(table, at, restarted=self.pending is not None, resumed=self.resumed)
        if self.left_out(move, line):
            return False
        if move is Move.REPEAT:
            self.current.note("an iteration is repeated (several ranks?): its first row is kept", line)
            return False
        self.enter(move, at, line)
        self.legs.take(table, at)
        return True

    def left_out(self, move: Move, line: int) -> bool:
        """True for a row behind the last run that is read; the last run has a note of it."""
        self.full = self.full or (move is Move.RUN and len(self._done) >= MAX_RUNS - 1)
        if self.full:
            self.current.note(f"more than {MAX_RUNS:,} runs; the rest of the log is left out", line)
        return self.full

    def enter(self, move: Move, at: int, line: int) -> None:
        """Make room for a row at iteration `at`: another run, another leg, or none."""
        if move is Move.RUN:
            self._done.append(self.current)
            self.current = self.pending or RunBuilder(self.source, self.format)
            self.legs = Legs()
        elif move is Move.SEAM or (self.resumed and not self.current.empty):
            changed = self._changed()
            self.current.seam(at, self.legs.top, line, changed, heading=self.pending is not None)
            self.legs.back(at)
        if self.pending is not None and self.pending is not self.current:
            self.current.absorb(self.pending)
        self.pending, self.resumed = None, False

    def _changed(self) -> list[str]:
        said = self.pending.config if self.pending is not None else {}
        return [
            name for name, value in said.items() if name in self.current.config and self.current.config[name] != value
        ]

    def builders(self) -> list[RunBuilder]:
        """The runs in order, numbered; counts of a heading without rows go to the last."""
        if self.pending is not None:
            self.current.absorb(self.pending)
            self.pending = None
        found = [*self._done, self.current]
        for number, builder in enumerate(found, 1):
            builder.number = number
        return found

    def runs(self) -> list[Run]:
        """All runs that have a row or a setting."""
        return [
            builder.build() for builder in self.builders() if not builder.empty or builder.config or builder.parameters
        ]
