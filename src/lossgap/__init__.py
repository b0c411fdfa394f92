"""lossgap trains nanoGPT-class models exactly reproducibly, and says why two training losses differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossgap.version import __version__ as __version__

if TYPE_CHECKING:
    from lossgap.api import canary, compare, explain, record, replay, sample, train
    from lossgap.attribution.explanation import Explanation
    from lossgap.comparison.comparison import Comparison
    from lossgap.config import TrainConfig
    from lossgap.corpus import open_corpus
    from lossgap.errors import LossgapError, LossgapWarning
    from lossgap.runs.readers.source import load_run
    from lossgap.runs.run import Run

__all__ = [
    "Comparison",
    "Explanation",
    "LossgapError",
    "LossgapWarning",
    "Run",
    "TrainConfig",
    "canary",
    "compare",
    "explain",
    "load_run",
    "open_corpus",
    "record",
    "replay",
    "sample",
    "train",
]

_HOMES = {
    "Comparison": "lossgap.comparison.comparison",
    "Explanation": "lossgap.attribution.explanation",
    "LossgapError": "lossgap.errors",
    "LossgapWarning": "lossgap.errors",
    "Run": "lossgap.runs.run",
    "TrainConfig": "lossgap.config",
    "canary": "lossgap.api",
    "compare": "lossgap.api",
    "explain": "lossgap.api",
    "load_run": "lossgap.runs.readers.source",
    "open_corpus": "lossgap.corpus",
    "record": "lossgap.api",
    "replay": "lossgap.api",
    "sample": "lossgap.api",
    "train": "lossgap.api",
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use, so that reading logs never waits for torch."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'lossgap' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    value: object = getattr(import_module(module), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
