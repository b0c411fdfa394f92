"""R10: single printed losses far above their neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lossgap.comparison.facts import Facts
from lossgap.comparison.findings.divergence import medians
from lossgap.comparison.rules import Finding, Pair, Result, remark, rule

SIGMAS = 10.0
LEAST = 0.3
"""Nats above the median of its neighbours from which a loss is a spike, if it is also `SIGMAS` of their scatter."""
WIDTH = 21
"""Losses that a median is taken of; as many are left out at the beginning, where the loss falls fast."""
BACK = 0.05
"""Nats: a level behind the spike that is higher by less is the level before it."""


@dataclass(frozen=True, kw_only=True)
class Spikes:
    """How many, and the highest: where, how far above its neighbours, and the levels before and behind it."""

    count: int
    iteration: int
    line: int
    height: float
    before: float
    after: float

    @property
    def came_back(self) -> bool:
        """True if the losses behind it are down at the level before it."""
        return self.after <= self.before + BACK


@rule("loss-spike", title="The loss has spikes", group="E", order=10)
def loss_spike(pair: Pair) -> Result:
    """Single losses far above their neighbours; whether the curve came back."""
    for label, facts in pair.runs:
        found = spikes(facts)
        if found is not None:
            yield _said(label, found)


def spikes(facts: Facts) -> Spikes | None:
    """The spikes of the losses that iterations printed; None without any, or with too few losses."""
    curve = facts.train
    if curve is None or len(curve) < 3 * WIDTH or curve.meaning.kind in ("moving-average", "run-mean"):
        return None
    values, half = curve.values, WIDTH // 2
    excess = values - medians(np.pad(values, half, mode="reflect"), WIDTH)
    scatter = float(1.4826 * np.median(np.abs(excess[WIDTH:])))
    high = np.flatnonzero(excess > max(LEAST, SIGMAS * scatter))
    high = high[high >= WIDTH]
    if not len(high):
        return None
    top = int(high[np.argmax(excess[high])])
    behind = values[top + half : top + half + WIDTH]
    return Spikes(
        count=int((np.diff(high) > half).sum()) + 1,  # neighbours that are high too are one spike
        iteration=int(curve.iters[top]),
        line=int(curve.lines[top]),
        height=float(excess[top]),
        before=float(np.median(values[top - WIDTH : top])),
        after=float(np.median(behind)) if len(behind) else float(values[-1]),
    )


def _said(label: str, found: Spikes) -> Finding:
    line = f" (line {found.line:,})" if found.line else ""
    many = "a spike" if found.count == 1 else f"{found.count} spikes, the highest"
    then = "the curve came back"
    if not found.came_back:
        then = f"the losses behind it lie at {found.after:.3f}, those before it at {found.before:.3f}"
    return remark(
        "inferred",
        f"The printed loss of {label} has {many} {found.height:.2f} above its neighbours at iteration "
        f"{found.iteration:,}{line}, and {then}.",
        numbers={
            "run": label,
            "count": found.count,
            "iteration": found.iteration,
            "height": found.height,
            "before": found.before,
            "after": found.after,
        },
        settle="" if found.came_back else f"Look at the batch and the gradient norm of iteration {found.iteration:,}.",
    )
