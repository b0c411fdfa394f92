"""lossgap trains nanoGPT-class models exactly reproducibly, and says why two training losses differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossgap.version import __version__ as __version__

if TYPE_CHECKING:
    from lossgap.api import (
        baseline,
        bench,
        canary,
        compare,
        explain,
        forecast,
        gate,
        list_runs,
        on_track,
        prepare_explanation,
        prepare_samples,
        prepare_search,
        record,
        replay,
        sample,
        search_recipe,
        train,
        tune,
    )
    from lossgap.attribution.explain import Prepared
    from lossgap.attribution.explanation import Explanation
    from lossgap.attribution.price import Price
    from lossgap.comparison.comparison import Comparison
    from lossgap.config import TrainConfig
    from lossgap.corpus import open_corpus
    from lossgap.errors import LossgapError, LossgapWarning
    from lossgap.forecasting.forecast import Forecast
    from lossgap.gating.accepted import Baseline
    from lossgap.gating.judge import GateResult
    from lossgap.kernels.check import Canary
    from lossgap.pace.bench import Bench
    from lossgap.parity.record import Recorded
    from lossgap.parity.replay_result import Replay
    from lossgap.references.placement import Placement
    from lossgap.runs.listing import Listing
    from lossgap.runs.readers.source import load_run, load_runs
    from lossgap.runs.run import Run
    from lossgap.sampling import Samples, Sampling
    from lossgap.tuning.search import Found, Search
    from lossgap.tuning.tune import Tuned

__all__ = [
    "Baseline",
    "Bench",
    "Canary",
    "Comparison",
    "Explanation",
    "Forecast",
    "Found",
    "GateResult",
    "Listing",
    "LossgapError",
    "LossgapWarning",
    "Placement",
    "Prepared",
    "Price",
    "Recorded",
    "Replay",
    "Run",
    "Samples",
    "Sampling",
    "Search",
    "TrainConfig",
    "Tuned",
    "baseline",
    "bench",
    "canary",
    "compare",
    "explain",
    "forecast",
    "gate",
    "list_runs",
    "load_run",
    "load_runs",
    "on_track",
    "open_corpus",
    "prepare_explanation",
    "prepare_samples",
    "prepare_search",
    "record",
    "replay",
    "sample",
    "search_recipe",
    "train",
    "tune",
]

_HOMES = {
    "Baseline": "lossgap.gating.accepted",
    "Bench": "lossgap.pace.bench",
    "Canary": "lossgap.kernels.check",
    "Comparison": "lossgap.comparison.comparison",
    "Explanation": "lossgap.attribution.explanation",
    "Forecast": "lossgap.forecasting.forecast",
    "Found": "lossgap.tuning.search",
    "Search": "lossgap.tuning.search",
    "GateResult": "lossgap.gating.judge",
    "Listing": "lossgap.runs.listing",
    "LossgapError": "lossgap.errors",
    "LossgapWarning": "lossgap.errors",
    "Placement": "lossgap.references.placement",
    "Prepared": "lossgap.attribution.explain",
    "Price": "lossgap.attribution.price",
    "Recorded": "lossgap.parity.record",
    "Replay": "lossgap.parity.replay_result",
    "Run": "lossgap.runs.run",
    "Samples": "lossgap.sampling",
    "Sampling": "lossgap.sampling",
    "TrainConfig": "lossgap.config",
    "Tuned": "lossgap.tuning.tune",
    "baseline": "lossgap.api",
    "bench": "lossgap.api",
    "canary": "lossgap.api",
    "compare": "lossgap.api",
    "explain": "lossgap.api",
    "forecast": "lossgap.api",
    "gate": "lossgap.api",
    "list_runs": "lossgap.api",
    "load_run": "lossgap.runs.readers.source",
    "load_runs": "lossgap.runs.readers.source",
    "on_track": "lossgap.api",
    "open_corpus": "lossgap.corpus",
    "prepare_explanation": "lossgap.api",
    "prepare_samples": "lossgap.api",
    "record": "lossgap.api",
    "replay": "lossgap.api",
    "sample": "lossgap.api",
    "prepare_search": "lossgap.api",
    "search_recipe": "lossgap.api",
    "train": "lossgap.api",
    "tune": "lossgap.api",
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
