"""Settings under the names that other trainers give them, in nanoGPT's words; what has no such word keeps its own.

Only names that mean the same are changed: Hugging Face's and Lightning's gradient accumulation counts per process
and nanoGPT's in total, so those keep their names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final

from lossgap.runs.readers.base import RunBuilder, number, whole
from lossgap.runs.readers.metric_names import clean_name

MAX_SETTINGS = 1000
MAX_DEPTH = 8
MAX_TEXT = 500
"""Characters of a setting that is text."""

_NANOGPT: Final = {
    "batch_size": "bs micro_batch_size per_device_train_batch_size train_batch_size device_batch_size local_batch_size",
    "block_size": "max_seq_len max_seq_length seq_len seq_length sequence_length context_length context_len n_ctx "
    "max_position_embeddings n_positions",
    "n_layer": "num_layers n_layers num_hidden_layers layers",
    "n_head": "num_heads n_heads num_attention_heads",
    "n_embd": "d_model hidden_size dim n_embed model_dim embed_dim embedding_dim",
    "learning_rate": "lr max_lr",
    "max_iters": "max_steps total_steps num_steps train_steps num_iterations n_steps num_train_steps",
    "warmup_iters": "warmup_steps num_warmup_steps lr_warmup_steps",
    "weight_decay": "wd",
    "grad_clip": "max_grad_norm gradient_clip_val clip_grad_norm gradient_clip",
    "beta1": "adam_beta1",
    "beta2": "adam_beta2",
    "eval_interval": "eval_steps val_interval eval_every val_check_interval",
    "log_interval": "logging_steps log_every_n_steps log_freq log_every",
    "min_lr": "lr_min",
    "vocab_size": "n_vocab",
    "dropout": "drop_rate dropout_rate",
    "dtype": "precision",
}
"""nanoGPT's name: those of others."""
_NAMES: Final = {other: ours for ours, others in _NANOGPT.items() for other in others.split()}
KNOWN: Final = (
    frozenset(_NANOGPT)
    | frozenset(_NAMES)
    | {"seed", "optimizer", "scheduler", "model", "config", "epochs", "num_epochs", "num_train_epochs", "n_params"}
    | {"gradient_accumulation_steps", "accumulate_grad_batches"}
)
"""Names by which a reader knows that a mapping holds settings."""


def nanogpt_name(name: str) -> str:
    """nanoGPT's name of a setting, else the name as it is."""
    return _NAMES.get(name, name)


def say_all(builder: RunBuilder, settings: Mapping[str, object], source: str) -> None:
    """Say the settings of a mapping, nested ones as `outer.inner`; a value that is text is never more than text.

    The last part of a nested name decides nanoGPT's word, where no other setting has that already.
    """
    for count, (path, value) in enumerate(leaves(settings)):
        if count >= MAX_SETTINGS:
            builder.note(f"{source}: more than {MAX_SETTINGS:,} settings; the rest is left out")
            return
        name = nanogpt_name(path[-1])
        full = ".".join(path)
        if len(path) > 1 and (name not in _NANOGPT or name in builder.config):
            name = full
        elif name != full and name in settings:
            name = full  # both are there: each under its own
        builder.say(clean_name(name), _plain(value), source if name == full else f"{source} ({clean_name(full)})")


def leaves(values: Mapping[str, object], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """`(path, value)` of everything in nested mappings that is not a mapping, to `MAX_DEPTH`."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            if len(above) < MAX_DEPTH:
                yield from leaves(value, (*above, str(name)))
        else:
            yield (*above, str(name)), value


def typed(text: str) -> object:
    """A setting from text: an int, a float, a truth value, None, or the text."""
    words = {"true": True, "false": False, "none": None, "null": None, "~": None}
    stripped = text.strip()
    if stripped.lower() in words:
        return words[stripped.lower()]
    found = number(stripped) if "_" not in stripped and "," not in stripped else None
    if found is None or not math.isfinite(found):
        return stripped[:MAX_TEXT].encode("utf-8", "replace").decode("utf-8")
    exact = whole(stripped) if not any(mark in stripped for mark in ".eE") else None
    return found if exact is None else int(stripped)


def _plain(value: object, depth: int = 0) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value[:MAX_TEXT].encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, (int, float)):
        return value if math.isfinite(number(value) or 0.0) else None
    if isinstance(value, (list, tuple)) and depth < MAX_DEPTH:
        return [_plain(item, depth + 1) for item in value[:100]]
    return str(type(value).__name__)
