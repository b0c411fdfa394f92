"""Like-for-like evaluation of two checkpoints: how much of a reported gap comes from the way it was measured.

For each run x, in nats per token (or per byte), all on the same targets of the val split:

    reported(x)     what the record says
    own(x)          every val target, in windows of the model's own context
    common(x)       every val target, in windows that give both models the same context

    evaluation(x)  = reported(x) - own(x)     sampling, mode, precision of the record's evaluation
    context(x)     = own(x) - common(x)       what the model's longer context gives; its gain is -context(x)
    measurement(x) = reported(x) - common(x)  = evaluation(x) + context(x)

    reported gap   = measurement(test) - measurement(control) + common gap

`common gap`, test minus control, is the difference of the models. Every term is measured, and the identity holds by
construction. A plain record: the work is done in reevaluate.py, which needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from lossgap.comparison.rules import Finding, RuledOut

Which = Literal["last", "best"]
Unit = Literal["nats/token", "nats/byte"]

NEGLIGIBLE = 0.05
LIKELY = 0.25
STRONG = 0.5
"""Shares of the reported gap from which the measurement is worth a remark, a likely cause, a strong one."""
SMALL = 0.001
"""A contribution below this, in the unit of the loss, is never worth a word: print rounding alone makes 0.0001."""

FLAG = "--reevaluate"
_ANSWERED = frozenset({"evaluation-context"})
"""Rules whose estimate the re-evaluation replaces."""
_ID = "measurement"
_TITLE = "The two losses were not measured alike"
_ORDER = 0
"""It is asked first, with the other rules about the metric."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One model of one row. Losses in the unit of the `Reevaluation`."""

    checkpoint: str
    """The file that was evaluated."""
    iter: int
    """The state before this update."""
    reported: float | None
    """The val loss that the record has of it."""
    reported_iter: float | None
    reported_why: str = ""
    """Why `reported` is None."""
    own: float
    own_context: int
    """Tokens: the model's block_size."""
    common: float
    common_context: int
    """Tokens of the longest window at the common context."""
    targets: int
    """Tokens that were scored."""

    @property
    def evaluation(self) -> float | None:
        """Reported minus exact, at the model's own context."""
        return None if self.reported is None else self.reported - self.own

    @property
    def context(self) -> float:
        """Exact at its own context minus exact at the common one: at most 0 for a model that uses its context."""
        return self.own - self.common

    @property
    def gain(self) -> float:
        """The amount by which its own, longer context lowers the loss."""
        return self.common - self.own

    @property
    def measurement(self) -> float | None:
        """Reported minus exact at the common context."""
        return None if self.reported is None else self.reported - self.common

    @property
    def shifted(self) -> bool:
        """True if the record's value is of another iteration than the checkpoint."""
        return self.reported_iter is not None and self.reported_iter != self.iter


@dataclass(frozen=True, kw_only=True)
class GapPart:
    """One part of the reported gap, of each run and as test minus control; None where nothing was reported."""

    name: Literal["evaluation", "context", "model"]
    control: float | None
    test: float | None
    gap: float | None
    evidence: Literal["measured"] = "measured"


@dataclass(frozen=True, kw_only=True)
class Like:
    """The last, or the best, states of both runs. `control` and `test` are None, with `why`, if one has none."""

    of: Which
    control: Side | None = None
    test: Side | None = None
    why: str = ""

    @property
    def sides(self) -> tuple[Side, Side] | None:
        """Both, or None."""
        return None if self.control is None or self.test is None else (self.control, self.test)

    @property
    def reported_gap(self) -> float | None:
        """Test minus control as the records have it."""
        return self._gap("reported")

    @property
    def own_gap(self) -> float | None:
        """Test minus control, exact, each at its own context."""
        return self._gap("own")

    @property
    def common_gap(self) -> float | None:
        """Test minus control, exact, at the common context: the difference of the models."""
        return self._gap("common")

    @property
    def measurement(self) -> float | None:
        """The part of the reported gap that is the way it was measured."""
        return self._gap("measurement")

    @property
    def differences(self) -> tuple[GapPart, ...]:
        """The parts; their gaps add up to the reported gap."""
        return tuple(self._difference(name) for name in ("evaluation", "context", "model"))

    def _difference(self, name: Literal["evaluation", "context", "model"]) -> GapPart:
        field = "common" if name == "model" else name
        values = [None if side is None else getattr(side, field) for side in (self.control, self.test)]
        return GapPart(name=name, control=values[0], test=values[1], gap=self._gap(field))

    def _gap(self, name: str) -> float | None:
        if self.sides is None:
            return None
        first, second = (getattr(side, name) for side in self.sides)
        return None if first is None or second is None else second - first


@dataclass(frozen=True, kw_only=True)
class Reevaluation:
    """Both runs' checkpoints, evaluated alike."""

    unit: Unit
    corpus: str
    """Whose val split was scored."""
    bytes: int | None
    """UTF-8 bytes of the text that was scored; None in nats per token."""
    device: str
    dtype: str
    rows: tuple[Like, ...]
    """Last, then best; one row if both are the same checkpoints."""
    seconds: float

    def row(self, of: Which) -> Like:
        """The row of the last or the best states; the last ones stand for both if they are the same."""
        return next((item for item in self.rows if item.of == of), self.rows[0])


def findings(measured: Reevaluation) -> Iterator[Finding | RuledOut]:
    """Findings of the last states about the reported gap: a cause, a remark, or that it is not the measurement."""
    row = measured.row("last")
    gap, part = row.reported_gap, row.measurement
    if gap is None or part is None:
        return
    numbers = {item.name: item.gap for item in row.differences} | {"reported_gap": gap, "measurement": part}
    share = part / gap if gap else math.inf
    text = _text(row, measured.unit, numbers)
    if abs(part) < SMALL or abs(share) < NEGLIGIBLE:
        yield RuledOut(id=_ID, title=_TITLE, evidence="measured", text=text, numbers=numbers)
        return
    yield Finding(
        id=_ID,
        title=_TITLE,
        role="cause" if gap and share >= LIKELY else "remark",
        strength="strong" if share >= STRONG else "likely",
        evidence="measured",
        text=text,
        numbers=numbers,
        effect=part,
        group="C",
        order=_ORDER,
    )


def _text(row: Like, unit: Unit, numbers: Mapping[str, float | None]) -> str:
    said = {name: signed(value) for name, value in numbers.items() if value is not None}
    gap, part = numbers["reported_gap"], numbers["measurement"]
    share = f" ({100 * part / gap:.0f}%)" if gap and part is not None else ""
    parts = [f"{said['evaluation']} the records' evaluations against exact ones"]
    if said["context"] != ZERO or len(set(own_contexts(row))) > 1:
        contexts = " and ".join(map(str, own_contexts(row)))
        parts.append(f"{said['context']} each model evaluated at its own context ({contexts})")
    return (
        f"The reported gap of {said['reported_gap']} {unit} is {said['measurement']}{share} measurement and "
        f"{said['model']} models, as scored on the same targets with the same context. The measurement is "
        f"{' and '.join(parts)}."
    )


def without_answered(results: Iterable[Finding | RuledOut], measured: Reevaluation) -> Iterator[Finding | RuledOut]:
    """The rules' results, less those that are measured now, not estimated, and the advice to measure them."""
    if measured.row("last").sides is None:
        yield from results
        return
    for item in results:
        if item.id in _ANSWERED:
            continue
        advises = isinstance(item, Finding) and FLAG in f"{item.settle} {item.command}"
        yield replace(item, settle="", command="") if isinstance(item, Finding) and advises else item


def own_contexts(row: Like) -> tuple[int, ...]:
    """Tokens of context that control and test were built for; empty where the row is."""
    return tuple(side.own_context for side in row.sides or ())


ZERO = "0.0000"


def signed(value: float) -> str:
    """`+0.0123`; a value that rounds to nothing has no sign."""
    return f"{value:+.4f}" if round(value, 4) else ZERO
