"""From two runs to the configs of the experiment's two ends, and what of them this machine cannot switch."""

from __future__ import annotations

from dataclasses import dataclass

from lossgap.comparison.facts import Facts
from lossgap.config import TrainConfig, describe
from lossgap.corpus import Corpus, open_corpus
from lossgap.errors import ConfigError, CorpusError
from lossgap.strangers import short

RECIPE = ("preset", "config")
"""Formats in which a setting that is not given is at its default."""
NEEDED = ("n_layer", "n_head", "n_embd", "block_size", "batch_size", "max_iters", "learning_rate")
"""Settings without which there is no training to repeat."""
SIDES = ("control", "test")
_FREE = ("out_dir", "resume", "init_from", "overwrite", "eval_only", "rng", "dropout_rng", "checkpoint_at")
"""Settings of an end that the experiment decides: every arm starts afresh, with paired counter-based numbers."""
_PRINTING = ("eval_interval", "eval_iters", "log_interval")
"""Settings that change no training, and that a user may make a factor to see that they do not."""


@dataclass(frozen=True, kw_only=True)
class Ends:
    """Both configs, the corpus that all arms train on, and differences that stay as they are, with the reason."""

    control: TrainConfig
    test: TrainConfig
    corpus: Corpus | None
    """None where somebody else's trainer has it, and it is not at hand."""
    fixed: dict[str, str]
    stated: frozenset[str]
    """The settings that one of the runs says."""
    notes: tuple[str, ...]


def ends(control: Facts, test: Facts, *, own: bool = True) -> Ends:
    """The configs of two runs, for our own trainer or somebody else's.

    A setting that neither says is at nanoGPT's default; one that a single run says must be at the default there, else
    nobody knows whether it differs. Raises ConfigError `setting-unknown`, CorpusError.
    """
    values: tuple[dict[str, object], dict[str, object]] = ({}, {})
    assumed: list[str] = []
    for item in describe():
        if item.name in _FREE or (not item.meaning and item.name not in _PRINTING):
            continue
        said = [_said(facts, item.name, item.default) for facts in (control, test)]
        if None in said and item.name in NEEDED:
            side = SIDES[said.index(None)]
            raise _unknown(side, item.name, "an arm cannot be trained without it")
        if said == [None, None] or (None in said and not item.meaning):  # what only prints need not be known
            continue
        for index in (0, 1):
            if said[index] is None:
                if said[1 - index] != item.default:
                    why = f"{SIDES[1 - index]}'s is {short(said[1 - index])}, so nobody knows whether they differ"
                    raise _unknown(SIDES[index], item.name, why)
                assumed.append(f"{SIDES[index]}.{item.name}")
            else:
                values[index][item.name] = said[index]
    notes = [f"not in the record and taken for nanoGPT's default: {', '.join(assumed)}"] if assumed else []
    for side, facts in zip(SIDES, (control, test), strict=True):
        inferred = [item for item in facts.run.inferred if item.name in values[0] and item.value is not None]
        if inferred:
            names = ", ".join(item.name for item in inferred)
            notes.append(f"{side}'s {names} are inferred, not said: {inferred[0].why}")
    first, second = (TrainConfig.from_dict(side) for side in values)
    corpus, fixed = _corpus(first, second, own)
    return Ends(
        control=first,
        test=second,
        corpus=corpus,
        fixed=fixed | _hardware(first, second),
        stated=frozenset(values[0].keys() | values[1].keys()),
        notes=tuple(notes),
    )


def _said(facts: Facts, name: str, default: object) -> object:
    found = facts.setting(name)
    if found.known:
        value = found.value
        return int(value) if isinstance(value, float) and isinstance(default, int) and value == int(value) else value
    if name == "dataset" and facts.dataset.known:
        return facts.dataset.value
    if facts.run.format in RECIPE:
        return default
    return None


def _unknown(side: str, name: str, why: str) -> ConfigError:
    return ConfigError(
        "setting-unknown",
        f"{side}'s {name} is not known, and {why}: give it with --set {side}.{name}=VALUE, or all with "
        f"--config {side}=FILE",
    )


def _corpus(control: TrainConfig, test: TrainConfig, own: bool) -> tuple[Corpus | None, dict[str, str]]:
    """The control's corpus, for all arms; `dataset` is fixed if the test's has other tokens."""
    try:
        corpus = open_corpus(control.dataset)
    except CorpusError:
        if own:
            raise
        why = f"all arms train on {control.dataset}: two corpora have two val texts"
        return None, {} if test.dataset == control.dataset else {"dataset": why}
    if test.dataset == control.dataset:
        return corpus, {}
    try:
        other = open_corpus(test.dataset).tokens_sha256
    except CorpusError as error:
        other, reason = None, str(error)
    if other == corpus.tokens_sha256:
        return corpus, {"dataset": "both names stand for the same tokens"}
    reason = "two corpora have two val texts, and a loss on one says nothing about the other" if other else reason
    return corpus, {"dataset": f"all arms train on {control.dataset}: {reason}"}


def _hardware(control: TrainConfig, test: TrainConfig) -> dict[str, str]:
    """Why device, and what comes with it, is not switched."""
    if control.device == test.device:
        return {"device": "all arms run on one device"}
    why = (
        "all arms run on this machine: a replay on the other machine bounds what it does "
        "(lossgap record here, lossgap replay there)"
    )
    return dict.fromkeys(("device", "dtype", "tf32"), why)
