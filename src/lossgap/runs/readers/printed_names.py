"""The meaning of the words before a number in a text: a counter, a loss and of which split, or anything else.

`metric_names` reads the names of columns, which say nothing else; here the words of a line stand before the name
(`INFO Average Training loss`), and the longest end of them that is a known name counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from lossgap.runs.readers.metric_names import meaning, word_set, words
from lossgap.runs.readers.pairs import UNITS

Split = Literal["train", "val", "test", ""]
What = Literal["iter", "epoch", "loss", "perplexity", "bits", "measure", "other", "none"]

NOISE: Final = word_set(
    "info debug warning notice log logger main results result set at for of the in on and after this is was "
    "phase stage step steps iter iteration epoch batch it ep avg mean total overall current running value "
    "final finished completed end done summary logs stats metrics metric score scores epochs ended complete "
    "eval mode report rank"
)
"""Words before a loss that do not make it another loss."""
_NOT_NOW: Final = word_set(
    "best min minimum lowest max maximum improved improving decreased from to previous prev old last_best "
    "target threshold patience early delta eps tolerance better than initial original expected baseline "
    "so_far saved improvement reduction ratio diff difference std gap change weight coef coefficient scale "
    "alpha"
)
"""Words that make a number something else than the loss at this point."""
_CRITERIA: Final = word_set("mse mae rmse bce cost criterion objective nll xent logloss")
"""Names of a loss where it is not called loss."""
SPLITS: Final = word_set("train val test")
_CONFIG: Final = word_set("num n max total number warmup eval_every save every interval size")


@dataclass(frozen=True, slots=True)
class Named:
    """The meaning of a name in a text."""

    what: What = "other"
    name: str = ""
    """The name without the words that only say where the line is from."""
    split: Split = ""
    clean: bool = True
    """The loss, and not one among several (`box loss`)."""


def split_of(found: Sequence[str]) -> Split:
    """The last word of these that names a split."""
    for word in reversed(found):
        if word in SPLITS:
            return word  # type: ignore[return-value]  # one of the three
    return ""


@lru_cache(maxsize=16384)
def named(name: str) -> Named:
    """The meaning of the words before a number: that of the longest end of them that is a known name."""
    parts = name.split(" ")
    have = words(name)
    if not have or set(have) & _NOT_NOW or name in UNITS or name in ("line", "lineno", "pid", "rank"):
        return Named("none", name)
    for start in range(len(parts)):
        ending = " ".join(parts[start:])
        said = meaning(ending)
        before = words(" ".join(parts[:start]))
        if said.role in ("iter", "epoch"):
            if set(before) & _CONFIG or (set(have) & _CONFIG and "updates" not in name):
                return Named("none", name)
            return Named(said.role, ending, split_of(before) or split_of(words(ending)))
        if said.bits:
            return Named("bits", ending, split_of(words(ending)) or split_of(before))
        if said.role in ("loss", "val_loss", "eval_train_loss"):
            if any(word not in NOISE and word not in SPLITS for word in before):
                break
            split: Split = split_of(words(ending)) or split_of(before)
            return Named("loss", ending, split)
        if said.perplexity:
            return Named("perplexity", ending, split_of(have))
        if said.role != "other":
            return Named("measure", ending, split_of(before))
    return _unknown(name, have)


def _unknown(name: str, have: tuple[str, ...]) -> Named:
    """A name that is none of the known ones: one loss among several, a criterion, or any other metric."""
    split = split_of(have)
    rest = [word for word in have if word not in SPLITS]
    if rest and rest[-1] in ("batch", "minibatch", "round") and len(rest) == 1:
        return Named("iter", name, split)
    if {"bpc", "bpb"} & set(rest) or {"bits", "per"} <= set(rest):
        return Named("bits", name, split)
    if rest and rest[-1] in _CRITERIA and all(word in NOISE for word in rest[:-1]):
        return Named("loss", name, split)
    if "loss" in rest and all(word in NOISE or word == "loss" for word in rest):
        return Named("loss", name, split)
    if meaning(name).loss or "loss" in have:
        return Named("loss", name, split, clean=False)
    return Named("other", name, split)
