"""Which loss of two runs is compared, in which unit; or why none is.

In this order: val loss of both; val in bits per byte of both (or of one, where the other can be converted); the train
split in evaluation mode; the loss that iterations print. A val loss is never held against a train loss, nor a loss
with dropout against one without.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from lossgap.comparison.curve import Curve, blocks
from lossgap.comparison.fact import Known, Unknown
from lossgap.comparison.facts import Facts
from lossgap.strangers import short

TRAIN_POINTS = 100
"""Points that a curve of printed iteration losses is averaged into."""

GPT2_VOCABULARY = range(50_257, 50_305)
"""GPT-2's tokenizer: 50,257 tokens, in many models padded up to 50,304."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Metric:
    """The loss that is compared, and both curves of it in the same unit."""

    name: str
    """val_loss, train_loss."""
    mode: str
    """eval; train means with dropout; unknown."""
    unit: str
    """nats/token or nats/byte."""
    control: Curve
    test: Curve
    control_factor: float = 1.0
    """The factor by which the control's logged values were multiplied to have this unit."""
    test_factor: float = 1.0
    assumptions: tuple[str, ...] = ()
    """The assumptions that the comparison rests on."""


@dataclass(frozen=True, kw_only=True)
class NoMetric:
    """Why the two runs share no loss, and what would change that."""

    why: str
    remedy: str


def metric(control: Facts, test: Facts) -> Metric | NoMetric:
    """The loss that both runs have."""
    task = tasks(control, test)
    if task is not None:
        return task
    for choose in (_val, _bits, _train_eval, _train):
        found = choose(control, test)
        if found is not None:
            return found
    return _nothing_shared(control, test)


NEVER_BELOW = 0.5
"""Nats: a language model that starts untrained has a first loss far above this, whatever its vocabulary. A choice."""
CLASSIFICATION = ("acc", "accuracy", "top1", "top5", "precision", "recall", "f1", "auc")
"""Words of metrics that classifiers log. A language model's accuracy is of its next token, and logged beside a
perplexity or by a trainer of language models."""
GENERIC = ("csv", "jsonl", "keras", "tensorboard", "wandb", "mlflow", "lightning")
"""Formats that say nothing of the task."""


def tasks(control: Facts, test: Facts) -> NoMetric | None:
    """Why the two runs are of different tasks; None where nothing shows it.

    One run is of a language model: by its vocabulary, or by a trainer of such models alone. The other has neither,
    and either logs what classifiers log, or never had a loss above `NEVER_BELOW`: an untrained model of V tokens
    begins at ln V (Facts.expected_initial_loss).
    """
    language = [facts.vocab_size.known or not facts.run.format.startswith(GENERIC) for facts in (control, test)]
    if all(language) or not any(language):
        return None
    name, facts = ("test", test) if language[0] else ("control", control)
    other = control if language[0] else test
    curve = facts.val or facts.train_eval or facts.train
    if curve is None:
        return None
    logged = facts.run.others["metric"].unique().to_list() if facts.run.others.height else []
    classified = sorted(item for item in map(str, logged) if _words(item) & set(CLASSIFICATION))
    highest = float(curve.values.max())
    if not classified and highest >= NEVER_BELOW:
        return None
    if not classified:
        shows = f"its loss is never above {highest:.3g}"
    else:
        shows = f"it logs {short(classified[0])}, which classifiers do, and its first loss is {curve.first.value:.3g}"
    expected = other.expected_initial_loss.value
    begins = f", where the other's untrained model has {expected:.2f}" if expected is not None else ""
    return NoMetric(
        why=f"the runs seem to be of different tasks: {name} names no vocabulary, and {shows}{begins}",
        remedy=f"If {name} is a language model, say its vocabulary: {name}.vocab_size with --set",
    )


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", name.lower()))


def _nothing_shared(control: Facts, test: Facts) -> NoMetric:
    sides = (("control", control), ("test", test))
    empty = [name for name, facts in sides if facts.last_iter is None]
    if empty:
        return NoMetric(
            why=f"{' and '.join(empty)} {'have' if len(empty) > 1 else 'has'} no losses in the record",
            remedy="Give a log with losses; `lossgap read` shows what was understood.",
        )
    has = {name: facts.val is not None or facts.bpb is not None for name, facts in sides}
    if any(has.values()):
        without = next(name for name, has_val in has.items() if not has_val)
        other = "test" if without == "control" else "control"
        return NoMetric(
            why=f"{other} has a val loss and {without} has none; a val loss and a train loss measure different things",
            remedy=f"Give a log of {without} with its evaluations.",
        )
    return NoMetric(
        why="the two logs have no loss of the same kind (split, dropout on or off)",
        remedy="Evaluate both checkpoints alike with --reevaluate, or give logs with val losses.",
    )


def _val(control: Facts, test: Facts) -> Metric | NoMetric | None:
    first, second = control.val, test.val
    if first is None or second is None or _only_per_byte(control, test):
        return None
    modes = first.meaning.mode, second.meaning.mode
    if "train" in modes and modes[0] != modes[1]:
        return NoMetric(
            why="one val loss is taken with dropout and the other without",
            remedy="Evaluate both checkpoints alike with --reevaluate.",
        )
    mode = next((item for item in modes if item != "unknown"), "unknown")
    return _in_one_unit("val_loss", mode, first, second, control, test)


def _only_per_byte(control: Facts, test: Facts) -> bool:
    """True if the tokenizers differ and both logs have a val loss per byte, which does not depend on them."""
    both = control.bpb is not None and test.bpb is not None
    return both and isinstance(_tokenizers(control, test), NoMetric)


def _bits(control: Facts, test: Facts) -> Metric | NoMetric | None:
    """Val losses of which at least one is in bits per byte."""
    first, second = control.val or control.bpb, test.val or test.bpb
    if control.bpb is not None and test.bpb is not None:
        first, second = control.bpb, test.bpb
    if first is None or second is None:
        return None
    return _in_one_unit("val_loss", "eval", first, second, control, test)


def _train_eval(control: Facts, test: Facts) -> Metric | NoMetric | None:
    first, second = control.train_eval, test.train_eval
    if first is None or second is None:
        return None
    return _in_one_unit("train_loss", "eval", first, second, control, test)


def _train(control: Facts, test: Facts) -> Metric | NoMetric | None:
    first, second = control.train, test.train
    if first is None or second is None:
        return None
    kinds = first.meaning.kind, second.meaning.kind
    if kinds[0] != kinds[1] and "run-mean" in kinds:
        return NoMetric(
            why="one log gives the mean loss over the whole run so far, the other the loss at each iteration",
            remedy="Give a log of both with the same kind of loss.",
        )
    return _in_one_unit("train_loss", "train", blocks(first, TRAIN_POINTS), blocks(second, TRAIN_POINTS), control, test)


# ---------------------------------------------------------------------------------------------
# Units


NO_TOKENS = {"bits/char": "bits per character", "nats/sequence": "nats per sentence"}
"""Units that are no loss per token or byte: {unit: its words}."""


def _in_one_unit(
    name: str, mode: str, first: Curve, second: Curve, control: Facts, test: Facts
) -> Metric | NoMetric | None:
    units = [item.meaning.unit for item in (first, second)]
    odd = next((unit for unit in units if unit in NO_TOKENS), None)
    if odd is not None and units[0] != units[1]:
        return NoMetric(
            why=f"one loss is in {NO_TOKENS[odd]}, which is another quantity than the other's: they are not mixed",
            remedy="Give a log of both that prints the same unit.",
        )
    if odd is not None:
        scale = math.log(2) if odd == "bits/char" else 1.0
        converted = " (times ln 2)" if odd == "bits/char" else ""
        said = f"both losses are in {NO_TOKENS[odd]}{converted}, which is taken for the unit of a token"
        return Metric(
            name=name, mode=mode, unit="nats/token", control=scaled(first, scale), test=scaled(second, scale),
            assumptions=(said,), control_factor=scale, test_factor=scale,
        )  # fmt: skip
    bits = [unit == "bits/byte" for unit in units]
    tokenizers = _tokenizers(control, test)
    if not any(bits) and not isinstance(tokenizers, NoMetric):
        return Metric(name=name, mode=mode, unit="nats/token", control=first, test=second, assumptions=tokenizers)
    factors = []
    for label, facts, is_bits in zip(("control", "test"), (control, test), bits, strict=True):
        factor = _per_byte(facts, is_bits)
        if isinstance(factor, Unknown):
            unknown = f"{label} is in nats per token and its bytes per token are not known"
            return tokenizers if isinstance(tokenizers, NoMetric) else NoMetric(why=unknown, remedy=_SAY_DATASET)
        factors.append(factor.value)
    if isinstance(tokenizers, NoMetric) and not _same_text(control, test):
        return tokenizers
    return Metric(
        name=name,
        mode=mode,
        unit="nats/byte",
        control=scaled(first, factors[0]),
        test=scaled(second, factors[1]),
        control_factor=factors[0],
        test_factor=factors[1],
    )


_SAY_DATASET = "Say which corpus it is (dataset, with --set), or give val losses in bits per byte of both."


def _per_byte(facts: Facts, is_bits: bool) -> Known[float] | Unknown:
    if is_bits:
        return Known(math.log(2), "computed", "ln 2 nats per bit")
    per_token = facts.bytes_per_token
    if isinstance(per_token, Unknown):
        return per_token
    return Known(1 / per_token.value, per_token.evidence, per_token.how)


def _tokenizers(control: Facts, test: Facts) -> tuple[str, ...] | NoMetric:
    """The assumptions under which both have the same tokenizer, as far as known; the reason if they do not."""
    first, second = control.vocab_size.value, test.vocab_size.value
    if first is None and second is None:
        return ("the vocabularies are not in the records; they are taken to be the same",)
    if first is None or second is None:
        name = "control" if first is None else "test"
        return (f"the vocabulary of {name} is not in the record; it is taken to be that of the other",)
    if first == second or (first in GPT2_VOCABULARY and second in GPT2_VOCABULARY):
        return ()
    return NoMetric(
        why=f"different tokenizers ({first:,} and {second:,} tokens): a token of the one is not a token of the other",
        remedy="Compare nats per byte of the same text: " + _SAY_DATASET[0].lower() + _SAY_DATASET[1:],
    )


def _same_text(control: Facts, test: Facts) -> bool:
    first, second = control.corpus_text.value, test.corpus_text.value
    return first is not None and first == second


def scaled(curve: Curve, factor: float) -> Curve:
    """The curve with its values in another unit."""
    return replace(curve, values=curve.values * factor, errors=curve.errors * factor)
