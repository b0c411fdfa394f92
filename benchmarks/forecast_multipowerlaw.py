"""How well `lossgap forecast` does on public curves: the 27 of the multi-power law, one model size left out at a time.

    git clone https://github.com/thu-yao-01-luo/MultiPowerLaw        # MIT; nothing of it is kept here
    python benchmarks/forecast_multipowerlaw.py MultiPowerLaw        # half a minute

Three sizes (25, 100 and 400 million parameters) were trained under nine schedules each. For every curve the first half
is seen with the rates of the whole, and the last loss is asked for; the other two sizes are the bank that the prior is
learned from, the sizes being known. `half` is of the points, as the published baselines have it, or of the iterations,
before which the rate of `wsdcon` has not yet fallen. Baselines: the last value that was seen, and a power law
L0 + A t^-alpha fitted to what was seen.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from lossgap.comparison.facts import Facts
from lossgap.forecasting.forecast import Forecast, forecast
from lossgap.forecasting.prior import Group, Prior, SeenRun, fit_group, learn, shipped
from lossgap.forecasting.run_points import series_of
from lossgap.forecasting.run_rates import run_rates
from lossgap.runs.readers.source import load_run
from lossgap.runs.run import Run

SIZES = (25, 100, 400)
"""Millions of parameters."""


def main(argv: Sequence[str]) -> int:
    """Print one row for each curve and half, then the summary."""
    (folder,) = [Path(item) for item in argv if not item.startswith("--")]
    curves = {size: sorted((folder / "loss_curve_repo" / f"csv_{size}").glob("*.csv")) for size in SIZES}
    runs = {path: load_run(path) for paths in curves.values() for path in paths}
    start = shipped()["any run"].scaled(3.0)
    groups = {size: group([runs[path] for path in curves[size]], size, start) for size in SIZES}
    for half in ("points", "iterations"):
        rows = []
        for size in SIZES:
            prior = learn([groups[other] for other in SIZES if other != size], size, in_family(start))
            rows += [row(size, path, runs[path], prior, half) for path in curves[size]]
        table(half, rows)
    return 0


def in_family(start: Prior) -> Prior:
    """The start with the drift of a family whose other members are known: 0.12 of the change."""
    return Prior(name="other sizes", mean=start.mean, sd=start.sd, drift=0.12)


def group(runs: Sequence[Run], size: float, start: Prior) -> Group:
    """The runs of one size with their parameters fitted once."""
    found = []
    for run in runs:
        facts = Facts.of(run)
        curve = series_of(facts, "train_loss")
        assert curve is not None
        at, losses = curve.iters.astype(float), curve.values
        found.append(SeenRun(iters=at, losses=losses, rates=run_rates(facts, at[-1], at[-1], None, False).seen))
    whole = Group(runs=tuple(found), size=size)
    return Group(runs=whole.runs, size=size, theta=fit_group(whole, start))


def row(size: int, path: Path, run: Run, prior: Prior, half: str) -> dict[str, float | str]:
    """One curve: its truth, what was forecast, and the baselines."""
    curve = series_of(Facts.of(run), "train_loss")
    assert curve is not None
    at = curve.iters.astype(float)
    until = at[(len(at) + 1) // 2 - 1] if half == "points" else at[at <= at[-1] / 2][-1]
    found: Forecast = forecast([run], iters=int(at[-1]), until=int(until), prior=prior)
    part = found.train
    if part.loss is None or part.low is None or part.high is None:
        raise SystemExit(f"{path}: {part.why}")
    truth = float(curve.values[-1])
    keep = at <= until
    return {
        "size": f"{size}M",
        "curve": path.stem,
        "truth": truth,
        "forecast": part.loss,
        "low": part.low,
        "high": part.high,
        "last": float(curve.values[keep][-1]),
        "power": power_law(at[keep], curve.values[keep], at[-1]),
    }


def power_law(at: np.ndarray, losses: np.ndarray, end: float) -> float:
    """The loss at `end` by L0 + A t^-alpha, fitted to what was seen."""

    def residuals(theta: np.ndarray) -> np.ndarray:
        return theta[0] + np.exp(theta[1]) * (at / 1000) ** -theta[2] - losses

    level, log_a, alpha = least_squares(residuals, [losses[-1] * 0.9, 0.0, 0.5]).x
    return float(level + np.exp(log_a) * (end / 1000) ** -alpha)


def table(half: str, rows: Sequence[dict[str, float | str]]) -> None:
    """The rows and their summary."""
    number = {name: np.array([float(item[name]) for item in rows]) for name in rows[0] if name not in ("size", "curve")}
    truth = number["truth"]
    print(f"\n| first half of the {half} | measured | forecast | 90% interval | error |\n|---|--:|--:|:-:|--:|")
    for item, off in zip(rows, number["forecast"] - truth, strict=True):
        interval = f"{item['low']:.3f} to {item['high']:.3f}"
        name = f"{item['size']} {item['curve']}"
        print(f"| {name} | {item['truth']:.4f} | {item['forecast']:.4f} | {interval} | {off:+.4f} |")
    inside = (number["low"] <= truth) & (truth <= number["high"])
    print()
    for name, label in (("forecast", "lossgap"), ("power", "power law"), ("last", "last value seen")):
        off = np.abs(number[name] - truth)
        print(f"{label}: mean absolute error {off.mean():.4f}, largest {off.max():.4f}")
    print(f"intervals that hold the measured value: {inside.sum()} of {len(rows)} ({inside.mean():.0%}); asked 90%")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
