"""Texts from trained models as JSON: `lossgap.samples/1`, whose schema ships as `schemas/samples.schema.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from lossgap.report.json_values import Json
from lossgap.version import __version__

if TYPE_CHECKING:  # loads torch
    from lossgap.sampling import Samples

SCHEMA = "lossgap.samples/1"
SETTINGS = ("num_samples", "max_new_tokens", "temperature", "top_k", "seed")


def document(settings: Mapping[str, object], samples: Sequence[tuple[Samples, str, str]]) -> Json:
    """The document: `settings` has the values of `SETTINGS`, `samples` each run's texts with its device and dtype."""
    return {
        "schema": SCHEMA,
        "lossgap": __version__,
        "settings": {name: settings[name] for name in SETTINGS},
        "samples": [asdict(item) | {"device": device, "dtype": dtype} for item, device, dtype in samples],
    }
