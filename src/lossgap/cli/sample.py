"""`lossgap sample [RUN ...]`: text from one model, or from several side by side.

Piped, the texts of one run come exactly as nanoGPT's `sample.py` prints them; those of several runs one run after the
other, each under its heading. On a terminal that is wide enough several runs stand side by side.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lossgap.arguments import build, parse_arguments
from lossgap.errors import ConfigError, warn
from lossgap.settings import setting, settings_of
from lossgap.strangers import LAYOUT, short, unguarded, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lossgap.sampling import Sampler

RULE = "---------------"
"""What nanoGPT prints after each text."""

COLUMN = 40
"""Characters that a run needs for a column of its own."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of `lossgap sample`: nanoGPT's, and `--json`."""

    start: str = setting("\n", "the prompt, or FILE:PATH of a UTF-8 file that holds it")
    num_samples: int = setting(10, "texts per run", "texts")
    max_new_tokens: int = setting(500, "length of a text after the prompt", "tokens")
    temperature: float = setting(0.8, "divides the logits: below 1 less random, above 1 more")
    top_k: int | None = setting(200, "how many of the likeliest tokens take part in a draw; None is all", "tokens")
    seed: int = setting(1337, "key of the draws")
    out_dir: str = setting("out", "the run, where none is named otherwise")
    device: str = setting("auto", "cpu, cuda, cuda:N, mps; auto is the first of cuda, mps, cpu")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", "auto is float32 on CPU and MPS, on CUDA bfloat16 or else float16"
    )
    compile: bool = setting(False, "accepted for nanoGPT's sake; without effect, there as here")
    init_from: Literal["resume", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"] = setting(
        "resume", "resume is a run, gpt2* one of OpenAI's models (extra hf)"
    )
    json: bool = setting(False, "one JSON document instead of texts")


def main(argv: Sequence[str]) -> int:
    """Print texts; raises LossgapError for what the user can mend."""
    given = parse_arguments(argv, Options)
    if given.help:
        print(help_text())
        return 0
    options = build(Options, given)
    if options.compile:
        why = "nanoGPT's generate() runs the uncompiled model too; the text is the same without the flag"
        warn("sample-compile", f"compile=True has no effect on sampling: {why}")
    named = [*given.positionals, *([options.out_dir] if "out_dir" in given.values else [])]
    if options.init_from != "resume" and named:
        raise ConfigError(
            "two-models",
            f"init_from={options.init_from} and the run {short(named[0])} are both named; leave one of them out",
        )
    return _sample(options, named or [options.out_dir])


def _sample(options: Options, runs: Sequence[str]) -> int:
    from lossgap.sampling import Sampler, read_prompt

    prompt = read_prompt(options.start)
    seed, device, dtype = options.seed, options.device, options.dtype
    if options.init_from != "resume":
        samplers = [Sampler.pretrained(options.init_from, seed=seed, device=device, dtype=dtype)]
    else:
        samplers = [Sampler.open(run, seed=seed, device=device, dtype=dtype) for run in runs]
    for sampler in samplers:
        print(f"lossgap: {sampler.describe()}", file=sys.stderr, flush=True)
    texts = [
        sampler.texts(prompt, options.num_samples, options.max_new_tokens, options.temperature, options.top_k)
        for sampler in samplers
    ]
    if options.json:
        _print_document(options, prompt, samplers, texts)
    elif len(samplers) > 1 and _terminal_width() >= COLUMN * len(samplers):
        _print_columns(samplers, texts)
    else:
        for sampler, own in zip(samplers, texts, strict=True):
            if len(samplers) > 1:
                print(f"=== {_heading(sampler)} ===")
            for text in own:
                _print(text)
                print(RULE, flush=True)
    return 0


def _print_document(options: Options, prompt: str, samplers: Sequence[Sampler], texts: Sequence[Iterator[str]]) -> None:
    from lossgap.report.samples_document import document

    found = [
        (sampler.samples(prompt, tuple(own)), str(sampler.device), sampler.dtype)
        for sampler, own in zip(samplers, texts, strict=True)
    ]
    print(json.dumps(document(dataclasses.asdict(options), found), allow_nan=False))


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


def help_text() -> str:
    """Usage and every flag with its default, unit and meaning."""
    lines = [
        "usage: lossgap sample [RUN ...] [--key=value ...]",
        "",
        "RUN is a run folder (its newest checkpoint) or a checkpoint file, ours or nanoGPT's ckpt.pt.",
        "Several runs stand side by side where the terminal is wide enough.",
        "",
    ]
    for item in settings_of(Options).values():
        unit = f" [{item.unit}]" if item.unit else ""
        lines.append(f"  --{item.name}={short(item.default)}  {item.doc}{unit}")
    return "\n".join(lines)
