"""Hugging Face's Trainer: `trainer_state.json`, and the dicts that it prints.

    {"log_history": [{"step": 500, "epoch": 0.91, "loss": 1.1409, "learning_rate": 1.8e-05}, ...], ...}
    {'loss': '2.31', 'grad_norm': '1.2', 'learning_rate': '5e-05', 'epoch': '0.1'}

`loss` is the mean since the last entry, printed with four decimals (newer versions: as text with four digits);
`train_loss` of the last entry is the mean over the whole run and no loss of its end. `eval_NAME_loss` are evaluation
sets with names, `predict_...` and `test_...` those of a test. The printed dicts have no step: it is taken from the
progress bar before them if there is one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from lossgap.runs.readers.base import LIKELY, NO, SURE, Head, Number, Run, Source, number, whole
from lossgap.runs.readers.columns import Traits
from lossgap.runs.readers.formats.jsonl import Printed, parse, plain_json
from lossgap.runs.readers.named_rows import NamedRows
from lossgap.runs.run import Inferred

STATE = "trainer_state.json"
MAX_ENTRIES: Final = 2_000_000
_TRAITS: Final = Traits(
    loss="interval-mean",
    beside="no",
    roles={"loss": "loss", "train_loss": "other", "epoch": "other", "num_input_tokens_seen": "tokens"},
    kinds={"train_loss": "run-mean"},
)
_STATE_SETTINGS: Final = {
    "max_steps": "max_iters",
    "train_batch_size": "batch_size",
    "logging_steps": "log_interval",
    "eval_steps": "eval_interval",
    "num_train_epochs": "num_train_epochs",
    "save_steps": "save_steps",
}
_DICT: Final = re.compile(
    r"\{\s*['\"](?:loss|eval_|train_|predict_|test_|epoch|grad_norm|learning_rate)[^{}]{0,20000}\}"
)
_PAIR: Final = re.compile(
    r"""\s*(?:'([^'\\]{1,200})'|"([^"\\]{1,200})")\s*:\s*("""
    r"""'[^'\\]{0,500}'|"[^"\\]{0,500}"|[-+\w.]{1,100}|(?:np|numpy)\.float(?:32|64)\([^()]{1,60}\)|tensor\([^()]{1,100}\))\s*(?:,|$)"""
)
_ENTRY: Final = re.compile(r"\{[^{}]*\}")
_BAR: Final = re.compile(r"(?:\|\s*|\s|^)(\d{1,12})/(\d{1,12}) \[\d")
_KEYS: Final = {"loss", "eval_loss", "train_loss", "train_runtime", "eval_runtime"}


class HuggingFaceReader:
    """Hugging Face's Trainer."""

    name = "huggingface"
    title = "Hugging Face Trainer"

    def score(self, head: Head) -> float:
        """SURE for a document with `log_history` and for the Trainer's dicts, LIKELY for a folder with the file."""
        if head.folder:
            return LIKELY + 0.1 if any(entry.rsplit("/", 1)[-1] == STATE for entry in head.entries) else NO
        start = head.text.lstrip()[:1]
        if start == "{" and '"log_history"' in head.text:
            return SURE
        if start == "{" and head.name.endswith(STATE):
            return LIKELY
        if start == "{" and _is_summary(parse(head.text)):
            return SURE
        if start == "{" and all(isinstance(parse(line), dict) for line in head.lines[:3] if line.strip()):
            return NO  # JSON lines, which have a reader of their own
        for line in head.sample:
            for found in _dicts(line):
                if "epoch" in found and (_KEYS & set(found) or any(name.startswith("eval_") for name in found)):
                    return SURE - 0.05
        return NO

    def read(self, source: Source) -> list[Run]:
        """The run of the document, or the runs of the log. Raises SourceError."""
        if source.is_folder:
            source = source.at(_state_in(source))
        if source.head().text.lstrip()[:1] == "{" and (runs := _read_state(source)) is not None:
            return runs
        return _read_stdout(source)


def _state_in(source: Source) -> Path:
    """The file in a folder, or that of its last checkpoint."""
    if (source.path / STATE).is_file():
        return source.path / STATE
    found = sorted(source.path.glob(f"*/{STATE}"), key=lambda path: (_count(path.parent.name), path.parent.name))
    return found[-1] if found else source.path / STATE


def _count(name: str) -> int:
    end = re.search(r"(\d{1,15})$", name)
    return int(end[1]) if end else -1


def _read_state(source: Source) -> list[Run] | None:
    """`trainer_state.json`; None for any other document."""
    text = source.text()
    document = parse(text)
    rows = NamedRows(source, HuggingFaceReader.name, _TRAITS)
    if document is None and '"log_history"' in text:
        document = {"log_history": [entry for entry in map(parse, _ENTRY.findall(text)) if _is_entry(entry)]}
        rows.facts.note("the document is damaged or torn: its whole entries are read one by one")
    if _is_summary(document):
        assert isinstance(document, dict)
        return _read_summary(rows, document)
    if not isinstance(document, dict) or not isinstance(document.get("log_history"), list):
        return None
    settings = {name: document[name] for name in _STATE_SETTINGS if document.get(name) is not None}
    for name, value in settings.items():
        plain = plain_json(value)
        if isinstance(plain, (int, float)) and not isinstance(plain, bool) and plain > 0:
            rows.heading(None, {_STATE_SETTINGS[name]: plain}, f"{STATE}: {name}")
    step: Number = None
    for at, entry in enumerate(document["log_history"][:MAX_ENTRIES], 1):
        if not isinstance(entry, dict):
            rows.facts.damaged(at)
            continue
        values = _numbers(entry)
        if whole(values.get("step")) is None:
            values["step"] = step if step is not None else 0
            rows.facts.note("an entry without a step is put at the step before it", at)
        step = values["step"]
        _add(rows, at, values)
    if document.get("log_history") == [] and "global_step" in document:
        rows.facts.note("log_history is empty: the run was shorter than its logging interval")
    rows.facts.note("line numbers are those of the entries of log_history, from 1")
    return _finished(rows, document)


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and "epoch" in entry


def _add(rows: NamedRows, line: int, values: dict[str, Number]) -> None:
    if "train_loss" in values and "train_runtime" in values:
        rows.facts.note("train_loss is the mean over the whole run, not the loss at its end", line)
    if not rows.add(line, values):
        rows.facts.not_understood(line)


def _numbers(entry: Mapping[str, object]) -> dict[str, Number]:
    """The numbers of an entry, those that are printed as text too."""
    return {str(name): value for name, value in entry.items() if isinstance(value, str) and number(value) is not None}


def _finished(rows: NamedRows, document: Mapping[str, object]) -> list[Run]:
    """The runs with what the head of the document says of the whole run."""
    steps, most = whole(_printed(document.get("global_step"))), whole(_printed(document.get("max_steps")))
    tokens = whole(_printed(document.get("num_input_tokens_seen")))
    runs = rows.runs()
    if steps and most and steps >= most > 0:
        runs = [replace(run, status="finished") for run in runs]
    if steps and tokens and tokens % steps == 0:
        why = f"num_input_tokens_seen {tokens:,} / global_step {steps:,}, padding included"
        runs = [
            replace(run, inferred=[*run.inferred, Inferred(name="tokens_per_iter", value=tokens // steps, why=why)])
            for run in runs
        ]
    return runs


def _is_summary(document: object) -> bool:
    """True for `all_results.json`, `train_results.json` and `eval_results.json`: one flat object of last values."""
    return isinstance(document, dict) and "epoch" in document and bool({"train_loss", "eval_loss"} & document.keys())


def _read_summary(rows: NamedRows, document: Mapping[str, object]) -> list[Run]:
    """The last values of a run, which has no row of an iteration there."""
    step = document.get("step", document.get("global_step"))
    values: dict[str, Number] = {
        str(name): value for name, value in document.items() if isinstance(value, Printed) and name not in ("step",)
    }
    epoch = number(_printed(document.get("epoch")))
    values["step"] = _printed(step) if step is not None else str(round(epoch or 0))
    if step is None:
        rows.facts.note("no step is stated: iter is the number of epochs, rounded")
    rows.facts.note("a summary of last values: train_loss is the mean over the whole run, no loss of its end")
    rows.add(None, values)
    return rows.runs()


def _printed(value: object) -> Number:
    return value if isinstance(value, Printed) else None


def _dicts(line: str) -> list[dict[str, str]]:
    """The Python dicts of numbers in a line, read as text: nothing is evaluated."""
    found = []
    for match in _DICT.finditer(line) if "{" in line else ():
        inner, at, values = match[0][1:-1].strip(), 0, {}
        while at < len(inner):
            pair = _PAIR.match(inner, at)
            if pair is None:
                break
            value = pair[3]
            if value[0] in "'\"":
                value = value[1:-1]
            elif "(" in value:
                value = value[value.index("(") + 1 : -1].split(",")[0]
            values[pair[1] or pair[2]] = value
            at = pair.end()
        if at >= len(inner) and values:
            found.append(values)
    return found


class _Bar:
    """The progress bars that went by: the training's has the total that stood before the first training loss."""

    def __init__(self) -> None:
        self.at: dict[str, str] = {}
        self.latest: str | None = None
        self.total: str | None = None
        self.entries = 0

    def see(self, text: str) -> bool:
        """Look for bars in `text`; whether it holds anything else than bars and blanks."""
        if not text.strip():
            return False
        bars = _BAR.findall(text)
        for step, total in bars:
            if total not in self.at and len(self.at) >= 1000:
                continue
            self.at[total] = step
            self.latest = total
        return not bars

    def step(self, entry: Mapping[str, str]) -> str | None:
        """The step at which `entry` was printed, by the training's bar."""
        if self.total is None and "loss" in entry:
            self.total = self.latest
        total = self.total or next(iter(self.at), None)
        return self.at.get(total) if total is not None else None


def _read_stdout(source: Source) -> list[Run]:
    """The dicts in a log, at the steps of the progress bar."""
    rows = NamedRows(source, HuggingFaceReader.name, _TRAITS)
    bar = _Bar()
    for line, text in source.lines():
        at, understood = 0, False
        for match in _DICT.finditer(text) if "{" in text else ():
            bar.see(text[at : match.start()])
            at = match.end()
            understood = True
            dicts = _dicts(match[0])
            if not dicts:
                rows.facts.damaged(line)
            for found in dicts:
                _add(rows, line, _placed(rows, bar, line, found))
        if bar.see(text[at:]) and not understood:
            rows.facts.not_understood(line)
    return rows.runs()


def _placed(rows: NamedRows, bar: _Bar, line: int, found: Mapping[str, str]) -> dict[str, Number]:
    """The numbers of a printed dict with the step that they are of."""
    values: dict[str, Number] = {name: value for name, value in found.items() if number(value) is not None}
    if "step" in values:
        return values
    step = bar.step(found)
    if step is not None:
        rows.facts.note("no step is printed: iter is that of the progress bar, which may lag by a few", line)
        values["step"] = step
    else:
        bar.entries += "loss" in found
        rows.facts.note("no step is printed: iter counts the entries of the training loss, from 1", line)
        values["step"] = bar.entries
    return values


READER = HuggingFaceReader()
