"""Which settings of other trainers are left out of the differences."""

from __future__ import annotations

import pytest

from comparison.findings.answer import ask
from comparison.made import curve, run
from lossgap.comparison.findings.bookkeeping import is_bookkeeping
from lossgap.comparison.findings.processes import NAMES, NODES


@pytest.mark.parametrize(
    "name",
    [
        "bidirectional",
        "logit_softcap",
        "logit_scale",
        "truncation",
        "update_freq",
        "lora_rank",
        "sample_packing",
        "world_size",
        "per_device_train_batch_size",
        "parallel_residual",
        "tokenizer_name",
        "updateInterval",
        "num_gpus",
    ],
)
def test_what_moves_a_loss_stays(name: str) -> None:
    assert not is_bookkeeping(name)
    found = ask("other-settings", run(curve(1.9), config={name: 1}), run(curve(2.4), config={name: 2}))
    if name in (*NAMES, *NODES):  # which have a rule of their own
        assert found.silent
        found = ask("processes", run(curve(1.9), config={name: 1}), run(curve(2.2), config={name: 2}))
        assert found.cause.numbers["ratio"] == 2
    else:
        assert found.cause.numbers[name] == [1, 2]


@pytest.mark.parametrize(
    "name",
    [
        "out_dir",
        "log_interval",
        "logging.steps",
        "save-every",
        "run_name",
        "eval_batch_size",
        "per_device_eval_batch_size",
        "dataloader_num_workers",
        "wandbProject",
        "local_rank",
        "rank",
        "mixed_precision",
        "uuid",
        "model_path",
    ],
)
def test_bookkeeping_is_left_out(name: str) -> None:
    assert is_bookkeeping(name)
