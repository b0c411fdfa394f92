"""Which column of a table has which role in a run: by the names, by what the format says, by `--columns`.

Names are taken first; then one loss that has no plainer name beside it is the loss, a train_loss that never stands
without a val_loss was measured with it, an MFU above 1 is in percent, and an iteration that begins again in
every epoch goes on over them. Each such choice is a note.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np

from lossgap.runs.readers.base import Number, Series, SourceError, decimals
from lossgap.runs.readers.metric_names import ASKED, EVAL_ROLES, Meaning, Role, Split, clean_name, meaning
from lossgap.runs.run import Kind, Unit
from lossgap.settings import did_you_mean
from lossgap.strangers import one_line

_FULL_PRECISION: Final = 8
"""More decimals than this are the whole number, not a rounded one."""
_FEW: Final = 3
"""Fewer values say nothing about the decimals."""


@dataclass(frozen=True, kw_only=True)
class Traits:
    """The facts that a format gives about its values where their names do not."""

    loss: Kind = "unknown"
    unit: Unit = "unknown"
    units: Mapping[str, Unit] = field(default_factory=dict)
    """Units of their own, by name."""
    roles: Mapping[str, Role] = field(default_factory=dict)
    """Names with a meaning of their own in this format."""
    scales: Mapping[str, float] = field(default_factory=dict)
    """Factors by name, to the units of the columns."""
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    beside: Literal["row", "step", "no"] = "row"
    """Where a train_loss must stand with a val_loss, and never without, to have been measured with it."""
    counts: str = ""
    """The unit that an iteration counts, where the format knows it: `epochs`."""
    per_epoch: int | None = None
    """Iterations of an epoch, where the format knows them."""


class Column:
    """The values under one name, with the rows they are in."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows = array("q")
        self.values = array("d")
        self.decimals = 0

    def add(self, row: int, value: float, printed: Number) -> None:
        """The value in `row`, and the text that it was printed as."""
        self.rows.append(row)
        self.values.append(value)
        # Most values have no more characters behind the point than those before them: that is cheaper to see.
        if isinstance(printed, str) and not 0 <= printed.find(".") < len(printed) - 1 - self.decimals:
            return
        if self.decimals <= _FULL_PRECISION:
            self.decimals = max(self.decimals, decimals(printed) or 0)

    @property
    def digits(self) -> int | None:
        """Decimals as printed; trailing zeros are dropped by most writers, so the longest value tells."""
        return self.decimals if len(self.values) >= _FEW and 0 < self.decimals <= _FULL_PRECISION else None

    @property
    def rising(self) -> bool:
        """True if the values never fall."""
        found = np.frombuffer(self.values)
        return bool(np.all(found[1:] >= found[:-1]))


@dataclass
class Plan:
    """Which column has which role."""

    columns: dict[Role, Column] = field(default_factory=dict)
    scales: dict[Role, float] = field(default_factory=dict)
    others: list[Column] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stride: int | None = None
    """Iterations of an epoch, where the iteration begins again in each."""
    first_epoch: int = 0


class Planner:
    """Makes the plan of a table; `asked` is what `--columns` says, {word: column}."""

    def __init__(self, columns: Mapping[str, Column], traits: Traits, asked: Mapping[str, str], name: str) -> None:
        self.columns = columns
        self.traits = traits
        self.asked = asked
        self.name = name

    def meaning(self, name: str) -> Meaning:
        """Return the meaning of the values under a name, in this format."""
        found = meaning(name)
        role = self.traits.roles.get(name)
        return found if role is None else replace(found, role=role, rank=-1)

    def plan(self) -> Plan:
        """Which column has which role. Raises SourceError `columns-missing`."""
        plan = Plan()
        candidates: dict[Role, list[Column]] = {}
        for column in self.columns.values():
            candidates.setdefault(self.meaning(column.name).role, []).append(column)
        plan.others = candidates.pop("other", [])
        for role, columns in candidates.items():
            columns.sort(key=lambda column: (self.meaning(column.name).rank, -len(column.values), column.name))
            plan.columns[role] = columns[0]
            plan.others += columns[1:]
        self._obey(plan)
        self._fallbacks(plan)
        self._beside(plan)
        self._scale(plan)
        self._within_epochs(plan)
        self._explain(plan)
        return plan

    def _obey(self, plan: Plan) -> None:
        """Apply what `--columns` asks for."""
        for word, name in self.asked.items():
            column = self.columns.get(name)
            if column is None:
                if not self.columns:
                    continue
                advice = did_you_mean(name, self.columns)
                advice = advice or f"it has {one_line(', '.join(list(self.columns)[:20]))}"
                raise SourceError(
                    "columns-missing",
                    f"--columns {word}={one_line(name)}: {one_line(self.name)} has no such column of numbers; {advice}",
                )
            role = ASKED[word]
            for held in [held for held, other in plan.columns.items() if other is column]:
                del plan.columns[held]
            if role in plan.columns:
                plan.others.append(plan.columns[role])
            plan.others = [other for other in plan.others if other is not column]
            plan.columns[role] = column

    def _fallbacks(self, plan: Plan) -> None:
        """One loss among others is the loss if it is the only one; a counter that falls and rises is not a loss."""
        wanted: tuple[tuple[Role, tuple[str, ...]], ...] = (("val_loss", ("val",)), ("loss", ("train", "unknown")))
        for role, splits in wanted:
            if role in plan.columns or (role == "loss" and "eval_train_loss" in plan.columns):
                continue
            near = [
                column
                for column in plan.others
                if self.meaning(column.name).loss
                and column.name not in self.traits.roles
                and self.meaning(column.name).split in splits
            ]
            if len(near) == 1:
                plan.columns[role] = near[0]
                plan.others.remove(near[0])
                plan.notes.append(f"{role} is {clean_name(near[0].name)}, the only such loss (guessed)")
            elif near:
                names = ", ".join(clean_name(column.name) for column in near[:6])
                plan.notes.append(
                    f"{len(near)} losses ({names}) and none is called just that: kept as other metrics; "
                    f"--columns {role}={clean_name(near[0].name)} takes one"
                )
        if "tokens" in plan.columns and not plan.columns["tokens"].rising:
            self._drop(plan, "tokens", "does not count from the beginning")
        if "seconds" in plan.columns and not plan.columns["seconds"].rising:
            self._drop(plan, "seconds", "is not the time since the beginning")

    def _drop(self, plan: Plan, role: Role, why: str) -> None:
        column = plan.columns[role]
        if column.name in self.asked.values() or _falls_with(column, plan.columns.get("iter")):
            return
        plan.others.append(plan.columns.pop(role))
        plan.notes.append(f"{clean_name(column.name)} {why}: kept as another metric")

    def _beside(self, plan: Plan) -> None:
        """A train_loss that never stands without val_loss was measured with it, if iterations are counted."""
        val = plan.columns.get("val_loss")
        steps = plan.columns.get("iter")
        if not (self.traits.beside != "no" and val and steps) or "eval_train_loss" in plan.columns:
            return
        step_of = dict(zip(steps.rows, steps.values, strict=True))
        place: Callable[[int], float | None] = step_of.get if self.traits.beside == "step" else float
        beside = {place(row) for row in val.rows}
        further = [column for column in plan.others if self.meaning(column.name).role == "loss"]
        losses = [plan.columns.get("loss"), *further]
        for train in losses:
            if train is None or train.name in self.asked.values() or train.name in self.traits.roles:
                continue
            said = self.meaning(train.name)
            if said.split == "train" and said.kind == "unknown" and {place(row) for row in train.rows} <= beside:
                break
        else:
            return
        if plan.columns.get("loss") is train:
            del plan.columns["loss"]
        else:
            plan.others.remove(train)
        plan.columns["eval_train_loss"] = train
        plan.notes.append(
            f"{clean_name(train.name)} stands only beside {clean_name(val.name)}: read as the loss of the training "
            "split at the evaluations (guessed)"
        )
        rest = [column for column in plan.others if self.meaning(column.name).role == "loss"]
        if rest and "loss" not in plan.columns:
            plan.columns["loss"] = rest[0]
            plan.others.remove(rest[0])

    def _scale(self, plan: Plan) -> None:
        for role, column in plan.columns.items():
            if column.name in self.traits.scales:
                plan.scales[role] = self.traits.scales[column.name]
        mfu = plan.columns.get("mfu")
        if mfu is not None and "mfu" not in plan.scales:
            values = np.frombuffer(mfu.values)
            percent = "%" in mfu.name or "percent" in mfu.name.lower() or "pct" in mfu.name.lower()
            if percent or bool(np.any(values > 1.0)) or bool(np.any(values == -100.0)):
                plan.scales["mfu"] = 0.01
                plan.notes.append(f"{clean_name(mfu.name)} is in percent" + ("" if percent else " (guessed)"))
            if bool(np.any(values < 0.0)):
                plan.notes.append(f"{clean_name(mfu.name)} below 0 is not measured yet: left out")

    def _within_epochs(self, plan: Plan) -> None:
        """Find whether the iteration begins again in every epoch: it never goes back but where the epoch goes on."""
        steps, epochs = plan.columns.get("iter"), plan.columns.get("epoch")
        if steps is None or epochs is None:
            return
        epoch_of = dict(zip(epochs.rows, epochs.values, strict=True))
        last: tuple[float, float] | None = None
        back = 0
        for row, step in zip(steps.rows, steps.values, strict=True):
            epoch = epoch_of.get(row)
            if epoch is None or not math.isfinite(epoch) or not math.isfinite(step):
                continue
            if last is not None and step < last[0]:
                if epoch <= last[1]:
                    return
                back += 1
            last = (step, epoch)
        found = [epoch for epoch in epoch_of.values() if math.isfinite(epoch)]
        counted = [step for step in steps.values if math.isfinite(step)]
        if not back or any(epoch != int(epoch) for epoch in found):
            return
        plan.first_epoch = int(min(found))
        stated = self.traits.per_epoch
        plan.stride = int(max(counted)) + (1 if min(counted) == 0 else 0)
        why = "being the highest seen (guessed)"
        if stated is not None and stated + 1 >= plan.stride:
            plan.stride, why = stated, "as printed"
        plan.notes.append(
            f"{clean_name(steps.name)} begins again in every epoch: iter is epoch x {plan.stride:,} + "
            f"{clean_name(steps.name)}, {plan.stride:,} {why}"
        )

    def _explain(self, plan: Plan) -> None:
        taken = [f"{_shown(role)} from {clean_name(column.name)}" for role, column in plan.columns.items()]
        if taken:
            plan.notes.insert(0, f"columns: {', '.join(taken)}")
        if "iter" not in plan.columns and self.columns:
            what = "epochs" if "epoch" in plan.columns else "rows, from 1"
            plan.notes.append(f"no column counts iterations: iter counts {what}")
        elif self.traits.counts:
            plan.notes.append(f"iter counts {self.traits.counts}")
        if not {"loss", "val_loss", "eval_train_loss", "val_bpb"} & set(plan.columns) and self.columns:
            plan.notes.append("no column is recognised as a loss; --columns loss=NAME says one")
        if any(meaning(column.name).perplexity for column in plan.others):
            plan.notes.append("a perplexity is exp(loss) and no loss: kept as another metric")

    def series(self, column: Column, role: Role) -> Series:
        """Return what the values of a column in that role mean."""
        said = self.meaning(column.name)
        kind = self.traits.kinds.get(column.name, said.kind)
        if role == "loss" and kind == "unknown":
            kind = self.traits.loss
        split: Split = "val" if role in ("val_loss", "val_bpb") else "train" if role != "other" else said.split
        if role in EVAL_ROLES and kind == "unknown":
            kind = "eval-mean" if split == "val" else "unknown"
        mode: Literal["train", "eval", "unknown"] = "unknown"
        if role == "loss" or split == "val":
            mode = "train" if role == "loss" else "eval"
        unit: Unit = "bits/byte" if said.bits else "unknown"
        if said.loss or column.name in self.traits.roles:
            unit = unit if said.bits else self.traits.unit
        unit = self.traits.units.get(column.name, unit)
        return Series(kind=kind, split=split, mode=mode, unit=unit, digits=column.digits)


def _shown(role: Role) -> str:
    return {"loss": "train loss", "eval_train_loss": "train loss at evaluations"}.get(role, role)


def _falls_with(column: Column, steps: Column | None) -> bool:
    """True if the values fall only where the iteration does, as in a file with several runs."""
    if steps is None:
        return False
    step_of = dict(zip(steps.rows, steps.values, strict=True))
    last: tuple[float, float] | None = None
    for row, value in zip(column.rows, column.values, strict=True):
        step = step_of.get(row)
        if step is None:
            continue
        if last is not None and value < last[1] and step >= last[0]:
            return False
        last = (step, value)
    return True
