"""The weight of a differing setting as an explanation: how sure, and how large, by one measure for all rules.

Two ways lead from a setting to a gap. By elimination: where it is the only factor that differs and the others are
known, it makes the gap, as long as the gap is at most `MOST_TIMES` the size that its rule knows. By size: a rough
expected effect, whose origin each rule states, is held against the gap. No rule knows the sign of a learning rate's
effect in advance: such a setting has a `size` and no `effect`, and its size alone never makes it a strong cause.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lossgap.comparison.curve import Curve
from lossgap.comparison.differences import ComparedSetting
from lossgap.comparison.fact import Fact, Known
from lossgap.comparison.facts import Facts
from lossgap.comparison.metric import Metric
from lossgap.comparison.rules import Evidence, Pair, Strength

FACTORS = frozenset(
    ("capacity", "architecture", "context", "batch", "length", "schedule", "regularisation", "optimizer", "data")
)
"""Groups of settings that change a training by more than rounding. Numerics and the device are not among them."""

MAIN = ("n_layer", "n_embd", "block_size", "batch_size", "max_iters", "learning_rate", "dropout")
"""Settings that must be known for both runs before "nothing else differs" says anything."""

MANY = 2
"""Groups of other settings that differ, beside which an effect without a known sign explains nothing."""

MOST_TIMES = 5.0
"""The multiple of its rule's size beyond which a setting does not explain a gap, however alone it stands. A choice:
of the gallery's 40 pairs in which one setting makes a gap beyond the noise and nothing diverges, 37 lie within 2.5
times the size and all within 4.6; a warm-up of 101 instead of 100 iterations is far too small for 0.7 nats."""

LEAST_SLOPE = 0.02
MOST_SLOPE = 0.5
"""Nats per e-fold of iterations, between which the slope of a curve that still learns is taken to lie."""
DATA_EXPONENT = 0.095
"""L falls as the tokens to this power: Kaplan et al. 2020 (arXiv:2001.08361), table 1."""


@dataclass(frozen=True, kw_only=True)
class Weight:
    """A rule's weights for `cause`: strength, the effect with its sign, and a half sentence that says why."""

    strength: Strength
    effect: float | None
    alone: bool
    """True if nothing else that is known differs."""
    size: float | None = None
    """The size that the rule knows, in nats; None where it knows none."""
    times: float | None = None
    """The gap over `size`, where that is more than the setting can make."""

    @property
    def said(self) -> str:
        """A sentence: does anything else differ, is anything unknown or too small? Begins with a space, or is empty."""
        alone = " No other setting that makes another training differs" if self.alone else ""
        if self.times is not None and self.size is not None:
            but = f"{alone}, but this" if alone else " This"
            return f"{but} difference is worth about {self.size:.2g} nats, and the gap is {_many(self.times)} that."
        if self.size is not None and self.effect is None:
            unsigned = "the sign of its effect is not known in advance"
            return f"{alone}; {unsigned}." if alone else f" {unsigned[0].upper()}{unsigned[1:]}."
        return f"{alone}." if alone else ""


def _many(times: float) -> str:
    return "over a million times" if times > 1e6 else f"{times:,.0f} times"


def weigh(pair: Pair, names: Iterable[str], *, signed: float | None = None, size: float | None = None) -> Weight:
    """The weight of settings `names` that differ.

    `signed` is their expected effect on test minus control, `size` one whose sign is not known.
    """
    gap = pair.alignment.gap("last")
    size = size if signed is None else abs(signed)
    equal = pair.alignment.gap("iterations") if length_ratio(pair) not in (None, 1.0) else None
    if signed is not None and gap is not None and equal and signed * gap < 0 < signed * equal:
        # Another length hides it in the last values; at equal iterations it shows.
        large = abs(signed) >= 0.25 * abs(equal)
        return Weight(strength="likely" if large else "possible", effect=None, alone=False)
    alone = not others(pair, names)
    if gap is not None and size is not None and abs(gap) > MOST_TIMES * size:
        times = abs(gap) / size if size else math.inf
        return Weight(strength="possible", effect=signed, alone=alone, size=size, times=times)
    if alone and all_known(pair):
        contradicts = signed is not None and gap is not None and signed * gap < 0
        sure = size is not None and not contradicts
        return Weight(
            strength="strong" if sure else "likely", effect=None if contradicts else signed, alone=True, size=size
        )
    groups = {item.factor for item in pair.settings.differ if item.name in others(pair, names)}
    if signed is None and len(groups) >= MANY:
        return Weight(strength="possible", effect=None, alone=False, size=size)
    large = size is not None and (gap is None or size >= 0.25 * abs(gap))
    return Weight(strength="likely" if large or alone else "possible", effect=signed, alone=False, size=size)


def others(pair: Pair, names: Iterable[str]) -> tuple[str, ...]:
    """Settings that differ beside `names` and could explain a gap."""
    mine = frozenset(names)
    found = [item.name for item in pair.settings.differ if explains(item) and item.name not in mine]
    # A micro-batch and its accumulation are one number; a shorter run's horizon is not another recipe's.
    if pair.control.batch.known and pair.control.batch.value == pair.test.batch.value:
        found = [name for name in found if name not in ("batch_size", "gradient_accumulation_steps")]
    if "max_iters" in found and length_ratio(pair) == 1.0:
        found.remove("max_iters")
    return tuple(found)


def explains(item: ComparedSetting) -> bool:
    """True if a differing setting could make a gap beyond rounding."""
    return item.meaning and (item.factor in FACTORS or item.name in ("init_from", "optimizer"))


def all_known(pair: Pair) -> bool:
    """True if the main settings of both runs are known."""
    return all(facts.setting(name).known for _, facts in pair.runs for name in MAIN)


def differing(pair: Pair, *names: str) -> tuple[ComparedSetting, ...]:
    """Those of `names` that differ."""
    return tuple(item for name in names if (item := pair.settings.differing(name)) is not None)


def evidence(*facts: Fact[object]) -> Evidence:
    """inferred if one of the facts is, else computed."""
    return "inferred" if any(isinstance(item, Known) and item.evidence == "inferred" for item in facts) else "computed"


def of_settings(items: Iterable[ComparedSetting]) -> Evidence:
    """inferred if one of the values is, else computed."""
    return "inferred" if any(item.inferred for item in items) else "computed"


# ---------------------------------------------------------------------------------------------
# The curves


def curves(pair: Pair) -> tuple[Curve, Curve] | None:
    """Both curves of the loss that is compared."""
    found = pair.alignment.metric
    return (found.control, found.test) if isinstance(found, Metric) else None


def length_ratio(pair: Pair) -> float | None:
    """Last iteration of the test over that of the control, by the loss that is compared; None if unknown."""
    both = curves(pair)
    if both is None:
        return None
    # An untrained run counts as one of half an update, so that a ratio exists.
    ratio = max(0.5, both[1].last.iter) / max(0.5, both[0].last.iter)
    # Where one log ends with the last evaluation before the end, the difference is no more than an interval.
    return 1.0 if abs(ratio - 1) < 0.01 else ratio


def level(pair: Pair) -> float:
    """The control's last loss, for effects that are a share of the loss; 2 nats where there is none."""
    both = curves(pair)
    return both[0].last.value if both is not None else 2.0


def slope(pair: Pair) -> float:
    """How much the loss falls per e-fold of iterations where the runs are compared: the larger of the two runs.

    (L(end / 2) - L(end)) / ln 2, where `end` is the end of the shorter run, or a run's own best before it. Where no log
    has an earlier value it is DATA_EXPONENT x L.
    """
    both = curves(pair) or ()
    end = min((curve.last.iter for curve in both), default=0.0)
    found = [value for curve in both if (value := _slope(curve, end)) is not None]
    return min(MOST_SLOPE, max(LEAST_SLOPE, *found)) if found else DATA_EXPONENT * level(pair)


def _slope(curve: Curve, end: float) -> float | None:
    at = min(end, curve.best.iter)
    here, half = curve.at(at), curve.at(at / 2)
    return None if here is None or half is None or at <= 0 else (half.value - here.value) / math.log(2)


def error(pair: Pair) -> float:
    """Standard error of the gap, with the stated bounds of what nobody measured; 0.1 where there is no gap."""
    return pair.noise.bound or 0.1


def evaluation_error(pair: Pair, label: str) -> float:
    """Standard error of one evaluation of `control` or `test`; the bound of the table where it is unknown."""
    for part in pair.noise.parts:
        if part.name == f"evaluation of {label}":
            return part.standard_error if part.standard_error is not None else part.bound or 0.05
    return 0.05


def scatter(curve: Curve) -> tuple[float, int, float] | None:
    """How much printed iteration losses scatter in the later half: sd, their number, their mean.

    sd of neighbouring differences / sqrt 2, which no trend can blow up. None with fewer than 20 values.
    """
    late = curve.values[curve.iters > curve.iters[-1] / 2]
    if len(late) < 20:
        return None
    steps = np.diff(late)
    return float(np.sqrt(np.mean(steps**2) / 2)), len(late), float(late.mean())


def rise(facts: Facts, label: str, pair: Pair) -> float | None:
    """How far the last val loss lies above the run's own best; None with fewer than 3 values or within the noise.

    The best is the lowest of several noisy values, so it is low by luck: that luck is taken off, and `RISE_ERRORS`
    errors of what is left must be exceeded.
    """
    both = curves(pair)
    if both is None:
        return None
    curve = both[0] if facts is pair.control else both[1]
    if len(curve) < 3 or curve.name == "iters.loss":
        return None
    error = evaluation_error(pair, label)
    luck, spread = _lowest(int((curve.values <= curve.best.value + 4 * error).sum()))
    up = curve.last.value - curve.best.value - luck * error
    return up if up > max(LEAST_RISE, RISE_ERRORS * math.hypot(1.0, spread) * error) else None


LEAST_RISE = 0.01
"""Nats. A choice: the margin within which gaps count as none."""
RISE_ERRORS = 3.0


def _lowest(n: int) -> tuple[float, float]:
    """How far the lowest of `n` standard normal values lies below 0 in the mean, and its standard deviation.

    The mean is the quantile of (n - 0.375) / (n + 0.25) (Blom 1958). The deviation is 1 / sqrt(1 + ln n), a fit that
    lies within a tenth of simulated values from n = 2 to 400.
    """
    if n < 2:
        return 0.0, 1.0
    from scipy.special import ndtri  # loaded when needed: it takes longer than the rest together

    return float(ndtri((n - 0.375) / (n + 0.25))), 1 / math.sqrt(1 + math.log(n))


def overfits(pair: Pair) -> bool:
    """True if one of the runs ends clearly above its own best, or its val loss far above its train loss."""
    return any(rise(facts, label, pair) is not None for label, facts in pair.runs) or distance(pair) is not None


@dataclass(frozen=True, kw_only=True)
class Distance:
    """val minus train loss, both in evaluation mode, where each run ends."""

    control: float
    test: float
    train_gap: float
    """Test minus control of the train split."""
    error: float
    """Standard error of test minus control of the distances."""


FAR_APART = 0.1
"""Nats by which two runs' distances of val and train must differ. A choice: dropout and noise make less."""


def distance(pair: Pair) -> Distance | None:
    """The distances of val and train, where they differ by far more than noise; None if they do not, or are unknown."""
    metric = pair.alignment.metric
    if not isinstance(metric, Metric) or metric.name != "val_loss" or metric.unit != "nats/token":
        return None
    ends = []
    for (_, facts), val in zip(pair.runs, (metric.control, metric.test), strict=True):
        train = facts.train_eval.at(val.last.iter) if facts.train_eval is not None else None
        if train is None or facts.val is None or facts.train_eval is None:
            return None
        if facts.train_eval.meaning.mode != "eval":
            return None
        ends.append((val.last.value, train.value))
    errors = [evaluation_error(pair, label) for label, _ in pair.runs]
    found = Distance(
        control=ends[0][0] - ends[0][1],
        test=ends[1][0] - ends[1][1],
        train_gap=ends[1][1] - ends[0][1],
        error=math.sqrt(2) * math.hypot(*errors),
    )
    far = abs(found.test - found.control) > max(FAR_APART, 4 * found.error)
    return found if far and max(found.test, found.control) > FAR_APART else None
