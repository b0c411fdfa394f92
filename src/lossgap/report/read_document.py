"""A `Reading` as JSON: `lossgap.read/1`, whose schema ships as `schemas/read.schema.json`."""

from __future__ import annotations

from dataclasses import asdict

from lossgap.report.json_values import Json
from lossgap.runs.metric_summary import MetricSummary, metric_summaries
from lossgap.runs.reading import Reading
from lossgap.runs.run import Run
from lossgap.runs.run_json import plain

SCHEMA = "lossgap.read/1"


def document(reading: Reading) -> Json:
    """The document: every run with its metrics, settings and notes."""
    return {
        "schema": SCHEMA,
        "source": _encodable(reading.source),
        "format": reading.runs[0].format,
        "runs": [_run(run) for run in reading.runs],
    }


def _run(run: Run) -> object:
    found: Json = {
        "number": run.number,
        "name": run.name,
        "format": run.format,
        "status": run.status,
        "device": run.device,
        "metrics": {item.name: _metric(item) for item in metric_summaries(run)},
        "config": run.config,
        "config_sources": run.config_sources,
        "inferred": [asdict(item) for item in run.inferred],
        "tokens_per_iter": run.tokens_per_iter,
        "parameters": run.parameters,
        "corpus": run.corpus,
        "seams": run.seams,
        "not_understood": asdict(run.not_understood),
        "damaged": run.damaged_lines,
        "thinned": asdict(run.thinned) if run.thinned else None,
        "notes": [asdict(note) for note in run.notes],
    }
    return _clean(plain(found))


def _metric(found: MetricSummary) -> Json:
    values = asdict(found)
    del values["name"]
    return values


def _clean(value: object) -> object:
    """Texts that can be encoded: names come from strangers."""
    if isinstance(value, str):
        return _encodable(value)
    if isinstance(value, dict):
        return {_encodable(key): _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list) else value


def _encodable(value: str) -> str:
    return value.encode("utf-8", "replace").decode("utf-8")
