"""Names of settings that move no loss by more than rounding, or none at all, for settings that lossgap has no rule for.

A name is read as whole words (`logit_softcap` is `logit` and `softcap`, and no log; `updateFreq` is `update` and
`freq`, and no date), so that a setting is left out for what it is and not for letters that it happens to contain.
"""

from __future__ import annotations

import re

_LISTED = """
    backup bf16 checkpoint checkpointing checkpoints ckpt comment compile cpu cuda dashboard date ddp debug desc
    description dir directory entity eval evaluate evaluation file files folder fp16 fsdp host hub id local log
    logger logging logs mlflow note notes output path persistent pin port prefetch print profile profiler
    profiling progress project push recipe report resume run save saving seed stamp tag tags tensorboard test tf32
    thread threads time timeout timestamp title tqdm url user uuid val valid validation verbose version wandb
    worker workers
"""
"""Words that make a name bookkeeping wherever they stand in it."""

_LISTED_WHOLE = """
    backend context_parallel data_parallel every_n_steps exp_name experiment_name expert_parallel group_name
    interval job_name micro_batch_size micro_bsz mixed_precision model_parallel name pipeline_model_parallel_size
    pipeline_parallel precision rank sequence_parallel shard_id shards tensor_model_parallel_size tensor_parallel
    total_flos
"""
"""Names that are bookkeeping as a whole, though their words may stand in others: `lora_rank`, `tokenizer_name`,
`update_interval` and `parallel_residual` are none."""

_WORDS, _WHOLE = frozenset(_LISTED.split()), frozenset(_LISTED_WHOLE.split())
_NEVER = frozenset(("batch", "processes", "bidirectional"))
"""Words that keep a name in, but for one of an evaluation: `per_device_train_batch_size`."""
_EVALUATION = frozenset(("eval", "evaluate", "evaluation", "test", "val", "valid", "validation"))


def is_bookkeeping(name: str) -> bool:
    """True if a setting of this name is left out of the differences that could make a gap."""
    words = _words(name)
    if "_".join(words) in _WHOLE:
        return True
    if not _EVALUATION.isdisjoint(words):
        return True
    return _NEVER.isdisjoint(words) and not _WORDS.isdisjoint(words)


def _words(name: str) -> list[str]:
    """The words of `snake_case`, `kebab-case`, `dotted.names` and `camelCase`, in lower case."""
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return [word for word in re.split(r"[^a-z0-9]+", split.lower()) if word]
