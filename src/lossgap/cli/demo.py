"""The demonstration of `make run`: train the laptop recipe, show a sample, compare it with the GPU recipe's figures."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lossgap import suggestion
from lossgap.arguments import asks_for_help, parse_arguments
from lossgap.cli.exit_codes import DONE, SIGNAL
from lossgap.cli.help import help_text
from lossgap.cli.train import final_line, progress_on
from lossgap.config import TrainConfig
from lossgap.config_file import resolve_arguments
from lossgap.errors import ConfigError
from lossgap.language import say
from lossgap.options import DemoFlags

if TYPE_CHECKING:
    from lossgap.runs.run import Run

RECIPE = "shakespeare_char_cpu"
FOLDER = "out-shakespeare-char-cpu"
GPU_FIGURES = Path(__file__).parents[1] / "runs" / "published" / "rtx4070ti.toml"
PAGE = "against-the-gpu-recipe.html"
USAGE = "demo [--key=value ...]"
ABOUT = f"""What `make run` does: trains the laptop recipe ({RECIPE}) on Tiny Shakespeare, a few minutes on a laptop's \
CPU, shows a sample, and compares the run with the published figures of the GPU recipe. It takes the settings of \
`lossgap train` as well. The run is in {FOLDER}; if there is one already, in {FOLDER}-2, and so on: nothing is \
overwritten."""
EXAMPLES = ("demo", "demo --max_iters=200", "demo --out_dir=out-mine")


def main(argv: Sequence[str]) -> int:
    """Train afresh, with `argv` as further flags. The last line is the exact losses of the run."""
    if asks_for_help(argv):
        print(help_text(USAGE, ABOUT, DemoFlags, EXAMPLES))
        return DONE
    from lossgap.api import sample, train_given
    from lossgap.training.loop import Interrupted

    given = resolve_arguments([RECIPE, f"--out_dir={_folder(argv)}", *argv])
    try:
        outcome = train_given(given, progress_on(sys.stdout))
    except Interrupted as stopped:
        return SIGNAL + stopped.number
    if outcome.train_loss is None or outcome.val_loss is None:
        raise ConfigError("demo-needs-final", "`make run` ends with the exact losses: leave --final_eval=True")
    run = outcome.run.path
    [samples] = sample(run, num_samples=1, max_new_tokens=300, device="cpu")
    print("\na sample from it:", samples.texts[0], "", sep="\n")
    print(*_last_screen(outcome.run), sep="\n")
    print(f"page: {run / PAGE}")
    print(f"more: {suggestion.command('sample', run)}")
    print(final_line(outcome.train_loss, outcome.val_loss))
    return DONE


def _folder(argv: Sequence[str]) -> str:
    """Where the run goes unless `argv` names a place: a folder without a run, said where it is not the usual one."""
    if "out_dir" in parse_arguments(argv, TrainConfig).values or not os.path.lexists(FOLDER):
        return FOLDER
    free = suggestion.new_folder(FOLDER.removeprefix("out-"))
    print(f"lossgap: {FOLDER} holds an earlier run, which stays as it is; this one goes to {free}", file=sys.stderr)
    return free


def _last_screen(run: Run) -> list[str]:
    """The lines for a beginner, from the run and the published figures of an RTX 4070 Ti; everything is on the page."""
    from lossgap.api import compare
    from lossgap.report.demo_words import last_screen
    from lossgap.report.show import write_page
    from lossgap.report.wide_text import broken, is_wide

    comparison = compare(run.path, GPU_FIGURES)
    write_page([comparison], run.path / PAGE, command=suggestion.compare(run.path, GPU_FIGURES))
    lines: list[str] = []
    for paragraph in map(say, last_screen(run, comparison)):
        # A command is copied whole; prose is broken for any terminal.
        wide = is_wide(paragraph)
        prose = broken(paragraph, 80).splitlines() if wide else textwrap.wrap(paragraph, 80)
        lines += [paragraph] if paragraph.startswith(" ") else prose
    return [*lines, ""]
