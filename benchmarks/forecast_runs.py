"""How well `lossgap forecast` does on finished runs: each is cut at 1/2 and 1/2.5, and its end is forecast.

    python benchmarks/forecast_runs.py RUN [RUN2 ...]        # run folders, logs; seconds each

The truth is the exact val loss of the final state where the record has it, else the mean of the last twentieth. A
forecast that is refused counts as refused, neither as held nor as missed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from lossgap.api import load_run
from lossgap.comparison.facts import Facts
from lossgap.errors import LossgapError
from lossgap.forecasting.forecast import LOSSES, SeriesForecast, forecast
from lossgap.forecasting.run_points import series_of
from lossgap.runs.run import Run
from lossgap.runs.values import as_float

RATIOS = (2.0, 2.5)
Row = tuple[float, str, float, bool]


def main(argv: Sequence[str]) -> int:
    """Print a row for each run, ratio and loss, then the summary."""
    rows: list[Row] = []
    refused = 0
    print("| run | times | loss | forecast | 90% interval | measured | error |\n|---|--:|---|--:|:-:|--:|--:|")
    for name in argv:
        try:
            run = load_run(name)
        except LossgapError as error:
            print(f"| {name} | | | {error} | | | |")
            continue
        for ratio in RATIOS:
            for loss in LOSSES:
                found = one(run, loss, ratio)
                if found is None:
                    continue
                part, truth = found
                if part.loss is None or part.low is None or part.high is None:
                    refused += 1
                    print(f"| {run.name} | {ratio:g} | {loss} | refused: {part.why} | | {truth:.4f} | |")
                    continue
                held = part.low <= truth <= part.high
                rows.append((ratio, loss, part.loss - truth, held))
                interval = f"{part.low:.3f} to {part.high:.3f}"
                print(f"| {run.name} | {ratio:g} | {loss} | {part.loss:.4f} | {interval} | {truth:.4f} "
                      f"| {part.loss - truth:+.4f} |")  # fmt: skip
    for ratio in RATIOS:
        for loss in LOSSES:
            some = [row for row in rows if row[:2] == (ratio, loss)]
            if some:
                off = np.array([row[2] for row in some])
                held = sum(row[3] for row in some)
                mean = f"mean absolute error {np.abs(off).mean():.4f}"
                print(f"{loss} at {ratio:g} times: {len(some)} forecasts, {mean}, "
                      f"bias {off.mean():+.4f}, {held} intervals held")  # fmt: skip
    print(f"refused: {refused}")
    return 0


def one(run: Run, loss: str, ratio: float) -> tuple[SeriesForecast, float] | None:
    """The forecast of the end from a part of the run, and what was measured; None without that loss."""
    curve = series_of(Facts.of(run), loss)
    if curve is None or curve.iters[-1] < 1:
        return None
    end = int(curve.iters[-1])
    found = forecast([run], iters=end, until=int(end / ratio))
    exact = as_float((run.final or {}).get(loss))
    truth = exact if exact is not None else float(curve.values[curve.iters >= 0.95 * end].mean())
    return (found.val if loss == "val_loss" else found.train), truth


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
