"""How a training ended, in sentences for who waited for it: is the loss what its recipe gives, and what to do now."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lossgap import suggestion
from lossgap.comparison.facts import Facts
from lossgap.comparison.findings.recipe import reference_of
from lossgap.references.placement import place_run

if TYPE_CHECKING:  # loads torch, which whoever ends a training has loaded already
    from lossgap.training.train import Outcome


def closing(outcome: Outcome) -> tuple[str, ...]:
    """The val loss with its perplexity, held against the recipe's reference where there is one; the next command."""
    loss = outcome.val_loss
    if loss is None or not math.isfinite(loss):
        return ()
    perplexity = f" (perplexity {math.exp(loss):.3g})" if loss < 20 else ""
    said = f"The run ends at a val loss of {loss:.4f} nats per token{perplexity}"
    placed = place_run(outcome.run)
    published = "" if placed.median is not None else _against_the_reference(outcome, loss)
    seeds = [] if placed.median is None and published else [placed.said]
    return (
        f"{said}{published}.",
        *seeds,
        f"next: {suggestion.command('sample', outcome.run.path)}",
    )


def _against_the_reference(outcome: Outcome, loss: float) -> str:
    found = reference_of(Facts.of(outcome.run))
    if found is None:
        return ""
    reference, _ = found
    expected = reference.evals[max(reference.evals)][1]
    if abs(loss - expected) <= 2 * reference.tolerance["val"]:
        return f", as its recipe gives ({reference.name}: {expected:.4f}): nothing is wrong with it"
    return f"; its recipe ({reference.name}) gives {expected:.4f}, so something is not as its settings say"
