"""JSON lines: one object per line with a step and metrics, nested or not, with NaN, settings among them, restarts.

{"config": {"lr": 6e-4}}                                   settings of what follows
{"step": 1, "loss": 2.3, "train": {"grad_norm": 0.5}}      nested names are joined with /
{"split": "val", "step": 100, "loss": 2.2}                 a text that says which split the loss is of
{"metric": "val_loss", "value": 2.2, "step": 100}          one value per line
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

from lossgap.runs.readers.base import NO, WEAK, Head, Number, Run, Source, number
from lossgap.runs.readers.columns import Traits
from lossgap.runs.readers.metric_names import meaning, words
from lossgap.runs.readers.named_rows import NamedRows
from lossgap.runs.readers.setting_names import KNOWN, leaves

SPLIT_KEYS: Final = frozenset({"split", "mode", "phase", "stage", "set", "subset", "type", "kind", "event", "prefix"})
NAME_KEYS: Final = ("metric", "name", "tag", "key")
CONFIG_KEYS: Final = ("config", "args", "hparams", "hyperparameters", "hyper_parameters", "settings", "cfg", "params")
_PART: Final = re.compile(r"(?:global_|current_)?(?:step|iter|iteration)s?/(?:max|total)_\w{1,20}")
_WRAPPERS: Final = {"metrics", "data", "logs", "log", "stats", "values", "scalars", "payload"}


_NAMED: Final = re.compile(r'"([^"\\]{1,80})"\s{0,20}:')
_HISTORY: Final = re.compile(r'"[^"\\]{0,60}loss[^"\\]{0,60}"\s{0,20}:\s{0,20}\[')
"""A list of losses: a history as columns."""


class Printed(str):
    """A JSON number as it was printed."""

    __slots__ = ()


_DECODER: Final = json.JSONDecoder(parse_float=Printed, parse_int=Printed, parse_constant=Printed)


def parse(text: str) -> object:
    """JSON with every number as `Printed`; None for anything else. Raises nothing, however deep."""
    try:
        found: object = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None
    return found


def plain_json(value: object, depth: int = 0) -> object:
    """The same with numbers as int and float."""
    if isinstance(value, Printed):
        return int(value) if value.lstrip("-").isdigit() and len(value) < 400 else number(value)
    if isinstance(value, dict):
        return {str(name): plain_json(item, depth + 1) for name, item in value.items()} if depth < 16 else {}
    if isinstance(value, list):
        return [plain_json(item, depth + 1) for item in value[:200]] if depth < 16 else []
    return value


def flat(row: dict[str, object]) -> Iterator[tuple[str, object]]:
    """`(name, value)` of the object's numbers and texts; nested names joined with `/`, mere wrappers left out."""
    if not any(isinstance(value, dict) for value in row.values()):
        yield from row.items()
        return
    for path, value in leaves(row):
        yield "/".join(name for name in path if name not in _WRAPPERS) or path[-1], value


def numbers(row: dict[str, object]) -> dict[str, Number]:
    """The metrics of a row: numbers, and texts that are numbers where the name says what they are."""
    found: dict[str, Number] = {}
    for name, value in flat(row):
        if isinstance(value, str) and _PART.fullmatch(name) and "/" in value:  # `"global_step/max_steps": "10/294"`
            name, value = name.partition("/")[0], value.partition("/")[0].strip()
        if isinstance(value, Printed) or (
            isinstance(value, str) and meaning(name).role != "other" and number(value) is not None
        ):
            found[name] = value
    return found


def with_split(row: dict[str, object], found: dict[str, Number]) -> dict[str, Number]:
    """Names with the split that a text of the row states: `loss` of `{"split": "val"}` is `val/loss`."""
    for key in SPLIT_KEYS & row.keys():
        said = row.get(key)
        if isinstance(said, str) and not isinstance(said, Printed):
            split = {"train", "val", "test"} & set(words(said))
            if len(split) == 1:
                prefix = split.pop()
                return {f"{prefix}/{name}" if _bare(name) else name: value for name, value in found.items()}
    return found


def _bare(name: str) -> bool:
    said = meaning(name)
    return said.split == "unknown" and said.role not in ("iter", "epoch", "tokens", "lr", "seconds", "ms")


def one_value(row: dict[str, object]) -> dict[str, Number] | None:
    """The metric of a row in the long form; None if it has another form."""
    if not isinstance(row.get("value"), Printed):
        return None
    for key in NAME_KEYS:
        name = row.get(key)
        if isinstance(name, str) and not isinstance(name, Printed):
            rest = {other: value for other, value in row.items() if other not in (key, "value")}
            return {**numbers(rest), name: row["value"]}  # type: ignore[dict-item]  # checked above
    return None


def settings(row: dict[str, object], *, first: bool) -> dict[str, object] | None:
    """The settings in a row that has no metrics of an iteration; None if it holds none."""
    if any(meaning(name).role in ("loss", "val_loss") for name in row):
        return None
    for key in CONFIG_KEYS:
        inner = row.get(key)
        if isinstance(inner, dict):
            found = plain_json(inner)
            return found if isinstance(found, dict) else None
    names = {str(name) for name in row}
    roles = {meaning(name).role for name, _ in flat(row)}
    if not roles & {"iter", "loss", "val_loss"} and len(names & KNOWN) >= (2 if first else 3):
        found = plain_json(row)
        return found if isinstance(found, dict) else None
    return None


def document_rows(document: object) -> list[dict[str, object]] | None:
    """The rows of a document that is one: an array of objects, or columns as lists; None for anything else."""
    if isinstance(document, dict):
        for key in ("history", "log_history", "logs", "data", "metrics", "rows"):
            inner = document.get(key)
            if isinstance(inner, dict | list) and (found := document_rows(inner)):
                return found
        columns = {name: value for name, value in document.items() if isinstance(value, list) and value}
        most = max((len(value) for value in columns.values()), default=0)
        if most < 2 or not any(isinstance(item, Printed) for value in columns.values() for item in value[:3]):
            return None
        return [{name: value[at] for name, value in columns.items() if at < len(value)} for at in range(most)]
    if isinstance(document, list) and document and all(isinstance(item, dict) for item in document):
        return document
    return None


class JsonlReader:
    """JSON lines of any trainer."""

    name = "jsonl"
    title = "JSON lines"

    def score(self, head: Head) -> float:
        """WEAK for lines of which most are JSON objects, more where they hold a step and a loss."""
        if head.folder:
            return NO
        start = head.text.lstrip()[:1]
        if start == "[" or (start == "{" and _HISTORY.search(head.text[:4000])):
            return self._whole(head)
        lines = [line for line in head.lines[:200] if line.strip()][:40]
        rows = [row for row in (parse(line) for line in lines) if isinstance(row, dict)]
        if not rows or len(rows) * 2 < len(lines):
            return NO
        roles = {meaning(name).role for row in rows for name, _ in flat(row)} | (
            {"loss"} if any(one_value(row) for row in rows) else set()
        )
        return WEAK + 0.25 if roles & {"iter", "epoch"} and roles & {"loss", "val_loss"} else WEAK

    def _whole(self, head: Head) -> float:
        """For one document: an array of rows, or an object of columns."""
        names = set(_NAMED.findall(head.text[:8000]))
        return WEAK + 0.25 if {"loss", "val_loss", "val_bpb"} & {meaning(name).role for name in names} else NO

    def read(self, source: Source) -> list[Run]:
        """The runs of the file. Raises SourceError."""
        rows = NamedRows(source, self.name, Traits())
        if source.head().text.lstrip()[:1] in ("[", "{"):
            document = parse(source.text())
            whole = document_rows(document)
            if whole is not None:
                rows.facts.note("one document: line numbers are those of its rows")
                for line, row in enumerate(whole, 1):
                    self._row(rows, line, row)
                return rows.runs()
        for line, text in source.lines():
            if text.strip():
                self._line(rows, line, text)
        return rows.runs()

    def _line(self, rows: NamedRows, line: int, text: str) -> None:
        row = parse(text)
        if not isinstance(row, dict):
            if text.lstrip().startswith("{"):
                rows.facts.damaged(line)
            else:
                rows.facts.not_understood(line)
            return
        self._row(rows, line, row)

    def _row(self, rows: NamedRows, line: int, row: dict[str, object]) -> None:
        said = settings(row, first=not rows.lines)
        if said is not None:
            rows.heading(line, said, f"line {line}")
            return
        found = one_value(row)
        if found is None:
            found = with_split(row, numbers(row))
        if not rows.add(line, found):
            rows.facts.not_understood(line)


READER = JsonlReader()
