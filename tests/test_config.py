"""TrainConfig: defaults, checks, mappings, differences and hash."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossgap.config import (
    FACTORS,
    NANOGPT_FIELDS,
    Difference,
    TrainConfig,
    describe,
    differences,
    fields_by_factor,
    warn_doubts,
)
from lossgap.config_hash import config_hash
from lossgap.errors import ConfigError, LossgapWarning

# nanoGPT's train.py; device, dtype and backend name one machine there and are auto here.
NANOGPT_DEFAULTS: dict[str, object] = {
    "out_dir": "out",
    "eval_interval": 2000,
    "log_interval": 1,
    "eval_iters": 200,
    "eval_only": False,
    "always_save_checkpoint": True,
    "init_from": "scratch",
    "wandb_log": False,
    "wandb_project": "owt",
    "wandb_run_name": "gpt2",
    "dataset": "openwebtext",
    "gradient_accumulation_steps": 40,
    "batch_size": 12,
    "block_size": 1024,
    "n_layer": 12,
    "n_head": 12,
    "n_embd": 768,
    "dropout": 0.0,
    "bias": False,
    "learning_rate": 6e-4,
    "max_iters": 600000,
    "weight_decay": 0.1,
    "beta1": 0.9,
    "beta2": 0.95,
    "grad_clip": 1.0,
    "decay_lr": True,
    "warmup_iters": 2000,
    "lr_decay_iters": 600000,
    "min_lr": 6e-5,
    "backend": "auto",
    "device": "auto",
    "dtype": "auto",
    "compile": True,
}
OUR_DEFAULTS: dict[str, object] = {
    "rotary": False,
    "qk_norm": False,
    "relu2": False,
    "zero_proj": False,
    "tied": True,
    "logit_softcap": 0.0,
    "optimizer": "adamw",
    "muon_lr": 0.01,
    "muon_momentum": 0.95,
    "momentum_warmup_iters": 0,
    "lr_schedule": "cosine",
    "decay_fraction": 0.2,
    "weight_decay_schedule": "constant",
    "context_warmup_iters": 0,
    "seed": 1337,
    "tf32": False,
    "rng": "counter",
    "dropout_rng": "counter",
    "deterministic": True,
    "attention": "auto",
    "adamw": "auto",
    "threads": 0,
    "eval_mode": "sampled",
    "final_eval": True,
    "canary": False,
    "resume": "",
    "overwrite": False,
    "checkpoint_at": (),
    "checkpoint_seconds": 300.0,
    "tensorboard_log": False,
    "mlflow_log": False,
}
BOOKKEEPING = {
    "out_dir",
    "eval_interval",
    "log_interval",
    "eval_iters",
    "always_save_checkpoint",
    "wandb_log",
    "wandb_project",
    "wandb_run_name",
    "backend",
    "eval_mode",
    "final_eval",
    "canary",
    "resume",
    "overwrite",
    "checkpoint_at",
    "checkpoint_seconds",
    "tensorboard_log",
    "mlflow_log",
}


def config(**values: Any) -> TrainConfig:
    return TrainConfig(**values)


def failure(**values: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        config(**values)
    assert str(caught.value).isprintable()
    return caught.value


def test_the_surface_and_its_defaults() -> None:
    """A new flag is a decision: it is added here, and to the documentation, on purpose."""
    fields = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    assert fields == NANOGPT_DEFAULTS | OUR_DEFAULTS
    assert list(fields) == list(NANOGPT_DEFAULTS | OUR_DEFAULTS)
    assert tuple(NANOGPT_DEFAULTS) == NANOGPT_FIELDS
    assert config().nanogpt_dict() == NANOGPT_DEFAULTS


def test_nanogpts_own_defaults() -> None:
    folder = os.environ.get("NANOGPT_DIR")
    if not folder:
        pytest.skip("NANOGPT_DIR is not set: no nanoGPT checkout to compare with")
    tree = ast.parse((Path(folder) / "train.py").read_text(encoding="utf-8"))
    end = next(i for i, node in enumerate(tree.body) if "config_keys" in ast.unparse(node))
    assigned = {
        node.targets[0].id: node.value
        for node in tree.body[:end]
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    assert tuple(assigned) == NANOGPT_FIELDS
    machine = {"device", "dtype", "backend"}
    theirs = {n: eval(ast.unparse(v)) for n, v in assigned.items() if n not in machine}  # noqa: S307 - their file
    assert theirs == {name: value for name, value in NANOGPT_DEFAULTS.items() if name not in machine}


def test_every_setting_is_described() -> None:
    for item in describe():
        assert item.doc.isprintable(), item.name
        assert item.doc, item.name
        assert not item.doc.endswith("."), item.name
        assert item.type, item.name
    assert {item.name for item in describe() if not item.meaning} == BOOKKEEPING
    assert all(item.meaning for item in describe() if item.factor is not None)


def test_the_factors() -> None:
    assert fields_by_factor() == {
        "capacity": ("n_layer", "n_head", "n_embd", "bias"),
        "architecture": ("rotary", "qk_norm", "relu2", "zero_proj", "tied", "logit_softcap"),
        "context": ("block_size", "context_warmup_iters"),
        "batch": ("gradient_accumulation_steps", "batch_size"),
        "length": ("max_iters",),
        "schedule": (
            *("learning_rate", "decay_lr", "warmup_iters", "lr_decay_iters", "min_lr"),
            *("lr_schedule", "decay_fraction"),
        ),
        "regularisation": ("dropout", "weight_decay", "weight_decay_schedule"),
        "optimizer": (
            *("beta1", "beta2", "grad_clip"),
            *("optimizer", "muon_lr", "muon_momentum", "momentum_warmup_iters"),
        ),
        "data": ("dataset",),
        "numerics": ("dtype", "compile", "tf32", "deterministic", "attention", "adamw", "threads"),
        "device": ("device",),
    }
    assert tuple(fields_by_factor()) == FACTORS


@pytest.mark.parametrize(
    ("values", "slug", "words"),
    [
        ({"batch_size": 0}, "bad-setting", "--batch_size=0: batch_size must be at least 1"),
        ({"block_size": -1}, "bad-setting", "e.g. its default 1024"),
        ({"eval_interval": 0}, "bad-setting", "at least 1"),
        ({"log_interval": 0}, "bad-setting", "at least 1"),
        ({"eval_iters": 0}, "bad-setting", "at least 1"),
        ({"gradient_accumulation_steps": 0}, "bad-setting", "at least 1"),
        ({"n_layer": 0}, "bad-setting", "at least 1"),
        ({"n_head": 0}, "bad-setting", "at least 1"),
        ({"n_embd": 0}, "bad-setting", "at least 1"),
        ({"max_iters": -1}, "bad-setting", "negative"),
        ({"warmup_iters": -1}, "bad-setting", "negative"),
        ({"lr_decay_iters": -1}, "bad-setting", "negative"),
        ({"threads": -1}, "bad-setting", "negative"),
        ({"seed": -1}, "bad-setting", "negative"),
        ({"learning_rate": -1e-3}, "bad-setting", "negative"),
        ({"learning_rate": float("nan")}, "bad-setting", "finite"),
        ({"min_lr": float("inf")}, "bad-setting", "finite"),
        ({"weight_decay": -0.1}, "bad-setting", "negative"),
        ({"grad_clip": -1}, "bad-setting", "negative"),
        ({"dropout": 1.0}, "bad-setting", "below 1"),
        ({"dropout": -0.1}, "bad-setting", "below 1"),
        ({"beta1": 1.0}, "bad-setting", "below 1"),
        ({"beta2": 1.5}, "bad-setting", "below 1"),
        ({"checkpoint_seconds": 0}, "bad-setting", "above 0"),
        ({"checkpoint_at": (5, -1)}, "bad-setting", "negative"),
        ({"out_dir": ""}, "bad-setting", "empty"),
        ({"dataset": ""}, "bad-setting", "empty"),
        ({"out_dir": "a\0b"}, "bad-setting", "NUL"),
        ({"device": "gpu:1"}, "bad-choice", "take cuda, cpu or auto"),
        ({"device": "cuda:x"}, "bad-choice", "cuda:N"),
        ({"dtype": "float23"}, "bad-choice", "did you mean float32"),
        ({"backend": "nicl"}, "bad-choice", "did you mean nccl?"),
        ({"rng": "nanoGPT"}, "bad-choice", "did you mean nanogpt?"),
        ({"init_from": "scrach"}, "bad-choice", "did you mean scratch?"),
        ({"init_from": "gpt2", "resume": "out"}, "resume-conflict", "only one"),
        ({"batch_size": "12"}, "wrong-type", "expects an int, got '12' (str)"),
        ({"batch_size": True}, "wrong-type", "expects an int, got True (bool)"),
        ({"bias": 1}, "wrong-type", "expects a bool"),
        ({"checkpoint_at": 5}, "wrong-type", "ints"),
        ({"n_embd": 130, "n_head": 7}, "head-size", "take n_embd 126 or 133, or n_head 5 or 10"),
        ({"n_embd": 5, "n_head": 7}, "head-size", "take n_embd 7, or n_head 5"),
        ({"warmup_iters": 100, "lr_decay_iters": 100}, "schedule-division", "iteration 100 divides by zero"),
        ({"warmup_iters": 0, "lr_decay_iters": 0, "eval_only": True}, "schedule-division", "iteration 0"),
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, Any], slug: str, words: str) -> None:
    error = failure(**values)
    assert error.slug == slug
    assert words in str(error)


@pytest.mark.parametrize(
    "values",
    [
        {"max_iters": 0},
        {"warmup_iters": 100, "lr_decay_iters": 100, "max_iters": 99},
        {"warmup_iters": 100, "lr_decay_iters": 100, "eval_only": True},
        {"warmup_iters": 100, "lr_decay_iters": 100, "decay_lr": False},
        {"warmup_iters": 100, "lr_decay_iters": 50},
        {"device": "cuda:1"},
        {"init_from": "gpt2-xl"},
        {"init_from": "resume", "resume": "out"},
        {"grad_clip": 0},
        {"checkpoint_at": [3, 0]},
    ],
)
def test_what_works_is_accepted(values: dict[str, Any]) -> None:
    assert config(**values)


def test_the_search_for_a_head_count_ends() -> None:
    assert failure(n_embd=2**62 + 1, n_head=2**61 - 1).slug == "head-size"


def test_an_int_becomes_a_float_and_a_list_a_tuple() -> None:
    made = config(learning_rate=1, checkpoint_at=[3])
    assert type(made.learning_rate) is float
    assert made.checkpoint_at == (3,)
    assert hash(made)


def test_tokens_per_iter_is_the_product_over_all_processes() -> None:
    assert config().tokens_per_iter == 40 * 12 * 1024


@pytest.mark.parametrize(
    ("values", "slug"),
    [
        ({"min_lr": 1e-2}, "min-lr-above-lr"),
        ({"warmup_iters": 100, "lr_decay_iters": 50}, "decay-before-warmup"),
        ({"max_iters": 10, "checkpoint_at": (11,)}, "checkpoint-never-written"),
    ],
)
def test_doubts_are_warnings(values: dict[str, Any], slug: str) -> None:
    doubtful = config(**values)  # no warning here: a config is also made of a log that somebody sent
    with pytest.warns(LossgapWarning) as caught:
        warn_doubts(doubtful)
    assert [w.message.slug for w in caught if isinstance(w.message, LossgapWarning)] == [slug]


def test_no_doubts_about_the_defaults() -> None:
    warn_doubts(config(checkpoint_at=(600000,)))
    warn_doubts(config(decay_lr=False, min_lr=1.0))


def test_from_dict_names_what_it_does_not_know() -> None:
    with pytest.raises(ConfigError, match="did you mean dropout") as caught:
        TrainConfig.from_dict({"dropuot": 0.1})
    assert caught.value.slug == "unknown-setting"
    with pytest.raises(ConfigError, match="expects an int, got None"):
        TrainConfig.from_dict({"seed": None})
    nonsense: Any  # what a file may hold
    for nonsense in ([], "x", None):
        with pytest.raises(ConfigError, match="mapping"):
            TrainConfig.from_dict(nonsense)


OTHER_VALUES: dict[str, Any] = {
    "init_from": "gpt2",
    "backend": "gloo",
    "device": "cpu",
    "dtype": "bfloat16",
    "rng": "nanogpt",
    "dropout_rng": "device",
    "attention": "plain",
    "adamw": "loop",
    "eval_mode": "exact",
    "checkpoint_at": (7,),
    "optimizer": "muon",
    "lr_schedule": "linear",
    "decay_fraction": 0.5,
    "weight_decay_schedule": "linear",
    "n_embd": 1536,
    "n_head": 6,
}


def other_value(name: str, default: Any) -> Any:
    """Some valid value that is not the default."""
    if name in OTHER_VALUES:
        return OTHER_VALUES[name]
    if isinstance(default, bool):
        return not default
    if isinstance(default, str):
        return default + "x"
    return default + 1 if isinstance(default, int) else default / 2 + 0.1


@pytest.mark.parametrize("name", [item.name for item in describe()])
def test_each_setting_is_carried_compared_and_hashed(name: str) -> None:
    item = next(item for item in describe() if item.name == name)
    value = other_value(name, item.default)
    changed = config(**{name: value})
    assert TrainConfig.from_dict(json.loads(json.dumps(changed.to_dict()))) == changed
    assert differences(config(), changed) == [Difference(name, item.default, value, item.factor)]
    assert (config_hash(changed) != config_hash(config())) is (name not in BOOKKEEPING)


def test_evaluation_counts_in_the_hash_only_where_it_draws_from_the_training() -> None:
    fewer = {"eval_iters": 20}
    assert config_hash(config()) == config_hash(config(**fewer))
    assert config_hash(config(rng="nanogpt")) != config_hash(config(rng="nanogpt", **fewer))


def test_the_hash_is_the_same_everywhere() -> None:
    """A change here makes every stored hash stale: say so in the change log."""
    assert config_hash(config()) == "4e31502157151c04dc06b7849d14515c7aca0e14e96c8590affe49713cbd5115"
    assert config_hash(config(learning_rate=1)) == config_hash(config(learning_rate=1.0))
    assert config_hash(config(weight_decay=-0.0)) == config_hash(config(weight_decay=0.0))


TEXT = st.text(st.characters(exclude_characters="\0"), min_size=1)


@settings(max_examples=200)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "learning_rate": st.floats(0, 1e9),
            "seed": st.integers(0, 2**63 - 1),
            "out_dir": TEXT,
            "dataset": TEXT,
            "checkpoint_at": st.lists(st.integers(0, 600000)),
            "dropout": st.floats(0, 1, exclude_max=True),
            "device": st.sampled_from(["cpu", "mps", "cuda:3"]),
        },
    )
)
def test_to_dict_and_from_dict_are_inverse(values: dict[str, Any]) -> None:
    made = config(**values)
    again = TrainConfig.from_dict(json.loads(json.dumps(made.to_dict())))
    assert again == made
    assert config_hash(again) == config_hash(made)


@given(st.dictionaries(st.sampled_from([*NANOGPT_FIELDS, "seed", "nonsense"]), st.from_type(object)))
def test_any_mapping_gives_a_config_or_one_clear_line(values: dict[str, Any]) -> None:
    message = ""
    try:
        assert TrainConfig.from_dict(values)
    except ConfigError as error:
        message = str(error)
    assert message.isprintable()


def test_no_torch() -> None:
    code = "import lossgap.config_file, sys; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "said", "meant"),
    [
        ("dtype", "fp16", "float16"),
        ("dtype", "half", "float16"),
        ("dtype", "bf16", "bfloat16"),
        ("dtype", "torch.float32", "float32"),
        ("device", "gpu", "cuda"),
        ("device", "GPU", "cuda"),
    ],
)
def test_other_words_for_dtypes_and_devices(name: str, said: str, meant: str) -> None:
    assert getattr(TrainConfig.from_dict({name: said}), name) == meant
