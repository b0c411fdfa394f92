"""R1: do both runs begin where an untrained model begins?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lossgap.comparison.facts import Facts
from lossgap.comparison.rules import Pair, Result, cause, remark, rule, ruled_out

FORMATS = ("nanogpt", "lossgap", "figures", "build-nanogpt", "llmc", "modded-nanogpt", "parameter-golf", "nanochat")
"""Formats whose iteration 0 is the loss before any update. Others count epochs, or from the first update."""

INIT_VARIANCE = 0.02**2
"""GPT-2's initial deviation of every weight, squared."""

SEED_SHARE = 0.065 / 384
"""Deviation of the initial loss over seeds, per channel: measured over 10 initialisations each on Tiny Shakespeare's
val text, 0.0049 at 32 channels, 0.0067 at 64, 0.0087 at 128 and 0.0625 at 384."""

MOST_TOLERANCE = 0.5
UNKNOWN_WIDTH = 0.3
"""More than the share of the width for 1,280 channels."""


@dataclass(frozen=True, kw_only=True)
class FirstLoss:
    """The loss at iteration 0, what it should be, and how far off it may be."""

    value: float
    expected: float | None
    """ln V + channels x 0.02^2 / 2; None where the vocabulary is not known."""
    share: float
    """The second summand; 0 where the width is not known."""
    tolerance: float


def start(facts: Facts) -> FirstLoss | None:
    """The start of a run; None where its record does not show one.

    Logits of an untrained GPT-2 are dot products of a normalised vector (variance 1 per channel) with embeddings of
    deviation 0.02, so they have the variance v = channels x 0.02^2, and the mean loss is ln V + v / 2 to second order.
    """
    found = facts.initial_loss.value
    if found is None or facts.run.format not in FORMATS:
        return None
    width, vocabulary = facts.n_embd.value, facts.expected_initial_loss.value
    share = 0.0 if width is None else width * INIT_VARIANCE / 2
    tolerance = UNKNOWN_WIDTH if width is None else min(MOST_TOLERANCE, 0.1 + 5 * math.sqrt(2) * SEED_SHARE * width)
    expected = None if vocabulary is None else vocabulary + share
    return FirstLoss(value=found, expected=expected, share=share, tolerance=tolerance)


@rule("initial-loss", title="Initial losses differ", group="C", order=1)
def initial_loss(pair: Pair) -> Result:
    """Before the first update the loss depends on weights, data and loss alone, not on the training."""
    starts = {label: start(facts) for label, facts in pair.runs}
    for label, facts in pair.runs:
        yield from _one(label, facts, starts[label])
    control, test = starts["control"], starts["test"]
    if control is None or test is None:
        return
    apart = (test.value - test.share) - (control.value - control.share)
    tolerance = max(control.tolerance, test.tolerance)
    numbers: dict[str, object] = {"control": control.value, "test": test.value, "tolerance": tolerance}
    if abs(apart) <= tolerance:
        said = (
            f"At iteration 0 the losses are {control.value:.4f} and {test.value:.4f}, apart by no more than seeds make."
        )
        yield ruled_out("inferred", said, numbers=numbers, title="Other initial weights, data or loss")
        return
    if any(_pretrained(facts) for _, facts in pair.runs):
        return
    yield cause(
        "likely" if abs(apart) > 2 * tolerance else "possible",
        "inferred",
        f"At iteration 0 the control's loss is {control.value:.4f}, the test's {test.value:.4f}. Nothing is trained "
        "there, so what differs is the initial weights, the data, the targets (shifted, say) or the loss itself.",
        numbers=numbers | {"apart": apart},
        settle="Print the loss of both models on one and the same batch before the first update.",
    )


def _one(label: str, facts: Facts, found: FirstLoss | None) -> Result:
    if found is None or found.expected is None or abs(found.value - found.expected) <= found.tolerance:
        return
    numbers: dict[str, object] = {"run": label, "initial": found.value, "expected": found.expected}
    size = facts.vocab_size.value
    where = (
        f"The {label} begins at a loss of {found.value:.4f}, where an untrained model with a vocabulary of {size:,} "
        f"has about {found.expected:.2f}"
    )
    if _pretrained(facts):
        yield remark("computed", f"{where}: it starts from {facts.text('init_from').value}.", numbers=numbers)
        return
    low = found.value < found.expected
    guess = (
        "trained weights, a smaller effective vocabulary, or another loss"
        if low
        else "a large initialisation, a wrong vocabulary, or a loss that is summed"
    )
    yield remark("inferred", f"{where}. That is {'below' if low else 'above'} it: {guess}.", numbers=numbers)


def _pretrained(facts: Facts) -> bool:
    said = facts.text("init_from").value
    return said is not None and said != "scratch"
