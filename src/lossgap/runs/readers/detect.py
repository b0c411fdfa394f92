"""Which reader reads a source: `FORMATS` in order, the highest score, or the one that `--format` names."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from lossgap.runs.readers.base import NO, Reader, Source, SourceError
from lossgap.settings import did_you_mean
from lossgap.strangers import one_line, shown

FORMATS: dict[str, str] = {
    # name: module in lossgap.runs.readers.formats, whose READER it is. At equal scores the earlier one reads.
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
    "lightning": "lightning",
    "keras": "keras",
    "tensorboard": "tensorboard",
    "wandb": "wandb_folder",
    "mlflow": "mlflow_store",
    "jsonl": "jsonl",
    "csv": "csv_table",
}


def reader(name: str, flag: str = "--format") -> Reader:
    """The reader of that name, given with `flag`. Raises SourceError `unknown-format` with the nearest names."""
    if name not in FORMATS:
        advice = did_you_mean(name, FORMATS) or f"the formats are {', '.join(FORMATS)}"
        raise SourceError("unknown-format", f"{flag}={one_line(name)}: there is no such format; {advice}")
    return cast("Reader", import_module(f"lossgap.runs.readers.formats.{FORMATS[name]}").READER)


def detect(source: Source) -> Reader:
    """The reader that is surest of the source. Raises SourceError `source-unreadable`, `format-not-recognised`."""
    head = source.head()
    best, chosen = NO, None
    for name in FORMATS:
        candidate = reader(name)
        score = candidate.score(head)
        if score > best:
            best, chosen = score, candidate
    if chosen is None:
        raise SourceError(
            "format-not-recognised",
            f"{shown(source.name)}: no known log format; name one with --format ({', '.join(FORMATS)}), "
            "or write what you know into a figures file (docs/formats.md)",
        )
    return chosen
