"""`lossgap bench [RUN_OR_CONFIG]`: how fast a training is on this machine, by part, and beside nanoGPT."""

from __future__ import annotations

from collections.abc import Sequence

from lossgap.arguments import asks_for_help, build, parse_arguments, parted
from lossgap.cli.exit_codes import DONE
from lossgap.cli.help import help_text
from lossgap.cli.results import command_line, say, show_results
from lossgap.options import BenchFlags

USAGE = "bench [RUN_OR_CONFIG ...] [--against=DIR] [--key=value ...]"
ABOUT = """Times updates whole and by part (data, forward, backward, optimizer), evaluations, and cold starts, and \
says tokens per second, MFU and memory. A run folder, a checkpoint, or config files and presets, with --key=value for \
single settings, as in `lossgap train`; without any, the laptop recipe.

--against=DIR trains the same recipe in a nanoGPT checkout as well, each a process of its own, in alternation, and \
gives the ratios with 95% intervals. It runs that checkout's train.py."""
EXAMPLES = (
    "bench",
    "bench shakespeare_char --device=cuda --dtype=bfloat16",
    "bench --against=../nanoGPT --pairs=5 --iters=2000",
)


def main(argv: Sequence[str]) -> int:
    """Measure; raises LossgapError for what the user can mend."""
    if asks_for_help(argv):
        print(help_text(USAGE, ABOUT, BenchFlags, EXAMPLES))
        return DONE
    own, rest = parted(argv, BenchFlags)
    flags = build(BenchFlags, parse_arguments(own, BenchFlags))
    from lossgap.api import bench_given

    show_results([bench_given(rest, flags, say=say)], flags, command_line("bench", argv))
    return DONE
