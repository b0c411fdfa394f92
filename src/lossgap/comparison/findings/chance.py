"""The gap against chance, as the rules of groups D, E and F ask for it; and sizes that numerics are known to have."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lossgap.comparison.facts import Facts
from lossgap.comparison.findings import weighing
from lossgap.comparison.rules import Finding, Pair

MACHINES = 0.0013
"""Nats: one recipe after 400 steps on two kinds of accelerators, 4.0907 and 4.0920 (Open-Athena/MarinFold#173). Two
values, and no bound: after 60 steps three kinds were `LARGEST` apart."""
ATTENTION = 0.013
"""Nats: two attention kernels on the same machines, step 400 (Open-Athena/MarinFold#173)."""
LARGEST = 0.062
"""Nats: the largest known distance between healthy runs that differ in the machine alone: three kinds of accelerators
after 60 steps, while the loss falls fastest (Open-Athena/MarinFold#173)."""
NUMERIC = ("device", "dtype", "compile", "tf32", "attention", "flash", "adamw", "fused", "threads", "deterministic")
"""Settings that decide how a training is computed, not what it is."""

OF_SETTINGS = (
    "batch",
    "capacity",
    "context",
    "data",
    "dropout",
    "learning-rate",
    "learning-rate-horizon",
    "length",
    "optimizer",
    "warm-up",
    "weight-decay",
)
"""Rules of one group of settings each, which know the size of what a difference makes."""
NO_EXPLANATION = ("not-in-the-settings", "other-settings")
"""Causes that say that the cause, or its effect, is not known."""


@dataclass(frozen=True, kw_only=True)
class Chance:
    """`gap` is test minus control of the last values; `low`, `high` its 95% interval."""

    gap: float
    low: float
    high: float
    bounded: bool
    """True if an unknown part of the noise is at its upper bound."""
    unit: str

    @property
    def reach(self) -> float:
        """How far two runs of the same recipes lie apart by chance, 95% of the time."""
        return (self.high - self.low) / 2

    @property
    def times_reach(self) -> str:
        """`3.2 times that`, the gap over its reach."""
        # A gap of absurd size can leave no reach that a float holds.
        return f"{times(abs(self.gap) / self.reach)} that" if self.reach > 0 else "far beyond that"

    @property
    def is_beyond(self) -> bool:
        """True if the gap is larger than chance makes."""
        return not self.low <= 0 <= self.high


def chance(pair: Pair) -> Chance | None:
    """The gap with its interval; None where there is no gap."""
    gap = pair.alignment.gap("last")
    interval = None if gap is None else pair.noise.widest_interval(gap)
    if gap is None or interval is None:
        return None
    unit = getattr(pair.alignment.metric, "unit", "nats/token")
    bounded = pair.noise.standard_error is None
    return Chance(gap=gap, low=interval[0], high=interval[1], bounded=bounded, unit=unit)


def is_beyond(pair: Pair) -> bool:
    """True if there is a gap that chance does not make."""
    found = chance(pair)
    return found is not None and found.is_beyond


def worse(pair: Pair) -> str | None:
    """The run with the higher last loss; None where there is no gap or it is 0."""
    gap = pair.alignment.gap("last")
    return None if not gap else "test" if gap > 0 else "control"


def could_be_worse_for(pair: Pair, label: str) -> bool:
    """True if harm to the run `label` fits the gap: the other is not the worse one."""
    return worse(pair) in (None, label)


def other_training(pair: Pair) -> tuple[str, ...]:
    """Everything that makes another training, numerics and device aside: settings that differ, and lengths."""
    names = weighing.others(pair, NUMERIC)
    row = pair.alignment.row("last")
    if row.control is not None and row.test is not None and "max_iters" not in names and not row.exact:
        ends = sorted((row.control.iter, row.test.iter))
        if ends[1] - ends[0] > 0.01 * ends[1]:
            return (*names, f"the records end at iterations {row.control.iter:,.0f} and {row.test.iter:,.0f}")
    return names


def only_numerics(pair: Pair) -> bool:
    """True if the main settings of both runs are known and nothing but numerics, device and seed differs."""
    harmless = {*NUMERIC, "seed", "backend"}
    beside = [item.name for item in pair.settings.differ_in_meaning if item.name not in harmless]
    return weighing.all_known(pair) and not beside and not other_training(pair)


def settings_reach(pair: Pair) -> float:
    """The most that the differing settings can make, in nats, by the rules that came before; infinite if unknown.

    `MOST_TIMES` the sum of the sizes that these rules know. A setting for which no rule knows a size may make any gap.
    """
    names = other_training(pair)
    if not names:
        return 0.0
    causes = [item for item in pair.so_far if isinstance(item, Finding) and item.role == "cause"]
    sizes = [item.magnitude for item in causes if item.id in OF_SETTINGS]
    unsized = [item for item in causes if item.id == "other-settings" and set(item.numbers) & set(names)]
    if unsized or not sizes or None in sizes:
        return math.inf
    return weighing.MOST_TIMES * sum(size or 0.0 for size in sizes)


def settings_explain(pair: Pair) -> bool:
    """True if the settings that differ can make the gap, by the sizes that the rules know."""
    gap = pair.alignment.gap("last")
    return gap is not None and bool(other_training(pair)) and abs(gap) <= settings_reach(pair)


def named(facts: Facts) -> str:
    """The machine of a run in words, or empty."""
    return facts.device.value or facts.device_kind.value or ""


def explained(pair: Pair) -> tuple[str, ...]:
    """Titles of the causes that earlier rules found, those they are sure of."""
    gap = pair.alignment.gap("last") or 0.0
    causes = [item for item in pair.so_far if isinstance(item, Finding) and item.role == "cause"]
    causes = [item for item in causes if item.id not in NO_EXPLANATION]
    fitting = [item for item in causes if item.strength != "possible" and (item.effect or 0.0) * gap >= 0]
    return tuple(dict.fromkeys(item.title for item in fitting))


def times(value: float) -> str:
    """`150 times`, `2.5 times`."""
    return f"{value:,.0f} times" if value >= 10 else f"{value:.1f} times"
