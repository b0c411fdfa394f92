"""GPT-2's published weights, through the extra `[hf]` (transformers)."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from lossgap.corpus import Corpus
from lossgap.corpus.tokenizer import GPT2_VOCAB_SIZE
from lossgap.errors import CheckpointError, ConfigError
from lossgap.gpt import GPT, GPTConfig

NAMES = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
"""GPT-2's Conv1D holds these as (in, out), a linear layer as (out, in)."""
MASKS = (".attn.bias", ".attn.masked_bias")
"""Constants that older files hold among the weights."""
ONLY: Mapping[str, tuple[object, ...]] = {
    "activation_function": ("gelu_new", "gelu"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
}
"""The architecture that our model computes, by the names of transformers' GPT2Config."""


def pretrained(init_from: str, dropout: float) -> GPT:
    """The model that `init_from` names: one of `NAMES` (Hugging Face's hub or cache), or `gpt2:FOLDER`, saved locally.

    With biases, and GPT-2's own vocabulary and context; only the dropout is ours. Deviation, as in nanoGPT: the exact
    GELU where GPT-2 was trained with its tanh approximation (`gelu_new`), which moves logits by about 0.001.
    Raises ConfigError (`missing-extra`, `unknown-gpt2`), CheckpointError (`gpt2-unavailable`, `gpt2-unfit`).
    """
    name, colon, folder = init_from.partition(":")
    if name not in NAMES or (colon and (name != "gpt2" or not os.path.isdir(folder))):
        raise ConfigError(
            "unknown-gpt2",
            f"--init_from={init_from}: known are {', '.join(NAMES)}, and gpt2:FOLDER for a model that transformers "
            "saved in FOLDER",
        )
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            "missing-extra",
            f"--init_from={init_from} needs transformers, which is not installed; pip install 'lossgap[hf]'",
        ) from error
    try:
        with _quiet():
            theirs, report = transformers.GPT2LMHeadModel.from_pretrained(
                folder or name, output_loading_info=True, ignore_mismatched_sizes=True
            )
    except _failures() as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        remedy = "download it where there is a network, save it with save_pretrained, and name the folder: gpt2:FOLDER"
        raise CheckpointError(
            "gpt2-unavailable",
            f"--init_from={init_from}: transformers cannot load it ({reason[:200]}); "
            + ("save it again with save_pretrained" if folder else remedy),
        ) from error
    _check(init_from, theirs.config, report)
    return _converted(theirs.state_dict(), theirs.config, dropout)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bar and its report on the weights: `_check` says in one line what is wrong with them."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def _failures() -> tuple[type[Exception], ...]:
    """Return the exceptions that transformers raises for missing, damaged and foreign files."""
    import huggingface_hub.errors
    from safetensors import SafetensorError

    invalid = getattr(huggingface_hub.errors, "StrictDataclassError", ValueError)  # not in older ones
    return (OSError, ValueError, RuntimeError, KeyError, TypeError, pickle.UnpicklingError, SafetensorError, invalid)


def _check(init_from: str, shape: Any, report: Mapping[str, Any]) -> None:
    """Refuse what transformers would fill up with random weights, and what our model does not compute."""
    reasons = [
        f"{name} is {getattr(shape, name)}, not {' or '.join(map(str, known))}"
        for name, known in ONLY.items()
        if getattr(shape, name, known[0]) not in known
    ]
    if shape.n_inner not in (None, 4 * shape.n_embd):
        reasons.append(f"n_inner is {shape.n_inner}, not 4 * n_embd")
    surplus = [name for name in report["unexpected_keys"] if not name.endswith(MASKS)]
    reasons += [f"the weight {name} is missing" for name in sorted(report["missing_keys"])[:1]]
    reasons += [f"the weight {name} is not one of GPT-2's" for name in sorted(surplus)[:1]]
    reasons += [f"the weight {name} has another shape than the config says" for name in sorted(_names(report))[:1]]
    if reasons:
        raise CheckpointError(
            "gpt2-unfit",
            f"--init_from={init_from} is not GPT-2 as it was published: {'; '.join(reasons)}; name another model, or "
            "--init_from=scratch",
        )


def _names(report: Mapping[str, Any]) -> list[str]:
    """The weights of another shape, which transformers lists alone or with the two shapes."""
    return [str(item if isinstance(item, str) else item[0]) for item in report["mismatched_keys"]]


def check_tokens(init_from: str, model: GPT, corpus: Corpus) -> None:
    """Refuse a corpus whose tokens are not those of the model. Raises CheckpointError (`vocabulary-mismatch`)."""
    outputs, has = model.config.vocab_size, corpus.vocab_size or GPT2_VOCAB_SIZE
    if has == outputs or has == GPT2_VOCAB_SIZE < outputs:
        return
    raise CheckpointError(
        "vocabulary-mismatch",
        f"--init_from={init_from} has a vocabulary of {outputs:,} tokens, {corpus.name} has {has:,}: take a corpus of "
        "GPT-2's tokens (--dataset=shakespeare, or a folder that nanoGPT's prepare.py made with them), or "
        "--init_from=scratch",
    )


def _converted(weights: Mapping[str, torch.Tensor], shape: Any, dropout: float) -> GPT:
    config = GPTConfig(
        n_layer=int(shape.n_layer),
        n_head=int(shape.n_head),
        n_embd=int(shape.n_embd),
        block_size=int(shape.n_positions),
        vocab_size=int(shape.vocab_size),
        bias=True,
        dropout=dropout,
    )
    model = GPT(config)
    ours = {
        name: tensor.t() if name.endswith(TRANSPOSED) else tensor
        for name, tensor in weights.items()
        if not name.endswith(MASKS)
    }
    model.load_state_dict(ours)
    return model
