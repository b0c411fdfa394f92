"""`lossgap sample [RUN ...]`: text from one model, or from several side by side.

Piped, the texts of one run come exactly as nanoGPT's `sample.py` prints them; those of several runs one run after the
other, each under its heading. On a terminal that is wide enough several runs stand side by side.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lossgap.arguments import build, parse_arguments
from lossgap.cli.help import help_text
from lossgap.errors import warn
from lossgap.options import SampleFlags, SampleOptions
from lossgap.settings import settings_of
from lossgap.strangers import LAYOUT, unguarded, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lossgap.sampling import Sampler, Sampling

RULE = "---------------"
"""The line that nanoGPT prints after each text."""

OUT_DIR = "out"
"""nanoGPT's run folder, where none is named."""
COLUMN = 40
"""Characters that a run needs for a column of its own."""


USAGE = "sample [RUN ...] [--key=value ...]"
ABOUT = """RUN is a run folder (its newest checkpoint) or a checkpoint file, ours or nanoGPT's ckpt.pt. Several runs \
stand side by side where the terminal is wide enough."""
EXAMPLES = (
    "sample out-shakespeare-char-cpu --num_samples=1",
    'sample small large --start="To be" --max_new_tokens=200',
    "sample --init_from=gpt2 --start=Hello",
)


def main(argv: Sequence[str]) -> int:
    """Print texts; raises LossgapError for what the user can mend."""
    given = parse_arguments(argv, SampleFlags)
    if given.help:
        print(help_text(USAGE, ABOUT, SampleFlags, EXAMPLES))
        return 0
    flags = build(SampleFlags, given)
    if flags.compile:
        why = "nanoGPT's generate() runs the uncompiled model too; the text is the same without the flag"
        warn("sample-compile", f"compile=True has no effect on sampling: {why}")
    from lossgap.api import prepare_samples

    named = [*given.positionals, *([flags.out_dir] if flags.out_dir else [])]
    runs = named or ([OUT_DIR] if flags.init_from == "resume" else [])
    _show(flags, prepare_samples(*runs, **{name: getattr(flags, name) for name in settings_of(SampleOptions)}))
    return 0


def _show(flags: SampleFlags, sampling: Sampling) -> None:
    """The texts as they are drawn; with `--json`, the document of all of them."""
    samplers = sampling.samplers
    for sampler in samplers:
        print(f"lossgap: {sampler.describe()}", file=sys.stderr, flush=True)
    if flags.json:
        from lossgap.report.samples_document import document

        found = [
            (samples, str(sampler.device), sampler.dtype)
            for sampler, samples in zip(samplers, sampling.samples(), strict=True)
        ]
        print(json.dumps(document(dataclasses.asdict(flags), found), allow_nan=False))
    elif len(samplers) > 1 and _terminal_width() >= COLUMN * len(samplers):
        _print_columns(samplers, sampling.texts())
    else:
        for sampler, own in zip(samplers, sampling.texts(), strict=True):
            if len(samplers) > 1:
                print(f"=== {_heading(sampler)} ===")
            for text in own:
                _print(text)
                print(RULE, flush=True)


def _print_columns(samplers: Sequence[Sampler], texts: Sequence[Iterator[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from lossgap.report.terminal import Terminal

    console = Terminal()
    for row in zip(*texts, strict=True):
        table = Table(box=None, expand=True, pad_edge=False, header_style="bold")
        for sampler in samplers:
            table.add_column(Text(visible(_heading(sampler))), ratio=1, overflow="fold")
        # Text: what a model says is shown, never read as markup.
        table.add_row(*(Text(visible(text, LAYOUT)) for text in row))
        console.print(table)
        console.rule(style="dim")


def _heading(sampler: Sampler) -> str:
    return f"{sampler.run} (iteration {sampler.iter})"


def _terminal_width() -> int:
    """Columns of the terminal on standard output; 0 if that is none."""
    from lossgap.report.terminal import Terminal

    return Terminal().width if sys.stdout.isatty() else 0


def _print(text: str) -> None:
    """A text as it is to a pipe, with control characters made visible on a terminal."""
    encoding = sys.stdout.encoding or "utf-8"
    shown = visible(text, LAYOUT) if sys.stdout.isatty() else text
    print(shown.encode(encoding, "backslashreplace").decode(encoding), file=unguarded(sys.stdout))
