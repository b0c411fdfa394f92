"""`lossgap explain CONTROL TEST --budget 20m`: controlled experiments that divide the gap among its causes."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lossgap.arguments import Given, build, parse_arguments
from lossgap.cli.compare import load, parted
from lossgap.errors import ConfigError
from lossgap.settings import setting
from lossgap.strangers import one_line

if TYPE_CHECKING:
    from lossgap.attribution.explain import Prepared
    from lossgap.attribution.explanation import Explanation, Scale
    from lossgap.runs.run import Run

USAGE = """usage: lossgap explain CONTROL TEST [--budget=20m] [--key=value ...]

Trains mixtures of the two recipes and divides the gap (test minus control) among the factors in which they differ, with
intervals; the parts add up to the gap. What it would take is shown before anything runs. A run is a run folder, a
checkpoint, a log (PATH#2 for its second run), a figures file, a config file, a preset, or - for the standard input.

  --budget=20m                seconds, minutes, hours (s, m, h, d), or 30runs, or 5e14flops
  --margin=0.01               contributions within this count as none [nats per token]
  --coordinates=iterations    or tokens: what is kept while batch or context is switched
  --factor NAME=A,B           make one factor of these settings; may be given again
  --screen                    first drop factors whose effect is surely within the margin
  --scale=1                   the true scale; auto, or ITERATIONS:SHAPE (8:4) divides both ends
  --seed=1                    the first of the seeds
  --dry-run                   show the price, and stop
  --yes                       start without asking; needed where there is no terminal
Where it runs:
  --executor=local            or ray (extra lossgap[ray]); --address=HOST:PORT joins a cluster
  --workers=0 --threads=1     arms at a time and threads of each; 0 workers: the fastest, measured
  --arm-device=auto           cpu, cuda, cuda:N, mps
Somebody else's trainer:
  --runner='python train.py config/x.py {overrides}'   its command; {out_dir} and {seed} are filled in
  --reader=nanogpt            the format of its log
  --seed-arg='--seed={seed}'  its seed flag, if it has one
  --override-form='--{key}={value}'   how it takes a setting
  --runner-folder=.           where it is started
  --time-limit=SECONDS        of one arm
What a log does not say, as in compare; RUN is control or test:
  --config RUN=FILE, --set RUN.NAME=VALUE, --device RUN=NAME, --format [RUN=]NAME, --columns [RUN=]ROLE:NAME
Output:
  --json                      one JSON document (schema lossgap.explanation/1)
  --html=FILE --png=FILE      one self-contained page; its waterfall
Trained arms are kept in the cache: the same command goes on where it was stopped."""


OF_A_RUNNER = ("reader", "seed_arg", "override_form", "runner_folder", "time_limit")
"""Flags that speak of another trainer."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of `lossgap explain` that are given once."""

    budget: str = setting("20m", "what it may cost")
    margin: float = setting(0.01, "contributions within this count as none", "nats per token")
    coordinates: Literal["iterations", "tokens"] = setting("iterations", "what is kept while others are switched")
    screen: bool = setting(False, "drop factors within the margin first")
    scale: str = setting("1", "divide both ends")
    seed: int = setting(1, "the first seed")
    dry_run: bool = setting(False, "show the price, and stop")
    yes: bool = setting(False, "start without asking")
    executor: Literal["local", "ray"] = setting("local", "where arms run")
    address: str = setting("", "Ray cluster to join")
    workers: int = setting(0, "arms at a time; 0 measures", "arms")
    threads: int = setting(1, "threads of each arm", "threads")
    arm_device: str = setting("auto", "device of the arms")
    runner: str = setting("", "another trainer's command")
    reader: str = setting("nanogpt", "format of its log")
    seed_arg: str = setting("", "its seed flag")
    override_form: str = setting("--{key}={value}", "how it takes a setting")
    runner_folder: str = setting(".", "where it is started")
    time_limit: float | None = setting(None, "of one of its arms", "seconds")
    json: bool = setting(False, "one JSON document")
    html: str = setting("", "write a page to this file")
    png: str = setting("", "write the waterfall to this file")


def main(argv: Sequence[str]) -> int:
    """Explain. Raises LossgapError for what the user can mend."""
    said, rest = parted(argv)
    regroup, rest = _factors(rest)
    given = parse_arguments(rest, Options)
    if given.help:
        print(USAGE)
        return 0
    options = build(Options, given)
    _check_flags(given, options)
    if len(given.positionals) > 2:
        raise ConfigError(
            "too-many-arguments",
            f"{len(given.positionals)} runs; explain takes a control and a test: lossgap explain CONTROL TEST",
        )
    runs = load(given, said, "explain")
    prepared = _prepare(given, runs, options, regroup)
    if not _wanted(prepared, options):
        return 0
    try:
        explanation = _run(prepared)
    except KeyboardInterrupt:
        print("lossgap: stopped before any seed was complete; the same command goes on from here", file=sys.stderr)
        return 130
    _render(replace(explanation, command=_repeated(argv, explanation.scale)), options)
    return 0 if explanation.complete else 130


def _check_flags(given: Given, options: Options) -> None:
    """Each flag says something. Raises ConfigError `flag-without-effect`; `runner-bad-command` for an empty command."""
    from lossgap.attribution.foreign.command import split

    if "runner" in given.values:
        split(options.runner)
    for needed, there, names in (
        ("--runner", bool(options.runner), OF_A_RUNNER),
        ("--executor=ray", options.executor == "ray", ("address",)),
        ("--workers", bool(options.workers), ("threads",)),
    ):
        lost = next((name for name in names if name in given.values and not there), None)
        if lost is not None:
            flag = f"--{lost.replace('_', '-')}"
            raise ConfigError(
                "flag-without-effect", f"{flag} says nothing without {needed}; give both, or leave {flag} out"
            )


def _repeated(argv: Sequence[str], scale: Scale) -> str:
    """The command without its budget and its files, at the scale that it came to: `auto` is another one elsewhere."""
    left_out = ("--budget", "--scale", "--html", "--png", "--json")
    words = [word for word in argv if word.partition("=")[0] not in left_out]
    if not scale.true:
        words.append(f"--scale={scale.iterations}:{scale.shape}")
    return shlex.join(["lossgap", "explain", *words])


def _factors(argv: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """`--factor NAME=A,B`, and the arguments that are left. Raises ConfigError `bad-factor`."""
    found: dict[str, list[str]] = {}
    rest: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        if word != "--factor" and not word.startswith("--factor="):
            rest.append(word)
            continue
        text = word.partition("=")[2] if "=" in word else (words.pop(0) if words else "")
        name, equals, names = text.partition("=")
        if not equals or not names or name in found:
            raise ConfigError(
                "bad-factor",
                f"--factor {one_line(text, 60)}: write --factor NAME=A,B, each name once, e.g. --factor d=dropout",
            )
        found[name] = [item.strip() for item in names.split(",")]
    return found, rest


def _prepare(given: Given, runs: Sequence[Run], options: Options, regroup: dict[str, list[str]]) -> Prepared:
    from lossgap.api import prepare_explanation

    return prepare_explanation(
        runs[0],
        runs[1],
        sources=(given.positionals[0], given.positionals[1]),
        budget=options.budget,
        margin=options.margin,
        coordinates=options.coordinates,
        factor=regroup,
        screen=options.screen,
        scale=options.scale,
        seed=options.seed,
        executor=options.executor,
        address=options.address,
        workers=options.workers,
        threads=options.threads,
        device=options.arm_device,
        runner=options.runner,
        reader=options.reader,
        seed_arg=options.seed_arg,
        override_form=options.override_form,
        runner_folder=options.runner_folder,
        time_limit=options.time_limit,
    )


def _wanted(prepared: Prepared, options: Options) -> bool:
    """Show the price; whether to go on."""
    from lossgap.report import explanation_text
    from lossgap.report.terminal import Terminal

    explanation_text.show_price(
        prepared.price, Terminal(stderr=options.json, width=None if sys.stdout.isatty() else 100)
    )
    if options.dry_run:
        return False
    if options.yes or prepared.price.cached == prepared.price.arms:
        return True
    if not sys.stdin.isatty():
        raise ConfigError(
            "needs-yes", "there is no terminal to ask on: add --yes to start, or --dry-run to see the price"
        )
    try:
        return input("start? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _run(prepared: Prepared) -> Explanation:
    from lossgap.report.experiment_progress import ExperimentProgress

    with ExperimentProgress(prepared.price) as progress:
        return prepared.run(progress.ended)


def _render(explanation: Explanation, options: Options) -> None:
    if options.json:
        from lossgap.report import explanation_document

        print(explanation_document.text(explanation))
    else:
        from lossgap.report import explanation_text
        from lossgap.report.terminal import Terminal

        explanation_text.show(explanation, Terminal() if sys.stdout.isatty() else Terminal(width=100))
    if options.html:
        from lossgap.report import explanation_page

        explanation_page.write(explanation, Path(options.html))
        print(f"page: {options.html}", file=sys.stderr)
    if options.png:
        from lossgap.report import explanation_page

        explanation_page.write_png(explanation, Path(options.png))
        print(f"chart: {options.png}", file=sys.stderr)
