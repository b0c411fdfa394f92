"""How much of a gap chance alone makes: its standard error, part by part.

    SE(gap)^2 = SE_eval,control^2 + SE_eval,test^2 + sd_seed,control^2 + sd_seed,test^2 + (u_control^2 + u_test^2) / 12

SE_eval is the sampling error of an evaluation (0 for an exact one), sd_seed the standard deviation of the final loss
over seeds of a recipe, u one unit of the last printed digit (a rounding error is uniform over u, so its variance is
u^2 / 12; with equal digits the sum is u^2 / 6). With equal recipes the two seed terms are 2 sd_seed^2: one estimate
with one number of degrees of freedom. Those of the sum by Welch and Satterthwaite: (sum v)^2 / sum(v^2 / df). A part
that nobody measured makes the standard error unknown; `bound` is then the standard error with a stated upper bound in
its place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lossgap.comparison import spread
from lossgap.comparison.alignment import Alignment, RowName
from lossgap.comparison.curve import Curve, Value
from lossgap.comparison.facts import Facts
from lossgap.comparison.metric import Metric
from lossgap.comparison.spread import KnownSpread, SpreadTable
from lossgap.config import TrainConfig
from lossgap.settings import settings_of

NEIGHBOURS = 9
"""Evaluations whose spread about a straight line estimates the error of one, at most."""
FEWEST_NEIGHBOURS = 5
CONFIDENCE = 0.95

NO_DRAW = ("numerics", "device")
"""Factors whose settings change how a training is computed, and no random number of it."""

PartEvidence = Literal["measured", "computed", "inferred", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One source of chance. `standard_error` None is unknown; `bound` then takes its place, for a stated reason."""

    name: str
    standard_error: float | None
    df: float = math.inf
    evidence: PartEvidence
    how: str
    """Where the number comes from, or why there is none."""
    bound: float | None = None
    bound_reason: str = ""
    estimate: str = ""
    """Parts that stand on one and the same estimate have its name: their errors are wrong together."""
    of_seed: bool = False
    """True if another seed changes it, and not another evaluation of the same weights."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The standard error of a gap. Nothing is known (`parts` empty) where there is no gap."""

    parts: tuple[Part, ...] = ()
    paired: str = ""
    """Why both evaluations are of the same windows; empty if they are not, or nobody knows."""

    @property
    def unknown(self) -> tuple[Part, ...]:
        """The parts that nobody measured."""
        return tuple(part for part in self.parts if part.standard_error is None)

    @property
    def standard_error(self) -> float | None:
        """Standard error of test minus control; None if a part is unknown."""
        if not self.parts or self.unknown:
            return None
        return math.sqrt(sum((part.standard_error or 0.0) ** 2 for part in self.parts))

    @property
    def without_seeds(self) -> Noise:
        """That of the same two trainings, evaluated and printed anew."""
        return replace(self, parts=tuple(part for part in self.parts if not part.of_seed))

    @property
    def why(self) -> str:
        """The reason why it is unknown; empty if it is known."""
        if not self.parts:
            return "there is no gap"
        return "; ".join(f"{part.name}: {part.how}" for part in self.unknown)

    @property
    def bound(self) -> float | None:
        """The standard error with the upper bounds of the unknown parts; the standard error itself if all are known."""
        if not self.parts:
            return None
        values = [part.bound if part.standard_error is None else part.standard_error for part in self.parts]
        return None if None in values else math.sqrt(sum((value or 0.0) ** 2 for value in values))

    @property
    def df(self) -> float:
        """Degrees of freedom of the known parts (Welch-Satterthwaite); infinite if none comes from few values."""
        return _welch([(part, part.standard_error) for part in self.parts if part.standard_error])

    def interval(self, gap: float) -> tuple[float, float] | None:
        """The 95% interval of the gap by Student's t; None if the standard error is unknown."""
        return _around(gap, self.standard_error, self.df)

    def widest_interval(self, gap: float) -> tuple[float, float] | None:
        """The 95% interval with the bounds of the unknown parts; None if even those are not known."""
        return _around(
            gap, self.bound, _welch([(part, part.standard_error or part.bound or 0.0) for part in self.parts])
        )


def _welch(parts: list[tuple[Part, float]]) -> float:
    """(sum v)^2 / sum(v^2 / df) over independent estimates v; parts of one estimate are one v, with its fewest df."""
    variances: dict[str, tuple[float, float]] = {}
    for part, error in parts:
        key = part.estimate or part.name
        variance, df = variances.get(key, (0.0, math.inf))
        variances[key] = (variance + error**2, min(df, part.df))
    below = sum(v**2 / df for v, df in variances.values())
    return sum(v for v, _ in variances.values()) ** 2 / below if below > 0 else math.inf


def _around(gap: float, error: float | None, df: float) -> tuple[float, float] | None:
    if error is None:
        return None
    reach = t_quantile(df) * error
    return gap - reach, gap + reach


def t_quantile(df: float) -> float:
    """The 97.5% quantile of Student's t; the normal one for infinite df."""
    from scipy.special import ndtri, stdtrit  # loaded when needed: it takes longer than the rest together

    upper = (1 + CONFIDENCE) / 2
    return float(ndtri(upper) if math.isinf(df) else stdtrit(max(1.0, df), upper))


def noise(
    control: Facts,
    test: Facts,
    alignment: Alignment,
    by: RowName = "last",
    spreads: SpreadTable | None = None,
    known: KnownSpread | None = None,
) -> Noise:
    """The noise of the gap in one row of the alignment, from `spreads` (default: the shipped table).

    `known` is a standard deviation over seeds that the user gives; it stands in place of the table's.
    """
    row, found = alignment.row(by), alignment.metric
    if not isinstance(found, Metric) or row.control is None or row.test is None:
        return Noise()
    shipped = spreads or spread.table()
    if alignment.coincide and row.gap is not None and abs(row.gap) <= alignment.rounding:
        how = "the curves coincide digit for digit, so neither a seed nor a choice of windows is between them"
        return Noise(parts=(Part(name="training and evaluation", standard_error=0.0, evidence="computed", how=how),))
    sides = (
        ("control", control, row.control, found.control, found.control_factor),
        ("test", test, row.test, found.test, found.test_factor),
    )
    paired = "" if row.exact else same_windows(control, test)
    fraction = paired_fraction(control, test, shipped.paired_fraction) if paired else 1.0
    parts = []
    for label, facts, value, curve, factor in sides:
        part = _exact(label) if row.exact else evaluation(label, facts, value, curve, factor, shipped)
        parts.append(_times(part, fraction))
    one_seed = same_draws(control, test)
    for label, facts, _, _, factor in sides:
        if one_seed:
            parts.append(_no_seed(label, one_seed))
        elif known is not None:
            parts.append(_given(label, known, factor))
        else:
            parts.append(_seed(label, facts, found, factor, shipped))
    return Noise(parts=(*parts, *_roundings(row.exact, sides)), paired=paired)


LEAST_BLOCKS = 8
"""Stretches of val whose losses must be known for both runs to measure what their evaluations have in common."""


def paired_fraction(control: Facts, test: Facts, otherwise: float) -> float:
    """SE of the difference of two evaluations of the same windows, over that of two with windows of their own.

    Measured from both runs' losses by stretch of val, if both recorded them: sd(b1 - b2) / sqrt(sd(b1)^2 + sd(b2)^2).
    """
    first, second = (np.array(facts.run.val_blocks) for facts in (control, test))
    if len(first) < LEAST_BLOCKS or len(first) != len(second):
        return otherwise
    apart = math.hypot(float(first.std(ddof=1)), float(second.std(ddof=1)))
    return min(1.0, float((first - second).std(ddof=1)) / apart) if apart > 0 else otherwise


def _no_seed(label: str, why: str) -> Part:
    return Part(name=f"seed of {label}", standard_error=0.0, evidence="computed", how=why, of_seed=True)


def _given(label: str, known: KnownSpread, factor: float) -> Part:
    return Part(
        name=f"seed of {label}",
        standard_error=known.sd * factor,
        df=known.df,
        evidence="inferred",
        how=f"known spread {known.sd:.4g} ({known.source})",
        estimate="known",
        of_seed=True,
    )


def _exact(label: str) -> Part:
    return Part(
        name=f"evaluation of {label}", standard_error=0.0, evidence="measured", how="exact: every val token is scored"
    )


def _times(part: Part, fraction: float) -> Part:
    if fraction == 1.0 or part.standard_error is None:
        return part
    return Part(
        name=part.name,
        standard_error=part.standard_error * fraction,
        df=part.df,
        evidence=part.evidence,
        how=f"{part.how}; times {fraction:.2g}, as both evaluated the same windows",
    )


def evaluation(
    label: str, facts: Facts, value: Value, curve: Curve, factor: float = 1.0, spreads: SpreadTable | None = None
) -> Part:
    """The standard error of one evaluation, `value` of `curve`, in the curve's unit: nats per token times `factor`."""
    known = spreads or spread.table()
    name = f"evaluation of {label}"
    if value.standard_error is not None:
        n = curve.block if curve.block > 1 else facts.eval_iters.value
        how = (
            "sd of the printed losses / sqrt(their number)" if curve.block > 1 else "sd of its batches / sqrt(batches)"
        )
        df = float(n - 1) if n is not None and n > 1 else math.inf
        return Part(name=name, standard_error=value.standard_error, df=df, evidence="measured", how=how)
    if facts.eval_mode.value == "exact":
        return _exact(label)
    estimate = (
        _from_windows(facts, curve, factor, known)
        or _from_neighbours(value, curve)
        or _from_windows(facts, curve, factor, known, longer=True)
    )
    if estimate is not None:
        error, df, how = estimate
        return Part(name=name, standard_error=error, df=df, evidence="inferred", how=how)
    why = "too few evaluations to see their spread, and eval_iters x batch x context is not known"
    return Part(
        name=name,
        standard_error=None,
        evidence="unknown",
        how=why,
        bound=known.evaluation_bound.value * factor,
        bound_reason=known.evaluation_bound.reason,
    )


def _from_windows(
    facts: Facts, curve: Curve, factor: float, known: SpreadTable, *, longer: bool = False
) -> tuple[float, float, str] | None:
    """sd of a window's loss / sqrt(windows), where both are known; `longer`: from windows of a longer context."""
    iters, size, context = facts.eval_iters.value, facts.batch_size.value, facts.eval_context.value
    if iters is None or size is None or context is None or curve.name == "iters.loss":
        return None
    find = spread.longer_window_spread if longer else spread.window_spread
    per_window = find(context, facts.dataset.value, known)
    if per_window is None:
        return None
    beside = "" if per_window.context == context else f", measured at {per_window.context} tokens: at most that"
    how = f"{iters} x {size} windows of {context} tokens, sd {per_window.sd:.2g} each{beside}"
    return per_window.sd / math.sqrt(iters * size) * factor, math.inf, how


def _from_neighbours(value: Value, curve: Curve) -> tuple[float, float, str] | None:
    """The scatter of the evaluations around this one about a straight line, n - 2 degrees of freedom.

    It contains the fluctuation of the training and any bend of the curve, so it is too large rather than too small if
    each evaluation draws new windows. The error of a fixed part of val, the same at every evaluation, it cannot see.
    """
    later = curve.iters > curve.iters[-1] / 2
    usable = np.flatnonzero(later)
    if len(usable) < FEWEST_NEIGHBOURS:
        return None
    nearest = np.sort(usable[np.argsort(np.abs(curve.iters[usable] - value.iter), kind="stable")[:NEIGHBOURS]])
    x, y = curve.iters[nearest].astype(float), curve.values[nearest]
    design = np.stack([np.ones(len(x)), (x - x.mean()) / max(1.0, float(np.ptp(x)))], axis=1)
    residual = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    df = len(x) - 2
    error = math.sqrt(float(residual @ residual) / df)
    return (
        error,
        float(df),
        f"scatter of the {len(x)} nearest evaluations about a straight line, beside the error of a fixed part of val",
    )


def _seed(label: str, facts: Facts, found: Metric, factor: float, known: SpreadTable) -> Part:
    name = f"seed of {label}"
    match = spread.seed_spread(facts, known) if found.name == "val_loss" else None
    if match is not None:
        return Part(
            name=name,
            standard_error=match.sd * factor,
            df=match.df,
            evidence=match.evidence,
            how=match.how,
            estimate=match.id,
            of_seed=True,
        )
    bound: tuple[float, str] | None = None
    if known.model is not None:
        bound = known.model.bound(facts)
    elif known.seed_bound is not None:
        bound = (known.seed_bound.value, known.seed_bound.reason)
    return Part(
        name=name,
        standard_error=None,
        evidence="unknown",
        how="the spread over seeds of this recipe is not measured, nor that of recipes of its scale",
        bound=None if bound is None else bound[0] * factor,
        bound_reason="" if bound is None else bound[1],
        of_seed=True,
    )


def _roundings(exact: bool, sides: tuple[tuple[str, Facts, Value, Curve, float], ...]) -> list[Part]:
    """u / sqrt(12) for each printed value."""
    parts = []
    for label, _, value, curve, factor in sides:
        digits = curve.meaning.digits
        if exact or digits is None or value.interpolated:
            continue
        unit = 10.0**-digits * factor
        how = f"printed with {digits} decimals"
        parts.append(
            Part(name=f"rounding of {label}", standard_error=unit / math.sqrt(12), evidence="computed", how=how)
        )
    return parts


def same_windows(control: Facts, test: Facts) -> str:
    """Why both runs evaluated the same windows, or empty if they did not or nobody knows.

    Our counter-based draws depend on seed, split and window alone. nanoGPT draws from one generator: its windows are
    the same if everything that draws before them is.
    """
    asked = ("eval_iters", "batch_size", "block_size")
    if control.is_own and test.is_own:
        draws = (control.text("rng").value, test.text("rng").value)
        if draws != ("counter", "counter") or control.run.corpus.get("sha256") != test.run.corpus.get("sha256"):
            return ""
        return "equal seed and evaluation settings" if _agree(control, test, (*asked, "seed")) else ""
    if control.run.format == test.run.format == "nanogpt":
        names = (*asked, "eval_interval", "gradient_accumulation_steps", "dropout", "dataset", "init_from", "n_layer")
        same = _agree(control, test, (*names, "n_embd", "device")) and not control.run.seams and not test.run.seams
        return "nanoGPT's fixed seed and the same draws before each evaluation" if same else ""
    return ""


def same_draws(control: Facts, test: Facts) -> str:
    """Why no seed is between two runs of ours: equal weights, batches and masks; empty if that is not so or not known.

    Our random numbers depend on seed, purpose, iteration and position alone, so settings of kernels, compilation,
    threads, precision, logging and evaluation change none of them. What such a setting changes in the loss is then
    the gap itself, with nothing of the seeds' spread in it.
    """
    if not (control.is_own and test.is_own) or control.run.seams or test.run.seams:
        return ""
    if (control.text("rng").value, test.text("rng").value) != ("counter", "counter"):
        return ""
    hashes = [facts.run.corpus.get("tokens_sha256") or facts.run.corpus.get("sha256") for facts in (control, test)]
    if hashes[0] is None or hashes[0] != hashes[1]:
        return ""
    names = [item.name for item in settings_of(TrainConfig).values() if item.meaning and item.factor not in NO_DRAW]
    return "equal seed, weights, batches and masks in both" if _agree(control, test, tuple(names)) else ""


def _agree(control: Facts, test: Facts, names: tuple[str, ...]) -> bool:
    pairs = [(control.setting(name), test.setting(name)) for name in names]
    return all(a.known and b.known and a.value == b.value for a, b in pairs)
