"""A corpus whose train split is the first tokens of another's, for experiments at a smaller scale.

It is written as nanoGPT prepares a folder, so that the trainer reads it like any other, and once for each length.
"""

from __future__ import annotations

import os
import pickle
import tempfile
from pathlib import Path

from lossgap.corpus import Corpus


def prefix_folder(corpus: Corpus, train_tokens: int, root: Path) -> Path:
    """The folder of `corpus` with the first `train_tokens` tokens of train, and all of val. Raises OSError.

    It appears whole or not at all: another process may make the same one.
    """
    folder = root / "corpora" / f"{corpus.tokens_sha256[:32]}-{train_tokens}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=folder.parent) as made:
        inner = Path(made) / "corpus"
        inner.mkdir()
        corpus.train[:train_tokens].tofile(inner / "train.bin")
        corpus.val.tofile(inner / "val.bin")
        if corpus.vocab_size is not None:
            (inner / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": corpus.vocab_size}))
        try:
            os.rename(inner, folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, with the same bytes
                raise
    return folder
