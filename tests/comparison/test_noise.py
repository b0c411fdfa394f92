from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from comparison.made import GPU, LAPTOP, PRINTED, SPREADS, curve, run, table
from lossgap.comparison.alignment import Alignment, align
from lossgap.comparison.facts import Facts
from lossgap.comparison.noise import Noise, noise, same_windows, t_quantile
from lossgap.comparison.spread import distance, fingerprint, read_table, seed_spread, window_spread
from lossgap.comparison.spread import table as shipped_table
from lossgap.runs.run import EVAL_COLUMNS, Run, Series


def _noise(control: Run, test: Run) -> Noise:
    first, second = Facts.of(control), Facts.of(test)
    return noise(first, second, align(first, second), spreads=SPREADS)


def _measured(val: float, error: float | None, *, seed: int = 1, kind: str = "eval", **config: object) -> Run:
    rows = [{"kind": kind, "iter": 2000, "mode": "sampled", "val_loss": val, "val_se": error}]
    settings = LAPTOP | {"seed": seed, "rng": "counter"} | config
    return run({}, evals=table(EVAL_COLUMNS, rows), format="lossgap", config=settings, series={})


def test_the_parts_add_up_in_squares() -> None:
    found = _noise(_measured(1.9, 0.015), _measured(1.8, 0.012, seed=2))
    assert found.standard_error == pytest.approx(math.sqrt(0.015**2 + 0.012**2 + 2 * 0.008**2))
    assert [part.evidence for part in found.parts] == ["measured"] * 4


def test_rounding_is_one_unit_squared_over_six() -> None:
    coarse = Series(kind="eval-mean", split="val", mode="eval", unit="nats/token", digits=2)
    made = [run({2000: 1.89}, series=PRINTED | {"evals.val_loss": coarse}), run({2000: 1.76}, series=PRINTED)]
    found = _noise(made[0], made[0])
    sizes = [part.standard_error for part in found.parts if part.name.startswith("rounding")]
    assert sum((size or 0) ** 2 for size in sizes) == pytest.approx(0.01**2 / 6)
    mixed = [part.standard_error for part in _noise(made[0], made[1]).parts if part.name.startswith("rounding")]
    assert mixed == pytest.approx([0.01 / math.sqrt(12), 0.0001 / math.sqrt(12)])


def test_windows_give_the_error_of_a_log_that_does_not_measure_it() -> None:
    found = _noise(run(curve(1.9)), run(curve(1.8), config=GPU))
    first, second = found.parts[:2]
    assert first.standard_error == pytest.approx(0.24 / math.sqrt(20 * 12))
    assert first.evidence == "inferred"
    # Longer windows vary less than the shorter ones that were measured.
    assert second.standard_error == pytest.approx(0.24 / math.sqrt(200 * 64))
    assert "at most" in second.how


def test_neighbours_give_the_error_where_nothing_else_does() -> None:
    chance = np.random.default_rng(1)
    vals = {at: 2.0 - at / 10_000 + float(chance.normal(0, 0.02)) for at in range(0, 5001, 100)}
    bare = {"max_iters": 5000}
    part = _noise(run(vals, config=bare), run(vals | {5000: 1.4}, config=bare)).parts[0]
    assert part.standard_error == pytest.approx(0.02, rel=0.6)
    assert part.df == 7
    assert "straight line" in part.how


def test_the_line_takes_a_steady_fall_out_of_the_scatter() -> None:
    vals = {at: 2.0 - at / 1000 for at in range(0, 1001, 50)}
    part = _noise(run(vals, config={}), run(vals | {1000: 0.9}, config={})).parts[0]
    assert part.standard_error == pytest.approx(0.0, abs=1e-9)


def test_what_nobody_measured_makes_the_error_unknown_and_bounded() -> None:
    found = _noise(run({2000: 1.9}, config={}), run({2000: 1.8}, config={}))
    assert found.standard_error is None
    assert "not measured" in found.why
    rounding = 2 * (0.0001**2 / 12)
    assert found.bound == pytest.approx(math.sqrt(2 * 0.04**2 + 2 * 0.05**2 + rounding))
    assert found.interval(0.1) is None
    low, high = found.widest_interval(0.1) or (0, 0)
    assert (high - low) / 2 == pytest.approx(1.959964 * (found.bound or 0), rel=1e-6)


def test_exact_evaluations_have_no_sampling_error() -> None:
    rows = [{"kind": "final", "iter": 2001, "mode": "exact", "val_loss": 1.9, "val_se": 0.0}]
    rows = [{"kind": "eval", "iter": 2000, "mode": "sampled", "val_loss": 1.9, "val_se": 0.01}, *rows]
    made = run({}, evals=table(EVAL_COLUMNS, rows), format="lossgap", config=LAPTOP)
    other = run(
        {}, evals=table(EVAL_COLUMNS, [*rows[:1], rows[1] | {"val_loss": 1.91}]), format="lossgap", config=LAPTOP
    )
    found = _noise(made, other)
    assert [part.standard_error for part in found.parts] == [0.0, 0.0, 0.008, 0.008]
    assert found.standard_error == pytest.approx(0.008 * math.sqrt(2))


def test_curves_that_coincide_have_no_noise_between_them() -> None:
    made = run(curve(1.9), config={})
    found = _noise(made, made)
    assert found.standard_error == 0.0
    assert "coincide" in found.parts[0].how


def test_same_windows() -> None:
    own = [Facts.of(_measured(1.9, 0.01, seed=seed)) for seed in (1, 1, 2)]
    assert same_windows(own[0], own[1])
    assert not same_windows(own[0], own[2])
    assert not same_windows(own[0], Facts.of(_measured(1.9, 0.01, eval_iters=40)))
    config = LAPTOP | {"init_from": "scratch"}
    printed = [Facts.of(run(curve(1.9), config=config | {"dropout": p})) for p in (0.0, 0.0, 0.2)]
    assert same_windows(printed[0], printed[1])
    assert not same_windows(printed[0], printed[2])


def test_no_gap_has_no_noise() -> None:
    found = _noise(run(curve(1.9)), run({}, losses={0: 4.0}))
    assert (found.parts, found.standard_error, found.bound) == ((), None, None)
    assert found.why


# ---------------------------------------------------------------------------------------------
# Degrees of freedom and coverage


def test_students_t() -> None:
    assert t_quantile(math.inf) == pytest.approx(stats.norm.ppf(0.975))
    assert t_quantile(4) == pytest.approx(stats.t.ppf(0.975, 4))


def test_welch_is_between_the_smallest_and_the_sum() -> None:
    found = _noise(_measured(1.9, 0.02, eval_iters=20), _measured(1.8, 0.02, seed=2, eval_iters=20))
    assert 9 < found.df < 19 + 19 + 9
    assert Noise(parts=found.parts[:1]).df == pytest.approx(19)
    assert Noise(parts=found.parts[:2]).df == pytest.approx(38)
    # Both seed terms stand on one table row: two of them know no more than one.
    assert Noise(parts=found.parts[2:4]).df == pytest.approx(9)


@pytest.mark.parametrize(("sd_seed", "sd_eval", "n_seeds"), [(0.01, 0.015, 5), (0.02, 0.004, 5), (0.004, 0.02, 15)])
def test_the_95_percent_interval_covers_the_true_gap(sd_seed: float, sd_eval: float, n_seeds: int) -> None:
    """Every source of chance is drawn: the spread is itself estimated from seeds, the errors from batches."""
    chance = np.random.default_rng(7)
    true_gap, batches, trials, covered = -0.03, 20, 1000, 0
    for _ in range(trials):
        measured = chance.normal(0, sd_seed, n_seeds).std(ddof=1)
        spreads = _spreads(float(measured), n_seeds)
        ends = [1.9 + chance.normal(0, sd_seed), 1.9 + true_gap + chance.normal(0, sd_seed)]
        draws = [end + chance.normal(0, sd_eval * math.sqrt(batches), batches) for end in ends]
        made = [
            Facts.of(_measured(float(item.mean()), float(item.std(ddof=1)) / math.sqrt(batches), seed=seed))
            for seed, item in enumerate(draws)
        ]
        found = _aligned_noise(made[0], made[1], spreads)
        low, high = found[1].interval(found[0].gap("last") or 0.0) or (0, 0)
        covered += low <= true_gap <= high
    assert 0.93 <= covered / trials <= 0.97


def _spreads(sd: float, n: int) -> object:
    recipe = dict(SPREADS.spreads[0].recipe)
    entry = {"id": "laptop", "recipe": recipe, "sd": sd, "df": n - 1, "n_seeds": n, "source": "drawn"}
    bound = {"value": 0.05, "reason": "a test"}
    return {"spreads": [entry], "windows": [], "seed_bound": bound, "evaluation_bound": bound}


def _aligned_noise(control: Facts, test: Facts, spreads: object) -> tuple[Alignment, Noise]:
    alignment = align(control, test)
    return alignment, noise(control, test, alignment, spreads=read_table(spreads))


# ---------------------------------------------------------------------------------------------
# The table of spreads


def test_a_recipe_finds_its_row_a_similar_one_with_an_allowance_another_none() -> None:
    def match(**changes: object) -> object:
        found = seed_spread(Facts.of(run({}, config=LAPTOP | changes)), SPREADS)
        return None if found is None else (found.sd, found.similar)

    assert match() == (0.008, False)
    assert match(learning_rate=5e-4) == (0.008, False)
    assert match(max_iters=5000) == (pytest.approx(0.012), True)
    assert match(max_iters=7000) is None
    assert match(dropout=0.1) is None
    assert seed_spread(Facts.of(run({}, config={})), SPREADS) is None


def test_logs_without_a_recipe_go_by_their_format() -> None:
    found = seed_spread(Facts.of(run({}, config={}, format="modded-nanogpt")), SPREADS)
    assert found is not None
    assert found.sd == 0.004


def test_distance_is_symmetric_and_the_worst_number_counts() -> None:
    one = fingerprint(Facts.of(run({})))
    two = fingerprint(Facts.of(run({}, config=LAPTOP | {"max_iters": 4000, "n_embd": 192})))
    assert one is not None
    assert two is not None
    assert distance(one, two) == distance(two, one) == pytest.approx(math.log(2))
    assert distance(one, one | {"dropout": 0.2}) == math.inf


def test_the_shipped_table_is_complete() -> None:
    found = shipped_table()
    assert found.spreads
    for entry in found.spreads:
        assert entry.id
        assert entry.source
        assert (entry.format is None) != (not entry.recipe)
        assert 0 < entry.sd < found.seed_bound.value
        assert entry.n == entry.df + 1
    assert found.seed_bound.reason
    assert found.evaluation_bound.reason
    assert 0 < found.paired_fraction <= 1
    assert window_spread(64) is not None
    assert window_spread(8) is None


@pytest.mark.parametrize("broken", [{"sd": None}, {"df": 0}, {"sd": -1.0}, {"sd": float("nan")}])
def test_a_spread_without_its_numbers_is_refused(broken: dict[str, object]) -> None:
    document = _spreads(0.01, 5)
    assert isinstance(document, dict)
    document["spreads"][0] |= broken
    with pytest.raises(ValueError, match="laptop"):
        read_table(document)
    assert json.dumps(document)
