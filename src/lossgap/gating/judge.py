"""The verdict on runs of a change: `pass`, `fail` or `needs more`, whenever one looks.

    result = gate(runs, baseline)            # result.verdict, result.more, result.exit_code

The shift is the mean of the new runs minus the mean of the baseline's, tested by the two-sample t with the levels of
boundary.py, so one may look after every run and stop at any.

- fail: some loss is worse. Its lower bound is above 0; or a run's loss is not finite. Of 100 changes that change
  nothing, at most `FALSE_RED` x 100 ever fail, over all signals and all looks.
- pass: the upper bound of the judged loss is below the margin. Of 100 changes that are worse by the margin, at most
  `FALSE_GREEN` x 100 ever pass.
- needs more: neither, with the number of runs that would decide in 80% of the cases.

The false alarms are shared out: `SHARES` to the judged loss and to the ends of the curves. `strict` asks whether
anything changed, in either direction, the gradient norm too: for a change that should leave the training as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lossgap.comparison.facts import Facts
from lossgap.errors import ConfigError
from lossgap.gating.accepted import Baseline, check_margin
from lossgap.gating.boundary import LOOKS, boundary, p_values
from lossgap.gating.readings import Signal, Signals, signals
from lossgap.runs.run import Run
from lossgap.runs.run_json import plain
from lossgap.strangers import shown

Word = Literal["pass", "fail", "needs more"]
Change = Literal["worse", "better", "changed", "no change seen", "not finite"]
FALSE_RED = 0.02
FALSE_GREEN = 0.05
POWER = 0.8
EXIT_CODES: Mapping[Word, int] = {"pass": 0, "fail": 2, "needs more": 3}
SHARES: Mapping[Signal, float] = {"curve": 0.1, "train": 0.1}
"""Shares of `FALSE_RED`, beside the judged loss, which has the rest."""
STRICT_SHARES: Mapping[Signal, float] = {"curve": 0.15, "train": 0.15, "grad_norm": 0.2}
_DRAWS = 2000
_SEED = 7


@dataclass(frozen=True, kw_only=True)
class SignalRow:
    """One signal: what it was, what it is, and whether that is a change. Nats per token; grad_norm: logarithms."""

    name: Signal
    judged: bool
    """True if the verdict `pass` stands on it; a change for the worse in any other one fails too."""
    control: float
    """Mean of the baseline's runs."""
    sd: float
    test: float
    """Mean of the new runs; infinite if one is not finite."""
    low: float
    """Lower bound of the shift, at the level of this look."""
    high: float
    p: float
    """One-sided p-value of `no worse`; two-sided of `no change` for grad_norm and with `strict`."""
    level: float
    """The level that p must not exceed, at this look, to be called a change."""
    change: Change

    @property
    def shift(self) -> float:
        """Test minus control."""
        return self.test - self.control


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """The answer, with everything that a renderer shows."""

    verdict: Word
    reason: str
    margin: float
    strict: bool
    baseline: Baseline
    runs: tuple[str, ...]
    rows: tuple[SignalRow, ...]
    """The judged loss first."""
    more: int | None
    """Further runs that would decide with 80% power; None where it is decided, or where no affordable number would."""
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 pass, 2 fail, 3 needs more."""
        return EXIT_CODES[self.verdict]


def gate(runs: Sequence[Run], baseline: Baseline, *, margin: float | None = None, strict: bool = False) -> GateResult:
    """The verdict on these runs of a change; give all of them, each time.

    `margin` (nats per token) stands in place of the baseline's. Raises ConfigError `gate-without-runs`, `bad-margin`,
    `signals-missing`, SourceError `no-losses`.
    """
    check_margin(margin)
    if not runs:
        raise ConfigError("gate-without-runs", "no run to judge; give one run or more of the change")
    facts = [Facts.of(run) for run in runs]
    each = [signals(item) for item in facts]
    lacking = [run.name for run, found in zip(runs, each, strict=True) if baseline.primary not in found]
    if lacking:
        raise ConfigError(
            "signals-missing",
            f"{lacking[0]}: it has no {baseline.primary} loss, which the baseline is judged by; give a log of the same "
            "kind, or make the baseline from logs like this one",
        )
    wanted = baseline.margin if margin is None else margin
    rows = _rows(each, baseline, strict)
    verdict, reason = _verdict(rows, wanted, strict, len(runs))
    return GateResult(
        verdict=verdict,
        reason=reason,
        margin=wanted,
        strict=strict,
        baseline=baseline,
        runs=tuple(shown(run.path) for run in runs),
        rows=rows,
        more=_more(rows[0], each, baseline, wanted, strict) if verdict == "needs more" else None,
        notes=_notes(facts, baseline),
    )


# ---------------------------------------------------------------------------------------------
# Signals


def shares(baseline: Baseline, present: Sequence[Signal], strict: bool) -> dict[Signal, float]:
    """The share of the false alarms that each signal may make; the judged loss has what the others leave."""
    wanted = STRICT_SHARES if strict else SHARES
    others = {name: share for name, share in wanted.items() if name in present and name != baseline.primary}
    return {baseline.primary: 1.0 - sum(others.values()), **others}


def _rows(each: Sequence[Signals], baseline: Baseline, strict: bool) -> tuple[SignalRow, ...]:
    present = [name for name in baseline.values if all(name in found for found in each)]
    share = shares(baseline, present, strict)
    order = [baseline.primary, *(name for name in present if name != baseline.primary)]
    return tuple(
        _row(name, baseline, [found[name] for found in each], share.get(name, 0.0), strict)
        for name in order
        if name not in ("final", "last") or name == baseline.primary
    )


def _row(name: Signal, baseline: Baseline, new: list[float], share: float, strict: bool) -> SignalRow:
    """One signal's test. Without a share (grad_norm, unless strict) its change is shown and decides nothing."""
    from scipy.special import stdtrit  # loaded when needed: it takes longer than the rest together

    old = baseline.values[name]
    both = strict or name == "grad_norm"
    look = min(len(new), LOOKS)
    n, m = len(old), len(new)
    alpha = FALSE_RED * (share or STRICT_SHARES["grad_norm"])
    level = boundary(n, alpha / 2 if both else alpha)[look - 1]
    control, test = float(np.mean(old)), float(np.mean(new))
    judged = name == baseline.primary
    sd = float(np.std(old, ddof=1))
    if not math.isfinite(test):
        return SignalRow(
            name=name, judged=judged, control=control, sd=sd, test=math.inf, low=math.inf, high=math.inf, p=0.0,
            level=level, change="not finite",
        )  # fmt: skip
    p_worse = float(p_values(np.array([old]), np.array([new]), 0.0)[0, -1])
    p = 2 * min(p_worse, 1 - p_worse) if both else p_worse
    worse, better = p_worse <= level, 1 - p_worse <= level
    error = _error(old, new)
    green = boundary(n, FALSE_GREEN)[look - 1]
    df = n + m - 2
    change: Change = "worse" if worse else "better" if better else "no change seen"
    if name == "grad_norm" and change != "no change seen":
        change = "changed"
    return SignalRow(
        name=name,
        judged=judged,
        control=control,
        sd=sd,
        test=test,
        low=test - control - _reach(float(stdtrit(df, 1 - level)), error),
        high=test - control + _reach(float(stdtrit(df, 1 - green)), error),
        p=p,
        level=2 * level if both else level,
        change=change,
    )


def _reach(quantile: float, error: float) -> float:
    return quantile * error if error > 0 else 0.0


def _error(old: Sequence[float], new: Sequence[float]) -> float:
    n, m = len(old), len(new)
    squares = float(np.var(old)) * n + float(np.var(new)) * m
    return math.sqrt(squares / (n + m - 2) * (1 / n + 1 / m))


# ---------------------------------------------------------------------------------------------
# Verdict


def _verdict(rows: tuple[SignalRow, ...], margin: float, strict: bool, count: int) -> tuple[Word, str]:
    first = rows[0]
    broken = [row for row in rows if row.change == "not finite"]
    if broken:
        return "fail", f"{broken[0].name}: a run's value is not finite"
    counted = [row for row in rows if strict or row.name != "grad_norm"]
    failing = [row for row in counted if row.change == "worse" or (strict and row.change != "no change seen")]
    # Where the judged loss is better, a worse end of another curve is how it got there.
    if failing and (strict or first.change != "better"):
        row = failing[0]
        what = "changed" if strict and row.change != "worse" else "is worse"
        return "fail", f"{row.name} {what} by {row.shift:+.5f} (p {row.p:.1e}, level {row.level:.1e} at {count} runs)"
    if first.high < margin and (not strict or first.shift - (first.high - first.shift) > -margin):
        return "pass", f"{first.name} is worse by less than the margin of {margin:.4g}: at most {first.high:+.5f}"
    return "needs more", (
        f"{first.name} has shifted by {first.shift:+.5f}, and anything from {first.low:+.5f} to {first.high:+.5f} is "
        f"possible; the margin is {margin:.4g}"
    )


def _more(row: SignalRow, each: Sequence[Signals], baseline: Baseline, margin: float, strict: bool) -> int | None:
    """Further runs that decide in 80% of the futures: shift and spread are drawn from what is known, then runs.

    The draws are from the posterior under a flat prior: variance from scaled inverse chi-square, shift from normal.
    """
    old, new = np.array(baseline.values[row.name]), np.array([found[row.name] for found in each])
    n, m = len(old), len(new)
    left = LOOKS - m
    if left <= 0:
        return None
    generator = np.random.Generator(np.random.Philox(_SEED))
    df = n + m - 2
    squares = float(np.var(old)) * n + float(np.var(new)) * m
    if squares == 0:
        return 1
    sd = np.sqrt(squares / generator.chisquare(df, _DRAWS))
    shift = new.mean() - old.mean() + sd * math.sqrt(1 / n + 1 / m) * generator.standard_normal(_DRAWS)
    future = old.mean() + shift[:, None] + sd[:, None] * generator.standard_normal((_DRAWS, left))
    news = np.concatenate([np.broadcast_to(new, (_DRAWS, m)), future], axis=1)
    olds = np.broadcast_to(old, (_DRAWS, n))
    share = shares(baseline, list(baseline.values), strict)[row.name] * (0.5 if strict else 1.0)
    red = p_values(olds, news, 0.0)[:, m:] <= np.array(boundary(n, FALSE_RED * share))[m:]
    green = p_values(-olds, -news, -margin)[:, m:] <= np.array(boundary(n, FALSE_GREEN))[m:]
    decided = np.maximum.accumulate(red | green, axis=1).mean(axis=0)
    enough = np.flatnonzero(decided >= POWER)
    return int(enough[0]) + 1 if len(enough) else None


def _notes(facts: Sequence[Facts], baseline: Baseline) -> tuple[str, ...]:
    """Notes that a reader must know: settings that the change has, runs that end elsewhere, too many looks."""
    notes = []
    for item in facts:
        if baseline.last_iter is not None and item.last_iter is not None and item.last_iter != baseline.last_iter:
            notes.append(
                f"{item.run.name} ends at iteration {item.last_iter:,.0f}, the baseline at {baseline.last_iter:,.0f}."
            )
    differing = sorted(
        name
        for name, value in baseline.settings.items()
        if any(name in item.run.config and plain(item.run.config[name]) != value for item in facts)
    )
    if differing:
        notes.append(f"Settings that differ from the baseline's: {', '.join(differing[:12])}.")
    if len(facts) > LOOKS:
        notes.append(f"More than {LOOKS} runs: the levels are those of {LOOKS}, and hold for one look.")
    return tuple(notes)
