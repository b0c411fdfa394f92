"""What a differing setting is worth as an explanation: how sure, and how large, by one measure for all rules.

Two ways lead from a setting to a gap. By elimination: where it is the only factor that differs and the others are
known, it makes the gap, whatever its size. By size: a rough expected effect, whose origin each rule states, is held
against the gap. No rule knows the sign of a learning rate's effect in advance; such a `size` takes the gap's sign.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lossgap.comparison.curve import Curve
from lossgap.comparison.differences import Setting
from lossgap.comparison.fact import Fact, Known
from lossgap.comparison.facts import Facts
from lossgap.comparison.metric import Metric
from lossgap.comparison.rules import Evidence, Pair, Strength

FACTORS = frozenset(("capacity", "context", "batch", "length", "schedule", "regularisation", "optimizer", "data"))
"""Groups of settings that change a training by more than rounding. Numerics and the device are not among them."""

MAIN = ("n_layer", "n_embd", "block_size", "batch_size", "max_iters", "learning_rate", "dropout")
"""Settings that must be known of both runs before "nothing else differs" says anything."""

MANY = 2
"""Groups of other settings that differ, beside which an effect without a known sign explains nothing."""

LEAST_SLOPE = 0.02
MOST_SLOPE = 0.5
"""Nats per e-fold of iterations, between which the slope of a curve that still learns is taken to lie."""
DATA_EXPONENT = 0.095
"""L falls as the tokens to this power: Kaplan et al. 2020 (arXiv:2001.08361), table 1."""


@dataclass(frozen=True, kw_only=True)
class Weight:
    """What a rule hands to `cause`: strength, the effect with its sign, and a half sentence that says why."""

    strength: Strength
    effect: float | None
    alone: bool
    """Whether nothing else that is known differs."""

    @property
    def said(self) -> str:
        """` Nothing else that makes another training differs.`, or nothing."""
        return " No other setting that makes another training differs." if self.alone else ""


def weigh(pair: Pair, names: Iterable[str], *, signed: float | None = None, size: float | None = None) -> Weight:
    """The weight of settings `names` that differ.

    `signed` is their expected effect on test minus control, `size` one whose sign is not known.
    """
    gap = pair.alignment.gap("last")
    effect = signed
    if effect is None and size is not None and gap:
        effect = math.copysign(size, gap)
    equal = pair.alignment.gap("iterations") if length_ratio(pair) not in (None, 1.0) else None
    if effect is not None and gap is not None and equal and effect * gap < 0 < effect * equal:
        # Another length hides it in the last values; at equal iterations it shows.
        large = abs(effect) >= 0.25 * abs(equal)
        return Weight(strength="likely" if large else "possible", effect=None, alone=False)
    alone = not others(pair, names)
    if alone and all_known(pair):
        # Whatever it was expected to do: there is nothing else that could have made the gap.
        contradicts = effect is not None and gap is not None and effect * gap < 0
        return Weight(strength="strong", effect=gap if contradicts else effect, alone=True)
    groups = {item.factor for item in pair.settings.differ if item.name in others(pair, names)}
    if signed is None and len(groups) >= MANY:
        return Weight(strength="possible", effect=effect, alone=False)
    large = effect is not None and (gap is None or abs(effect) >= 0.25 * abs(gap))
    return Weight(strength="likely" if large or alone else "possible", effect=effect, alone=False)


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


def explains(item: Setting) -> bool:
    """Whether a differing setting could make a gap beyond rounding."""
    return item.meaning and (item.factor in FACTORS or item.name in ("init_from", "optimizer"))


def all_known(pair: Pair) -> bool:
    """Whether the main settings of both runs are known."""
    return all(facts.setting(name).known for _, facts in pair.runs for name in MAIN)


def differing(pair: Pair, *names: str) -> tuple[Setting, ...]:
    """Those of `names` that differ."""
    return tuple(item for name in names if (item := pair.settings.differing(name)) is not None)


def evidence(*facts: Fact[object]) -> Evidence:
    """inferred if one of the facts is, else computed."""
    return "inferred" if any(isinstance(item, Known) and item.evidence == "inferred" for item in facts) else "computed"


def of_settings(items: Iterable[Setting]) -> Evidence:
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
    """How far the last val loss lies above the run's own best; None with fewer than 3 values or within the noise."""
    both = curves(pair)
    if both is None:
        return None
    curve = both[0] if facts is pair.control else both[1]
    up = curve.last.value - curve.best.value
    if len(curve) < 3 or curve.name == "iters.loss" or up <= max(0.01, 3 * evaluation_error(pair, label)):
        return None
    return up


def overfits(pair: Pair) -> bool:
    """Whether one of the runs ends clearly above its own best."""
    return any(rise(facts, label, pair) is not None for label, facts in pair.runs)


def factor_words(ratio: float) -> str:
    """`13.4 times`, `0.25 times`, from a ratio."""
    return f"{ratio:.3g} times"
