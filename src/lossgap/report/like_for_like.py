"""The losses of both checkpoints when they are evaluated alike, as rows and sentences for the answer and the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lossgap.comparison.reevaluation import Like, Reevaluation, Side, own_contexts, signed
from lossgap.report.table import UNKNOWN

HEADER = ("", "control", "test", "test minus control", "evidence")


@dataclass(frozen=True, kw_only=True)
class Split:
    """One row of the re-evaluation: a title, cells under `HEADER`, sentences below them."""

    title: str
    cells: tuple[tuple[str, str, str, str, str], ...]
    notes: tuple[str, ...]


def summary(measured: Reevaluation) -> str:
    """A sentence on what was evaluated, on what, and how."""
    row = next((item for item in measured.rows if item.sides is not None), None)
    how = f"in {measured.dtype} on {measured.device}, {measured.seconds:,.1f} s"
    if row is None or row.sides is None:
        return f"No pair of checkpoints could be evaluated ({how})."
    targets = list(dict.fromkeys(f"{side.targets:,}" for side in row.sides))
    amount = f"{' and '.join(targets)} tokens"
    if measured.bytes is not None:
        amount = f"{measured.bytes:,} bytes of text ({amount}), so losses are per byte"
    return f"Both models, without dropout, on the whole val split of {measured.corpus}: {amount}; {how}."


def splits(measured: Reevaluation) -> Iterator[Split]:
    """The last and the best states, each as a table that adds up."""
    for row in measured.rows:
        name = row.of if len(measured.rows) > 1 else "last and best are the same checkpoints"
        if row.sides is None:
            yield Split(title=row.of, cells=(), notes=(f"Not evaluated: {row.why}.",))
            continue
        yield Split(
            title=f"{name}: control {_where(row.sides[0])}, test {_where(row.sides[1])}",
            cells=_cells(row),
            notes=tuple(_notes(row, measured.unit)),
        )


def _where(side: Side) -> str:
    return f"{side.checkpoint} at iteration {side.iter:,}"


def _cells(row: Like) -> tuple[tuple[str, str, str, str, str], ...]:
    assert row.sides is not None
    control, test = row.sides
    evaluation, context, model = row.differences
    own = _joined(own_contexts(row))
    common = _joined((control.common_context, test.common_context))
    return (
        ("reported", _loss(control.reported), _loss(test.reported), _gap(row.reported_gap), ""),
        ("  the record's evaluation", *_parts(evaluation.control, evaluation.test, evaluation.gap), "measured"),
        (f"exact, own context ({own})", _loss(control.own), _loss(test.own), _gap(row.own_gap), ""),
        (f"  context beyond {common}", *_parts(context.control, context.test, context.gap), "measured"),
        (f"exact, context {common} for both", _loss(control.common), _loss(test.common), _gap(model.gap), "measured"),
    )


def _notes(row: Like, unit: str) -> Iterator[str]:
    assert row.sides is not None
    assert row.common_gap is not None
    if row.reported_gap is not None and row.measurement is not None:
        yield (
            f"{_gap(row.reported_gap)} {unit} reported = {_gap(row.measurement)} measurement and "
            f"{_gap(row.common_gap)} models."
        )
    for name, side in zip(("control", "test"), row.sides, strict=True):
        if side.own_context != side.common_context:
            yield (
                f"With its own context of {side.own_context} tokens instead of {side.common_context} {name} is "
                f"{abs(side.gain):.4f} {unit} {'lower' if side.gain >= 0 else 'higher'}."
            )
        if side.shifted:
            yield (
                f"{name}'s record reports iteration {side.reported_iter:,.0f}, its checkpoint is iteration "
                f"{side.iter:,}: what the updates between changed counts as the record's evaluation."
            )
        if side.reported is None:
            yield f"No reported loss of {name}: {side.reported_why}."


def _parts(*values: float | None) -> tuple[str, str, str]:
    first, second, third = (_gap(value) for value in values)
    return first, second, third


def _joined(contexts: tuple[int, ...]) -> str:
    return " and ".join(map(str, dict.fromkeys(contexts)))


def _loss(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.4f}"


def _gap(value: float | None) -> str:
    return UNKNOWN if value is None else signed(value)
