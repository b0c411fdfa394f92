"""How often rounding alone leaves the envelope: forty twins of one training, eight of them against a ninth.

    python benchmarks/envelope_coverage.py                       # a tiny recipe, five seeds, two dtypes
    python benchmarks/envelope_coverage.py --recipe=laptop

Backs `LEVEL`, `LEAD` and `LEAST_SPREAD` in `lossgap/parity/envelope.py`. For each seed and dtype: the share of 2,000
random choices of eight twins and a ninth in which the ninth leaves the envelope that the eight make, the median factor
of the bound, and the median and the largest width.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lossgap.config_file import resolve_arguments, train_config
from lossgap.corpus import open_corpus
from lossgap.parity.drawing import draw, initial_moment, new_draws
from lossgap.parity.envelope import FEWEST_TWINS, envelope, twin_losses
from lossgap.parity.record import shape_of
from lossgap.parity.stretch import Stretch
from lossgap.settings import build, parse_arguments, setting
from lossgap.training.numerics import resolve

TINY = ("--n_layer=2", "--n_head=2", "--n_embd=32", "--block_size=16", "--batch_size=4")
TWINS, DRAWS = 40, 2000


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags."""

    recipe: str = setting("tiny", "tiny or laptop")
    seeds: int = setting(5, "trainings for each dtype")
    iters: int = setting(50, "iterations of a stretch")


def main(argv: Sequence[str]) -> int:
    """Print a table in Markdown."""
    options = build(Options, parse_arguments(argv, Options))
    print("| recipe | dtype | seed | outside | factor | width, median | width, largest |")
    print("|---|---|---|---|---|---|---|")
    for dtype in ("float32", "bfloat16"):
        for seed in range(1, options.seeds + 1):
            _one(options, dtype, seed)
    return 0


def _one(options: Options, dtype: str, seed: int) -> None:
    flags = TINY if options.recipe == "tiny" else ()
    own = (f"--dtype={dtype}", f"--seed={seed}", "--device=cpu", "--compile=False")
    config = train_config(resolve_arguments(["shakespeare_char_cpu", *own, *flags]))
    corpus = open_corpus(config.dataset)
    shape = shape_of(config, corpus, None)
    moment = initial_moment(config, shape, new_draws(config))
    job = draw(config, shape, corpus, new_draws(config), 0, options.iters, 1).job(config, shape)
    numerics = resolve(config, "cpu", 1, {})[0]
    losses = Stretch(job, numerics).run(moment, options.iters).losses
    twins = twin_losses(
        job, (numerics,), moment, options.iters, twins=TWINS, unit=None, kernels=False, say=lambda line: None
    )
    differences = np.stack([twin for [twin] in twins]) - np.asarray(losses)
    rng = np.random.default_rng(0)
    outside, factors, widths = 0, [], []
    for _ in range(DRAWS):
        chosen = rng.permutation(TWINS)[: FEWEST_TWINS + 1]
        made = envelope(differences[chosen[:-1]], losses, first=0, coarser="float32", paired=False)
        outside += bool((np.abs(differences[chosen[-1]]) > made.width).any())
        factors.append(made.factor)
        widths.append(made.widest)
    print(
        f"| {options.recipe} | {dtype} | {seed} | {100 * outside / DRAWS:.2f}% | {np.median(factors):.1f} | "
        f"{np.median(widths):.1e} | {max(widths):.1e} |",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
