"""Groups of runs: several runs of one recipe on each side, so that the spread over seeds is measured and not looked up.

    groups = group(controls, tests)          # two sequences of Facts
    groups.row("last").interval              # 95%, of the difference of the two means
    groups.control[0].run.name               # the runs behind it

The gap is the difference of the means, its standard error sqrt(s1^2 / n1 + s2^2 / n2) with Welch's degrees of freedom
(Welch 1947). What varies from run to run is then in s, whatever it is: the seed, the data order, the sampling of the
evaluations, the rounding of printed digits. A side of one run takes the other side's standard deviation, as if both
recipes spread alike. With `spread`, a known standard deviation stands in place of both.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from lossgap.comparison.alignment import Alignment, Row, RowName, align
from lossgap.comparison.curve import Value
from lossgap.comparison.facts import Facts
from lossgap.comparison.metric import NoMetric
from lossgap.comparison.noise import Noise, Part
from lossgap.comparison.power import runs_to_decide
from lossgap.comparison.spread import KnownSpread
from lossgap.errors import ConfigError


@dataclass(frozen=True)
class Sample:
    """The values of one side's runs at one place, in the order of the runs."""

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        """The number of runs."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """The mean of the runs."""
        return math.fsum(self.values) / self.n

    @property
    def sd(self) -> float | None:
        """The standard deviation over the runs, with n - 1; None of one run."""
        return statistics.stdev(self.values) if self.n > 1 else None


@dataclass(frozen=True, kw_only=True)
class GroupRow:
    """Both groups at one place: the difference of their means, with its noise."""

    by: RowName
    unit: str
    at: float | None
    control: Sample | None = None
    test: Sample | None = None
    noise: Noise = field(default_factory=Noise)
    why: str = ""
    """Why there is no gap or no interval; empty if there is."""

    @property
    def gap(self) -> float | None:
        """Mean of the test minus mean of the control."""
        return None if self.control is None or self.test is None else self.test.mean - self.control.mean

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval of the gap; None where no spread is known."""
        return None if self.gap is None else self.noise.interval(self.gap)

    @property
    def p(self) -> float | None:
        """Two-sided p-value of no gap; None without a standard error."""
        error, gap = self.noise.standard_error, self.gap
        if error is None or gap is None:
            return None
        if error == 0:
            return 1.0 if gap == 0 else 0.0
        from scipy.special import ndtr, stdtr  # loaded when needed: it takes longer than the rest together

        z, df = -abs(gap) / error, self.noise.df
        return 2 * float(ndtr(z) if math.isinf(df) else stdtr(df, z))


@dataclass(frozen=True, eq=False, kw_only=True)
class Groups:
    """Two sides of runs. The rows are in the order of the alignment's."""

    control: tuple[Facts, ...]
    test: tuple[Facts, ...]
    rows: tuple[GroupRow, ...]
    spread: KnownSpread | None
    mixed: tuple[str, ...]
    """`RUN.setting` where the runs of one side differ in more than the seed."""
    more: int | None = None
    """Further runs of each side that would decide, with 80% power, if the gap is what it seems; None: no number."""

    def row(self, by: RowName) -> GroupRow:
        """The row by name."""
        return next(item for item in self.rows if item.by == by)

    @property
    def settle(self) -> str:
        """How many more runs would decide an inconclusive gap."""
        if self.row("last").noise.standard_error is None:
            return "Give more runs of a side, or a known spread with --spread."
        if self.more is None:
            return "No affordable number of runs would decide a gap of this size; state a larger --margin."
        return f"{max(1, self.more):,} more runs of each side would decide a gap of this size (80% power)."


def as_spread(given: float | KnownSpread | None) -> KnownSpread | None:
    """A known spread from a number. Raises ConfigError `bad-spread` if it is negative or not finite."""
    if given is None or isinstance(given, KnownSpread):
        return given
    if not (math.isfinite(given) and given >= 0):
        raise ConfigError("bad-spread", f"--spread={given}: a standard deviation is a finite number of at least 0")
    return KnownSpread(sd=float(given), source="given")


def middle(side: Sequence[Facts]) -> Facts:
    """The run whose last loss is the median of its side: it stands for the side's settings and its curve."""
    ranked = sorted(side, key=lambda facts: (_last(facts), str(facts.run.path)))
    return ranked[(len(ranked) - 1) // 2]


def _last(facts: Facts) -> float:
    found = facts.final or (facts.val.last if facts.val is not None else None)
    return math.inf if found is None or not math.isfinite(found.value) else found.value


def group(
    control: Sequence[Facts], test: Sequence[Facts], spread: KnownSpread | None = None, margin: float = 0.01
) -> tuple[Groups, Alignment]:
    """Both groups at all places, and the alignment of the two means: the middle runs' curves, the groups' values.

    Raises ConfigError `empty-group`.
    """
    if not control or not test:
        raise ConfigError("empty-group", "a side without a run; give one run or more on each side of the colon")
    first, second = middle(control), middle(test)
    base = align(first, second)
    each = (
        [base if facts is first else align(facts, second) for facts in control],
        [base if facts is second else align(first, facts) for facts in test],
    )
    rows = tuple(_row(row, each, spread) for row in base.rows)
    last = next(row for row in rows if row.by == "last")
    found = Groups(
        control=tuple(control),
        test=tuple(test),
        rows=rows,
        spread=spread,
        mixed=(*_mixed("control", control), *_mixed("test", test)),
        more=_more(last, spread, margin),
    )
    if isinstance(base.metric, NoMetric):
        return found, base
    averaged = tuple(_averaged(row, means) for row, means in zip(base.rows, rows, strict=True))
    return found, replace(base, rows=averaged)


def _row(row: Row, each: tuple[list[Alignment], list[Alignment]], spread: KnownSpread | None) -> GroupRow:
    """One row of all runs; none where a run lacks the value."""
    controls = [item.row(row.by).control for item in each[0]]
    tests = [item.row(row.by).test for item in each[1]]
    lacking = sum(value is None for value in (*controls, *tests))
    if row.gap is None or lacking:
        why = row.why or f"{lacking} of {len(controls) + len(tests)} runs have no value here"
        return GroupRow(by=row.by, unit=row.unit, at=row.at, why=why)
    first = Sample(tuple(value.value for value in controls if value is not None))
    second = Sample(tuple(value.value for value in tests if value is not None))
    noise = Noise(parts=spreads_of(first, second, spread))
    why = "" if noise.standard_error is not None else noise.why
    return GroupRow(by=row.by, unit=row.unit, at=row.at, control=first, test=second, noise=noise, why=why)


def spreads_of(control: Sample, test: Sample, spread: KnownSpread | None = None) -> tuple[Part, ...]:
    """The standard errors of both means: s / sqrt(n) each, of independent runs."""
    sides = (("control", control, test), ("test", test, control))
    return tuple(_part(label, own, other, spread) for label, own, other in sides)


def _part(label: str, own: Sample, other: Sample, spread: KnownSpread | None) -> Part:
    name = f"runs of {label}"
    if spread is not None:
        error = spread.sd / math.sqrt(own.n)
        how = f"known spread {spread.sd:.4g} ({spread.source}) / sqrt({own.n})"
        return Part(
            name=name, standard_error=error, df=spread.df, evidence="inferred", how=how, estimate="known", of_seed=True
        )
    sd, n, whose = own.sd, own.n, ""
    if sd is None:
        sd, n, whose = other.sd, other.n, "the other side's "
    if sd is None:
        how = "one run on each side shows no spread; give more runs, or a known one with --spread"
        return Part(name=name, standard_error=None, evidence="unknown", how=how, of_seed=True)
    return Part(
        name=name,
        standard_error=sd / math.sqrt(own.n),
        df=n - 1,
        evidence="measured" if not whose else "inferred",
        how=f"{whose}sd {sd:.4g} over {n} runs / sqrt({own.n})",
        estimate="" if own.n > 1 and other.n > 1 else "one side's runs",
        of_seed=True,
    )


def _averaged(row: Row, means: GroupRow) -> Row:
    if means.control is None or means.test is None or row.control is None or row.test is None:
        return replace(row, control=None, test=None, why=row.why or means.why)
    return replace(row, control=_mean(row.control, means.control), test=_mean(row.test, means.test))


def _mean(value: Value, sample: Sample) -> Value:
    error = None if sample.sd is None else sample.sd / math.sqrt(sample.n)
    return replace(value, value=sample.mean, standard_error=error, line=value.line if sample.n == 1 else None)


def _more(last: GroupRow, spread: KnownSpread | None, margin: float) -> int | None:
    """Further runs on each side, from the sizes that are there; 0 if there are enough already."""
    if last.control is None or last.test is None or last.gap is None:
        return None
    known = [spread.sd] if spread is not None else [sd for sd in (last.control.sd, last.test.sd) if sd is not None]
    if not known:
        return None
    sd = math.sqrt(sum(item**2 for item in known) / len(known))
    needed = runs_to_decide(last.gap, sd, margin)
    # Groups of unequal size count as their harmonic mean: 1 / n1 + 1 / n2 = 2 / n.
    have = 2 / (1 / last.control.n + 1 / last.test.n)
    return None if needed is None else max(0, math.ceil(needed - have))


def _mixed(label: str, side: Sequence[Facts]) -> tuple[str, ...]:
    """Settings in which the runs of one side differ, without the seed and what is not part of a training."""
    from lossgap.comparison.differences import compare_settings

    names: list[str] = []
    for facts in side[1:]:
        differ = compare_settings(side[0], facts).differ_in_meaning
        names += [f"{label}.{item.name}" for item in differ if item.name not in ("seed", "out_dir")]
    return tuple(dict.fromkeys(names))
