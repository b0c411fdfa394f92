"""Groups of runs: Welch's interval, its coverage, equivalence, power, and the words of the command line."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from comparison.made import LAPTOP, curve, run
from lossgap.comparison.compare import compare
from lossgap.comparison.facts import Facts
from lossgap.comparison.groups import Sample, group, spreads_of
from lossgap.comparison.noise import Noise
from lossgap.comparison.power import runs_to_decide
from lossgap.comparison.sides import expand, sides, with_colons
from lossgap.comparison.spread import KnownSpread, known_spread
from lossgap.errors import ConfigError
from lossgap.runs.run import Run


def _runs(ends: Sequence[float], **config: object) -> list[Run]:
    return [run(curve(end), config=LAPTOP | config | {"seed": seed}) for seed, end in enumerate(ends, 1)]


CONTROL = (1.90, 1.91, 1.92, 1.905)
TEST = (1.80, 1.83, 1.82)


def test_interval_and_p_value_are_welchs() -> None:
    found = compare(_runs(CONTROL), _runs(TEST))
    assert found.groups is not None
    row = found.groups.row("last")
    oracle = stats.ttest_ind(TEST, CONTROL, equal_var=False)
    assert row.gap == found.gap == pytest.approx(np.mean(TEST) - np.mean(CONTROL))
    assert row.p == pytest.approx(oracle.pvalue)
    interval = oracle.confidence_interval(0.95)
    assert row.interval == pytest.approx((interval.low, interval.high))
    assert found.verdict.interval == row.interval
    assert found.verdict.word == "different"


def test_every_row_has_an_interval() -> None:
    found = compare(_runs(CONTROL), _runs(TEST))
    assert found.groups is not None
    known = {row.by for row in found.groups.rows if row.interval is not None}
    assert {"last", "best", "iterations", "tokens", "flops", "phase"} <= known
    assert all(row.why for row in found.groups.rows if row.interval is None)


def test_enough_runs_reach_equivalent() -> None:
    chance = np.random.default_rng(3)
    control, test = (chance.normal(1.9, 0.006, 12).round(4).tolist() for _ in range(2))
    assert compare(_runs(control), _runs(test)).verdict.word == "equivalent"
    few = compare(_runs(control[:2]), _runs(test[:2]))
    assert few.verdict.word == "inconclusive"
    assert few.verdict.seeds
    assert "more runs of each side" in few.verdict.settle


def test_one_run_takes_the_other_sides_spread() -> None:
    found = compare(_runs(CONTROL), _runs([1.8]))
    assert found.groups is not None
    sd = np.std(CONTROL, ddof=1)
    row = found.groups.row("last")
    assert row.noise.standard_error == pytest.approx(sd * math.sqrt(1 / 4 + 1))
    assert row.noise.df == pytest.approx(3)


def test_a_known_spread_stands_in_place_of_the_runs_own() -> None:
    found = compare(_runs(CONTROL), _runs(TEST), spread=KnownSpread(sd=0.5, source="a test"))
    assert found.verdict.word == "inconclusive"
    alone = compare(_runs([1.9])[0], _runs([1.8])[0], spread=0.01)
    seeds = [part for part in alone.noise.parts if part.of_seed]
    assert [part.standard_error for part in seeds] == [0.01, 0.01]


def test_runs_of_one_side_that_differ_in_more_than_the_seed_are_named() -> None:
    mixed = [*_runs([1.9, 1.91]), *_runs([1.92], learning_rate=5e-4)]
    found, _ = group([Facts.of(item) for item in mixed], [Facts.of(item) for item in _runs(TEST)])
    assert found.mixed == ("control.learning_rate",)


def test_the_order_of_the_runs_changes_nothing() -> None:
    first, second = (compare(_runs(CONTROL)[::step], _runs(TEST)[::step]) for step in (1, -1))
    assert first.gap == pytest.approx(second.gap, abs=1e-12)
    assert first.verdict.interval == pytest.approx(second.verdict.interval)
    assert first.control.run.config["seed"] == second.control.run.config["seed"]


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 8), (10, 10)])
def test_95_percent_intervals_cover_and_nulls_are_seldom_different(n: int, m: int) -> None:
    """With unequal spreads, too: the second side's is three times the first's."""
    chance = np.random.default_rng(5)
    covered, trials = 0, 4000
    for _ in range(trials):
        control, test = chance.normal(0, 1, n), chance.normal(0.5, 3, m)
        parts = spreads_of(Sample(tuple(control)), Sample(tuple(test)))
        low, high = Noise(parts=parts).interval(float(test.mean() - control.mean())) or (0, 0)
        covered += low <= 0.5 <= high
    # Welch's approximation is a little conservative or liberal with two values a side.
    assert 0.93 <= covered / trials <= 0.985 if n == 2 else 0.94 <= covered / trials <= 0.96


@pytest.mark.parametrize(("gap", "sd", "margin"), [(0.004, 0.001, 0.0), (0.01, 0.01, 0.0), (0.0, 0.006, 0.01)])
def test_the_runs_it_asks_for_decide_in_four_of_five_cases(gap: float, sd: float, margin: float) -> None:
    needed = runs_to_decide(gap, sd, margin)
    assert needed is not None

    def share(n: int) -> float:
        chance = np.random.default_rng(9)
        control, test = chance.normal(0, sd, (4000, n)), chance.normal(gap, sd, (4000, n))
        half = stats.t.ppf(0.975, 2 * n - 2) * np.sqrt((control.var(1, ddof=1) + test.var(1, ddof=1)) / n)
        seen = test.mean(1) - control.mean(1)
        return float(((abs(seen) > half) if margin == 0 else (abs(seen) + half <= margin)).mean())

    assert share(needed) >= 0.77
    if needed > 2:
        assert share(needed - 1) <= 0.83


def test_no_number_of_runs_decides_a_gap_at_the_margin() -> None:
    assert runs_to_decide(0.0, 1.0, 0.0) is None
    assert runs_to_decide(1e-9, 1.0, 1e-9) is None
    assert runs_to_decide(0.1, 0.0, 0.01) == 2


# ---------------------------------------------------------------------------------------------
# The command line's words


def test_a_colon_or_against_parts_the_sides() -> None:
    found = sides(["a1", "a2", ":", "b1"])
    assert found is not None
    assert (found.control, found.test) == (("a1", "a2"), ("b1",))
    assert sides(["a", "b"]) is None
    assert with_colons(["a", "--against", "b"]) == ["a", ":", "b"]


@pytest.mark.parametrize("words", [[":", "b"], ["a", ":"], ["a", ":", "b", ":", "c"]])
def test_a_side_without_a_run_is_refused(words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        sides(words)
    assert error.value.slug == "two-sides"


def test_a_folder_of_logs_stands_for_its_logs(tmp_path: Path) -> None:
    for name in ("b.log", "a.txt", "notes.md", "plot.png"):
        (tmp_path / name).write_text("step 0: train loss 4.1, val loss 4.2\n")
    assert expand(str(tmp_path)) == [str(tmp_path / "a.txt"), str(tmp_path / "b.log")]
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "run.json").write_text("{}")
    assert expand(str(tmp_path / "one")) == [str(tmp_path / "one")]
    (tmp_path / "none").mkdir()
    with pytest.raises(ConfigError) as error:
        expand(str(tmp_path / "none"))
    assert error.value.slug == "folder-without-runs"


def test_known_spreads(tmp_path: Path) -> None:
    assert known_spread("0.006").sd == 0.006
    path = tmp_path / "spread.json"
    path.write_text(json.dumps({"finals": [1.0, 1.1, 1.2]}))
    found = known_spread(str(path))
    assert found.sd == pytest.approx(0.1)
    assert found.df == 2
    path.write_text(json.dumps({"entry": {"sd": 0.02, "df": 4, "source": "x"}}))
    assert known_spread(str(path)) == KnownSpread(sd=0.02, df=4.0, source="x")


@pytest.mark.parametrize("bad", ["-1", "nan", "no-such-file.json"])
def test_a_bad_spread_is_refused(bad: str) -> None:
    with pytest.raises(ConfigError) as error:
        known_spread(bad)
    assert error.value.slug == "bad-spread"
