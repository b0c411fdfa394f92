"""Presets: nanoGPT's recipes, value by value, and our own."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from lossgap.config import ARCHITECTURE, TrainConfig
from lossgap.config_file import read_config_file, resolve_arguments
from lossgap.errors import ConfigError
from lossgap.presets import PRESETS, describe_presets, preset


def nanogpt() -> Path:
    folder = os.environ.get("NANOGPT_DIR")
    if not folder:
        pytest.skip("NANOGPT_DIR is not set: no nanoGPT checkout to compare with")
    return Path(folder)


def test_the_gpu_recipe() -> None:
    made = TrainConfig.from_dict(preset("shakespeare_char"))
    assert (made.n_layer, made.n_head, made.n_embd, made.block_size, made.batch_size) == (6, 6, 384, 256, 64)
    assert (made.dropout, made.beta2, made.learning_rate, made.min_lr) == (0.2, 0.99, 1e-3, 1e-4)
    assert (made.max_iters, made.lr_decay_iters, made.warmup_iters) == (5000, 5000, 100)
    assert (made.eval_interval, made.log_interval, made.eval_iters) == (250, 10, 200)
    assert made.gradient_accumulation_steps == 1
    assert not made.always_save_checkpoint
    assert made.dataset == "shakespeare_char"


def test_the_laptop_recipe() -> None:
    made = TrainConfig.from_dict(preset("shakespeare_char_cpu"))
    assert (made.n_layer, made.n_head, made.n_embd, made.block_size, made.batch_size) == (4, 4, 128, 64, 12)
    assert (made.dropout, made.beta2, made.learning_rate, made.min_lr) == (0.0, 0.99, 1e-3, 1e-4)
    assert (made.max_iters, made.lr_decay_iters, made.warmup_iters) == (2000, 2000, 100)
    assert (made.eval_interval, made.log_interval, made.eval_iters) == (250, 1, 20)
    assert (made.device, made.compile) == ("cpu", False)


def test_the_gpu_recipe_is_nanogpts_file() -> None:
    assert read_config_file(nanogpt() / "config" / "train_shakespeare_char.py").values == preset("shakespeare_char")


def test_the_laptop_recipe_is_nanogpts_command() -> None:
    readme = (nanogpt() / "README.md").read_text(encoding="utf-8")
    command = re.search(r"^python train\.py (config/train_shakespeare_char\.py --device=cpu .*)$", readme, re.MULTILINE)
    assert command
    arguments = shlex.split(command[1])
    arguments[0] = "shakespeare_char"
    assert resolve_arguments(arguments).values == preset("shakespeare_char_cpu")


def test_the_laptops_own_recipes() -> None:
    short, long = (TrainConfig.from_dict(preset(name)) for name in ("laptop", "laptop_best"))
    for made in (short, long):
        assert made.optimizer == "muon"
        assert (made.lr_decay_iters, made.warmup_iters, made.min_lr) == (made.max_iters, 0, 0.0)
        assert {name for name in ARCHITECTURE if getattr(made, name) != getattr(TrainConfig, name)} == {
            *("rotary", "qk_norm", "relu2", "zero_proj")
        }
        assert (made.device, made.compile, made.dropout) == ("cpu", False, 0.0)
    assert (short.n_layer, short.n_embd, short.block_size) == (4, 128, 64)
    assert len({preset(name)["out_dir"] for name in PRESETS}) == 3, "nanoGPT gives both of its recipes one out_dir"


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_is_a_fresh_dict_with_a_description(name: str) -> None:
    first = preset(name)
    first["seed"] = 5
    assert "seed" not in preset(name)
    assert TrainConfig.from_dict(preset(name)).dataset == "shakespeare_char"
    assert describe_presets()[name].endswith(".")


def test_an_unknown_preset() -> None:
    with pytest.raises(ConfigError, match="did you mean shakespeare_char") as caught:
        preset("shakespear_char")
    assert caught.value.slug == "unknown-preset"
