"""The runs that a command line names, each with what was said of it: `--set test.block_size=64`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lossgap.errors import ConfigError
from lossgap.options import RunFlags
from lossgap.runs.run import Run
from lossgap.settings import read_text, settings_of
from lossgap.strangers import one_line

ALL = ""
"""The label of what is said of every run."""


@dataclass
class About:
    """The flags that describe one run."""

    config: str | None = None
    device: str | None = None
    format: str | None = None
    set: list[str] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)


def run_labels(count: int) -> tuple[str, ...]:
    """`control, test, test2, ...` for that many runs."""
    return ("control", "test", *(f"test{number}" for number in range(2, count)))


def load_named(named: Sequence[str], flags: RunFlags, command: str) -> list[Run]:
    """The runs that `lossgap COMMAND` was given, control first. Raises ConfigError and what reading raises."""
    if len(named) < 2:
        advice = f"give a control and a test: lossgap {command} CONTROL TEST"
        raise ConfigError("too-few-runs", f"{len(named)} of at least 2 runs; {advice}")
    return [run for side in load_sides([[source] for source in named], flags) for run in side]


def load_sides(sides: Sequence[Sequence[str]], flags: RunFlags) -> list[list[Run]]:
    """The runs of each side; all runs of a side have its label. Raises ConfigError and what reading raises."""
    if sum(side.count("-") for side in map(list, sides)) > 1:
        raise ConfigError("stdin-twice", "the standard input can be read once; give a file for the other run")
    labels, about = run_labels(len(sides)), said(flags)
    unknown = about.keys() - {*labels, ALL}
    if unknown:
        raise ConfigError(
            "no-such-label",
            f"{one_line(sorted(unknown)[0])} is not a run of this comparison; there are {', '.join(labels)}",
        )
    return [
        [_load(source, about.get(label, About()), about.get(ALL, About())) for source in side]
        for label, side in zip(labels, sides, strict=True)
    ]


def _load(source: str, own: About, every: About) -> Run:
    """The run with its own flags, `own`, and those given for all runs, `every`."""
    from lossgap.api import load_run

    return load_run(
        source,
        format=own.format or every.format,
        config=own.config,
        set=own.set,
        device=own.device,
        columns=every.columns | own.columns,
    )


def said(flags: RunFlags) -> Mapping[str, About]:
    """The flags' values for each run, by label. Raises ConfigError `bad-run-flag`, `bad-columns`."""
    found: dict[str, About] = {}
    for name, text in _given(flags):
        label, value = _of_a_run(name, text)
        about = found.setdefault(label, About())
        if name == "set":
            about.set.append(value)
        elif name == "columns":
            about.columns |= columns(value)
        else:
            setattr(about, name, value)
    return found


def columns(text: str) -> Mapping[str, str]:
    """`iter:step,val_loss:eval/loss` by role. Raises ConfigError `bad-columns`."""
    from lossgap.options import ReadOptions

    found: dict[str, str] = read_text(settings_of(ReadOptions)["columns"], text, "--columns")
    return found


def _given(flags: RunFlags) -> Iterator[tuple[str, str]]:
    for name in settings_of(RunFlags):
        for text in getattr(flags, name):
            yield name, text


def _of_a_run(name: str, text: str) -> tuple[str, str]:
    """The label and the value of `--NAME TEXT`; `ALL` where no run is named."""
    flag = f"--{name} {one_line(text)}"
    if name == "set":
        label, dot, assignment = text.partition(".")
        if not dot or "=" not in assignment or "=" in label:
            raise ConfigError("bad-run-flag", f"{flag}: write --set RUN.NAME=VALUE, e.g. --set control.block_size=64")
        return label.strip(), assignment
    label, equals, value = text.partition("=")
    if equals and value:
        return label.strip(), value
    if name in ("config", "device") or not text or equals:
        raise ConfigError("bad-run-flag", f"{flag}: write --{name} RUN=VALUE, e.g. --{name} control=...")
    return ALL, text
