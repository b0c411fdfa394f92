"""The meaning of a metric's name: `train/loss_epoch` is a training loss, the mean over an epoch.

A name is cut into words (`trainLoss`, `loss/train` and `training_loss` have the same), synonyms of the field
become one word, and a loss is *the* loss only if every other word is a known qualifier: `box_loss` or
`eval_g0_loss` is one loss among several. The readers of tables (`named_rows`) decide with these meanings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from lossgap.runs.run import Kind

MAX_NAME = 200
"""Characters of a metric's name that are kept."""

Role = Literal[
    "iter", "epoch", "loss", "eval_train_loss", "val_loss", "val_bpb", "lr", "grad_norm", "mfu", "tokens", "seconds",
    "ms", "other",
]  # fmt: skip
Split = Literal["train", "val", "unknown"]

ITER_ROLES: Final[tuple[Role, ...]] = ("loss", "lr", "grad_norm", "tokens", "seconds", "ms", "mfu")
"""Roles that are columns of the table of iterations, under the same names."""
EVAL_ROLES: Final[dict[Role, str]] = {"eval_train_loss": "train_loss", "val_loss": "val_loss", "val_bpb": "val_bpb"}
"""Roles that are columns of the table of evaluations: {role: column}."""
ASKED: Final[dict[str, Role]] = {
    "iter": "iter", "step": "iter", "epoch": "epoch", "loss": "loss", "train_loss": "loss",
    "eval_train_loss": "eval_train_loss", "val_loss": "val_loss", "val_bpb": "val_bpb", "lr": "lr",
    "learning_rate": "lr", "grad_norm": "grad_norm", "mfu": "mfu", "tokens": "tokens", "seconds": "seconds", "ms": "ms",
}  # fmt: skip
"""The roles that `--columns` may name: {word: role}."""

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_WORD = re.compile(r"[^\W_]+")
_SYNONYMS = {
    "training": "train", "tr": "train", "trn": "train", "trainer": "train",
    "valid": "val", "validation": "val", "eval": "val", "evaluation": "val", "dev": "val", "vali": "val",
    "testing": "test", "predict": "test", "losses": "loss",
    "perplexity": "ppl", "gradient": "grad", "gradients": "grad", "learningrate": "lr",
    "iters": "iter", "iteration": "iter", "iterations": "iter", "it": "iter", "steps": "step", "updates": "update",
    "epochs": "epoch", "tok": "token", "tokens": "token", "toks": "token",
    "trainloss": "train loss", "valloss": "val loss", "gradnorm": "grad norm", "gnorm": "grad norm",
    "average": "avg", "ave": "avg", "lrate": "lr", "val_loss": "val loss", "testloss": "test loss",
    "损失": "loss", "平均损失": "avg loss", "训练损失": "train loss", "验证损失": "val loss", "訓練損失": "train loss",
    "検証損失": "val loss", "训练": "train", "验证": "val", "测试": "test", "轮次": "epoch",
    "学习率": "lr", "步数": "step",
    "época": "epoch", "époque": "epoch", "epoche": "epoch", "perte": "loss", "pérdida": "loss",
}  # fmt: skip


def word_set(text: str) -> frozenset[str]:
    """The words of a text that lists them."""
    return frozenset(text.split())


_ENTROPY = word_set("ce nll xent crossentropy entropy")
_SMOOTH = word_set("ema smooth smoothed moving running debiased")
_LOSS_WORDS = (
    word_set("loss train val metric metrics global avg mean lm language model modeling cross per token nats")
    | word_set("step batch micro minibatch epoch")
    | _ENTROPY
    | _SMOOTH
)
_LR = re.compile(r"lr\d*")
_LR_WORDS = word_set(
    "train learning rate group param optim opt optimizer current last x schedule scheduler"
) | word_set("adam adamw w sgd muon")
_GRAD_WORDS = word_set("grad norm train total global optim optimizer l2 pre clip before all")
_TOKEN_WORDS = word_set("token total seen num n input consumed train processed trained global so far")
_STEP_WORDS = word_set("train global current num number optimizer opt step iter update")
_EPOCH_WORDS = word_set("epoch train current ep")
_MFU_WORDS = word_set("mfu train percent pct perf model throughput avg")
_SECONDS = word_set(
    "runtime elapsed elapsed_time elapsed_s elapsed_sec elapsed_seconds time_elapsed seconds secs"
) | word_set("train_time total_time train_seconds wall_time walltime relative_time time_s")
_MS = word_set(
    "ms dt_ms iter_ms step_ms time_ms iter_time_ms step_time_ms ms_per_iter ms_per_step duration_ms train_dt_ms"
)


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """The meaning of the values under a name."""

    role: Role = "other"
    kind: Kind = "unknown"
    split: Split = "unknown"
    rank: int = 0
    """The priority among several names with one role; the lowest rank gets it."""
    loss: bool = False
    """A loss, be it *the* loss or one among several."""
    bits: bool = False
    """In bits per byte."""
    perplexity: bool = False


def clean_name(name: str) -> str:
    """The name as it is kept: encodable, without control characters, of bounded length."""
    text = name.strip()[:MAX_NAME].encode("utf-8", "replace").decode("utf-8")
    return text if text.isprintable() else "".join(char if char.isprintable() else "\ufffd" for char in text)


@lru_cache(maxsize=32768)
def words(name: str) -> tuple[str, ...]:
    """The words of a name, lower case, synonyms as one word."""
    parts = _WORD.findall(_CAMEL.sub(" ", name[:MAX_NAME]))
    return tuple(word for part in parts for word in _SYNONYMS.get(part.lower(), part.lower()).split())


@lru_cache(maxsize=8192)
def meaning(name: str) -> Meaning:
    """Return the meaning of the values under `name`; `other` where the name does not say."""
    found = words(name)
    have = set(found)
    split: Split = "val" if "val" in have else "train" if "train" in have else "unknown"
    counter = _counter(name, found, have)
    if counter is not None:
        return counter
    if "ppl" in have:
        return Meaning(split=split, perplexity=True)
    if "bpb" in have or {"bits", "per", "byte"} <= have:
        only = have <= {"bpb", "bits", "per", "byte", "val", "metrics", "metric"}
        return Meaning(role="val_bpb" if only and split == "val" else "other", split=split, bits=True)
    if have & ({"loss"} | _ENTROPY) and not have & {"scale", "scaler", "scaling", "weight", "accuracy", "acc"}:
        return _loss(found, have, split)
    return _measure(name, found, have, split)


def _counter(name: str, found: tuple[str, ...], have: set[str]) -> Meaning | None:
    """A count of iterations or epochs."""
    steps = have & {"step", "iter", "update"}
    if len(steps) == 1 and have <= _STEP_WORDS:
        order = 9 if name.startswith("_") else {"step": 1, "iter": 2, "update": 3}[steps.pop()]
        return Meaning(role="iter", rank=0 if "global" in have else order)
    if have & {"epoch", "ep"} and have <= _EPOCH_WORDS and found:
        return Meaning(role="epoch")
    return None


def _loss(found: tuple[str, ...], have: set[str], split: Split) -> Meaning:
    if "test" in have:
        return Meaning()  # neither the training's nor the one it is steered by
    known = have <= _LOSS_WORDS
    kind: Kind = "unknown"
    rank = 1
    if "epoch" in have:
        kind, rank = "interval-mean", 3
    elif have & _SMOOTH:
        kind, rank = "moving-average", 2
    elif have & {"step", "batch", "micro", "minibatch"}:
        kind, rank = ("micro-batch" if "micro" in have else "batch"), 0
    if "loss" not in have:
        rank += 4  # a loss that is called so is preferred to one of its parts
    if split == "val":
        kind = "eval-mean"
        role: Role = "eval_train_loss" if "train" in have and found[0] == "val" else "val_loss"
    else:
        role = "loss"
    if role == "eval_train_loss":
        split = "train"
    return Meaning(role=role if known else "other", kind=kind, split=split, rank=rank, loss=True)


def _measure(name: str, found: tuple[str, ...], have: set[str], split: Split) -> Meaning:
    """Everything else that has a column."""
    rates = [word for word in found if _LR.fullmatch(word)]
    if rates or {"learning", "rate"} <= have:
        rest = {word for word in have if not word.isdigit() and not re.fullmatch(r"pg\d*", word)} - set(rates)
        if rest <= _LR_WORDS:
            return Meaning(role="lr")
    if {"grad", "norm"} <= have <= _GRAD_WORDS:
        return Meaning(role="grad_norm", rank=0 if "total" in have else 1)
    if "mfu" in have and have <= _MFU_WORDS:
        return Meaning(role="mfu")
    if "token" in have and have <= _TOKEN_WORDS:
        return Meaning(role="tokens", rank=0 if "total" in have else 1)
    phrase = "_".join(found)
    if phrase in _SECONDS:
        return Meaning(role="seconds", rank=0 if name.startswith("_") else 1)
    if phrase in _MS:
        return Meaning(role="ms")
    return Meaning(split=split)
