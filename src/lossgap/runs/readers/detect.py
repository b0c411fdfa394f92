"""Which reader reads a source: `FORMATS` in order, the highest score, or the one that `--format` names."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from lossgap.runs.readers.base import NO, Reader, Source, SourceError
from lossgap.runs.readers.formats import any_text
from lossgap.settings import did_you_mean
from lossgap.strangers import one_line, shown

FORMATS: dict[str, str] = {
    # name: module in lossgap.runs.readers.formats, whose READER it is (or, after a colon, which of its READERS).
    # At equal scores the earlier one reads.
    "lossgap": "lossgap_folder",
    "figures": "figures",
    "nanogpt": "nanogpt",
    "nanochat": "nanochat",
    "build-nanogpt": "build_nanogpt",
    "llmc": "llmc",
    "modded-nanogpt": "modded_nanogpt",
    "litgpt": "litgpt",
    "torchtitan": "torchtitan",
    "huggingface": "huggingface",
    "llms-from-scratch": "llms_from_scratch",
    "word-language-model": "word_language_model",
    "megatron": "named_lines:megatron",
    "nemo": "named_lines:nemo",
    "fairseq": "named_lines:fairseq",
    "marian": "named_lines:marian",
    "mlx": "named_lines:mlx",
    "keras-fit": "named_lines:keras-fit",
    "opennmt": "named_lines:opennmt",
    "maxtext": "named_lines:maxtext",
    "levanter": "named_lines:levanter",
    "torchtune": "named_lines:torchtune",
    "deepspeed": "named_lines:deepspeed",
    "minimind": "named_lines:minimind",
    "ignite": "named_lines:ignite",
    "lightning": "lightning",
    "keras": "keras",
    "tensorboard": "tensorboard",
    "wandb": "wandb_folder",
    "mlflow": "mlflow_store",
    "jsonl": "jsonl",
    "csv": "csv_table",
    "inferred": "any_text",
}


def reader(name: str, flag: str = "--format") -> Reader:
    """The reader of that name, given with `flag`. Raises SourceError `unknown-format` with the nearest names."""
    if name not in FORMATS:
        advice = did_you_mean(name, FORMATS) or f"the formats are {', '.join(FORMATS)}"
        raise SourceError("unknown-format", f"{flag}={one_line(name)}: there is no such format; {advice}")
    module, _, key = FORMATS[name].partition(":")
    found = import_module(f"lossgap.runs.readers.formats.{module}")
    return cast("Reader", found.READERS[key] if key else found.READER)


def detect(source: Source) -> Reader:
    """The reader that is surest of the source. Raises SourceError `source-unreadable`, `format-not-recognised`."""
    head = source.head()
    best, chosen = NO, None
    for name in () if any_text.is_pointer(head) else FORMATS:
        candidate = reader(name)
        score = candidate.score(head)
        if score > best:
            best, chosen = score, candidate
    if chosen is None:
        raise SourceError(
            "format-not-recognised",
            f"{shown(source.name)}: {one_line(any_text.refusal(head), 300)}; name a format with --format "
            "(docs/formats.md lists them), or write what you know into a figures file",
        )
    return chosen
