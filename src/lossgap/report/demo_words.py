"""The last screen of `make run`, for a beginner: is the run healthy, why is the GPU lower, what reaches it here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from lossgap import suggestion
from lossgap.arithmetic import GPT2_OUTPUTS
from lossgap.comparison.comparison import Comparison
from lossgap.comparison.facts import Facts
from lossgap.comparison.findings.recipe import reference_of
from lossgap.comparison.training_price import milliseconds, training_flops, training_price
from lossgap.config import TrainConfig
from lossgap.duration import duration
from lossgap.presets import PRESETS, preset
from lossgap.references.curve_file import curves
from lossgap.references.trainings import of_presets
from lossgap.runs.readers.recipe_match import Reference, references

if TYPE_CHECKING:
    from lossgap.runs.run import Run

SAME = ("n_layer", "n_head", "n_embd", "block_size", "batch_size", "dropout", "learning_rate", "dataset")
"""Settings in which a longer reference is the same recipe."""


def last_screen(run: Run, against: Comparison) -> tuple[str, ...]:
    """Paragraphs on the `run`, which is the control of the comparison `against` published figures."""
    facts = Facts.of(run)
    return tuple(filter(None, (_healthy(facts), _why(against), *_reach(facts, against), *_shorter(facts, against))))


def _healthy(facts: Facts) -> str:
    """The run against the band that its recipe gives; nothing for a run of no known recipe."""
    found, curve = reference_of(facts), facts.val
    if found is None or curve is None:
        return ""
    reference, _ = found
    expected = _end(reference)
    band = reference.tolerance["val"]
    last = curve.last.value
    said = f"val loss {last:.3f}; this recipe gives {expected - band:.3f} to {expected + band:.3f}"
    if abs(last - expected) <= band:
        return f"Your run is healthy: {said}."
    return f"Your run is not what its recipe gives: {said}. lossgap compare says which setting differs."


def _why(against: Comparison) -> str:
    """The comparison's own sentence on what is different in the other run."""
    if against.answer.lower != "test":
        return against.answer.text
    first, *others = against.answer.sentences
    return " ".join([first, *(text for text in others if "hardware" in text or "evidence" in text)])


def _reach(facts: Facts, against: Comparison) -> Iterator[str]:
    """The same recipe, trained for longer, where a reference says that it reaches the other run's loss."""
    found, other = reference_of(facts), against.test.val
    if found is None or other is None:
        return
    goal = other.last.value
    longer = [
        item for item in references() if _is_longer(item, found[0]) and _end(item) <= goal + item.tolerance["val"]
    ]
    if not longer:
        return
    enough = min(longer, key=lambda item: max(item.evals))
    iters = max(enough.evals)
    command = suggestion.train(
        enough.name if enough.name in PRESETS else found[0].name,
        max_iters=iters,
        lr_decay_iters=iters,
        out_dir=suggestion.new_folder(f"shakespeare-char-cpu-{iters}"),
    )
    each = milliseconds(facts)
    time = "" if each is None else f", about {duration(iters * each / 1000)} here"
    yield (
        f"To reach {goal:.2f} on this machine, train the same model for {iters:,} iterations{time}; it then ends near "
        f"{_end(enough):.2f}:"
    )
    yield f"  $ {command}"


def _shorter(facts: Facts, against: Comparison) -> Iterator[str]:
    """Our own preset whose every seed ended at or below the other run's loss, the cheapest such one."""
    other = against.test.val
    if other is None:
        return
    goal = other.last.value
    bases = {item.name: item.base for item in of_presets()}
    reaching = [item for item in curves() if item.name in bases and max(item.finals()) <= goal]
    if not reaching:
        return
    vocabulary = facts.vocab_size.value or GPT2_OUTPUTS
    best = min(reaching, key=lambda item: training_flops(TrainConfig.from_dict(preset(bases[item.name])), vocabulary))
    command = suggestion.train(bases[best.name], out_dir=suggestion.new_folder(best.name))
    price = training_price(command, [("this run", facts)])
    end = f"{float(np.median(best.finals())):.2f}"
    if price:
        yield f"Another recipe gets there sooner (Muon, higher rates, a larger batch), near {end}, {price}:"
    else:
        yield f"Another recipe gets there sooner (Muon, higher rates, a larger batch), near {end}:"
    yield f"  $ {command}"


def _is_longer(item: Reference, than: Reference) -> bool:
    same = all(item.settings.get(name) == than.settings.get(name) for name in SAME)
    return same and max(item.evals) > max(than.evals)


def _end(reference: Reference) -> float:
    """The reference's last val loss, in nats per token."""
    return reference.evals[max(reference.evals)][1]
