"""TrainConfig: every setting of a training once, with its meaning, unit, check and factor.

nanoGPT's names and defaults; `device`, `dtype` and `backend` are `auto` instead of one machine's choice.
The settings after `compile` are our own. What this file offers, in the order of use:

1. `TrainConfig(...)` checks every value and every rule between values (`ConfigError`).
2. `from_dict`, `to_dict`: JSON-safe mappings; `nanogpt_dict`: only what nanoGPT knows.
3. `describe`, `fields_by_factor`: for the help and the documentation.
4. `differences`: what tells two configs apart (its hash: `config_hash.py`).
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lossgap.errors import ConfigError, warn
from lossgap.settings import Factor, Setting, accept, did_you_mean, setting, settings_of
from lossgap.strangers import short

DTYPES = {
    **dict.fromkeys(("fp32", "float", "torch.float32"), "float32"),
    **dict.fromkeys(("bf16", "torch.bfloat16"), "bfloat16"),
    **dict.fromkeys(("fp16", "half", "torch.float16"), "float16"),
}
"""Other words for dtypes, as other trainers and torch have them."""
DEVICES = {"gpu": "cuda"}
"""Other words for devices."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All settings of one training. Raises `ConfigError` for a value or a combination that cannot work."""

    # Output and evaluation
    out_dir: str = setting("out", "the run folder", meaning=False)
    eval_interval: int = setting(2000, "evaluate at every multiple of this", "iterations", meaning=False)
    log_interval: int = setting(1, "print the loss at every multiple of this", "iterations", meaning=False)
    eval_iters: int = setting(200, "batches per split in a sampled evaluation", "batches", meaning=False)
    eval_only: bool = setting(False, "stop after the first evaluation")
    always_save_checkpoint: bool = setting(
        True, "write a numbered checkpoint at every evaluation, not only at a better one", meaning=False
    )
    init_from: str = setting("scratch", "starting weights: scratch, resume, or gpt2, gpt2-medium, gpt2-large, gpt2-xl")
    wandb_log: bool = setting(False, "log to Weights & Biases (extra wandb)", meaning=False)
    wandb_project: str = setting("owt", "Weights & Biases project", meaning=False)
    wandb_run_name: str = setting("gpt2", "Weights & Biases run name", meaning=False)
    # Data and batch
    dataset: str = setting("openwebtext", "corpus name, a UTF-8 text file, or a folder with train.bin", factor="data")
    gradient_accumulation_steps: int = setting(
        40, "micro-batches per update, the total over all processes", "micro-batches", "batch"
    )
    batch_size: int = setting(12, "sequences in one micro-batch", "sequences", "batch")
    block_size: int = setting(1024, "context length", "tokens", "context")
    # Model
    n_layer: int = setting(12, "transformer blocks", "blocks", "capacity")
    n_head: int = setting(12, "attention heads per block", "heads", "capacity")
    n_embd: int = setting(768, "channels of the residual stream, a multiple of n_head", "channels", "capacity")
    dropout: float = setting(0.0, "probability of dropping an activation; 0 is off", factor="regularisation")
    bias: bool = setting(False, "biases in the linear layers and layer norms", factor="capacity")
    # AdamW
    learning_rate: float = setting(6e-4, "highest learning rate", factor="schedule")
    max_iters: int = setting(600000, "last iteration; 0..max_iters are run, one update each", "iterations", "length")
    weight_decay: float = setting(1e-1, "decay of the tensors with two or more dimensions", factor="regularisation")
    beta1: float = setting(0.9, "decay of AdamW's first moment", factor="optimizer")
    beta2: float = setting(0.95, "decay of AdamW's second moment", factor="optimizer")
    grad_clip: float = setting(1.0, "highest gradient norm; 0 is off", factor="optimizer")
    # Schedule
    decay_lr: bool = setting(True, "warm up, then decay by a half cosine; else constant", factor="schedule")
    warmup_iters: int = setting(2000, "linear warm-up", "iterations", "schedule")
    lr_decay_iters: int = setting(600000, "iteration at which min_lr is reached", "iterations", "schedule")
    min_lr: float = setting(6e-5, "learning rate after the decay", factor="schedule")
    # Machine
    backend: Literal["auto", "nccl", "gloo"] = setting(
        "auto", "process group of several processes; auto is nccl on CUDA, else gloo", meaning=False
    )
    device: str = setting(
        "auto", "cpu, cuda, cuda:N, mps; auto is the first of cuda, mps, cpu", factor="device", aliases=DEVICES
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", "auto is float32 on CPU and MPS, on CUDA bfloat16 or else float16", factor="numerics", aliases=DTYPES
    )
    compile: bool = setting(True, "compile the model", factor="numerics")
    # From here on our own
    # Architecture: nanoGPT's by default (gpt.py names the sources)
    rotary: bool = setting(False, "rotary positions instead of learned ones", factor="architecture")
    qk_norm: bool = setting(False, "queries and keys of root mean square 1", factor="architecture")
    relu2: bool = setting(False, "squared ReLU instead of GELU", factor="architecture")
    zero_proj: bool = setting(False, "projections into the residual stream start at zero", factor="architecture")
    tied: bool = setting(True, "one matrix for token embedding and output layer", factor="architecture")
    logit_softcap: float = setting(0.0, "logits are c tanh(x / c); 0 is off", factor="architecture")
    # Optimizer and schedules
    optimizer: Literal["adamw", "muon"] = setting(
        "adamw", "muon orthogonalises the updates of the layers' matrices; AdamW trains the rest", factor="optimizer"
    )
    muon_lr: float = setting(0.01, "highest learning rate of the layers' matrices with muon", factor="optimizer")
    muon_momentum: float = setting(0.95, "momentum of muon", factor="optimizer")
    momentum_warmup_iters: int = setting(
        0, "muon's momentum grows from 0.85 over these", "iterations", factor="optimizer"
    )
    lr_schedule: Literal["cosine", "linear", "wsd"] = setting(
        "cosine", "shape of the decay; wsd stays at learning_rate, then decays linearly", factor="schedule"
    )
    decay_fraction: float = setting(0.2, "part of lr_decay_iters in which wsd decays", factor="schedule")
    weight_decay_schedule: Literal["constant", "linear"] = setting(
        "constant", "linear takes weight_decay to 0 at lr_decay_iters", factor="regularisation"
    )
    context_warmup_iters: int = setting(
        0, "the context doubles from an eighth of block_size over these, at equal tokens", "iterations", "context"
    )
    seed: int = setting(1337, "key of every random number: weights, batches, dropout")
    tf32: bool = setting(False, "allow TF32 in float32 products on CUDA", factor="numerics")
    rng: Literal["counter", "nanogpt"] = setting(
        "counter", "random numbers: counter depends on the config alone, nanogpt draws as nanoGPT on a CPU does"
    )
    dropout_rng: Literal["counter", "device"] = setting(
        "counter", "dropout masks: counter is equal on all devices, device is fast and equal on none"
    )
    deterministic: bool = setting(True, "only algorithms that repeat bit by bit", factor="numerics")
    attention: Literal["auto", "plain", "fused"] = setting("auto", "attention kernel; auto measures", factor="numerics")
    adamw: Literal["auto", "fused", "loop"] = setting("auto", "AdamW implementation", factor="numerics")
    threads: int = setting(0, "CPU threads; 0 is torch's choice", "threads", "numerics")
    eval_mode: Literal["sampled", "exact"] = setting(
        "sampled", "evaluation: sampled draws eval_iters batches, exact scores every token once", meaning=False
    )
    final_eval: bool = setting(True, "exact losses of the final state", meaning=False)
    canary: bool = setting(
        False,
        "first hold this device's kernels at the run's shapes against float64; do not train if one is out of bounds",
        meaning=False,
    )
    resume: str = setting(
        "", "continue from a run folder, our checkpoint or nanoGPT's ckpt.pt; empty is off", meaning=False
    )
    overwrite: bool = setting(False, "allow an out_dir that holds a run, which is lost", meaning=False)
    checkpoint_at: tuple[int, ...] = setting(
        (), "iterations whose checkpoint is written and always kept; empty for none", "iterations", meaning=False
    )
    checkpoint_seconds: float = setting(300.0, "write the rolling checkpoint this often", "seconds", meaning=False)
    tensorboard_log: bool = setting(False, "log to TensorBoard (extra tensorboard)", meaning=False)
    mlflow_log: bool = setting(False, "log to MLflow (extra mlflow)", meaning=False)

    def __post_init__(self) -> None:
        for name, item in settings_of(TrainConfig).items():
            value = getattr(self, name)
            accepted = accept(item, value, f"--{name}={short(value)}")
            object.__setattr__(self, name, accepted)  # ints given for floats become floats
        for names, holds, rule in _RANGES:
            for name in names:
                if not holds(getattr(self, name)):
                    raise _bad(self, name, rule, f"e.g. its default {getattr(TrainConfig, name)!r}")
        _check_texts(self)
        _check_heads(self)
        _check_rotary(self)
        _check_context_warmup(self)
        _check_schedule(self)

    @property
    def tokens_per_iter(self) -> int:
        """Tokens per update over all processes: gradient_accumulation_steps x batch_size x block_size."""
        return self.gradient_accumulation_steps * self.batch_size * self.block_size

    @property
    def last_iter(self) -> int:
        """The last iteration whose learning rate is computed: `max_iters`, or 0 with `eval_only`."""
        return 0 if self.eval_only else self.max_iters

    def to_dict(self) -> dict[str, Any]:
        """All settings, JSON-safe: tuples become lists."""
        values = ((name, getattr(self, name)) for name in settings_of(TrainConfig))
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values}

    def nanogpt_dict(self) -> dict[str, Any]:
        """Only nanoGPT's own settings, as its checkpoint's `config` has them."""
        return {name: getattr(self, name) for name in NANOGPT_FIELDS}

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> TrainConfig:
        """The config with these settings, the others at their defaults.

        Raises `ConfigError`: `unknown-setting` with the nearest names, `wrong-type`, and what the checks say.
        """
        if not isinstance(mapping, Mapping):  # JSON from a file may be anything
            raise ConfigError("wrong-type", f"settings must be a mapping, got {short(mapping)}; give names and values")
        known = settings_of(cls)
        for name in mapping:
            if name not in known:
                advice = did_you_mean(str(name), known) or "`lossgap train --help` lists them all"
                raise ConfigError("unknown-setting", f"there is no setting named {short(name)}; {advice}")
        return cls(**mapping)


NANOGPT_FIELDS: tuple[str, ...] = tuple(settings_of(TrainConfig))[
    : tuple(settings_of(TrainConfig)).index("compile") + 1
]
"""The settings that nanoGPT's `train.py` has, in its order."""

FACTORS: tuple[Factor, ...] = typing.get_args(Factor)
"""The factors in the order in which tables list them."""


# ---------------------------------------------------------------------------------------------
# Checks

_RANGES: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (
        (
            "eval_interval",
            "log_interval",
            "eval_iters",
            "gradient_accumulation_steps",
            "batch_size",
            "block_size",
            "n_layer",
            "n_head",
            "n_embd",
        ),
        lambda value: value >= 1,
        "must be at least 1",
    ),
    (
        (
            "max_iters",
            "warmup_iters",
            "lr_decay_iters",
            "threads",
            "seed",
            "learning_rate",
            "min_lr",
            "weight_decay",
            "grad_clip",
            "logit_softcap",
            "muon_lr",
            "momentum_warmup_iters",
            "context_warmup_iters",
        ),
        lambda value: value >= 0,
        "must not be negative",
    ),
    (("dropout", "beta1", "beta2", "muon_momentum"), lambda value: 0 <= value < 1, "must be at least 0 and below 1"),
    (("checkpoint_seconds",), lambda value: value > 0, "must be above 0"),
    (("decay_fraction",), lambda value: 0 < value <= 1, "must be above 0 and at most 1"),
    (("checkpoint_at",), lambda value: all(item >= 0 for item in value), "must hold no negative iteration"),
)


def _bad(config: TrainConfig, name: str, rule: str, remedy: str) -> ConfigError:
    return ConfigError("bad-setting", f"--{name}={short(getattr(config, name))}: {name} {rule}; {remedy}")


def _check_texts(config: TrainConfig) -> None:
    """Settings whose texts have a form: device, init_from, and those that must not be empty."""
    for name in ("out_dir", "dataset"):
        if not getattr(config, name):
            raise _bad(config, name, "must not be empty", f"e.g. its default {getattr(TrainConfig, name)!r}")
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,4})?", config.device):
        advice = "take cuda, cpu or auto" if config.device.lower().startswith("gpu") else ""
        advice = advice or did_you_mean(config.device, ("auto", "cpu", "cuda", "mps")) or "take auto"
        raise ConfigError(
            "bad-choice", f"--device={short(config.device)}: device must be auto, cpu, cuda, cuda:N or mps; {advice}"
        )
    if config.init_from not in ("scratch", "resume") and not config.init_from.startswith("gpt2"):
        advice = did_you_mean(config.init_from, ("scratch", "resume", "gpt2")) or "take scratch"
        raise ConfigError(
            "bad-choice",
            f"--init_from={short(config.init_from)}: init_from must be scratch, resume or gpt2*; {advice}",
        )
    if config.resume and config.init_from.startswith("gpt2"):
        raise ConfigError(
            "resume-conflict",
            f"--resume={short(config.resume)} continues a run and --init_from={short(config.init_from)} starts one; "
            "give only one of them",
        )


def _check_heads(config: TrainConfig) -> None:
    """Each head has n_embd / n_head channels, so n_head must divide n_embd."""
    width, heads = config.n_embd, config.n_head
    if width % heads == 0:
        return
    widths = [value for value in (width // heads * heads, (width // heads + 1) * heads) if value]
    below = range(min(heads, width), 0, -1)
    above = range(heads + 1, min(width, 2 * heads) + 1)
    nearby = [next((count for count in counts[:10_000] if width % count == 0), None) for counts in (below, above)]
    divisors = [value for value in nearby if value is not None]
    raise ConfigError(
        "head-size",
        f"--n_embd={width} --n_head={heads}: n_head must divide n_embd; "
        f"take {_either('n_embd', widths)}{_either(', or n_head', divisors)}",
    )


def _check_rotary(config: TrainConfig) -> None:
    """Rotary positions turn channels in pairs, so a head must have an even number of them."""
    head = config.n_embd // config.n_head
    if config.rotary and head % 2:
        raise ConfigError(
            "head-size",
            f"--rotary: a head has {head} channels (n_embd / n_head), which do not pair; take another n_head, or "
            "--rotary=False",
        )


def _check_context_warmup(config: TrainConfig) -> None:
    """The first context is an eighth of block_size, so block_size must be a multiple of 8."""
    if config.context_warmup_iters and config.block_size % 8:
        near = max(8, config.block_size // 8 * 8)
        raise _bad(config, "context_warmup_iters", "needs a block_size that 8 divides", f"take --block_size={near}")


def _either(name: str, values: list[int]) -> str:
    """`name 126 or 133`, or nothing without values."""
    return f"{name} {' or '.join(map(str, values))}" if values else ""


def _check_schedule(config: TrainConfig) -> None:
    """The cosine divides by lr_decay_iters - warmup_iters, at iteration warmup_iters for the first time."""
    equal = config.lr_decay_iters == config.warmup_iters
    if config.decay_lr and equal and config.warmup_iters <= config.last_iter:
        raise ConfigError(
            "schedule-division",
            f"--lr_decay_iters={config.lr_decay_iters}: it equals warmup_iters, so iteration {config.warmup_iters} "
            f"divides by zero; take a larger lr_decay_iters (usually max_iters, {config.max_iters}), "
            "a smaller warmup_iters, or --decay_lr=False",
        )


def warn_doubts(config: TrainConfig) -> None:
    """Warn of what works but is seldom meant. Called once where a training starts, not at each construction."""
    if config.decay_lr and config.min_lr > config.learning_rate:
        warn(
            "min-lr-above-lr",
            f"--min_lr={config.min_lr} is above --learning_rate={config.learning_rate}, so the rate grows; "
            "min_lr is usually a tenth of learning_rate",
        )
    if config.decay_lr and config.lr_decay_iters < config.warmup_iters <= config.last_iter:
        warn(
            "decay-before-warmup",
            f"--lr_decay_iters={config.lr_decay_iters} is below --warmup_iters={config.warmup_iters}, so the rate "
            "falls to min_lr right after the warm-up; lr_decay_iters is usually max_iters",
        )
    late = [number for number in config.checkpoint_at if number > config.max_iters]
    if late:
        warn(
            "checkpoint-never-written",
            f"--checkpoint_at={late[0]} is never reached: iterations run 0..{config.max_iters} (--max_iters)",
        )


# ---------------------------------------------------------------------------------------------
# Description, differences


def describe() -> tuple[Setting, ...]:
    """Every setting with name, type, default, doc, unit, factor and meaning, in the order of the fields."""
    return tuple(settings_of(TrainConfig).values())


def fields_by_factor() -> dict[Factor, tuple[str, ...]]:
    """The names of the settings that make up each factor."""
    return {factor: tuple(item.name for item in describe() if item.factor == factor) for factor in FACTORS}


@dataclass(frozen=True)
class Difference:
    """One setting that differs: its value in the control, in the test, and its factor (None: no factor)."""

    name: str
    control: object
    test: object
    factor: Factor | None


def differences(control: TrainConfig, test: TrainConfig) -> list[Difference]:
    """The settings in which two configs differ, in the order of the fields."""
    pairs = ((item, getattr(control, item.name), getattr(test, item.name)) for item in describe())
    return [Difference(item.name, first, second, item.factor) for item, first, second in pairs if first != second]


ARCHITECTURE = fields_by_factor()["architecture"]
"""Settings of a model that is not nanoGPT's; a checkpoint states those that are not at their default."""


__all__ = [
    "ARCHITECTURE",
    "FACTORS",
    "NANOGPT_FIELDS",
    "Difference",
    "TrainConfig",
    "describe",
    "differences",
    "fields_by_factor",
    "setting",
    "warn_doubts",
]
