"""The flags of every command, pinned: a flag that goes or changes its name breaks somebody's script."""

from __future__ import annotations

import pytest

from lossgap.config import TrainConfig
from lossgap.settings import settings_of
from lossgap.suggestion import FLAGS

PINNED = {
    "train": """
        json
    """,
    "sample": """
        compile device dtype full init_from json max_new_tokens num_samples out_dir seed start temperature
        top_k
    """,
    "read": """
        columns config device format full json max_iter_rows set
    """,
    "compare": """
        columns config device format full html json margin max_gap png reevaluate reference set
        spread
    """,
    "explain": """
        address arm_device budget columns config coordinates device dry_run executor factor format full html
        json margin override_form png reader runner runner_folder scale screen seed seed_arg set threads
        time_limit workers yes
    """,
    "record": """
        checkpoints from full iters json out overwrite
    """,
    "replay": """
        adamw attention compile device dtype fail_on_difference full html iters json margin png tf32 threads
        twins
    """,
    "canary": """
        fail_on_fault full json
    """,
    "bench": """
        against full iters json pairs starts updates
    """,
    "tune": """
        address apply dry_run executor full json minutes target yes
    """,
    "runs": """
        full json
    """,
    "baseline": """
        margin out
    """,
    "forecast": """
        config format fresh full html iters json lr_decay_iters png set target until
    """,
    "gate": """
        baseline json margin md strict
    """,
    "completion": "",
    "demo": """

    """,
}
TRAINING = """
    adamw always_save_checkpoint attention backend batch_size beta1 beta2 bias block_size canary checkpoint_at
    checkpoint_seconds compile context_warmup_iters dataset decay_fraction decay_lr deterministic device dropout
    dropout_rng dtype eval_interval eval_iters eval_mode eval_only final_eval grad_clip gradient_accumulation_steps
    init_from learning_rate log_interval logit_softcap lr_decay_iters lr_schedule max_iters min_lr mlflow_log
    momentum_warmup_iters muon_lr muon_momentum n_embd n_head n_layer optimizer out_dir overwrite qk_norm relu2
    resume rng rotary seed tensorboard_log tf32 threads tied wandb_log wandb_project wandb_run_name warmup_iters
    weight_decay weight_decay_schedule zero_proj
"""


def flags(options: type) -> list[str]:
    return sorted(item.flag for item in settings_of(options).values())


def test_every_command_is_pinned() -> None:
    assert FLAGS.keys() == PINNED.keys()


@pytest.mark.parametrize("verb", PINNED)
def test_the_flags_of_a_command(verb: str) -> None:
    assert flags(FLAGS[verb]) == PINNED[verb].split()


def test_the_settings_of_a_training() -> None:
    assert flags(TrainConfig) == TRAINING.split()
