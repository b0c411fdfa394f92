"""The sizes of the corpora that nanoGPT prepares: its own files say them where a log of it does not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownCorpus:
    """A corpus that nanoGPT prepares: tokens per split, vocabulary, and UTF-8 bytes per token of val."""

    train_tokens: int
    val_tokens: int
    vocab_size: int
    val_bytes_per_token: float | None
    text: str
    """The name of the text: two corpora of one text differ in their tokenizer only."""


CORPORA: dict[str, KnownCorpus] = {
    # 1,115,394 bytes of ASCII, split at 90%: val has 111,540 bytes (data/shakespeare_char/prepare.py).
    "shakespeare_char": KnownCorpus(1_003_854, 111_540, 65, 1.0, "Tiny Shakespeare"),
    # The same text in GPT-2's BPE (data/shakespeare/prepare.py).
    "shakespeare": KnownCorpus(301_966, 36_059, 50_257, 111_540 / 36_059, "Tiny Shakespeare"),
    # data/openwebtext/readme.md; its bytes are not stated. The vocabulary is padded to 50,304 in the model.
    "openwebtext": KnownCorpus(9_035_582_198, 4_434_897, 50_304, None, "OpenWebText"),
}
