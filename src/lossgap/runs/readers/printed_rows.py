"""Rows of a text that holds the output of a training: what each line counts and which losses it names.

    Epoch 2 | Step 20/6501 | Loss: 6.68        a row at epoch 2, iteration 20 of 6,501 in that epoch
    [valid] Ep. 1 : Up. 5000 : ce : 4.5        the words of the line say which split the loss is of
    Epoch 3/10 / 100/1875 - loss: 0.3          a counter in a line of its own is that of the rows below it
    Step   Loss   / 10   2.4                   a table: the names stand in a line above the numbers

`PrintedRows.see` takes the lines in their order, `shapes` says what was seen, and `printed_runs` makes runs of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from lossgap.runs.readers.base import number, whole
from lossgap.runs.readers.metric_names import clean_name, words
from lossgap.runs.readers.pairs import NamedNumber, pairs
from lossgap.runs.readers.printed import Tally
from lossgap.runs.readers.printed_names import NOISE, SPLITS, Named, Split, named, split_of

MAX_ROWS: Final = 2_000_000
MAX_SHAPES: Final = 5000
_PHRASES: Final = (("Saving dict for global step", "eval global step"),)
"""The words that TensorFlow's estimators print before an evaluation."""
_BAR: Final = re.compile(r"[\x08\r]+")
_RULE: Final = re.compile(r"[\s|:+=_\-─━┃│┼┌┐└┘]+")
_CELLS: Final = re.compile(r"\s{2,}|\t|\|")


@dataclass(slots=True)
class PrintedRow:
    """The counters and values of one line."""

    line: int
    shape: int
    epoch: str | None = None
    iter: str | None = None
    total: str = ""
    """The number up to which `iter` runs, where the line says it."""
    wide: int = 0
    """How wide its counter counts: 0 batches, 1 steps, 2 updates."""
    own: bool = False
    """The counters stand in the line itself."""
    split: Split = ""
    values: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class LineShape:
    """A kind of line: the same names in the same order."""

    names: tuple[str, ...]
    example: str
    tally: Tally
    loss: bool


class PrintedRows:
    """Collects the rows of a text, line by line."""

    def __init__(self, names: Mapping[str, str] | None = None) -> None:
        self.names = names or {}
        """Names with a meaning of their own in a known format: {as printed, lower case: name}."""
        self.rows: list[PrintedRow] = []
        self.shapes: dict[tuple[str, ...], int] = {}
        self.kinds: list[LineShape] = []
        self.header: list[str] = []
        self.epoch: str | None = None
        self.iter: tuple[str, str] | None = None
        self.section: Split = ""
        self.run_up = ""
        """The end of the training's counter."""
        self.unread = Tally()
        self.full = False

    def see(self, line: int, text: str) -> None:
        """Take one line."""
        if "\0" in text:
            text = text.replace("\0", "")
        for phrase, meant in _PHRASES:
            if phrase in text:
                text = text.replace(phrase, meant)
        for part in _BAR.split(text) if "\x08" in text or "\r" in text else (text,):
            if part and not part.isspace():
                self._part(line, part)

    def _part(self, line: int, text: str) -> None:
        found = pairs(text) if any(char.isdigit() for char in text[:4000]) or "nan" in text else []
        if not found:
            self._heading(text)
            return
        if self.header and self._table(line, text):
            return
        row, losses, counted = self._row(line, text, found)
        if losses:
            self._keep(row)
        elif counted:
            self.section = ""
            self.epoch = row.epoch if row.epoch is not None else self.epoch
            if row.iter is not None:
                self.iter = (row.iter, row.total)
            elif row.epoch is not None:
                self.iter = None
        else:
            self.unread.add(line)

    def _keep(self, row: PrintedRow) -> None:
        if len(self.rows) >= MAX_ROWS:
            self.full = True
            return
        row.own = row.iter is not None or row.epoch is not None
        if row.split in ("", "train") and row.total:
            self.run_up = row.total
        row.epoch = row.epoch if row.epoch is not None else self.epoch
        if row.iter is None and self.iter is not None:
            row.iter, row.total = self.iter
        elif row.iter is not None:
            self.iter = None
        self.rows.append(row)

    def _heading(self, text: str) -> None:
        """A line without numbers: the names of a table, or a word that says which split follows."""
        if _RULE.fullmatch(text):
            return
        if len(text) < 120:
            said = [word for word in words(text) if word not in NOISE]
            split = split_of(said)
            if split and len(said) <= 4:
                self.section = split
        cells = [cell for cell in (cell.strip(" *`") for cell in _CELLS.split(text.strip())) if cell]
        if len(cells) < 2:
            cells = text.split()
        known = [named(cell) for cell in cells] if 2 <= len(cells) <= 40 else []
        self.header = cells if any(item.what in ("loss", "perplexity", "bits") for item in known) else []

    def _table(self, line: int, text: str) -> bool:
        """A row of numbers below its names."""
        cells = [cell.strip(" *`") for cell in _CELLS.split(text.strip().strip("|"))]
        if len(cells) != len(self.header):
            cells = [cell for cell in cells if cell]
        if len(cells) != len(self.header):
            cells = text.split()
        if len(cells) != len(self.header):
            return False
        numbers = [number(cell) is not None for cell in cells]
        if sum(numbers) < 2 or sum(numbers) * 2 < len(cells):
            return False
        found = [
            NamedNumber(name, cell) for name, cell in zip(self.header, cells, strict=True) if number(cell) is not None
        ]
        row, losses, _ = self._row(line, text, found)
        if losses:
            self._keep(row)
        return losses

    def _row(self, line: int, text: str, found: Sequence[NamedNumber]) -> tuple[PrintedRow, bool, bool]:
        """The row of a line; whether it has a loss; whether it has counters and nothing else of note."""
        row = PrintedRow(line, 0)
        shape: list[str] = []
        losses, others, seen_loss, lead = 0, 0, "", True
        split: Split = ""
        counter_last = bare = False
        for at, pair in enumerate(found):
            counter_last = False
            if pair.name and set(words(pair.name)) <= SPLITS:
                after = found[at + 1] if at + 1 < len(found) else None
                if pair.total or (
                    after is not None and after.total and not after.name and whole(pair.value) is not None
                ):
                    # `Train: 3 [50/1251]` of image models is epoch and batch, `Test: [0/48]` a batch.
                    split = split_of(words(pair.name))
                    if pair.total:
                        pair = NamedNumber("", pair.value, pair.total, pair.unit, pair.parent)
                    else:
                        pair = NamedNumber("epoch", pair.value)
            item = self._named(pair, seen_loss)
            split = split_of(words(pair.parent)) or split if lead else split
            if item.split and item.what in ("iter", "epoch", "other", "none"):
                split = item.split
            if not pair.name:
                taken = self._bare(row, pair, lead, seen_loss, split)
                bare = bare or bool(taken)
                if taken:
                    shape.append(taken)
            elif item.what == "epoch":
                if row.epoch is None:
                    row.epoch = pair.value
                shape.append("epoch")
                counter_last = True
            elif item.what == "iter":
                if bare and whole(pair.value) is not None:
                    row.iter, bare = None, False
                self._counter(row, pair, item)
                shape.append("iter")
                counter_last = True
            elif item.what == "none" or pair.unit == "%":
                pass
            else:
                name = self._label(item, split or self._section(row))
                if item.what in ("loss", "perplexity", "bits"):
                    if pair.unit or number(pair.value) is None:
                        continue
                    losses += 1
                    seen_loss = name
                    row.split = item.split or split or self._section(row) or row.split
                else:
                    others += 1
                row.values.setdefault(name, pair.value)
                shape.append(name)
            lead = False
        row.shape = self._shape(tuple(shape), text, line, losses > 0)
        counted = row.epoch is not None or row.iter is not None
        return row, losses > 0, counted and (others == 0 or counter_last)

    def _named(self, pair: NamedNumber, seen_loss: str) -> Named:
        known = self.names.get(pair.name.lower())
        if known is not None:
            return named(known)
        item = named(pair.name) if pair.name else Named("none")
        bare = set(words(pair.name)) if pair.name else set()
        if bare and bare <= {"train", "val", "test", "curr", "avg", "current"}:
            parent = seen_loss if seen_loss and not (bare & {"curr", "avg", "current"}) else pair.parent
            if named(parent).what == "epoch" and bare <= SPLITS:
                return Named("epoch", parent, split_of(sorted(bare)))
            if named(parent).what == "loss":
                return Named("loss", f"{split_of(sorted(bare)) or ''} loss".strip(), split_of(sorted(bare)))
        return item

    def _section(self, row: PrintedRow) -> Split:
        """The split that a heading said, for rows below it that are not the training's next ones."""
        if row.epoch is not None or (row.iter is not None and row.total in ("", self.run_up)):
            self.section = ""
        return self.section

    def _label(self, item: Named, split: Split) -> str:
        """The name under which a value is kept: with the split that only the line says."""
        name = clean_name(item.name)
        if item.what in ("loss", "perplexity", "bits") and not split_of(words(name)):
            split = item.split or split
            return f"{split} {name}" if split else name
        return name

    def _bare(self, row: PrintedRow, pair: NamedNumber, lead: bool, seen_loss: str, split: Split) -> str:
        """A number without a name: a fraction or a number at the beginning counts; one behind a loss is its mean."""
        if pair.total and row.iter is None and not seen_loss and not pair.unit:
            at, total = whole(pair.value), whole(pair.total)
            if at is not None and total is not None and 0 <= at <= total:
                row.iter, row.total = pair.value, pair.total
                return "iter"
        elif lead and not pair.unit and row.iter is None and whole(pair.value) is not None:
            row.iter = pair.value
            return "#"
        elif seen_loss and split in ("val", "test") and pair.parent and seen_loss.endswith(pair.parent):
            row.values[seen_loss] = pair.value
        return ""

    @staticmethod
    def _counter(row: PrintedRow, pair: NamedNumber, item: Named) -> None:
        """The widest counter of a line counts: `global_step`, `num_updates`, then steps, then batches."""
        found = set(words(item.name))
        wide = 2 if found & {"global", "update"} else 0 if found & {"batch", "minibatch", "round"} else 1
        if (row.iter is None or wide > row.wide) and whole(pair.value) is not None:
            row.iter, row.total, row.wide = pair.value, pair.total, wide

    def _shape(self, names: tuple[str, ...], text: str, line: int, loss: bool) -> int:
        at = self.shapes.get(names)
        if at is None:
            if len(self.kinds) >= MAX_SHAPES:
                return -1
            at = self.shapes[names] = len(self.kinds)
            self.kinds.append(LineShape(names, text.strip()[:160], Tally(), loss))
        self.kinds[at].tally.add(line)
        return at

    def losing(self) -> Iterator[LineShape]:
        """The kinds of lines that hold a loss, the most frequent first."""
        yield from sorted((kind for kind in self.kinds if kind.loss), key=lambda kind: -kind.tally.count)
