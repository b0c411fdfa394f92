"""`lossgap replay BUNDLE`: repeat a recorded stretch here, and tell the hardware from everything else."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lossgap.arguments import build, parse_arguments
from lossgap.errors import ConfigError
from lossgap.settings import setting

if TYPE_CHECKING:
    from lossgap.parity.replay_result import Replay

USAGE = """usage: lossgap replay BUNDLE [--device=cuda] [--dtype=bfloat16] [--key=value ...]

Repeats a stretch that `lossgap record` wrote: judges each recorded step against float64, trains the stretch freely and
holds the losses against an envelope that twins of it make, and says whether more than rounding parts the two machines.

  --device=auto        cpu, cuda, cuda:N, mps; auto is the first of cuda, mps, cpu
  --dtype=auto         float32, bfloat16 or float16; auto is the recording's
  --compile, --attention, --adamw, --threads, --tf32
                       as in `lossgap train`; by default as recorded, where this device has that
  --iters=0            only so many of the recorded iterations; 0 is all
  --twins=8            trainings that the envelope is made of
  --margin=0.01        the widest envelope in which the two count as equivalent [nats per token]
Output:
  --json               one JSON document (schema lossgap.replay/1)
  --html=FILE          one self-contained page
  --png=FILE           its charts

Exit codes: 0 equivalent, 2 different, 3 inconclusive or not comparable. A bundle is data and is never executed."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of `lossgap replay`."""

    device: str = setting("auto", "cpu, cuda, cuda:N, mps; auto is the first of cuda, mps, cpu")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting("auto", "auto is the recording's")
    compile: bool | None = setting(None, "compile the model; by default as recorded")
    attention: Literal["auto", "plain", "fused"] = setting("auto", "auto is the recording's")
    adamw: Literal["auto", "fused", "loop"] = setting("auto", "auto is the recording's")
    threads: int = setting(0, "CPU threads; 0 is the recording's, where there are so many", "threads")
    tf32: bool | None = setting(None, "allow TF32 on CUDA; by default as recorded")
    iters: int = setting(0, "only so many of the recorded iterations; 0 is all", "iterations")
    twins: int = setting(8, "trainings that the envelope is made of")
    margin: float = setting(0.01, "the widest envelope that still counts as none", "nats per token")
    json: bool = setting(False, "one JSON document")
    html: str = setting("", "write a page to this file")
    png: str = setting("", "write the charts to this file")


def main(argv: Sequence[str]) -> int:
    """Replay; raises LossgapError for what the user can mend."""
    given = parse_arguments(argv, Options)
    if given.help or not argv:
        print(USAGE)
        return 0
    options = build(Options, given)
    if len(given.positionals) != 1:
        raise ConfigError(
            "one-bundle", f"lossgap replay takes one bundle, {len(given.positionals)} were given; name one file"
        )
    from lossgap.parity.replay import Asked, replay

    found = replay(
        given.positionals[0],
        Asked(
            device=options.device,
            dtype=options.dtype,
            compile=options.compile,
            attention=options.attention,
            adamw=options.adamw,
            threads=options.threads,
            tf32=options.tf32,
            iters=options.iters,
            twins=options.twins,
            margin=options.margin,
        ),
        say=lambda line: print(f"lossgap: {line}", file=sys.stderr, flush=True),
    )
    _render(found, options)
    return found.exit_code


def _render(found: Replay, options: Options) -> None:
    if options.json:
        from lossgap.report import replay_document

        print(replay_document.text(found))
    else:
        from lossgap.report import replay_text
        from lossgap.report.terminal import Terminal

        replay_text.show(found, Terminal() if sys.stdout.isatty() else Terminal(width=120))
    if options.html:
        from lossgap.report import replay_page

        replay_page.write(found, Path(options.html))
        print(f"page: {options.html}", file=sys.stderr)
    if options.png:
        from lossgap.report import replay_page

        replay_page.write_png(found, Path(options.png))
        print(f"chart: {options.png}", file=sys.stderr)
