"""The JSON schemas of every document that lossgap prints or stores, and the one function that loads them."""

from __future__ import annotations

import json
from importlib import resources


def load(name: str) -> dict[str, object]:
    """The schema of `lossgap.NAME/1`, a JSON Schema document; `name` is for example `comparison` or `run`."""
    text = resources.files("lossgap.schemas").joinpath(f"{name}.schema.json").read_text(encoding="utf-8")
    schema: dict[str, object] = json.loads(text)
    return schema
