"""Which records of the NanoGPT optimization speedrun truly beat the one before: `docs/speedrun-audit.md`.

    git clone https://github.com/KellerJordan/modded-nanogpt
    python benchmarks/speedrun_audit.py modded-nanogpt/records/track_3_optimization docs/speedrun-audit.md

Reads the table in the track's README and every log that it names, through lossgap's own reader (MIT-licensed logs;
none is copied into this project). Of each record the losses at the step it claims are compared with those of the record
before. Steps are worth 0.0091 nats for 200, as the README measured it (20 and 8 runs).
"""

# ruff: noqa: E501  (the page's sentences)
from __future__ import annotations

import itertools
import json
import math
import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lossgap.comparison.facts import Facts
from lossgap.comparison.groups import Sample, spreads_of
from lossgap.comparison.noise import Noise
from lossgap.errors import LossgapError
from lossgap.runs.readers.source import load_runs

ROW = re.compile(
    r"^\| (\d+) \| (\d+)(\(!\))? \| ([\d.]+) \(n=(\d+)\)\S* \| (.*?) \| (\d{4}/\d\d/\d\d) \| \[log\]\(([^)]+)\)"
)
PER_STEP = 0.0091 / 200
"""Nats that one step is worth near the end (README, pairwise statistical significance)."""
PER_STEP_ERROR = 0.0013 * math.sqrt(1 / 20 + 1 / 8) / 200
ASSUMED = 0.0013
"""The README's standard deviation of one run."""
STATED = {(11, 9): 0.69, (13, 11): 0.099, (13, 8): 0.029, (16, 14): 0.34, (34, 30): 0.168}
"""p-values that the README states of pairs of records."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One row of the README's table, and what its logs say."""

    number: int
    steps: int
    is_record: bool
    mean: float
    n: int
    text: str
    found: tuple[float, ...]
    """Val losses at `steps`, one a run."""

    @property
    def agrees(self) -> bool:
        """Whether the logs give the README's number of runs and mean."""
        return len(self.found) == self.n and abs(statistics.fmean(self.found) - self.mean) < 0.00011


def records(track: Path) -> list[Record]:
    """All rows of the README whose logs have at least one run with a val loss at the step of the row."""
    found = []
    for line in (track / "README.md").read_text(encoding="utf-8").splitlines():
        row = ROW.match(line)
        if row:
            steps = int(row[2])
            values = tuple(_values(track, row[8], steps))
            found.append(
                Record(
                    number=int(row[1]),
                    steps=steps,
                    is_record=bool(row[3]),
                    mean=float(row[4]),
                    n=int(row[5]),
                    text=re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", row[6]).replace("|", "/"),
                    found=values,
                )
            )
    return found


def _values(track: Path, log: str, steps: int) -> list[float]:
    """The val losses at `steps` of all runs in a row's log, or in all logs of its folder."""
    path = track / log
    alone = path.parent == track / "results"
    files = [path] if alone else sorted(path.parent.rglob("*.txt"))
    values: dict[tuple[float, ...], float] = {}
    for file in files:
        if "ablation" in file.parts or not file.exists():
            continue
        averaged = re.search(rf"step:{steps}/\d+ val_loss.*?val_ema_loss:([\d.]+)", file.read_text(errors="replace"))
        if averaged:  # this record is claimed by the averaged model, which its logs print beside the other
            values[float(averaged[1]), hash(file.name)] = float(averaged[1])
            continue
        try:
            runs = load_runs(file, max_iter_rows=0)
        except LossgapError:
            continue
        for run in runs:
            curve = Facts.of(run).val
            value = None if curve is None else curve.at(steps)
            if curve is not None and value is not None and not value.interpolated:
                # A run may be stored twice, as stdout and as a log: its curve tells it.
                values[tuple(curve.values.tolist())] = value.value
    return list(values.values())


def p_of_normal(z: float) -> float:
    """One-sided."""
    return 0.5 * math.erfc(z / math.sqrt(2))


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A record against an earlier one; `better` is how much lower its loss is, at equal steps."""

    new: Record
    old: Record
    better: float
    assumed_p: float
    """The README's z-test, sd 0.0013 assumed."""
    welch_p: float | None
    interval: tuple[float, float] | None


def compare(new: Record, old: Record) -> Pair:
    """Both tests, one-sided: is the new one better? The steps saved count as nats."""
    saved = old.steps - new.steps
    readme = old.mean - new.mean + saved * PER_STEP
    z = readme / (ASSUMED * math.sqrt(1 / new.n + 1 / old.n))
    if not new.found or not old.found or len(new.found) + len(old.found) < 3:
        return Pair(new=new, old=old, better=readme, assumed_p=p_of_normal(z), welch_p=None, interval=None)
    better = statistics.fmean(old.found) - statistics.fmean(new.found) + saved * PER_STEP
    noise = Noise(parts=spreads_of(Sample(new.found), Sample(old.found)))
    assert noise.standard_error is not None
    error = math.hypot(noise.standard_error, saved * PER_STEP_ERROR)
    from scipy import stats

    df = noise.df
    half = float(stats.t.ppf(0.975, df)) * error
    return Pair(
        new=new,
        old=old,
        better=better,
        assumed_p=p_of_normal(z),
        welch_p=float(stats.t.sf(better / error, df)),
        interval=(better - half, better + half),
    )


def coverage(groups: Sequence[Sequence[float]], trials: int = 4000) -> list[tuple[int, int, float, float]]:
    """(n, m, share of 95% intervals that hold the true difference, false `different`) on resampled real groups.

    Two random parts of one group, drawn without replacement: their true difference is 0.
    """
    chance = np.random.default_rng(11)
    rows = []
    for n, m in ((2, 2), (3, 3), (4, 4), (5, 5), (4, 8)):
        large = [np.array(group) for group in groups if len(group) >= n + m]
        held = 0
        for _ in range(trials):
            group = chance.permutation(large[int(chance.integers(len(large)))])
            control, test = group[:n], group[n : n + m]
            parts = spreads_of(Sample(tuple(control.tolist())), Sample(tuple(test.tolist())))
            low, high = Noise(parts=parts).interval(float(test.mean() - control.mean())) or (0.0, 0.0)
            held += bool(low <= 0 <= high)
        rows.append((n, m, held / trials, 1 - held / trials))
    return rows


def page(found: Sequence[Record]) -> str:
    """The page, in Markdown."""
    by = {item.number: item for item in found}
    lines = [
        "# An audit of the NanoGPT optimization speedrun",
        "",
        "Written by `python benchmarks/speedrun_audit.py TRACK docs/speedrun-audit.md` from the logs of "
        "[modded-nanogpt](https://github.com/KellerJordan/modded-nanogpt), track 3 (MIT), commit f411b3d. None of the "
        "logs is stored here. A record claims that its optimizer reaches a val loss of 3.28 in fewer steps; each says with how "
        "many runs. The question here is another one: do its logs show that it is better than the record before? The loss "
        "of both is brought to equal steps by the README's own worth of a step (0.0091 nats for 200, itself known to "
        "about 6%, which is in the interval).",
        "",
        f"Logs of {sum(bool(item.found) for item in found)} of {len(found)} rows could be read at the claimed step; in "
        f"{sum(item.agrees for item in found)} of them number of runs and mean are the README's. Where they are not, the "
        "logs hold fewer or more runs than the table counts, and the logs are what is used. Record #46 is claimed by an "
        "averaged model, whose loss its logs print beside that of the trained one; it is taken.",
        "",
        "## The pairs whose p-value the README states",
        "",
        "| pair | README | the same test here | by the runs' own spread (Welch) |",
        "| --- | --- | --- | --- |",
    ]
    for (new, old), stated in STATED.items():
        pair = compare(by[new], by[old])
        welch = "unknown" if pair.welch_p is None else f"{pair.welch_p:.2g}"
        lines.append(f"| #{new} against #{old} | {stated} | {pair.assumed_p:.2g} | {welch} |")
    lines += [
        "",
        "## Each record against the record before",
        "",
        "Better by: nats at equal steps, with the 95% interval by Welch. Beats it: the interval is above 0. p: one-sided.",
        "",
        "| record | steps | runs | before | better by | 95% | p, own spread | p, sd 0.0013 assumed | beats it |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    chain = [item for item in found if item.is_record]
    counts = {"yes": 0, "no": 0, "unknown": 0}
    for old, new in itertools.pairwise(chain):
        pair = compare(new, old)
        word = "unknown" if pair.interval is None else "yes" if pair.interval[0] > 0 else "no"
        counts[word] += 1
        interval = "unknown" if pair.interval is None else f"{pair.interval[0]:+.5f} to {pair.interval[1]:+.5f}"
        p = "unknown" if pair.welch_p is None else f"{pair.welch_p:.2g}"
        lines.append(
            f"| #{new.number} | {new.steps} | {len(new.found)} | #{old.number} ({len(old.found)} runs) | "
            f"{pair.better:+.5f} | {interval} | {p} | {pair.assumed_p:.2g} | {word} |"
        )
    groups = [item.found for item in found if len(item.found) >= 8]
    sds = sorted(statistics.stdev(group) for group in groups)
    lines += [
        "",
        f"{counts['yes']} of {sum(counts.values())} records beat the one before by their own logs, {counts['no']} do not "
        f"show it, {counts['unknown']} have too few runs to say. `No` means that the logs do not show it, not that the "
        "method is no better.",
        "",
        "## Spreads, and how the intervals do on resampled groups",
        "",
        f"{len(groups)} groups have 8 runs or more; their standard deviations lie between {sds[0]:.5f} and {sds[-1]:.5f}, "
        f"the median is {statistics.median(sds):.5f} (the README assumes 0.0013). Two parts of one group, drawn without "
        "replacement, differ by nothing: so often does the 95% interval of `compare` hold 0 (4,000 draws each).",
        "",
        "| runs | intervals that hold 0 | called `different` |",
        "| --- | --- | --- |",
    ]
    for n, m, held, false in coverage(groups):
        lines.append(f"| {n} and {m} | {held:.1%} | {false:.1%} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str]) -> int:
    """Write the page; with a third argument the groups' losses as JSON, for other benchmarks."""
    found = records(Path(argv[0]))
    Path(argv[1]).write_text(page(found), encoding="utf-8")
    if len(argv) > 2:
        groups = {f"#{item.number}": item.found for item in found if item.found}
        Path(argv[2]).write_text(json.dumps(groups), encoding="utf-8")
    for item in found:
        if not item.agrees:
            mean = statistics.fmean(item.found) if item.found else float("nan")
            print(f"#{item.number}: README n={item.n} {item.mean:.4f}, logs n={len(item.found)} {mean:.5f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
