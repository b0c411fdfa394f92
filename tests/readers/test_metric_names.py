"""Names of metrics, and of settings."""

from __future__ import annotations

import pytest

from lossgap.runs.readers.metric_names import Role, meaning
from lossgap.runs.readers.setting_names import typed
from lossgap.runs.readers.stores.yaml_subset import parse_yaml


@pytest.mark.parametrize(
    ("name", "role", "kind"),
    [
        ("loss", "loss", "unknown"),
        ("train_loss", "loss", "unknown"),
        ("train/loss", "loss", "unknown"),
        ("trainLoss", "loss", "unknown"),
        ("Loss/train", "loss", "unknown"),
        ("training loss", "loss", "unknown"),
        ("train_loss_step", "loss", "batch"),
        ("train_loss_epoch", "loss", "interval-mean"),
        ("loss_ema", "loss", "moving-average"),
        ("train/CrossEntropyLoss", "loss", "unknown"),
        ("loss_metrics/global_avg_loss", "loss", "unknown"),
        ("val_loss", "val_loss", "eval-mean"),
        ("eval/loss", "val_loss", "eval-mean"),
        ("Validation Loss", "val_loss", "eval-mean"),
        ("valid_loss_epoch", "val_loss", "eval-mean"),
        ("eval_train_loss", "eval_train_loss", "eval-mean"),
        ("test_loss", "other", "unknown"),
        ("predict_loss", "other", "unknown"),
        ("box_loss", "other", "unknown"),
        ("eval_g0_loss", "other", "eval-mean"),
        ("loss_scale", "other", "unknown"),
        ("val_bpb", "val_bpb", "unknown"),
        ("train_bpb", "other", "unknown"),
        ("val_ppl", "other", "unknown"),
        ("perplexity", "other", "unknown"),
        ("lr", "lr", "unknown"),
        ("train/learning_rate", "lr", "unknown"),
        ("lr-AdamW/pg1", "lr", "unknown"),
        ("x/lr0", "lr", "unknown"),
        ("grad_norm", "grad_norm", "unknown"),
        ("gradient_norm", "grad_norm", "unknown"),
        ("grad_norm_square", "other", "unknown"),
        ("mfu(%)", "mfu", "unknown"),
        ("num_input_tokens_seen", "tokens", "unknown"),
        ("tokens_per_sec", "other", "unknown"),
        ("train/global_step", "iter", "unknown"),
        ("iteration", "iter", "unknown"),
        ("eval_steps_per_second", "other", "unknown"),
        ("epoch", "epoch", "unknown"),
        ("epoch_time", "other", "unknown"),
        ("dt_ms", "ms", "unknown"),
        ("accuracy", "other", "unknown"),
        ("", "other", "unknown"),
    ],
)
def test_a_name_has_a_role(name: str, role: Role, kind: str) -> None:
    found = meaning(name)
    assert (found.role, found.kind) == (role, kind)


def test_of_two_names_the_plainer_is_the_loss() -> None:
    order = ["train_loss_step", "train_loss", "train_loss_ema", "train_loss_epoch"]
    assert sorted(order, key=lambda name: meaning(name).rank) == order


def test_settings_from_text_keep_their_type() -> None:
    values = [typed(text) for text in ("12", "6e-4", "True", "None", "adamw", "007", "1_000", "nan", "9" * 30)]
    assert values == [12, 6e-4, True, None, "adamw", 7, "1_000", "nan", 1e30]


HPARAMS = """\
batch_size: 32  # per device
betas:
- 0.9
- 0.95
name: 'it''s: a "name"'
model:
  n_layer: 4
  act: {kind: gelu, approximate: true}
layers: [1, 2]
optimizer: !!python/name:torch.optim.adam.Adam ''
criterion: !!python/object:torch.nn.CrossEntropyLoss
  _hooks: !!python/object/apply:os.system
  - - rm
training: true
nothing: null
note: |
  two
  lines
: broken
weight_decay: 1.0e-05
"""


def test_yaml_is_data_and_a_tag_is_never_followed() -> None:
    assert parse_yaml(HPARAMS) == {
        "batch_size": 32,
        "betas": [0.9, 0.95],
        "name": 'it\'s: a "name"',
        "model": {"n_layer": 4, "act": {"kind": "gelu", "approximate": True}},
        "layers": [1, 2],
        "optimizer": "!!python/name:torch.optim.adam.Adam ''",
        "criterion": "!!python/object:torch.nn.CrossEntropyLoss",
        "training": True,
        "nothing": None,
        "note": "two\nlines",
        "weight_decay": 1e-05,
    }


def test_yaml_nested_without_end_is_cut() -> None:
    assert isinstance(parse_yaml("\n".join(" " * at + "a:" for at in range(5000))), dict)
    assert isinstance(parse_yaml("- " * 5000 + "a"), dict)
    assert isinstance(parse_yaml("a: " + "[" * 100_000), dict)
