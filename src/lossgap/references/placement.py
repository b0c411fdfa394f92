"""`place_run(run)`: where a run lies in the band that its recipe gave over seeds: on track, above, or below it.

The band is of a new run: mean +- t sqrt(sd^2 (1 + 1/n) + se^2) over the n seeds of the reference at that iteration,
with Student's t for 90%, and se the standard error of the run's own evaluation. Two seeds give a wide one, one seed
none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from lossgap.comparison.facts import Facts
from lossgap.comparison.findings.recipe import unlike
from lossgap.references.curve_file import ReferenceCurve, curves
from lossgap.runs.run import Run
from lossgap.runs.values import as_float
from lossgap.shown import Shown

Word = Literal["on track", "above", "below", "unknown"]
MOST = 4
"""Settings that are named as different from the nearest reference."""


@dataclass(frozen=True, repr=False, kw_only=True)
class Placement(Shown):
    """Losses in nats per token. `word` is `unknown` where no reference fits, and `why` says what is nearest."""

    run: str
    word: Word
    iter: int | None = None
    loss: float | None = None
    exact: bool = False
    """True where the exact loss of the final state is compared, else that of the last evaluation."""
    reference: str = ""
    about: str = ""
    seeds: int = 0
    median: float | None = None
    low: float | None = None
    high: float | None = None
    why: str = ""

    @property
    def said(self) -> str:
        """The answer in one sentence."""
        if self.word == "unknown" or self.loss is None or self.median is None:
            return f"{self.why[:1].upper()}{self.why[1:]}."
        words = {
            "on track": "on track",
            "above": "above its recipe",
            "below": "below what this recipe can give: a setting is not as recorded, or the measurement differs",
        }
        measure = "exact val loss" if self.exact else f"val loss {self.loss:.4f} at iteration {self.iter:,}"
        start = f"{measure} {self.loss:.4f}" if self.exact else measure
        return (
            f"{words[self.word][:1].upper()}{words[self.word][1:]}: {start}; {self.reference} gave {self.median:.4f} "
            f"({self.low:.4f} to {self.high:.4f} for 90% of runs, {self.seeds} seeds)."
        )


def place_run(run: Run, known: Sequence[ReferenceCurve] | None = None) -> Placement:
    """Where the run lies; `known` are the references, by default the shipped ones."""
    every = curves() if known is None else tuple(known)
    facts = Facts.of(run)
    if not every:
        return Placement(run=run.name, word="unknown", why="no reference curve is shipped")
    unlike = {item.name: _differences(facts, item) for item in every}
    fits = [item for item in every if not unlike[item.name]]
    if not fits:
        nearest = min(every, key=lambda item: len(unlike[item.name]))
        return Placement(run=run.name, word="unknown", why=_no_reference(nearest, unlike[nearest.name]))
    return _placed(run, facts, fits[0])


def _no_reference(nearest: ReferenceCurve, unlike: Mapping[str, tuple[object, object]]) -> str:
    parts = [
        f"{name} is not in the record" if mine is None else f"{name} {theirs} there, {mine} here"
        for name, (mine, theirs) in list(unlike.items())[:MOST]
    ]
    more = f" and {len(unlike) - MOST} more" if len(unlike) > MOST else ""
    return f"no reference for this recipe; nearest is {nearest.name} ({', '.join(parts)}{more})"


def _differences(facts: Facts, item: ReferenceCurve) -> dict[str, tuple[object, object]]:
    """The deciding settings that are not equal, as (the run's, the reference's)."""
    found = unlike(facts, {**item.settings, "dataset": item.corpus.get("name")})
    resumed = any(isinstance(seam, dict) and seam.get("changed") for seam in facts.run.seams)
    if resumed != (item.resumed_at is not None):
        found["resumed"] = (resumed, item.resumed_at is not None)
    return found


def _placed(run: Run, facts: Facts, item: ReferenceCurve) -> Placement:
    base = Placement(run=run.name, word="unknown", reference=item.name, about=item.about, seeds=len(item.seeds))
    final = run.final or {}
    loss = as_float(final.get("val_loss"))
    done = {seed.final_iter for seed in item.seeds}
    if loss is not None and final.get("iter") in done:
        return _judged(base, int(str(final["iter"])), loss, 0.0, item.finals().tolist(), exact=True)
    if facts.val is None:
        return replace(base, why="the record has no val loss")
    last = facts.val.last
    values = [float(np.interp(last.iter, seed.iters, seed.val)) for seed in item.seeds if last.iter <= seed.iters[-1]]
    return _judged(base, int(last.iter), last.value, last.standard_error or 0.0, values, exact=False)


def _judged(base: Placement, at: int, loss: float, error: float, values: Sequence[float], *, exact: bool) -> Placement:
    found = replace(base, iter=at, loss=loss, exact=exact, seeds=len(values))
    if len(values) < 2:
        return replace(found, why=f"{base.reference} has {len(values)} seed at iteration {at:,}, and a band needs 2")
    n, mean, sd = len(values), float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.95, n - 1)) * math.sqrt(sd**2 * (1 + 1 / n) + error**2)
    word: Word = "above" if loss > mean + half else "below" if loss < mean - half else "on track"
    median = float(np.median(values))
    return replace(found, word=word, median=median, low=mean - half, high=mean + half)
