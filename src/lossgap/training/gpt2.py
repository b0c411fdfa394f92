"""GPT-2's published weights, through the extra `[hf]` (transformers)."""

from __future__ import annotations

import os

import torch

from lossgap.errors import CheckpointError, ConfigError
from lossgap.gpt import GPT, GPTConfig

NAMES = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
"""GPT-2's Conv1D holds these as (in, out), a linear layer as (out, in)."""


def pretrained(init_from: str, dropout: float) -> GPT:
    """The model that `init_from` names: one of `NAMES`, from Hugging Face's hub or cache, or `gpt2:FOLDER`.

    With biases, and GPT-2's own vocabulary and context; only the dropout is ours. Raises ConfigError
    (`missing-extra`, `unknown-gpt2`), CheckpointError (`gpt2-unavailable`).
    """
    name, _, folder = init_from.partition(":")
    if name not in NAMES or (folder and not os.path.isdir(folder)):
        raise ConfigError(
            "unknown-gpt2",
            f"--init_from={init_from}: known are {', '.join(NAMES)}, and gpt2:FOLDER for a model that transformers "
            "saved in FOLDER",
        )
    try:
        from transformers import GPT2LMHeadModel
    except ImportError as error:
        raise ConfigError(
            "missing-extra",
            f"--init_from={init_from} needs transformers, which is not installed; pip install 'lossgap[hf]'",
        ) from error
    try:
        theirs = GPT2LMHeadModel.from_pretrained(folder or name)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            "gpt2-unavailable",
            f"--init_from={init_from}: transformers cannot load it ({reason[:200]}); download it where there is a "
            "network, save it with save_pretrained, and name the folder: --init_from=gpt2:FOLDER",
        ) from error
    return _converted(theirs.state_dict(), theirs.config, dropout)


def _converted(weights: dict[str, torch.Tensor], shape: object, dropout: float) -> GPT:
    config = GPTConfig(
        n_layer=int(getattr(shape, "n_layer")),  # noqa: B009  # transformers types its config as anything
        n_head=int(getattr(shape, "n_head")),  # noqa: B009
        n_embd=int(getattr(shape, "n_embd")),  # noqa: B009
        block_size=int(getattr(shape, "n_positions")),  # noqa: B009
        vocab_size=int(getattr(shape, "vocab_size")),  # noqa: B009
        bias=True,
        dropout=dropout,
    )
    model = GPT(config)
    ours = {
        name: tensor.t() if name.endswith(TRANSPOSED) else tensor
        for name, tensor in weights.items()
        if not name.endswith((".attn.bias", ".attn.masked_bias"))
    }
    model.load_state_dict(ours)
    return model
