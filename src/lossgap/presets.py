"""Presets: named settings, each derived from another by what it changes.

    lossgap train shakespeare_char_cpu --max_iters=500

A preset is a set of explicit values, like a config file, so that presets, config files and flags are
applied left to right. Each function's first line describes it.
"""

from __future__ import annotations

from collections.abc import Callable

from lossgap.errors import ConfigError
from lossgap.settings import did_you_mean
from lossgap.strangers import one_line


def shakespeare_char() -> dict[str, object]:
    """nanoGPT's GPU recipe: 6 layers, 384 channels, context 256, batch 64, 5,000 iterations, dropout 0.2.

    Source: the values of nanoGPT's `config/train_shakespeare_char.py`.
    """
    return {
        "out_dir": "out-shakespeare-char",
        "eval_interval": 250,
        "eval_iters": 200,
        "log_interval": 10,
        "always_save_checkpoint": False,
        "wandb_log": False,
        "wandb_project": "shakespeare-char",
        "wandb_run_name": "mini-gpt",
        "dataset": "shakespeare_char",
        "gradient_accumulation_steps": 1,
        "batch_size": 64,
        "block_size": 256,
        "n_layer": 6,
        "n_head": 6,
        "n_embd": 384,
        "dropout": 0.2,
        "learning_rate": 1e-3,
        "max_iters": 5000,
        "lr_decay_iters": 5000,
        "min_lr": 1e-4,
        "beta2": 0.99,
        "warmup_iters": 100,
    }


def shakespeare_char_cpu() -> dict[str, object]:
    """nanoGPT's laptop recipe: 4 layers, 128 channels, context 64, batch 12, 2,000 iterations, on a CPU.

    Source: the flags of the command for a CPU in nanoGPT's README.
    """
    return shakespeare_char() | {
        "device": "cpu",
        "compile": False,
        "eval_iters": 20,
        "log_interval": 1,
        "block_size": 64,
        "batch_size": 12,
        "n_layer": 4,
        "n_head": 4,
        "n_embd": 128,
        "max_iters": 2000,
        "lr_decay_iters": 2000,
        "dropout": 0.0,
    }


def laptop() -> dict[str, object]:
    """The laptop's own recipe: nanoGPT's 4 layers and context, trained by Muon at batch 24 for 800 iterations.

    How it was chosen, and what each part is worth: docs/laptop.md.
    """
    return shakespeare_char_cpu() | {
        "out_dir": "out-laptop",
        "batch_size": 24,
        "optimizer": "muon",
        "muon_lr": 0.01,
        "learning_rate": 1e-2,
        "min_lr": 0.0,
        "lr_schedule": "linear",
        "warmup_iters": 0,
        "rotary": True,
        "qk_norm": True,
        "relu2": True,
        "zero_proj": True,
        "max_iters": 800,
        "lr_decay_iters": 800,
        "eval_interval": 200,
    }


def laptop_best() -> dict[str, object]:
    """The laptop's long recipe: 6 layers, 192 channels, context 256, batch 8, 1,500 iterations; about half an hour.

    How it was chosen: docs/laptop.md.
    """
    return laptop() | {
        "out_dir": "out-laptop-best",
        "batch_size": 8,
        "block_size": 256,
        "n_layer": 6,
        "n_head": 6,
        "n_embd": 192,
        "learning_rate": 6e-3,
        "context_warmup_iters": 750,
        "max_iters": 1500,
        "lr_decay_iters": 1500,
        "eval_interval": 250,
    }


PRESETS: dict[str, Callable[[], dict[str, object]]] = {
    "shakespeare_char": shakespeare_char,
    "shakespeare_char_cpu": shakespeare_char_cpu,
    "laptop": laptop,
    "laptop_best": laptop_best,
}
"""Every preset by name."""


def preset(name: str) -> dict[str, object]:
    """The settings of the preset, as a new dict. Raises `ConfigError` `unknown-preset` with the nearest names."""
    if name not in PRESETS:
        advice = did_you_mean(name, PRESETS) or f"there are {', '.join(PRESETS)}"
        raise ConfigError("unknown-preset", f"{one_line(name)}: there is no such preset; {advice}")
    return PRESETS[name]()


def describe_presets() -> dict[str, str]:
    """Each preset's one-line description, by name."""
    return {name: (function.__doc__ or "").partition("\n")[0] for name, function in PRESETS.items()}
