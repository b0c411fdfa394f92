"""`lossgap compare CONTROL TEST [TEST2 ...]`: what differs between runs, and what the evidence supports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lossgap.arguments import build, parse_arguments
from lossgap.cli.help import help_text
from lossgap.cli.results import check_places, command_line, say, show_results
from lossgap.cli.runs_named import load_named, load_sides
from lossgap.errors import ConfigError
from lossgap.options import CompareFlags, CompareOptions
from lossgap.settings import settings_of

if TYPE_CHECKING:
    from lossgap.comparison import Comparison
    from lossgap.comparison.compare import Side

USAGE = "compare CONTROL TEST [TEST2 ...] [--key=value ...] | compare RUN --reference"
ABOUT = """Reads two runs, aligns them, says how big the gap (test minus control) is against the noise, what differs, \
and which causes the evidence supports. More tests are each compared with the control. A run is a run folder, a \
checkpoint, a log (PATH#2 for its second run), a figures file, a config file, a preset, or - for the standard input.

Several runs on each side: lossgap compare A1 A2 A3 : B1 B2, or A/*.log --against B/*.log. The spread over seeds is \
then measured. A folder of runs stands for all the runs in it. With --reference one run is held against the curves \
that its recipe gave over seeds: on track, above, or below."""
EXAMPLES = (
    "compare out-shakespeare-char-cpu another.log",
    "compare cpu.log gpu.log --html=page.html --png=chart.png",
    'compare old.log new.log --max-gap=0.02 --device test="RTX 4070 Ti"',
)


def main(argv: Sequence[str]) -> int:
    """Compare; returns the exit code that `--max-gap` asks for. Raises LossgapError for what the user can mend."""
    from lossgap.comparison.sides import sides, with_colons

    given = parse_arguments(with_colons(argv), CompareFlags)
    if given.help:
        print(help_text(USAGE, ABOUT, CompareFlags, EXAMPLES))
        return 0
    flags = build(CompareFlags, given)
    check_places(flags)
    if flags.reference:
        return _place(given.positionals, flags, argv)
    named = sides(given.positionals)
    if named is None:
        control, *tests = load_named(given.positionals, flags, "compare")
        name, *names = given.positionals
        comparisons = [_compare(control, run, (name, own), flags) for run, own in zip(tests, names, strict=True)]
    else:
        loaded = load_sides((named.control, named.test), flags)
        comparisons = [_compare(loaded[0], loaded[1], (" ".join(named.control), " ".join(named.test)), flags)]
    show_results(comparisons, flags, command_line("compare", argv))
    from lossgap.comparison.comparison import exit_code

    return exit_code(tuple(comparisons))


def _place(named: Sequence[str], flags: CompareFlags, argv: Sequence[str]) -> int:
    """One run in the band of its recipe."""
    from lossgap.api import on_track

    if len(named) != 1:
        given = f"{len(named)} runs were given" if named else "no run was given"
        raise ConfigError("too-few-runs", f"--reference takes one run, {given}: lossgap compare RUN --reference")
    ((run,), _) = load_sides((named, ()), flags)
    show_results([on_track(run)], flags, command_line("compare", argv))
    return 0


def _compare(control: Side, test: Side, sources: tuple[str, str], flags: CompareFlags) -> Comparison:
    from lossgap.api import compare

    wanted = {name: getattr(flags, name) for name in settings_of(CompareOptions)}
    return compare(control, test, sources=sources, say=say, **wanted)
