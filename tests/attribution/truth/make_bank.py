"""Train every arm of the pairs with every seed, and store the losses in bank.json and, of other seeds, held_out.json.

    make truth                                                        # trains what is missing, then calibrates
    PYTHONPATH=tests python -m attribution.truth.make_bank [WORK]     # trains only
    PYTHONPATH=tests python -m attribution.truth.make_bank WORK overfit   # the bank that overfits alone, overfit.json

Twice 3,360 arms with our own trainer, two at a time on one thread each: half an hour on two cores; then 192 arms of the
bank that overfits. WORK (default:
out-truth) holds them; what is finished there is not trained again. A second run on the same machine gives the same
bytes.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np

from attribution.truth.bank import HELD_OUT_PATH, OVERFIT_PATH, PATH, Bank, all_arms, save
from attribution.truth.recipes import (
    BASE,
    HELD_OUT,
    OVERFIT,
    OVERFIT_SEEDS,
    PAIRS,
    SEEDS,
    TEXT,
    Pair,
    text,
)
from lossgap.attribution.design import Design
from lossgap.attribution.gather import Ended, Gathered, gather
from lossgap.attribution.local import LocalExecutor
from lossgap.attribution.measure import our_arm
from lossgap.attribution.pricing import measured
from lossgap.corpus import open_corpus

AT_ONCE = 2


def main(argv: list[str]) -> int:
    """Pair by pair."""
    work = Path(argv[0] if argv else "out-truth")
    work.mkdir(parents=True, exist_ok=True)
    written = text()
    (work / TEXT).write_text(written, encoding="utf-8")
    wanted: list[tuple[Path, tuple[int, ...], tuple[Pair, ...]]] = [(OVERFIT_PATH, OVERFIT_SEEDS, (OVERFIT,))]
    if argv[1:] != ["overfit"]:
        wanted = [(PATH, SEEDS, PAIRS), (HELD_OUT_PATH, HELD_OUT, PAIRS), *wanted]
    with LocalExecutor(work, AT_ONCE) as executor:
        for path, seeds, pairs in wanted:
            banks = [_bank(pair, _gathered(pair, seeds, work, executor)) for pair in pairs]
            save(banks, hashlib.sha256(written.encode()).hexdigest(), path)
            print(f"{path}: {path.stat().st_size:,} bytes")
    return 0


def _gathered(pair: Pair, seeds: tuple[int, ...], work: Path, executor: LocalExecutor) -> Gathered:
    plan, corpus = pair.plan(str(work / TEXT)), open_corpus(str(work / TEXT))
    design = Design(kind="factorial", factors=pair.factors, seeds=seeds)

    def watch(ended: Ended) -> None:
        if ended.what or ended.done % 100 == 0 or ended.done == ended.total:
            print(f"{pair.name}: {ended.done}/{ended.total} {ended.what}", flush=True)

    gathered = gather(
        design,
        lambda switched, seed: our_arm(
            plan.settings(switched), seed, measured(plan), corpus, "cpu", 1, pair.train_tokens
        ),
        executor,
        work,
        watch,
    )
    assert gathered.complete
    assert not gathered.failed, gathered.failed  # a replaced seed would be another population
    return gathered


def _bank(pair: Pair, gathered: Gathered) -> Bank:
    seeds = gathered.design.seeds
    results = [[gathered.result(seed, arm) for arm in all_arms(pair.factors)] for seed in seeds]
    return Bank(
        name=pair.name,
        control={**BASE, **pair.control},
        test={**BASE, **pair.test},
        factors=pair.factors,
        seeds=seeds,
        losses={
            "last": np.array([[result.val_loss for result in row] for row in results]),
            "best": np.array([[result.best_val_loss for result in row] for row in results]),
        },
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
