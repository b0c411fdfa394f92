"""R11: nanoGPT's times and MFU: what they contain, what they are relative to, and that they make no loss.

Never for our own records: there, times leave evaluations out, and MFU is relative to the device's own peak.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from lossgap.comparison.fact import Fact, Known, Unknown
from lossgap.comparison.facts import Facts
from lossgap.comparison.findings.gpu import gpu_peak
from lossgap.comparison.rules import Evidence, Finding, Pair, Result, lacking, remark, rule, ruled_out
from lossgap.runs.values import as_int

FORMATS = ("nanogpt", "figures")
A100 = 312e12
"""FLOP/s, the peak of an A100 in bfloat16, by which nanoGPT divides on every device (model.py, estimate_mfu)."""
LONGER = 1.3
"""A time that is this many times the usual one contains something else. A choice: plain ones scatter by a tenth."""
MOST_MFU = 100.0
"""As a fraction: more is a damaged number on any machine."""
MFU_ROUNDING = 0.5e-4
"""nanoGPT prints per cent with two decimals, so half a unit is this fraction."""


@dataclass(frozen=True, kw_only=True)
class Time:
    """Milliseconds at one iteration."""

    at: int
    ms: float


@dataclass(frozen=True, kw_only=True)
class Times:
    """Printed times: the median of `plain` iterations, the last one that evaluated, the first one of a log."""

    plain: float | None
    evaluating: Time | None
    first: Time | None
    longest: Time
    uneven: bool
    """True if they differ by more than plain iterations do."""


def times_of(facts: Facts) -> Times | None:
    """The times that a nanoGPT log or a person's figures give; None without any."""
    rows = facts.run.iters.filter(pl.col("ms").is_not_null() & pl.col("iter").is_not_null()).sort("iter")
    if facts.run.format not in FORMATS or rows.is_empty():
        return None
    at, ms = rows["iter"].to_numpy(), rows["ms"].to_numpy().astype(float)
    evaluated = np.isin(at, facts.run.evals["iter"].drop_nulls().to_numpy())
    interval = facts.size("eval_interval").value
    if interval:
        evaluated |= at % interval == 0
    starts = [as_int(seam.get("iter")) for seam in facts.run.seams if isinstance(seam, dict)]
    begins = np.isin(at, [item for item in starts if item is not None])
    log = facts.run.format == "nanogpt"
    begins[0] |= log
    plain, evaluating = ms[~evaluated & ~begins], np.flatnonzero(evaluated & ~begins)

    def time(index: int) -> Time:
        return Time(at=int(at[index]), ms=float(ms[index]))

    return Times(
        plain=float(np.median(plain)) if len(plain) else None,
        evaluating=time(int(evaluating[-1])) if len(evaluating) else None,
        first=time(0) if log else None,
        longest=time(int(ms.argmax())),
        uneven=bool(ms.max() > LONGER * ms.min()),
    )


def mfu_of(facts: Facts) -> float | None:
    """The MFU of a nanoGPT log or of figures, as a fraction of `A100`: the median, for it is a running average."""
    peak = facts.run.peak.get("flops")
    if facts.run.format not in FORMATS or (peak is not None and peak != A100):
        return None
    values = facts.run.iters["mfu"].drop_nulls()
    values = values.filter(values.is_between(0, MOST_MFU))
    return float(np.median(values.to_numpy())) if len(values) else None


# ---------------------------------------------------------------------------------------------
# Times


@rule(
    "time-with-evaluation",
    title="A printed time contains more than an iteration",
    group="C",
    order=11,
    formats=FORMATS,
)
def time_with_evaluation(pair: Pair) -> Result:
    """nanoGPT's clock runs on through the evaluation; its first time contains compilation and the first evaluation."""
    for label, facts in pair.runs:
        times = times_of(facts)
        if times is not None and times.plain is not None and facts.run.format == "nanogpt":
            yield from _of_log(label, times, times.plain)
        elif times is not None:
            yield from _of_figures(label, facts, times)


def _of_log(label: str, times: Times, usual: float) -> Result:
    parts, numbers = [], {"run": label, "usual_ms": usual}
    for name, time, what in (
        ("evaluating", times.evaluating, "contain the evaluation"),
        ("first", times.first, "the first, contain the start-up (compilation, if it is on)"),
    ):
        if time is not None and time.ms > LONGER * usual:
            parts.append(f"the {time.ms:,.0f} ms at iteration {time.at:,}{',' if name == 'first' else ''} {what}")
            numbers |= {f"{name}_ms": time.ms, f"{name}_iteration": time.at}
    if parts:
        yield remark(
            "inferred",
            f"Times of {label}: {'; '.join(parts)}. A usual iteration takes {usual:,.4g} ms, the median of the others.",
            numbers=numbers,
        )


def _of_figures(label: str, facts: Facts, times: Times) -> Result:
    """Single figures: the MFU that stands beside a time says how long an iteration really takes."""
    time, implied = times.evaluating or times.longest, _implied(facts)
    numbers: dict[str, object] = {"run": label, "iteration": time.at, "ms": time.ms}
    text = f"The {time.ms:,.0f} ms of {label} at iteration {time.at:,} contain "
    evaluated = f" The record has an evaluation of iteration {time.at:,}." if times.evaluating is not None else ""
    if isinstance(implied, Known):
        low, high = implied.value
        if time.ms > LONGER * high:
            span = f"about {high:,.0f} ms" if high < 1.1 * low else f"{low:,.0f} to {high:,.0f} ms"
            yield remark(
                "inferred" if implied.evidence == "inferred" else "computed",
                f"{text}an evaluation: by its own MFU, {implied.how}, an iteration takes {span}.{evaluated} nanoGPT's "
                "clock runs on through evaluations.",
                numbers=numbers | {"implied_ms_low": low, "implied_ms_high": high},
            )
    elif times.evaluating is not None:
        yield remark(
            "inferred",
            f"{text}an evaluation, as nanoGPT's clock runs on through it.{evaluated} How long an iteration takes is "
            f"not known: {implied.why}.",
            numbers=numbers,
        )
    elif times.uneven:
        yield lacking(*_sides(label, implied), what=f"which of {label}'s times contain an evaluation")


def _implied(facts: Facts) -> Fact[tuple[float, float]]:
    """Least and most milliseconds of an iteration by the FLOPs of the recipe and the MFU as it was rounded."""
    mfu, flops = mfu_of(facts), facts.flops_per_iter
    if mfu is None or mfu <= MFU_ROUNDING:
        return Unknown("no MFU is given")
    if isinstance(flops, Unknown):
        return flops
    low, high = (1000 * flops.value / ((mfu + error) * A100) for error in (MFU_ROUNDING, -MFU_ROUNDING))
    how = f"{100 * mfu:.2f}% of 312 TFLOP/s for {flops.value:.3g} FLOPs"
    return Known((low, high), "inferred" if flops.evidence == "inferred" else "computed", how)


def _sides(label: str, fact: Fact[object]) -> tuple[Fact[object], Fact[object]]:
    """The fact that `label` lacks, for `lacking`; the other lacks nothing."""
    nothing: Fact[object] = Known(None, "stated", "")
    return (fact, nothing) if label == "control" else (nothing, fact)


# ---------------------------------------------------------------------------------------------
# MFU


@rule("mfu-peak", title="nanoGPT's MFU is relative to an A100", group="C", order=11, formats=FORMATS)
def mfu_peak(pair: Pair) -> Result:
    """The printed MFU as FLOP/s, and of the machine's own peak where that is known."""
    for label, facts in pair.runs:
        mfu = mfu_of(facts)
        if mfu is not None:
            yield _restated(label, facts, mfu)


def _restated(label: str, facts: Facts, mfu: float) -> Finding:
    achieved = mfu * A100
    numbers: dict[str, object] = {"run": label, "mfu": mfu, "flops_per_second": achieved, "peak": None, "own_mfu": None}
    base = (
        f"The MFU of {label}, {100 * mfu:.2f}%, is of an A100's 312 TFLOP/s, by which nanoGPT divides on every device; "
        f"it says {achieved / 1e12:.3g} TFLOP/s"
    )
    name = facts.device
    if facts.device_kind.value == "cpu":
        return remark("computed", f"{base}, and of what a CPU can do it says nothing.", numbers=numbers)
    if isinstance(name, Unknown):
        text = f"{base}. Which part of its own peak that is, is not known, as the machine is not named."
        return remark("computed", text, numbers=numbers, settle=f"Name it: --device {label}=NAME.")
    dtype = facts.dtype.value
    said = dtype if dtype in ("float32", "bfloat16", "float16") else None
    # On CUDA nanoGPT takes bfloat16, or float16 where there is none, unless told otherwise; both have one peak.
    peak = gpu_peak(name.value, said or "bfloat16")
    if peak is None:
        return remark("computed", f"{base}. The peak of {name.value} is not known to us.", numbers=numbers)
    numbers |= {"peak": peak.flops, "own_mfu": achieved / peak.flops}
    if peak.flops == A100:
        return remark("computed", f"{base}. {name.value} has that peak.", numbers=numbers)
    assumed = "" if said else "; that it ran in bfloat16 or float16 is nanoGPT's default, not in the record"
    level: Evidence = "computed" if said else "inferred"
    return remark(
        level,
        f"{base}: {100 * achieved / peak.flops:.1f}% of the {peak.flops / 1e12:.4g} TFLOP/s of {name.value} "
        f"({peak.source}{assumed}).",
        numbers=numbers,
    )


# ---------------------------------------------------------------------------------------------
# Speed makes no loss


@rule("speed", title="Speed: time per iteration and MFU", group="C", order=11, formats=FORMATS)
def speed(pair: Pair) -> Result:
    """Two numbers that people compare next to the loss, and that have no part in it."""
    said: list[str] = []
    numbers: dict[str, object] = {}
    for label, facts in pair.runs:
        times, mfu = times_of(facts), mfu_of(facts)
        words = []
        if times is not None and times.plain is not None:
            words.append(f"{times.plain:,.0f} ms")
            numbers[f"{label}_ms"] = times.plain
        if mfu is not None:
            words.append(f"MFU {100 * mfu:.2f}%")
            numbers[f"{label}_mfu"] = mfu
        if words:
            said.append(f"{label} {', '.join(words)}")
    if said:
        yield ruled_out(
            "computed",
            f"How fast an iteration is ({'; '.join(said)}) does not change a loss: the same updates give the same "
            "loss, however long they take. Only the number of updates that fit into a time depends on it.",
            numbers=numbers,
        )
