"""The gallery as data: three small recipes, the seeds, and the planted causes.

A plant is a pair: a control, which is the recipe (with `control` changes where it needs its own), and a test, which
differs in `test` alone. Control and test have different seeds, as the pairs that people compare do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Settings = Mapping[str, object]

PRESET = "shakespeare_char_cpu"

_COMMON: Settings = {
    "n_layer": 2,
    "block_size": 32,
    "max_iters": 300,
    "lr_decay_iters": 300,
    "warmup_iters": 20,
    "eval_interval": 25,
    "threads": 1,
}
RECIPES: Mapping[str, Settings] = {
    "narrow": {**_COMMON, "n_head": 2, "n_embd": 32, "batch_size": 8, "learning_rate": 4e-3, "min_lr": 4e-4},
    "wide": {
        **_COMMON,
        "n_head": 4,
        "n_embd": 48,
        "batch_size": 12,
        "learning_rate": 3e-3,
        "min_lr": 3e-4,
        "dropout": 0.1,
    },
    "broad": {**_COMMON, "n_head": 4, "n_embd": 40, "batch_size": 24, "learning_rate": 5e-3, "min_lr": 5e-4},
}
"""What each recipe changes of `PRESET`."""

SPREAD_SEEDS = 5
"""Seeds 1 to 5 of each recipe give its spread (scripts/measure_spread.py); no pair here uses them."""
NULL_SEEDS = tuple(range(11, 26))
CONTROL_SEEDS = (11, 12, 13)
TEST_SEEDS = (31, 32, 33)
"""Of the plants; the n-th test is held against the n-th control."""
HELD_OUT = (32, 33)
"""Test seeds of the half that stands for new pairs: neither rules nor recipes were changed after either half."""

Kind = Literal["cause", "harmless", "told"]
"""cause: `truth` makes a gap. harmless: the runs differ, and no cause may be given. told: a remark must name it."""
Fault = Literal["", "train-mode-evaluation", "plain-resume"]
"""A fault of the trainer: evaluations with dropout; a resume, from a checkpoint like nanoGPT's, that reads the batches
from the beginning."""


@dataclass(frozen=True, kw_only=True)
class Plant:
    """One planted cause."""

    name: str
    recipe: str
    test: Settings
    """What the test changes of the control; nothing if it is the control's own run under other `claims`."""
    truth: str
    """The rule whose cause (remark, if `kind` is told) is the right answer."""
    also: tuple[str, ...] = ()
    """Rules that say the same thing of this pair, or a true part of it."""
    names: tuple[str, ...] = ()
    """Settings of which one must be named as missing where the config is stripped and no curve tells."""
    control: Settings = field(default_factory=dict)
    claims: Settings = field(default_factory=dict)
    """What the test's record says it ran with, against the truth: a fault that the config does not show."""
    first: Settings | None = None
    """The settings up to the resume, where the test is a resumed run."""
    fault: Fault = ""
    of: str = ""
    """The plant whose runs these are, under other `claims`: nothing is trained for this one."""
    kind: Kind = "cause"
    stdout: bool = False
    """Whether the visible form is nanoGPT's stdout with all its settings; else our run folder, with the rates too."""


_BATCH = ("batch_size", "gradient_accumulation_steps")
_RATE = ("learning_rate", "min_lr")
_DATA = ("dataset",)
_TRACE = "looks-like-another-rate"
"""What a rate, a warm-up or a clipping of another size leaves in the first 50 iterations of a bare curve."""

PLANTS: tuple[Plant, ...] = (
    # Another experiment
    Plant(
        name="accumulation",
        recipe="narrow",
        test={"gradient_accumulation_steps": 8},
        truth="batch",
        also=("work-per-iteration",),
        names=_BATCH,
    ),
    Plant(
        name="batch-small",
        recipe="broad",
        test={"batch_size": 2},
        truth="batch",
        also=("work-per-iteration",),
        names=_BATCH,
    ),
    Plant(
        name="batch-large",
        recipe="narrow",
        test={"batch_size": 48},
        truth="batch",
        also=("work-per-iteration",),
        names=_BATCH,
    ),
    Plant(
        name="layers",
        recipe="narrow",
        test={"n_layer": 6},
        truth="capacity",
        also=("work-per-iteration",),
        names=("n_layer", "n_embd"),
    ),
    Plant(
        name="width",
        recipe="wide",
        test={"n_embd": 12},
        truth="capacity",
        also=("work-per-iteration",),
        names=("n_layer", "n_embd"),
    ),
    Plant(
        name="context-short",
        recipe="narrow",
        test={"block_size": 4},
        truth="context",
        also=("evaluation-context", "work-per-iteration", "batch"),
        names=("block_size",),
    ),
    Plant(
        name="context-long",
        recipe="broad",
        test={"block_size": 128},
        truth="context",
        also=("evaluation-context", "work-per-iteration", "batch"),
        names=("block_size",),
    ),
    Plant(
        name="corpus-upper",
        recipe="broad",
        test={"dataset": "upper.txt"},
        truth="data",
        also=("not-the-same-metric", "initial-loss"),
        names=_DATA,
    ),
    Plant(name="corpus-shuffled", recipe="narrow", test={"dataset": "shuffled.txt"}, truth="data", names=_DATA),
    Plant(
        name="corpus-tiny",
        recipe="broad",
        test={"dataset": "tiny.txt"},
        truth="data",
        also=("not-the-same-metric", "overfitting", "initial-loss"),
        names=_DATA,
    ),
    Plant(
        name="weight-decay",
        recipe="wide",
        test={"weight_decay": 20.0},
        truth="weight-decay",
        names=("weight_decay",),
    ),
    Plant(
        name="beta2",
        recipe="wide",
        test={"beta2": 0.2},
        truth="optimizer",
        also=("diverged",),
        names=("beta2", "optimizer"),
    ),
    Plant(
        name="beta1",
        recipe="narrow",
        test={"beta1": 0.99},
        truth="optimizer",
        names=("beta1", "optimizer"),
    ),
    Plant(
        name="grad-clip",
        recipe="broad",
        test={"grad_clip": 1e-7},
        truth="optimizer",
        also=(_TRACE,),
        names=("grad_clip", "optimizer"),
    ),
    # Schedule, length, overfitting
    Plant(
        name="length-short",
        recipe="narrow",
        test={"max_iters": 100, "lr_decay_iters": 100},
        truth="length",
        names=("max_iters",),
    ),
    Plant(
        name="length-long",
        recipe="wide",
        test={"max_iters": 600, "lr_decay_iters": 600},
        truth="length",
        names=("max_iters",),
    ),
    Plant(
        name="rate-high",
        recipe="narrow",
        test={"learning_rate": 0.1, "min_lr": 0.01},
        truth="learning-rate",
        also=("diverged", _TRACE),
        names=_RATE,
    ),
    Plant(
        name="rate-low",
        recipe="wide",
        test={"learning_rate": 3e-4, "min_lr": 3e-5},
        truth="learning-rate",
        also=(_TRACE,),
        names=_RATE,
    ),
    Plant(
        name="horizon-long",
        recipe="narrow",
        test={"lr_decay_iters": 3000},
        truth="learning-rate-horizon",
        names=("lr_decay_iters",),
    ),
    Plant(
        name="constant-rate",
        recipe="broad",
        test={"decay_lr": False, "learning_rate": 5e-3},
        truth="learning-rate-horizon",
        also=("learning-rate", _TRACE),
        names=("decay_lr", "lr_decay_iters"),
    ),
    Plant(
        name="warm-up-long",
        recipe="wide",
        test={"warmup_iters": 280},
        truth="warm-up",
        also=("learning-rate-horizon", _TRACE),
        names=("warmup_iters",),
    ),
    Plant(
        name="resumed-at-least-rate",
        recipe="broad",
        first={"max_iters": 100, "lr_decay_iters": 100},
        test={"max_iters": 300, "lr_decay_iters": 100},
        truth="resumed-with-another-horizon",
        also=("learning-rate-horizon",),
        names=("lr_decay_iters",),
    ),
    Plant(
        name="overfitting",
        recipe="broad",
        control={"dataset": "tiny.txt", "max_iters": 150, "lr_decay_iters": 150},
        test={"dataset": "tiny.txt", "max_iters": 600, "lr_decay_iters": 600},
        truth="overfitting",
        also=("length",),
        names=("dataset", "max_iters"),
    ),
    # Dropout
    Plant(name="dropout", recipe="wide", test={"dropout": 0.6}, truth="dropout", names=("dropout",)),
    # Divergence
    Plant(
        name="diverged",
        recipe="narrow",
        test={"learning_rate": 3.0, "min_lr": 3.0, "grad_clip": 0.0},
        truth="diverged",
        also=("learning-rate", "not-finite"),
        names=_RATE,
    ),
    Plant(
        name="not-finite",
        recipe="wide",
        test={"learning_rate": 1e15, "min_lr": 1e15, "warmup_iters": 250, "grad_clip": 0.0},
        truth="not-finite",
        also=("learning-rate", "diverged"),
        names=_RATE,
    ),
    # Faults that the config does not show
    Plant(
        name="unshown-dropout",
        recipe="wide",
        control={"dropout": 0.5},
        test={"dropout": 0.0},
        claims={"dropout": 0.5},
        truth="not-in-the-settings",
        also=("dropout",),
        names=("dropout",),
        stdout=True,
    ),
    Plant(
        name="unshown-rate",
        recipe="narrow",
        test={"learning_rate": 4e-4, "min_lr": 4e-5},
        claims={"learning_rate": 4e-3, "min_lr": 4e-4},
        truth="not-in-the-settings",
        also=("learning-rate", "learning-rate-horizon", _TRACE),
        names=_RATE,
        stdout=True,
    ),
    Plant(
        name="unshown-constant-rate",
        recipe="broad",
        test={"decay_lr": False, "learning_rate": 1e-2},
        claims={"decay_lr": True, "learning_rate": 5e-3},
        truth="not-in-the-settings",
        also=("learning-rate", "learning-rate-horizon", _TRACE),
        names=("decay_lr", *_RATE),
        stdout=True,
    ),
    Plant(
        name="unshown-batch",
        recipe="broad",
        test={"batch_size": 4},
        claims={"batch_size": 24},
        truth="not-in-the-settings",
        also=("batch", "work-per-iteration"),
        names=_BATCH,
        stdout=True,
    ),
    Plant(
        name="train-mode-evaluation",
        recipe="wide",
        control={"dropout": 0.5},
        test={"dropout": 0.5},
        fault="train-mode-evaluation",
        truth="not-in-the-settings",
        also=("dropout", "training-mode", "evaluation-mode"),
        names=("dropout",),
        stdout=True,
    ),
    # A fault that the config does not show, and beside it a setting that differs and does nothing
    Plant(
        name="trivial-warm-up",
        of="unshown-rate",
        recipe="narrow",
        test={"learning_rate": 4e-4, "min_lr": 4e-5},
        claims={"warmup_iters": 21},
        truth="not-in-the-settings",
        also=(_TRACE,),
        names=_RATE,
        stdout=True,
    ),
    Plant(
        name="trivial-min-lr",
        of="unshown-batch",
        recipe="broad",
        test={"batch_size": 4},
        claims={"min_lr": 5.1e-4},
        truth="not-in-the-settings",
        also=("batch", "work-per-iteration"),
        names=_BATCH,
        stdout=True,
    ),
    Plant(
        name="trivial-beta2",
        of="unshown-dropout",
        recipe="wide",
        control={"dropout": 0.5},
        test={"dropout": 0.0},
        claims={"beta2": 0.9901},
        truth="not-in-the-settings",
        also=("dropout",),
        names=("dropout",),
        stdout=True,
    ),
    Plant(
        name="trivial-weight-decay",
        of="unshown-rate",
        recipe="narrow",
        test={"learning_rate": 4e-4, "min_lr": 4e-5},
        claims={"weight_decay": 0.101},
        truth="not-in-the-settings",
        also=(_TRACE,),
        names=_RATE,
        stdout=True,
    ),
    # Differences that make no gap, or must be told and not blamed
    Plant(
        name="bfloat16",
        recipe="narrow",
        test={"dtype": "bfloat16"},
        truth="effective-dtype",
        names=("dtype",),
        kind="harmless",
    ),
    Plant(
        name="numerics",
        recipe="wide",
        test={"attention": "plain", "adamw": "loop", "deterministic": False},
        truth="numeric-choices",
        kind="harmless",
    ),
    Plant(name="clip-weak", recipe="broad", test={"grad_clip": 0.9}, truth="optimizer", kind="harmless"),
    Plant(
        name="plain-resume",
        recipe="broad",
        first={"max_iters": 150},
        test={"max_iters": 300, "compile": False},
        fault="plain-resume",
        truth="repeated-batches",
        kind="told",
    ),
    Plant(
        name="setting-not-applied",
        recipe="narrow",
        test={},
        claims={"dropout": 0.2},
        truth="settings-not-applied",
        names=(),
        kind="told",
    ),
)
