"""`open_corpus`: from nanoGPT's `dataset` to a `Corpus`."""

from __future__ import annotations

import difflib
import os
import tempfile
from pathlib import Path

from lossgap.corpus.cache import cache_folder
from lossgap.corpus.dataset import Corpus, tokens_fingerprint
from lossgap.corpus.meta_pickle import Meta, read_meta
from lossgap.corpus.shakespeare import tiny_shakespeare
from lossgap.corpus.text_tokens import TextTokens, bpe_tokens, char_tokens
from lossgap.corpus.token_file import open_token_file
from lossgap.corpus.tokenizer import BpeTokenizer, Tokenizer
from lossgap.errors import CorpusError

BUILT_IN = ("shakespeare_char", "tinyshakespeare", "shakespeare")
"""Corpora that need no file: Tiny Shakespeare as characters (two names for it) and as GPT-2's tokens."""


def open_corpus(dataset: str, *, cache: Path | None = None) -> Corpus:
    """The corpus called `dataset`: the first of these that is there.

    1. A UTF-8 text file of this path; its tokens are its characters.
    2. A folder of this path with `train.bin` and `val.bin` (and perhaps `meta.pkl`) as nanoGPT prepares them.
    3. Such a folder at `data/<dataset>` below the current folder, nanoGPT's place for it.
    4. A corpus that is built in: `shakespeare_char` (also called `tinyshakespeare`), or `shakespeare`, the same text
       as GPT-2's tokens (extra `[bpe]`).

    `cache` is the cache folder (`cache_folder()` if None); one that cannot be written costs time, no more.

    Raises:
        CorpusError: `unknown-corpus` if none of these is there; else what is wrong with the one that was found.
    """
    cache = cache_folder() if cache is None else cache
    path = Path(dataset)
    if dataset and "\0" not in dataset:
        if path.is_file():
            return _of_text(dataset, char_tokens(path, cache), f"text file {path}")
        for folder in (path, Path("data") / dataset):
            if _is_prepared(folder):
                return _prepared(dataset, folder, cache)
    if dataset in BUILT_IN:
        return _built_in(dataset, cache)
    raise _unknown(dataset)


def _is_prepared(folder: Path) -> bool:
    there = [name for name in ("train.bin", "val.bin") if (folder / name).is_file()]
    if len(there) == 1:
        raise CorpusError(
            "bad-token-file",
            f"the folder {folder} has {there[0]}, but not both train.bin and val.bin: prepare it again, or remove it",
        )
    return len(there) == 2


def _prepared(dataset: str, folder: Path, cache: Path) -> Corpus:
    meta_path = folder / "meta.pkl"
    meta = read_meta(meta_path) if meta_path.exists() else Meta(None, None)
    # Without meta.pkl nanoGPT takes the tokens for GPT-2's; its own prepare.py scripts leave it out only for those.
    tokenizer: Tokenizer | None = BpeTokenizer() if meta.vocab_size is None else meta.tokenizer
    train = open_token_file(folder / "train.bin", meta.vocab_size)
    val = open_token_file(folder / "val.bin", meta.vocab_size)
    found = tokens_fingerprint(folder, cache)
    described = f"vocabulary of {meta.vocab_size}" if meta.vocab_size else "no meta.pkl, taken for GPT-2's tokens"
    return Corpus(
        name=dataset,
        source=f"folder {folder} ({described})",
        sha256=found.sha256,
        tokens_sha256=found.sha256,
        hash_method=found.method,
        train=train,
        val=val,
        vocab_size=meta.vocab_size,
        tokenizer=tokenizer,
    )


def _built_in(dataset: str, cache: Path) -> Corpus:
    tiny = tiny_shakespeare(cache)
    make_tokens = bpe_tokens if dataset == "shakespeare" else char_tokens
    kept = cache / "tinyshakespeare" / "input.txt"
    if kept.is_file():
        return _of_text(dataset, make_tokens(kept, cache), f"Tiny Shakespeare ({tiny.source})")
    with tempfile.TemporaryDirectory(prefix="lossgap-") as folder:
        text = Path(folder) / "input.txt"
        text.write_bytes(tiny.text)
        return _of_text(dataset, make_tokens(text, cache), f"Tiny Shakespeare ({tiny.source})")


def _of_text(dataset: str, made: TextTokens, source: str) -> Corpus:
    chars = made.tokenizer.chars
    return Corpus(
        name=dataset,
        source=f"{source}; {made.kept_in}",
        sha256=made.text_sha256,
        tokens_sha256=made.fingerprint.sha256,
        hash_method=made.fingerprint.method,
        train=made.train,
        val=made.val,
        vocab_size=None if chars is None else len(chars),
        tokenizer=made.tokenizer,
    )


def _unknown(dataset: str) -> CorpusError:
    if dataset == "openwebtext":
        return CorpusError(
            "unknown-corpus",
            "write `lossgap train shakespeare_char_cpu` for the laptop recipe, or --dataset=FILE for a text of yours: "
            "where neither is named, nanoGPT's defaults train on openwebtext, which is not here (nanoGPT's "
            "data/openwebtext/prepare.py makes it, with about 54 GB of downloads)",
        )
    near = difflib.get_close_matches(dataset, [*BUILT_IN, *_prepared_names()], n=3)
    nearest = f"; nearest names: {', '.join(near)}" if near else f"; built in: {', '.join(BUILT_IN)}"
    shown = dataset.encode("unicode_escape").decode()[:200]
    return CorpusError(
        "unknown-corpus",
        f"no corpus dataset={shown}: looked for a text file {shown}, for train.bin and val.bin in {shown}/ and "
        f"data/{shown}/ (below {os.getcwd()}), and among the built-in names{nearest}",
    )


def _prepared_names() -> list[str]:
    try:
        return sorted(file.parent.name for file in Path("data").glob("*/train.bin"))
    except OSError:
        return []
