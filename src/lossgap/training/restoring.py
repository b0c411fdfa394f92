"""The state of a checkpoint, put back into a training that continues it, and what cannot be put back exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from lossgap.config import TrainConfig
from lossgap.corpus import Corpus
from lossgap.errors import CheckpointError, warn
from lossgap.gpt import GPT
from lossgap.strangers import shown
from lossgap.training import checkpoint
from lossgap.training.checkpoint import Checkpoint
from lossgap.training.draws import Draws
from lossgap.training.loop import State
from lossgap.training.numerics import Numerics
from lossgap.training.optimizer import Scaler

_GPT2_TOKENS = 50257


def check_vocabulary(found: Checkpoint, corpus: Corpus) -> None:
    """Refuse a corpus whose tokens mean something else than the checkpoint's.

    Raises CheckpointError (`vocabulary-mismatch`).
    """
    wanted = int(found.model_args["vocab_size"])
    # A corpus that tells none holds GPT-2's tokens, for which a model has that many outputs or some more.
    has = corpus.vocab_size or max(wanted, _GPT2_TOKENS)
    if has != wanted:
        raise CheckpointError(
            "vocabulary-mismatch",
            f"{shown(found.path)} was trained on a vocabulary of {wanted} tokens, {corpus.name} has "
            f"{has}: continue on the corpus it was trained on (--dataset), or train a new model",
        )
    chars = found.part("tokenizer").get("chars")
    if isinstance(chars, str) and corpus.tokenizer is not None and corpus.tokenizer.chars not in (None, chars):
        raise CheckpointError(
            "vocabulary-mismatch",
            f"{shown(found.path)} and {corpus.name} both have {wanted} tokens, but not the same characters: "
            "continue on the corpus it was trained on (--dataset), or train a new model",
        )


def restore(
    found: Checkpoint, config: TrainConfig, model: GPT, optimizer: torch.optim.Optimizer, scaler: Scaler, draws: Draws
) -> State:
    """Put moments, loss scale and draws of a checkpoint in place; returns its counters.

    Raises CheckpointError (`bad-checkpoint`) where one of them is not what a training wrote.
    """
    checkpoint.restore_optimizer(optimizer, found, model, config)
    scale = found.part("scaler")
    try:
        if scale and scaler.is_enabled():  # another dtype may have run before, without a loss scale
            scaler.load_state_dict(scale)
        if found.lossgap and config.rng == found.part("config").get("rng"):
            draws.restore(checkpoint.tensors(found.part("draws")))
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise _bad_state(found, reason) from error
    return _counters(found)


def _counters(found: Checkpoint) -> State:
    state = State(iteration=found.iter_num, best_val_loss=found.best_val_loss)
    saved = found.part("state")
    for name in ("evaluated_at", "best_iter"):
        value = saved.get(name)
        if value is not None and (type(value) is not int or value < 0):
            raise _bad_state(found, f"{name} is not an iteration")
        setattr(state, name, value)
    for name in ("seconds", "mfu"):
        value = saved.get(name)
        if value is None:
            continue
        if not isinstance(value, float) or not math.isfinite(value):
            raise _bad_state(found, f"{name} is not a number")
        setattr(state, name, value)
    return state


def _bad_state(found: Checkpoint, reason: str) -> CheckpointError:
    return CheckpointError("bad-checkpoint", f"{shown(found.path)} cannot be used: its state of the training: {reason}")


def inexact(found: Checkpoint, numerics: Numerics, versions: Mapping[str, object]) -> str:
    """Why a continuation is not bit-equal to an uninterrupted run, in one line; empty if it is."""
    if not found.lossgap:
        return "nanoGPT's checkpoint holds no generator: batches are drawn anew from here on"
    before = found.part("numerics")
    now = numerics.to_dict()
    reasons = [
        f"{name} was {before[name]}, is {now[name]}" for name in now if name in before and before[name] != now[name]
    ]
    then = found.part("versions")
    reasons += [
        f"{name} was {then[name]}, is {versions[name]}"
        for name in versions
        if then.get(name, versions[name]) != versions[name]
    ]
    return "; ".join(reasons)


def warn_inexact(reason: str) -> None:
    """Say in one line where exactness cannot be kept."""
    if reason:
        warn("resume-not-exact", f"the continuation is not bit-equal to an uninterrupted run: {reason}")
