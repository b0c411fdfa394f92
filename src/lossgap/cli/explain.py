"""`lossgap explain CONTROL TEST --budget 20m`: controlled experiments that divide the gap among its causes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lossgap import suggestion
from lossgap.arguments import Given, build, parse_arguments
from lossgap.cli.consent import agreed
from lossgap.cli.exit_codes import DONE, INTERRUPTED
from lossgap.cli.help import help_text
from lossgap.cli.results import check_places, command_line, show_results
from lossgap.cli.runs_named import load_named
from lossgap.errors import ConfigError
from lossgap.options import ExplainFlags, ExplainOptions
from lossgap.settings import settings_of

if TYPE_CHECKING:
    from lossgap.attribution.explain import Prepared
    from lossgap.attribution.explanation import Explanation, Scale

USAGE = "explain CONTROL TEST [--budget=20m] [--key=value ...]"
ABOUT = """Trains mixtures of the two recipes and divides the gap (test minus control) among the factors in which \
they differ, with intervals; the parts add up to the gap. What it would take is shown before anything runs. A run is a \
run folder, a checkpoint, a log (PATH#2 for its second run), a figures file, a config file, a preset, or - for the \
standard input.

Trained arms are kept in the cache: the same command resumes where it stopped."""
EXAMPLES = (
    "explain shakespeare_char_cpu shakespeare_char --scale=auto --dry-run",
    "explain small.py large.py --budget=1h --html=page.html",
    "explain a.py b.py --runner='python train.py {overrides}' --seed-arg='--seed={seed}'",
)


OF_A_RUNNER = ("reader", "seed_arg", "override_form", "runner_folder", "time_limit")
"""Flags that say something only of another trainer."""
LEFT_OUT = ("budget", "scale", "html", "png", "json", "full", "dry_run")
"""Flags that a repeated command is given anew, or does without."""


def main(argv: Sequence[str]) -> int:
    """Explain. Raises LossgapError for what the user can mend."""
    given = parse_arguments(argv, ExplainFlags)
    if given.help:
        print(help_text(USAGE, ABOUT, ExplainFlags, EXAMPLES))
        return DONE
    flags = build(ExplainFlags, given)
    _check_flags(given, flags)
    check_places(flags)
    if len(given.positionals) > 2:
        raise ConfigError(
            "too-many-arguments",
            f"{len(given.positionals)} runs; explain takes a control and a test: lossgap explain CONTROL TEST",
        )
    prepared = _prepare(given, flags)
    if not _wanted(prepared, flags, command_line("explain", argv)):
        return DONE
    try:
        explanation = _run(prepared)
    except KeyboardInterrupt:
        print("lossgap: stopped before any seed was complete; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    explanation = replace(explanation, command=_repeated(given, explanation.scale))
    show_results([explanation], flags, command_line("explain", argv))
    return DONE if explanation.complete else INTERRUPTED


def _check_flags(given: Given, flags: ExplainFlags) -> None:
    """Each flag says something. Raises ConfigError `flag-without-effect`; `runner-bad-command` for an empty command."""
    from lossgap.attribution.foreign.invocation import split

    if "runner" in given.values:
        split(flags.runner or "")
    for needed, there, names in (
        ("--runner", flags.runner is not None, OF_A_RUNNER),
        ("--executor=ray", flags.executor == "ray", ("address",)),
        ("--workers", bool(flags.workers), ("threads",)),
    ):
        lost = next((name for name in names if name in given.values and not there), None)
        if lost is not None:
            flag = f"--{lost.replace('_', '-')}"
            raise ConfigError(
                "flag-without-effect", f"{flag} says nothing without {needed}; give both, or leave {flag} out"
            )


def _repeated(given: Given, scale: Scale) -> str:
    """The command without its budget and its files, at the scale that it came to: `auto` is another one elsewhere."""
    kept = {name: value for name, value in given.values.items() if name not in LEFT_OUT}
    if not scale.true:
        kept["scale"] = f"{scale.iterations}:{scale.shape}"
    return suggestion.explain(given.positionals[0], given.positionals[1], **kept)


def _prepare(given: Given, flags: ExplainFlags) -> Prepared:
    from lossgap.api import prepare_explanation

    control, test = load_named(given.positionals, flags, "explain")
    sources = (given.positionals[0], given.positionals[1])
    return prepare_explanation(
        control, test, sources=sources, **{name: getattr(flags, name) for name in settings_of(ExplainOptions)}
    )


def _wanted(prepared: Prepared, flags: ExplainFlags, command: str) -> bool:
    """Show the price; whether to go on."""
    if flags.dry_run and flags.json:
        show_results([prepared.price], flags, command)
    else:
        from lossgap.report.show import show

        show([prepared.price], full=flags.full, stderr=flags.json)
    if flags.dry_run:
        return False
    if flags.yes or prepared.price.cached == prepared.price.arms:
        return True
    return agreed()


def _run(prepared: Prepared) -> Explanation:
    from lossgap.report.experiment_progress import ExperimentProgress

    with ExperimentProgress(prepared.price) as progress:
        return prepared.run(progress.ended)
