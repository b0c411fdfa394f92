"""`lossgap compare CONTROL TEST [TEST2 ...]`: what differs between runs, and what the evidence supports."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lossgap.arguments import Given, build, parse_arguments
from lossgap.errors import ConfigError
from lossgap.settings import setting
from lossgap.strangers import one_line

if TYPE_CHECKING:
    from lossgap.comparison import Comparison
    from lossgap.comparison.sides import Sides
    from lossgap.runs.run import Run

USAGE = """usage: lossgap compare CONTROL TEST [TEST2 ...] [--key=value ...]

Reads two runs, aligns them, says how big the gap (test minus control) is against the noise, what differs, and which
causes the evidence supports. More tests are each compared with the control. A run is a run folder, a checkpoint, a
log (PATH#2 for its second run), a figures file, a config file, a preset, or - for the standard input.

Several runs on each side:   lossgap compare A1 A2 A3 : B1 B2      or      A/*.log --against B/*.log
The spread over seeds is then measured. A folder of runs stands for all the runs in it.

  --margin=0.01               gaps within this count as none [nats per token]
  --spread=SD|FILE            a known standard deviation over seeds, or a file that says it
  --max-gap=X                 exit 2 if the upper end of the gap's 95% interval exceeds X, 3 if the verdict is
                              inconclusive or not-comparable
What a log does not say; RUN is control, test, test2, ...:
  --config RUN=FILE           settings from a config file or a preset
  --set RUN.NAME=VALUE        one setting; may be given again, as the others here
  --device RUN=NAME           the hardware, e.g. --device test="RTX 4070 Ti"
  --format [RUN=]NAME         the log's format, if it is not recognised
  --columns [RUN=]ROLE:NAME   columns of a table, e.g. --columns test=iter:step,val_loss:eval/loss
Output:
  --json                      one JSON document (schema lossgap.comparison/1)
  --html=FILE                 one self-contained page
  --png=FILE                  its chart
  --reevaluate                evaluate both checkpoints alike, so that the measurement is the same"""

REPEATABLE = ("config", "set", "device", "format", "columns")
"""Flags that are said of one run and may be given again."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of `lossgap compare` that are given once."""

    margin: float = setting(0.01, "gaps within this count as none", "nats per token")
    spread: str = setting("", "a known standard deviation over seeds, or a file that says it", "nats per token")
    max_gap: float | None = setting(None, "exit 2 if the gap may exceed this", "nats per token")
    json: bool = setting(False, "one JSON document")
    html: str = setting("", "write a page to this file")
    png: str = setting("", "write the chart to this file")
    reevaluate: bool = setting(False, "evaluate both checkpoints alike")


@dataclass
class About:
    """What the user says of one run."""

    config: str | None = None
    device: str | None = None
    format: str | None = None
    set: list[str] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)


def main(argv: Sequence[str]) -> int:
    """Compare; returns the exit code that `--max-gap` asks for. Raises LossgapError for what the user can mend."""
    from lossgap.comparison.sides import sides, with_colons

    said, rest = parted(with_colons(argv))
    given = parse_arguments(rest, Options)
    if given.help:
        print(USAGE)
        return 0
    options = build(Options, given)
    found = sides(given.positionals)
    if found is None:
        comparisons = _compare(given.positionals, load(given, said), options)
    else:
        comparisons = (_compare_groups(found, said, options),)
    _render(comparisons, options)
    from lossgap.comparison.comparison import exit_code

    return exit_code(comparisons)


def load(given: Given, said: Mapping[str, About], command: str = "compare") -> list[Run]:
    """The runs that were named, with what was said of each. Raises ConfigError and what reading raises."""
    from lossgap.runs.readers.source import load_run

    named = given.positionals
    if len(named) < 2:
        advice = f"give a control and a test: lossgap {command} CONTROL TEST"
        raise ConfigError("too-few-runs", f"{len(named)} of at least 2 runs; {advice}")
    if named.count("-") > 1:
        raise ConfigError("stdin-twice", "the standard input can be read once; give a file for the other run")
    labels = run_labels(len(named))
    _check_labels(said, labels)
    every = said.get("", About())
    runs = []
    for label, source in zip(labels, named, strict=True):
        own = said.get(label, About())
        runs.append(
            load_run(
                source,
                format=own.format or every.format,
                config=own.config,
                set=own.set,
                device=own.device,
                columns=every.columns | own.columns,
            )
        )
    return runs


def _compare_groups(found: Sides, said: Mapping[str, About], options: Options) -> Comparison:
    """All runs of a side have its label, control or test."""
    from lossgap.api import compare
    from lossgap.comparison.spread import known_spread
    from lossgap.runs.readers.source import load_run

    _check_labels(said, run_labels(2))
    every = said.get("", About())
    loaded: list[list[Run]] = []
    for label, sources in (("control", found.control), ("test", found.test)):
        own = said.get(label, About())
        loaded.append(
            [
                load_run(
                    source,
                    format=own.format or every.format,
                    config=own.config,
                    set=own.set,
                    device=own.device,
                    columns=every.columns | own.columns,
                )
                for source in sources
            ]
        )
    return compare(
        loaded[0],
        loaded[1],
        margin=options.margin,
        spread=known_spread(options.spread) if options.spread else None,
        max_gap=options.max_gap,
        sources=(" ".join(found.control), " ".join(found.test)),
        reevaluate=options.reevaluate,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )


def _check_labels(said: Mapping[str, About], labels: Sequence[str]) -> None:
    """Raises ConfigError `no-such-label`."""
    unknown = said.keys() - {*labels, ""}
    if unknown:
        raise ConfigError(
            "no-such-label",
            f"{one_line(sorted(unknown)[0])} is no run of this comparison; there are {', '.join(labels)}",
        )


def _compare(sources: Sequence[str], runs: Sequence[Run], options: Options) -> tuple[Comparison, ...]:
    from lossgap.api import compare
    from lossgap.comparison.spread import known_spread

    return tuple(
        compare(
            runs[0],
            run,
            margin=options.margin,
            spread=known_spread(options.spread) if options.spread else None,
            max_gap=options.max_gap,
            sources=(sources[0], source),
            reevaluate=options.reevaluate,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
        for source, run in zip(sources[1:], runs[1:], strict=True)
    )


def _render(comparisons: tuple[Comparison, ...], options: Options) -> None:
    if options.json:
        from lossgap.report import document

        print(document.text(comparisons))
    else:
        from lossgap.report import text
        from lossgap.report.terminal import Terminal

        # A pipe or file has no width of its own: 100 columns can be read and keep most rows on one line.
        text.show(comparisons, Terminal() if sys.stdout.isatty() else Terminal(width=100))
    _write_files(comparisons, options)


def _write_files(comparisons: tuple[Comparison, ...], options: Options) -> None:
    """The page and the chart; where they are is said on the standard error, so that JSON stays alone."""
    if options.html:
        from lossgap.report import page

        page.write(comparisons, Path(options.html))
        print(f"page: {options.html}", file=sys.stderr)
    if options.png:
        from lossgap.report import chart

        chart.write(comparisons, Path(options.png))
        print(f"chart: {options.png}", file=sys.stderr)


# ---------------------------------------------------------------------------------------------
# Flags that are said of one run


def run_labels(count: int) -> tuple[str, ...]:
    """`control, test, test2, ...` for that many runs."""
    return ("control", "test", *(f"test{number}" for number in range(2, count)))


def parted(argv: Sequence[str]) -> tuple[dict[str, About], list[str]]:
    """What is said of each run (by label; "" is all), and the arguments that are left.

    Raises ConfigError: `missing-value`, `bad-run-flag`.
    """
    said: dict[str, About] = {}
    rest: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        if word == "--":
            return said, [*rest, word, *words]
        name, equals, text = word[2:].partition("=") if word.startswith("--") else ("", "", "")
        if name not in REPEATABLE:
            rest.append(word)
            continue
        if not equals:
            if not words:
                raise ConfigError("missing-value", f"--{name}: no value given; write --{name} RUN=VALUE")
            text = words.pop(0)
        _say(said, name, text)
    return said, rest


def _say(said: dict[str, About], name: str, text: str) -> None:
    flag = f"--{name} {one_line(text)}"
    if name == "set":
        label, dot, assignment = text.partition(".")
        if not dot or "=" not in assignment or "=" in label:
            raise ConfigError("bad-run-flag", f"{flag}: write --set RUN.NAME=VALUE, e.g. --set control.block_size=64")
        said.setdefault(label.strip(), About()).set.append(assignment)
        return
    label, equals, value = text.partition("=")
    if not equals or not value:
        if name in ("config", "device") or not text or equals:
            raise ConfigError("bad-run-flag", f"{flag}: write --{name} RUN=VALUE, e.g. --{name} control=...")
        label, value = "", text
    about = said.setdefault(label.strip(), About())
    if name == "columns":
        from lossgap.cli.read import parse_columns

        about.columns |= parse_columns(value)
    else:
        setattr(about, name, value)
