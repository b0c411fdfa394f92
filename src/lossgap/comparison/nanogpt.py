"""What nanoGPT's own files say where a log of it does not: the sizes of its corpora and its learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class KnownCorpus:
    """A corpus that nanoGPT prepares: tokens per split, vocabulary, and UTF-8 bytes per token of val."""

    train_tokens: int
    val_tokens: int
    vocab_size: int
    val_bytes_per_token: float | None
    text: str
    """What text it is: two corpora of one text differ in their tokenizer only."""


CORPORA: dict[str, KnownCorpus] = {
    # 1,115,394 bytes of ASCII, split at 90%: val has 111,540 bytes (data/shakespeare_char/prepare.py).
    "shakespeare_char": KnownCorpus(1_003_854, 111_540, 65, 1.0, "Tiny Shakespeare"),
    # The same text in GPT-2's BPE (data/shakespeare/prepare.py).
    "shakespeare": KnownCorpus(301_966, 36_059, 50_257, 111_540 / 36_059, "Tiny Shakespeare"),
    # data/openwebtext/readme.md; its bytes are not stated. The vocabulary is padded to 50,304 in the model.
    "openwebtext": KnownCorpus(9_035_582_198, 4_434_897, 50_304, None, "OpenWebText"),
}


def learning_rate(
    iteration: float,
    *,
    learning_rate: float,
    min_lr: float,
    warmup_iters: float,
    lr_decay_iters: float,
    decay_lr: bool,
) -> float:
    """nanoGPT's `get_lr` as of December 2024, for fractions of an iteration too; NaN-free for any horizon."""
    if not decay_lr:
        return learning_rate
    if iteration < warmup_iters:
        return learning_rate * (iteration + 1) / (warmup_iters + 1)
    if iteration > lr_decay_iters or lr_decay_iters <= warmup_iters:
        return min_lr
    ratio = (iteration - warmup_iters) / (lr_decay_iters - warmup_iters)
    return min_lr + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (learning_rate - min_lr)
