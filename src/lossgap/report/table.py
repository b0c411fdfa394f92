"""The rows of the answer's table: metric, control, test, why. Numbers as people read them; unknown is `?`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossgap.comparison.alignment import Row
from lossgap.comparison.comparison import Comparison
from lossgap.comparison.curve import Value
from lossgap.comparison.fact import Fact, Known, Unknown
from lossgap.comparison.metric import Metric

UNKNOWN = "?"
EQUAL = "equal"
INFERRED = "*"
"""Follows a value that no record states."""


@dataclass(frozen=True, kw_only=True)
class TableLine:
    """One row of the table, as text."""

    metric: str
    control: str
    test: str
    why: str = ""


def lines(found: Comparison) -> list[TableLine]:
    """All rows: losses, gaps at equal places, what was spent, what of recipe and measurement differs."""
    rows = (*_losses(found), *_equal(found), *_spent(found), *_recipe(found), *_measured(found))
    return [line for line in rows if line is not None and line.why != EQUAL]


def equal(found: Comparison) -> list[str]:
    """The rows that are equal in both runs, as `context 64`."""
    both = (*_spent(found), *_recipe(found), *_measured(found))
    return [f"{line.metric} {line.control}" for line in both if line is not None and line.why == EQUAL]


# ---------------------------------------------------------------------------------------------
# Losses


def _losses(found: Comparison) -> list[TableLine | None]:
    alignment = found.alignment
    name = _metric_name(found)
    last, best = alignment.row("last"), alignment.row("best")
    if not isinstance(alignment.metric, Metric):
        own = [None if facts.val is None else facts.val.last for facts in (found.control, found.test)]
        first = TableLine(
            metric="val loss, last", control=_loss(own[0]), test=_loss(own[1]), why="not comparable, see below"
        )
    else:
        first = TableLine(metric=f"{name}, last", control=_loss(last.control), test=_loss(last.test), why=_gap(last))
    rows: list[TableLine | None] = [first]
    if best.gap is not None and (best.control, best.test) != (last.control, last.test):
        rows.append(
            TableLine(metric=f"{name}, best", control=_loss(best.control), test=_loss(best.test), why=_gap(best))
        )
    if isinstance(alignment.metric, Metric) and alignment.metric.name == "val_loss":
        ends = [
            facts.train_eval.last if facts.train_eval is not None else None for facts in (found.control, found.test)
        ]
        rows.append(
            _unless_empty("train loss, last", _loss(ends[0]), _loss(ends[1]), "evaluation mode, without dropout")
        )
    return [*rows, _printed(found)]


def _printed(found: Comparison) -> TableLine | None:
    """The loss that iterations print, from the first row to the last."""
    cells, kinds = [], []
    for facts in (found.control, found.test):
        curve = facts.train
        if curve is None:
            cells.append(UNKNOWN)
        elif len(curve) == 1:
            cells.append(_loss(curve.last))
        else:
            cells.append(f"{_digits(curve.first.value)} to {_loss(curve.last)}")
        kinds.append(curve.meaning.kind if curve is not None else "")
    kind = next((item for item in kinds if item and item != "unknown"), "")
    words = {"micro-batch": "one micro-batch", "batch": "one batch", "moving-average": "a moving average"}
    return _unless_empty(
        "loss of iterations", cells[0], cells[1], f"{words.get(kind, kind)}, train mode" if kind else "train mode"
    )


def _metric_name(found: Comparison) -> str:
    metric = found.alignment.metric
    if not isinstance(metric, Metric):
        return "val loss"
    name = metric.name.replace("_", " ")
    unit = " (nats/byte)" if metric.unit == "nats/byte" else ""
    return name + (", with dropout" if metric.mode == "train" else "") + unit


_PLACES: dict[str, Callable[[float], str]] = {
    "iterations": lambda x: f"iteration {x:,.0f}",
    "tokens": lambda x: f"{_count(x)} tokens",
    "passes": lambda x: f"{x:.3g} passes",
    "flops": lambda x: f"{_flops(x)} FLOPs",
    "seconds": lambda x: f"{x:,.0f} s",
    "phase": lambda x: f"{100 * x:.0f}% of the decay",
}


def _equal(found: Comparison) -> list[TableLine | None]:
    """The gaps at equal places; places that are the same point of both curves share a row."""
    if not isinstance(found.alignment.metric, Metric):
        return []
    groups: dict[tuple[float, float], list[Row]] = {}
    unknown: dict[str, list[Row]] = {}
    for row in found.alignment.rows:
        if row.by in ("last", "best"):
            continue
        if row.control is not None and row.test is not None:
            groups.setdefault((round(row.control.iter, 6), round(row.test.iter, 6)), []).append(row)
        else:
            unknown.setdefault("apart" if row.apart else row.why, []).append(row)
    rows: list[TableLine | None] = []
    for group in groups.values():
        first, *others = group
        place = _PLACES[first.by](first.at) if first.at is not None else first.by
        also = f"; the same at equal {', '.join(row.by for row in others)}" if others else ""
        cells = _loss(first.control), _loss(first.test)
        rows.append(TableLine(metric=f"at {place}", control=cells[0], test=cells[1], why=_gap(first) + also))
    for group in unknown.values():
        names = ", ".join(row.by for row in group)
        rows.append(TableLine(metric=f"at equal {names}", control=UNKNOWN, test=UNKNOWN, why=group[0].why))
    return rows


def _gap(row: Row) -> str:
    if row.gap is None:
        return row.why
    notes = [f"gap {row.gap:+.4f}"]
    if row.exact:
        notes.append("exact, every val token")
    if row.interpolated:
        notes.append("~ interpolated")
    return ", ".join(notes)


# ---------------------------------------------------------------------------------------------
# What was spent, what was trained


def _spent(found: Comparison) -> list[TableLine | None]:
    ends = [facts.last_iter for facts in (found.control, found.test)]
    at = [(facts, float(end)) for facts, end in zip((found.control, found.test), ends, strict=True) if end is not None]
    rows: list[TableLine | None] = [
        TableLine(
            metric="iterations",
            control=UNKNOWN if ends[0] is None else f"{ends[0]:,}",
            test=UNKNOWN if ends[1] is None else f"{ends[1]:,}",
            why=_ratio(*(None if end is None else float(end) for end in ends)),
        )
    ]
    if len(at) < 2:
        return rows
    for name, show in (("tokens", _count), ("passes", lambda x: f"{x:.3g}"), ("flops", _flops)):
        facts = [getattr(side, f"{name}_at")(end) for side, end in at]
        label = {"passes": "passes over the data", "flops": "FLOPs"}.get(name, name)
        rows.append(_fact_line(label, facts[0], facts[1], show))
    seconds = [side.seconds_at(end) for side, end in at]
    return [*rows, _fact_line("seconds of training", seconds[0], seconds[1], lambda x: f"{x:,.0f}")]


def _recipe(found: Comparison) -> list[TableLine | None]:
    control, test = found.control, found.test

    def both(label: str, name: str, show: Callable[[float], str]) -> TableLine | None:
        return _fact_line(label, getattr(control, name), getattr(test, name), show)

    return [
        both("parameters", "n_params", _count),
        both("context", "block_size", lambda x: f"{x:,}"),
        both("sequences per update", "batch", lambda x: f"{x:,}"),
        both("tokens per update", "tokens_per_iter", lambda x: f"{x:,}"),
        both("dropout", "dropout", lambda x: f"{x:g}"),
        both("learning rate", "learning_rate", lambda x: f"{x:g}"),
        both("decay ends at iteration", "horizon", lambda x: f"{x:,}"),
    ]


def _measured(found: Comparison) -> list[TableLine | None]:
    control, test = found.control, found.test
    rows: list[TableLine | None] = [
        _fact_line("tokens per evaluation", control.eval_tokens, test.eval_tokens, _count),
        _text_line("precision", control.dtype, test.dtype),
        _text_line("hardware", control.device, test.device),
        _column_line(found, "ms per iteration", "ms", lambda x: f"{x:,.4g}"),
        _column_line(found, "MFU", "mfu", lambda x: f"{100 * x:.3g}%"),
    ]
    return rows


def _column_line(found: Comparison, label: str, column: str, show: Callable[[float], str]) -> TableLine | None:
    cells = []
    for facts in (found.control, found.test):
        values = facts.run.iters[column].drop_nulls()
        values = values.filter(values > 0)
        middle = values.median() if len(values) else None
        cells.append(show(middle) if isinstance(middle, int | float) else UNKNOWN)
    return _unless_empty(label, cells[0], cells[1], "median of the printed ones")


def _fact_line(label: str, control: Fact[float], test: Fact[float], show: Callable[[float], str]) -> TableLine | None:
    cells = [UNKNOWN if isinstance(item, Unknown) else show(item.value) + _mark(item) for item in (control, test)]
    known = isinstance(control, Known) and isinstance(test, Known)
    why = _ratio(control.value, test.value) if known else _missing(control, test)
    return _unless_empty(label, cells[0], cells[1], why)


def _text_line(label: str, control: Fact[str], test: Fact[str]) -> TableLine | None:
    cells = [UNKNOWN if isinstance(item, Unknown) else item.value + _mark(item) for item in (control, test)]
    why = EQUAL if cells[0] == cells[1] else _missing(control, test)
    return _unless_empty(label, cells[0], cells[1], why)


def _missing(control: Fact[object], test: Fact[object]) -> str:
    """The reasons why a value is unknown for either run; said once if it is the same."""
    missing = [(name, item) for name, item in (("control", control), ("test", test)) if isinstance(item, Unknown)]
    reasons = list(dict.fromkeys(item.why for _, item in missing))
    if len(missing) == 2 and len(reasons) == 1:
        return reasons[0]
    return "; ".join(f"{name}: {item.why}" for name, item in missing)


def _unless_empty(label: str, control: str, test: str, why: str) -> TableLine | None:
    """The row, or None if neither run has the value: a table of question marks says nothing."""
    return None if control == test == UNKNOWN else TableLine(metric=label, control=control, test=test, why=why)


def _mark(item: Known[object]) -> str:
    return INFERRED if item.evidence == "inferred" else ""


# ---------------------------------------------------------------------------------------------
# Numbers


def _loss(value: Value | None) -> str:
    if value is None:
        return UNKNOWN
    about = "~" if value.interpolated else ""
    return f"{about}{_digits(value.value)} at {value.iter:,.0f}"


def _digits(value: float) -> str:
    return f"{value:.4f}"


def _count(value: float) -> str:
    """`795,904`, `10.65M`, `1.54M`, `9.04G`: in full below a million."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:,.0f}"


def _flops(value: float) -> str:
    """`7.94e12`."""
    return f"{value:.3g}".replace("e+", "e")


def _ratio(control: float | None, test: float | None) -> str:
    """`13.4x`, test over control; `equal`; nothing where there is no ratio."""
    if control is None or test is None:
        return "not in the record"
    if control == test:
        return EQUAL
    if control <= 0 or test <= 0:
        return "differs"
    ratio = test / control
    return f"{ratio:.3g}x" if ratio >= 1 else f"1/{1 / ratio:.3g}"
