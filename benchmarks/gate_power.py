"""How the gate does: false reds, a planted shift found, and runs saved by stopping early. About three minutes.

    python benchmarks/gate_power.py                                       # simulated normal runs
    python benchmarks/speedrun_audit.py TRACK page.md groups.json         # (writes the groups' losses)
    python benchmarks/gate_power.py groups.json                           # and real groups of repeated runs, resampled

Of a real group the baseline is one half of its runs and the change the other half, in random order; a shift is planted
by adding it to the second half. The gate is asked after every run, and stops when it has decided.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from lossgap.comparison.curve import Floats
from lossgap.gating.boundary import LOOKS, boundary, p_values
from lossgap.gating.judge import FALSE_GREEN, FALSE_RED, SHARES

TRIALS = 10_000
MOST = 400
SHARE = 1 - SHARES["curve"]
"""Of the false alarms that the judged loss has, in logs without train losses; the ends of the curves have the rest."""


def decide(old: Floats, new: Floats, margin: float) -> tuple[Floats, Floats]:
    """(trials,) verdicts, 1 fail, -1 pass, 0 neither; and the number of new runs used."""
    n, looks = old.shape[1], new.shape[1]
    red = p_values(old, new, 0.0) <= np.array(boundary(n, FALSE_RED * SHARE))[:looks]
    green = p_values(-old, -new, -margin) <= np.array(boundary(n, FALSE_GREEN))[:looks]
    either = red | green
    first = np.where(either.any(axis=1), either.argmax(axis=1), looks - 1)
    at = np.arange(len(old))
    word = np.where(red[at, first], 1.0, np.where(green[at, first], -1.0, 0.0))
    return word, first + 1.0


def fixed(n: int, margin: float, found: float, passed: float) -> int | None:
    """New runs of one look that finds and passes as often as the gate does, at the same false alarms (sd 1)."""
    for m in range(1, MOST):
        df, noncentral = n + m - 2, margin / np.sqrt(1 / n + 1 / m)
        fails = stats.nct.sf(stats.t.isf(FALSE_RED * SHARE, df), df, noncentral)
        passes = stats.nct.sf(stats.t.isf(FALSE_GREEN, df), df, noncentral)
        if fails >= found and passes >= passed:
            return m
    return None


def simulated() -> None:
    """Normal runs; the unit is their standard deviation."""
    chance = np.random.default_rng(1)
    print("baseline  shift = margin  false red  found  by 4 runs  runs used: null, shift  fixed  share of fixed")
    for n in (4, 6, 8, 16):
        for margin in (4.0, 3.0, 2.0, 1.5):
            old = chance.normal(0, 1, (TRIALS, n))
            null, null_runs = decide(old, chance.normal(0, 1, (TRIALS, LOOKS)), margin)
            word, runs = decide(old, chance.normal(margin, 1, (TRIALS, LOOKS)), margin)
            early = ((word == 1) & (runs <= 4)).mean()
            single = fixed(n, margin, (word == 1).mean(), (null == -1).mean())
            used = (null_runs.mean() + runs.mean()) / 2
            share = "more than it can have" if single is None else f"{single:5d}  {used / single:14.0%}"
            print(
                f"{n:8d}  {margin:14.1f}  {(null == 1).mean():9.2%}  {(word == 1).mean():5.1%}  {early:9.1%}"
                f"  {null_runs.mean():15.1f}, {runs.mean():5.1f}  {share}"
            )


def resampled(path: Path, shift: float = 0.004) -> None:
    """Split halves of real groups, and parts of 4 and 8 runs."""
    groups = [np.array(item) for item in json.loads(path.read_text(encoding="utf-8")).values() if len(item) >= 8]
    chance = np.random.default_rng(2)
    false, found, runs, sizes = [], [], [], []
    for group in groups:
        half = len(group) // 2
        mixed = np.stack([chance.permutation(group) for _ in range(2000)])
        old, new = mixed[:, :half], mixed[:, half:]
        false.append((decide(old, new, shift)[0] == 1).mean())
        base = min(len(group) - 4, half)
        four = mixed[:, base : base + 4] + shift
        word, used = decide(mixed[:, :base], four, shift)
        found.append((word == 1).mean())
        runs.append(used.mean())
        word, _ = decide(mixed[:, :4], mixed[:, 4:8] + shift, shift)
        sizes.append((word == 1).mean())
    print(f"{len(groups)} groups of 8 runs or more, 2,000 splits each, shift and margin {shift}")
    print(f"false reds, halves: mean {np.mean(false):.2%}, worst group {max(false):.2%}")
    print(f"shift found with a baseline of half the group and at most 4 new runs: mean {np.mean(found):.1%}, "
          f"worst group {min(found):.1%}, {np.mean(runs):.1f} runs used")  # fmt: skip
    print(f"the same with a baseline of 4 runs: mean {np.mean(sizes):.1%}, worst group {min(sizes):.1%}")


def main(argv: Sequence[str]) -> int:
    """Print the tables."""
    simulated()
    if argv:
        resampled(Path(argv[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
