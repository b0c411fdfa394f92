"""A `Recorded` as JSON: `lossgap.record/1`, whose schema ships as `schemas/record.schema.json`."""

from __future__ import annotations

from lossgap.parity.record import Recorded
from lossgap.report.json_values import Json

SCHEMA = "lossgap.record/1"


def document(recorded: Recorded) -> Json:
    """The document: where the bundle is, what it holds, and on which machine it was made."""
    bundle = recorded.bundle
    return {
        "schema": SCHEMA,
        "path": str(recorded.path),
        "bytes": recorded.bytes,
        "first": bundle.first,
        "iterations": bundle.iterations,
        "checkpoints": [point.iteration for point in bundle.points],
        "corpus": bundle.corpus,
        "corpus_tokens": bundle.tokens,
        "numerics": bundle.numerics,
        "machine": bundle.environment,
    }
