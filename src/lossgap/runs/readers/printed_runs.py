"""Runs of the rows that a text holds: which counter counts, which loss is the loss, and how sure that is.

Names decide first, then behaviour: a counter rises, a loss is finite and above 0, a perplexity beside a loss tells its
unit (exp(loss) in nats, 2^loss in bits). Everything that a known format does not state is `Inferred`, with what else
it could be.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

from lossgap.runs.readers.base import Run, Source, number, whole
from lossgap.runs.readers.columns import Traits
from lossgap.runs.readers.metric_names import Role, meaning, words
from lossgap.runs.readers.named_rows import NamedRows
from lossgap.runs.readers.printed_names import named
from lossgap.runs.readers.printed_rows import PrintedRow, PrintedRows
from lossgap.runs.readers.printed_series import losses_of, rising_name, series_of
from lossgap.runs.run import Inferred, Kind, Note, Unit

LN2: Final = math.log(2)
CLOSE: Final = 0.02
"""How near log(perplexity) must come to a loss to be the same: what two printed decimals leave."""


@dataclass(frozen=True, kw_only=True)
class LineFacts:
    """The facts that a known format states about its numbers; a text of no known format states nothing."""

    unit: Unit = "unknown"
    scales: Mapping[str, float] = field(default_factory=dict)
    roles: Mapping[str, Role] = field(default_factory=dict)
    units: Mapping[str, Unit] = field(default_factory=dict)
    """Units of their own, by name."""
    base: int = 0
    """2 where losses are printed in bits per token."""
    kind: Kind = "unknown"
    epochs: bool = False
    """Only the last row of each epoch counts, and `iter` counts epochs."""
    notes: tuple[str, ...] = ()


@dataclass
class Conclusion:
    """Which of the names are the losses, and what `iter` counts."""

    train: str | None = None
    val: str | None = None
    further: tuple[str, ...] = ()
    counts: str = ""
    """iter, epoch or rows."""
    counter: str = ""
    """The name that counts by its behaviour, where none is called so."""
    per_epoch: int | None = None
    roles: dict[str, Role] = field(default_factory=dict)
    unit: Unit = "unknown"
    units: dict[str, Unit] = field(default_factory=dict)
    scale: float = 1.0
    why: list[Inferred] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def sure(seen: PrintedRows, *, few: bool = False) -> str | None:
    """None if the rows are those of a training, else what is missing. `few`: a short text needs fewer rows."""
    rows = [row for row in seen.rows if losses_of(row)]
    if not rows:
        return "no line names a loss"
    counts = Counter(row.shape for row in rows)
    most = max(counts.values())
    least = 2 if few else 3
    clean = [row for row in rows if any(item.clean for item in losses_of(row).values())]
    counted = [row for row in clean if row.iter is not None or row.epoch is not None]
    values = [number(row.values[name]) for row in clean for name, item in losses_of(row).items() if item.clean]
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if most < least:
        return f"only {most} line{'s' * (most != 1)} of one form"
    if not clean:
        return "no line names the loss, only " + ", ".join(
            sorted({name for row in rows for name in losses_of(row)})[:3]
        )
    if values and len(finite) * 2 < len(values) and len(finite) < 2:
        return None if len(counted) >= least else "no loss is a finite number"
    if finite and (max(finite) - min(finite) == 0.0 and len(finite) > 20):
        return "its loss never changes"
    if len(counted) >= least and _rises(counted):
        return None
    if len(clean) >= 3 * least and counts[clean[0].shape] >= 2 * least and _fractions(clean):
        return None
    return "no counter of iterations or epochs that rises"


def _rises(rows: Sequence[PrintedRow]) -> bool:
    """True if iteration or epoch goes up more often than down."""
    for counts in ([row.iter for row in rows], [row.epoch for row in rows]):
        found = [value for text in counts if (value := number(text)) is not None]
        steps = [after - before for before, after in pairwise(found)]
        up, down = sum(step > 0 for step in steps), sum(step < 0 for step in steps)
        if up and up >= 2 * down:
            return True
    return False


def _fractions(rows: Sequence[PrintedRow]) -> bool:
    """True if the losses are measured numbers and no counts."""
    texts = [row.values[name] for row in rows for name in losses_of(row)]
    return sum("." in text or "e" in text.lower() for text in texts) * 2 > len(texts)


def printed_runs(source: Source, seen: PrintedRows, format: str, facts: LineFacts | None = None) -> list[Run]:
    """The runs of the rows; `facts` is None where no format states what they are. Raises SourceError."""
    rows = series_of(seen, epochs=facts is not None and facts.epochs)
    chosen = _choose(rows, facts)
    roles = {**chosen.roles, **(facts.roles if facts else {})}
    scales = dict(facts.scales) if facts else {}
    if chosen.scale != 1.0:
        scales |= {name: chosen.scale for name in (chosen.train, chosen.val) if name}
    unit = facts.unit if facts and facts.unit != "unknown" else chosen.unit
    traits = Traits(
        loss=facts.kind if facts else "unknown",
        unit=unit,
        units={**chosen.units, **(facts.units if facts else {})},
        roles=roles,
        scales=scales,
        per_epoch=chosen.per_epoch,
        beside="no" if facts else "row",
    )
    table = NamedRows(source, format, traits)
    count = 0
    for row in rows:
        count += chosen.train in row.values if chosen.train else 1
        table.add(row.line, _named_values(row, chosen, count))
    table.facts.misread.join(seen.unread)
    runs = table.runs()
    said = [*(facts.notes if facts else (_summary(chosen, seen),)), *chosen.notes]
    return [
        replace(run, notes=[*(Note(text=text) for text in said), *run.notes]) for run in _explained(runs, chosen, facts)
    ]


def _explained(runs: list[Run], chosen: Conclusion, facts: LineFacts | None) -> list[Run]:
    if facts is not None:
        return runs
    return [replace(run, inferred=[*run.inferred, *chosen.why]) for run in runs]


def _summary(chosen: Conclusion, seen: PrintedRows) -> str:
    """The conclusions in one line: people see it first."""
    parts = [f"{item.name.removeprefix('column of ')} {item.value}" for item in chosen.why]
    others = [
        f"{item.name.removeprefix('column of ')} {'/'.join(map(str, item.alternatives[:2]))}"
        for item in chosen.why
        if item.alternatives and item.name != "unit"
    ]
    other = f"; could also be {', '.join(others)}" if others else ""
    return f"inferred from {like(seen)}: {', '.join(parts)}{other}; --columns=loss:NAME corrects it"


def _choose(rows: Sequence[PrintedRow], facts: LineFacts | None) -> Conclusion:
    chosen = Conclusion()
    names: Counter[str] = Counter(name for row in rows for name in losses_of(row))
    by_split: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for name, _ in names.most_common():
        split = named(name).split or "train"
        by_split[split].append(name)
    _take(chosen, "loss", by_split["train"], names, facts)
    _take(chosen, "val_loss", by_split["val"], names, facts)
    if chosen.val is None and by_split["test"]:
        _take(chosen, "val_loss", by_split["test"], names, facts)
        if chosen.val is not None:
            chosen.notes.append(f"{chosen.val} is a test set's: it is the only loss beside the training's (inferred)")
    if facts is not None and facts.base == 2:
        chosen.unit, chosen.scale = "nats/token", LN2
    elif facts is None or facts.unit == "unknown":
        _unit(chosen, rows, facts)
    _counter(chosen, rows)
    return chosen


def _take(
    chosen: Conclusion, role: Role, names: Sequence[str], times: Mapping[str, int], facts: LineFacts | None
) -> None:
    """The name that is the loss of a split: called just so, else a criterion, else from a perplexity."""
    said = {name: named(name) for name in names}
    ranked = sorted(
        (name for name in names if said[name].what == "loss" and (said[name].clean or len(names) == 1)),
        key=lambda name: (-(meaning(name).role == role), meaning(name).rank, not _mean_of(name, role), -times[name]),
    )
    most = max((times[name] for name in ranked), default=0)
    ranked = [name for name in ranked if times[name] * 20 >= most] or ranked
    bits = [name for name in names if said[name].what == "bits"]
    from_perplexity = [name for name in names if said[name].what == "perplexity"]
    name = ranked[0] if ranked else None
    if name is None and bits:
        name = bits[0]
        unit: Unit = "bits/char" if {"bpc", "character", "char"} & set(words(name)) else "bits/byte"
        chosen.units[name] = unit
        if role == "val_loss" and unit == "bits/byte":
            chosen.roles[name] = "val_bpb"
            chosen.val = name
            return
    if name is None and from_perplexity:
        name = f"ln({from_perplexity[0]})"
        chosen.notes.append(f"{role} is the logarithm of {from_perplexity[0]}, nats per token if that is a token's")
    if name is None:
        return
    if role == "loss":
        chosen.train = name
    else:
        chosen.val = name
    if meaning(name).role != role or sum(meaning(other).role == role for other in names) > 1:
        chosen.roles[name] = role
    other = tuple(item for item in names if item != name)[:4]
    if facts is None:
        why = f"named so on {times.get(name, times.get(from_perplexity[0], 0) if from_perplexity else 0):,} rows"
        chosen.why.append(Inferred(name=f"column of {role}", value=name, why=why, alternatives=other))


def _mean_of(name: str, role: Role) -> bool:
    """True for the mean over an evaluation, which goes before the loss of its last batch."""
    return role == "val_loss" and bool({"avg", "mean"} & set(words(name)))


def _unit(chosen: Conclusion, rows: Sequence[PrintedRow], facts: LineFacts | None) -> None:
    """Conclude the unit of the losses from a perplexity beside them."""
    nats = bits = compared = 0
    for row in rows[:5000]:
        for name in (chosen.train, chosen.val):
            loss = number(row.values.get(name)) if name else None
            perplexity = next(
                (
                    number(row.values[other])
                    for other in row.values
                    if named(other).what == "perplexity" and named(other).split == named(name or "").split
                ),
                None,
            )
            if not loss or not perplexity or perplexity <= 1.0 or not math.isfinite(loss + perplexity) or loss <= 0.2:
                continue
            compared += 1
            nats += abs(math.log(perplexity) - loss) < CLOSE * loss + 0.01
            bits += abs(math.log2(perplexity) - loss) < CLOSE * loss + 0.01
    from_perplexity = {name for name in (chosen.train, chosen.val) if name and name.startswith("ln(")}
    if compared >= 2 and nats * 10 >= compared * 8:
        chosen.unit = "nats/token"
        _say_unit(chosen, facts, "nats/token", "the perplexity beside it is exp(loss)")
    elif compared >= 2 and bits * 10 >= compared * 8:
        chosen.unit, chosen.scale = "nats/token", LN2
        chosen.notes.append("losses are printed in bits (the perplexity beside them is 2^loss): times ln 2, in nats")
        _say_unit(chosen, facts, "nats/token", "the perplexity beside it is 2^loss; converted with ln 2")
    elif from_perplexity and from_perplexity == {name for name in (chosen.train, chosen.val) if name}:
        chosen.unit = "nats/token"
    elif chosen.units:
        for name, unit in chosen.units.items():
            _say_unit(chosen, facts, unit, f"{name} is named so")
    else:
        _say_unit(chosen, facts, "unknown", "nothing in the text says the unit of its loss")


def _say_unit(chosen: Conclusion, facts: LineFacts | None, unit: str, why: str) -> None:
    if facts is None:
        other = ("bits/byte", "bits/char", "not a language model's") if unit == "unknown" else ()
        chosen.why.append(Inferred(name="unit", value=unit, why=why, alternatives=other))


def _counter(chosen: Conclusion, rows: Sequence[PrintedRow]) -> None:
    """Conclude whether iterations, epochs or rows are counted."""
    main = [row for row in rows if chosen.train in row.values] if chosen.train else list(rows)
    main = main or list(rows)
    iters = [row for row in main if row.iter is not None]
    epochs = {row.epoch for row in main if row.epoch is not None}
    whole_bars = all(row.total == row.iter for row in iters)
    if len(iters) * 2 > len(main) and not (whole_bars and len(epochs) > 1):
        chosen.counts = "iter"
        totals = {row.total for row in iters}
        total = whole(totals.pop()) if len(totals) == 1 else None
        low = min((value for row in iters if (value := whole(row.iter)) is not None), default=0)
        # 0..99 of 100 has 100 an epoch, and so has 1..100 of 100.
        chosen.per_epoch = total if total and len(epochs) > 1 else None
        other = ("samples or tokens of an epoch", "epoch") if total and total > 10 * len(iters) else ("epoch", "rows")
        _say_counter(chosen, "iter", f"it stands on {len(iters):,} of {len(main):,} rows, from {low:,}", other)
    elif (name := rising_name(main)) is not None:
        chosen.counts, chosen.counter = "iter", name
        _say_counter(chosen, name, "its whole numbers rise from row to row", ("epoch", "rows"))
    elif len(epochs) * 2 > len(main) or (len(epochs) > 1 and whole_bars and iters):
        chosen.counts = "epoch"
        _say_counter(chosen, "epoch", f"{len(epochs):,} epochs on {len(main):,} rows", ("rows",))
    else:
        chosen.counts = "rows"
        why = "no counter stands on most of the rows" if not epochs else "an epoch has many rows without a counter"
        _say_counter(chosen, "rows of the train loss, from 1", why, ())
        chosen.notes.append("no iteration is printed: iter counts the rows of the train loss, from 1 (inferred)")


def _say_counter(chosen: Conclusion, value: str, why: str, other: tuple[str, ...]) -> None:
    chosen.why.insert(0, Inferred(name="column of iter", value=value, why=why, alternatives=other))


def _named_values(row: PrintedRow, chosen: Conclusion, count: int) -> dict[str, str | int | None]:
    """The values of a row as a table has them."""
    found: dict[str, str | int | None] = {}
    if chosen.counts == "iter" and (row.iter is not None or chosen.counter in row.values):
        found["iter"] = row.values.get(chosen.counter, row.iter)
    if chosen.counts in ("iter", "epoch") and row.epoch is not None:
        found["epoch"] = row.epoch
    if chosen.counts == "rows":
        found["iter"] = count
    for name, value in row.values.items():
        found[name] = value
        if named(name).what == "perplexity" and f"ln({name})" in (chosen.train, chosen.val):
            perplexity = number(value)
            if perplexity and perplexity > 0 and math.isfinite(perplexity):
                found[f"ln({name})"] = f"{math.log(perplexity):.6g}"
    return found


def like(seen: PrintedRows) -> str:
    """The look of the lines with losses, for people: the most frequent kind, and how often it stands there."""
    for kind in seen.losing():
        return f"{kind.tally.count:,} line{'s' * (kind.tally.count != 1)} like {kind.example!r}"
    common = max(seen.kinds, key=lambda kind: kind.tally.count, default=None)
    if common is None:
        return "no line with a named number"
    return f"no line that names a loss; most lines with numbers are like {common.example!r}"
