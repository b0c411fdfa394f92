"""Keras' CSVLogger: `epoch,accuracy,loss,val_loss`, a row per epoch, the columns after the first in alphabetical order.

The loss is the mean over the epoch's batches, in train mode, while the weights change; val_loss is measured at
the end of the epoch. Learning rate: `learning_rate` or `lr`.
"""

from __future__ import annotations

from lossgap.runs.readers.base import LIKELY, NO, Head, Run, Source
from lossgap.runs.readers.columns import Traits
from lossgap.runs.readers.formats.csv_table import collect, find_table, numeric_rows
from lossgap.runs.readers.named_rows import NamedRows


class KerasReader:
    """Keras' CSVLogger."""

    name = "keras"
    title = "Keras CSVLogger"

    def score(self, head: Head) -> float:
        """LIKELY for `epoch` first, then names in order, among them `loss`."""
        if head.folder:
            return NO
        table = find_table(head.lines[:40])
        if table is None or not table.has_header or table.names[0] != "epoch" or "loss" not in table.names:
            return NO
        rest = table.names[1:]
        in_order = rest == sorted(rest) or rest[:1] == ["loss"]
        return LIKELY + 0.05 if in_order and "step" not in rest and numeric_rows(head, table) else NO

    def read(self, source: Source) -> list[Run]:
        """The runs of the table. Raises SourceError."""
        rows = NamedRows(source, self.name, Traits(loss="interval-mean", beside="no"))
        table = find_table([text for _, text in zip(range(60), (text for _, text in source.lines()), strict=False)])
        if table is not None:
            rows.facts.note("loss is the mean over the epoch while the weights change; val_loss is of its end")
            collect(source, table, rows)
        return rows.runs()


READER = KerasReader()
