"""Figures: a small TOML for what people have when they have no log.

    [run]
    name = "4070 Ti"
    device = "RTX 4070 Ti"        # free text
    source = "a note"
    iteration = 5000              # of the values below
    train_loss = 0.62             # means of an evaluation
    val_loss = 1.70
    iter_loss = 0.82              # of one iteration
    mfu = 9.99                    # per cent, as nanoGPT prints it
    ms = 4447.0                   # of one iteration

    [[evals]]                     # more rows, any number
    iteration = 250
    val_loss = 2.07

    [[iters]]                     # iter_loss, mfu, ms at other iterations
    iteration = 2000
    ms = 116.0

    [config]                      # settings, if they are known
    batch_size = 64

Numbers are taken as they are written: 1.70 has two decimals, and a comparison knows the rounding.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping

from lossgap.runs.readers.base import LIKELY, NO, SURE, Head, RunBuilder, Series, Source, SourceError, number
from lossgap.runs.readers.statements import plain
from lossgap.runs.run import Run
from lossgap.settings import did_you_mean
from lossgap.strangers import one_line, short

TEXTS = ("name", "device", "source")
EVAL = ("iteration", "train_loss", "val_loss")
ITER = ("iteration", "iter_loss", "mfu", "ms")
RUN = (*TEXTS, "iteration", "train_loss", "val_loss", "iter_loss", "mfu", "ms")
TABLES = ("run", "evals", "iters", "config")
LIMIT = 1 << 20


class Figure(str):
    """A number as it is written."""

    __slots__ = ()


class Figures:
    """A figures file."""

    name = "figures"
    title = "figures file (TOML)"

    def score(self, head: Head) -> float:
        """A TOML file with a [run] table."""
        if head.folder or "[run]" not in head.text:
            return NO
        if head.suffix == ".toml":
            return SURE
        return LIKELY if any(line.strip() == "[run]" for line in head.lines) else NO

    def read(self, source: Source) -> list[Run]:
        """The one run. Raises SourceError `figures-not-toml`, `figures-invalid`."""
        text = source.text(LIMIT).replace("\r\n", "\n")
        where = one_line(source.name)
        try:
            document = tomllib.loads(text, parse_float=Figure)
        except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
            raise SourceError("figures-not-toml", f"{where}: not TOML: {one_line(str(error))}") from None
        _names(document, TABLES, where, "the file")
        builder = RunBuilder(source, self.name)
        run = _table(document.get("run"), RUN, where, "[run]")
        for name in TEXTS:
            if name in run and not isinstance(run[name], str):
                raise _invalid(where, f"[run] {name} = {short(run[name])}: write a text in quotes")
        builder.name = str(run.get("name", builder.name))
        builder.device = str(run["device"]) if "device" in run else None
        if "source" in run:
            builder.environment["source"] = run["source"]
        _rows(builder, document, run, where)
        for name, value in _table(document.get("config"), None, where, "[config]").items():
            builder.say(name, _setting(value), f"{where} [config]")
        for column, kind, split, mode in (
            ("iters.loss", "micro-batch", "train", "train"),
            ("evals.train_loss", "eval-mean", "train", "eval"),
            ("evals.val_loss", "eval-mean", "val", "eval"),
        ):
            builder.describe(column, Series(kind=kind, split=split, mode=mode, unit="nats/token"))  # type: ignore[arg-type]  # literals
        return [builder.build()]


def _rows(builder: RunBuilder, document: Mapping[str, object], run: Mapping[str, object], where: str) -> None:
    """All rows, by iteration: those of [run] are rows like any other."""
    evals = [("[[evals]]", row) for row in _tables(document.get("evals"), EVAL, where, "[[evals]]")]
    iters = [("[[iters]]", row) for row in _tables(document.get("iters"), ITER, where, "[[iters]]")]
    for names, rows in ((EVAL, evals), (ITER, iters)):
        own = {name: run[name] for name in names if name in run}
        if len(own) > ("iteration" in own):
            rows.append(("[run]", own))
    for table, rows in (("evals", evals), ("iters", iters)):
        checked = sorted(((_iteration(row, label, where), label, row) for label, row in rows), key=lambda item: item[0])
        for before, (at, label, _) in zip([None, *[item[0] for item in checked]], checked, strict=False):
            if at == before:
                raise _invalid(where, f"{label} iteration = {at} is there twice; keep one")
        for at, label, row in checked:
            values = {name: _figure(row[name], name, label, where) for name in row if name != "iteration"}
            if table == "evals":
                builder.eval(None, at, kind="eval", mode=None, **values)
            else:
                mfu = number(values.pop("mfu", None))
                loss = values.pop("iter_loss", None)
                builder.iter(None, at, loss=loss, mfu=None if mfu is None else mfu / 100, **values)


def _iteration(row: Mapping[str, object], label: str, where: str) -> int:
    value = row.get("iteration")
    if type(value) is not int or not 0 <= value < 2**62:
        raise _invalid(where, f"{label} iteration = {short(value)}: each row needs one, an int of at least 0")
    return value


def _figure(value: object, name: str, label: str, where: str) -> str:
    """A number as text, inside what it can be."""
    printed = str(value) if isinstance(value, Figure) or type(value) is int else None
    found = number(printed)
    if printed is None or found is None:
        raise _invalid(where, f"{label} {name} = {short(value)}: write a number")
    high = 100.0 if name == "mfu" else 1e12
    if not 0 <= found <= high and not (found != found):
        raise _invalid(where, f"{label} {name} = {printed}: must be between 0 and {high:g}")
    return printed


def _setting(value: object) -> object:
    return number(value) if isinstance(value, Figure) else plain(value)


def _table(value: object, names: tuple[str, ...] | None, where: str, label: str) -> dict[str, object]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _invalid(where, f"{label} must be a table of names and values")
    if names is not None:
        _names(value, names, where, label)
    return value


def _tables(value: object, names: tuple[str, ...], where: str, label: str) -> list[dict[str, object]]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _invalid(where, f"{label.strip('[]')} must be written as {label} tables")
    return [_table(item, names, where, label) for item in value]


def _names(table: Mapping[str, object], names: tuple[str, ...], where: str, label: str) -> None:
    for name in table:
        if name not in names:
            advice = did_you_mean(name, names) or f"it may hold {', '.join(names)}"
            raise _invalid(where, f"{label} has no {one_line(name, 60)}; {advice}")


def _invalid(where: str, problem: str) -> SourceError:
    return SourceError("figures-invalid", f"{where}: {problem} (docs/formats.md, figures)")


READER = Figures()
