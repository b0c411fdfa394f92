from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from comparison.made import GPU, LAPTOP, PRINTED, SPREADS, curve, run, table
from lossgap.comparison.alignment import Alignment, align
from lossgap.comparison.facts import Facts
from lossgap.comparison.noise import Noise, noise, paired_fraction, same_draws, same_windows, t_quantile
from lossgap.comparison.spread import longer_window_spread, read_table, seed_spread, window_spread
from lossgap.comparison.spread import table as shipped_table
from lossgap.comparison.spread_model import (
    TAILS,
    Measured,
    Scale,
    bank,
    fall,
    fit,
    left_out,
    log_sd,
    model,
    scales_of,
)
from lossgap.config import TrainConfig
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


def test_a_recipe_finds_its_row_and_no_other_recipe_does() -> None:
    def match(**changes: object) -> float | None:
        found = seed_spread(Facts.of(run({}, config=LAPTOP | changes)), SPREADS)
        return None if found is None else found.sd

    assert match() == 0.008
    assert match(max_iters=5000) is None
    assert match(dropout=0.1) is None
    assert seed_spread(Facts.of(run({}, config={})), SPREADS) is None


@pytest.mark.parametrize(
    "change",
    [{"learning_rate": 1e-2}, {"min_lr": 1e-3}, {"lr_decay_iters": 4000}, {"dataset": "enwik8_char"}, {"n_layer": 6}],
)
def test_another_rate_schedule_or_text_is_not_the_measured_recipe(change: dict[str, object]) -> None:
    own = seed_spread(Facts.of(run({}, config=LAPTOP)))
    other = seed_spread(Facts.of(run({}, config=LAPTOP | change)))
    assert own is not None
    assert own.evidence == "measured"
    assert other is None or other.evidence == "inferred"


def test_logs_without_a_recipe_go_by_their_format() -> None:
    found = seed_spread(Facts.of(run({}, config={}, format="modded-nanogpt")), SPREADS)
    assert found is not None
    assert found.sd == 0.004


def test_the_scale_says_what_spread_to_expect_and_where_that_ends() -> None:
    """GPT-2 for 400,000 iterations is longer than anything measured; 0.045 nats are beyond what seeds make there."""
    small = seed_spread(Facts.of(run({}, config=LAPTOP | {"max_iters": 600, "lr_decay_iters": 600})))
    assert small is not None
    assert 0.003 < small.sd < 0.05
    assert small.df < 10
    gpt2 = {"n_layer": 12, "n_head": 12, "n_embd": 768, "block_size": 1024, "batch_size": 12, "dropout": 0.0}
    long = gpt2 | {"gradient_accumulation_steps": 40, "max_iters": 600_000, "learning_rate": 6e-4, "bias": False}
    ends = dict.fromkeys(range(0, 400001, 100000), 2.905)
    control, test = (Facts.of(run({at: v + more for at, v in ends.items()}, config=long)) for more in (0.0, 0.045))
    assert seed_spread(control) is None
    found = noise(control, test, align(control, test))
    assert found.standard_error is None
    seeds = [part.bound for part in found.parts if part.of_seed]
    assert all(bound is not None and bound < 0.015 for bound in seeds)
    assert 1.96 * math.hypot(*(bound or 1.0 for bound in seeds)) < 0.045


def test_a_measured_spread_and_the_scale_are_combined_by_how_sure_each_is() -> None:
    facts = Facts.of(run({}, config=LAPTOP))
    predicted = model().predict(facts)
    entry = next(item for item in shipped_table().spreads if item.recipe)
    found = seed_spread(facts)
    assert predicted is not None
    assert found is not None
    assert found.df > predicted.df
    assert found.sd != entry.sd
    many = model().combined(scales_of(facts), entry.sd, 10_000.0)
    assert many is not None
    assert many.sd == pytest.approx(entry.sd, rel=0.01)
    assert many.df > 1000


def test_the_log_of_a_small_sample_is_corrected_for_its_bias() -> None:
    """E(log s) and Var(log s) of normal samples, drawn; the correction is stretched by TAILS, for losses with tails."""
    chance = np.random.default_rng(5)
    logs = np.log(chance.normal(size=(40_000, 4)).std(axis=1, ddof=1))
    corrected, variance = log_sd(np.array([1.0]), np.array([3.0]))
    assert corrected[0] / TAILS == pytest.approx(-logs.mean(), abs=0.01)
    assert variance[0] / TAILS == pytest.approx(logs.var(), rel=0.03)


def test_the_fall_of_a_curve_is_that_of_its_last_three_quarters() -> None:
    iters = np.arange(0.0, 401.0, 50.0)
    assert fall(iters, 4 - iters / 200) == pytest.approx(1.5)
    rises = np.where(iters > 300, 3.5, 4 - iters / 200)
    assert fall(iters, rises) == pytest.approx(1.0), "to the lowest value"
    assert fall(iters[[0, 4, 8]], np.array([4.0, 3.0, 2.0])) is None, "nothing in the first quarter"


def test_few_recipes_that_the_model_has_not_seen_are_called_different() -> None:
    """Each recipe left out in turn: of its pairs of equal runs at most 5% in the mean lie beyond the interval."""
    for scales in (None, ("tokens", "parameters", "rate", "iterations"), ("fall", "iterations")):
        found = left_out(bank(), scales)
        assert len(found) >= 20
        assert sum(item.beyond / item.pairs for item in found) / len(found) <= 0.05


def test_runs_of_one_recipe_stand_on_one_estimate_whatever_their_own_falls() -> None:
    small = LAPTOP | {"n_embd": 48, "n_layer": 2, "max_iters": 300, "lr_decay_iters": 300}
    control, test = (Facts.of(run(curve(end, last=300, step=25, start=3.0), config=small)) for end in (2.4, 2.5))
    seeds = [part for part in noise(control, test, align(control, test)).parts if part.of_seed]
    assert seeds[0].standard_error != seeds[1].standard_error
    assert seeds[0].estimate == seeds[1].estimate != ""


def test_the_model_finds_what_was_put_in() -> None:
    """Groups drawn from log sd = 1 - 0.4 log tokens, recipes apart by 0.4: coefficients and new recipes are covered."""
    chance = np.random.default_rng(2)
    groups = []
    for number in range(60):
        tokens = float(np.exp(chance.uniform(8, 20)))
        sd = math.exp(1 - 0.4 * math.log(tokens) + chance.normal(0, 0.4))
        runs = chance.normal(0, sd, 8)
        scales: dict[Scale, float] = {"iterations": tokens}
        groups.append(Measured(id=str(number), n=8, sd=float(runs.std(ddof=1)), scales=scales, source="drawn"))
    found = fit(groups, ("iterations",))
    assert found is not None
    assert found.coefficients[1] == pytest.approx(-0.4, abs=0.07)
    assert found.between == pytest.approx(0.4, abs=0.12)


def test_groups_of_one_family_count_as_one_recipe() -> None:
    """Thirty records of one contest agree with each other: that says nothing of how far recipes differ."""
    chance = np.random.default_rng(6)
    groups = [
        Measured(
            id=str(n),
            n=8,
            sd=float(np.exp(chance.normal(-3, 1))),
            scales={"iterations": 10.0 ** (1 + n % 4)},
            source="",
        )
        for n in range(12)
    ]
    one = Measured(id="one", n=8, sd=0.01, scales={"iterations": 1e5}, source="", family="contest")
    alone, many = (fit([*groups, *([one] * copies)], ("iterations",)) for copies in (1, 30))
    assert alone is not None
    assert many is not None
    assert many.between == pytest.approx(alone.between, rel=1e-3)
    assert many.coefficients == pytest.approx(alone.coefficients, rel=1e-3)


def test_windows_are_of_a_text() -> None:
    assert window_spread(64, "shakespeare_char") is not None
    assert window_spread(64, "openwebtext") is None
    assert window_spread(64, None) is None


def test_a_shorter_window_than_any_measured_varies_by_the_square_root_at_most() -> None:
    measured, bound = window_spread(64, "shakespeare_char"), longer_window_spread(48, "shakespeare_char")
    assert measured is not None
    assert bound is not None
    assert bound.sd == pytest.approx(measured.sd * math.sqrt(64 / 48))
    assert longer_window_spread(8, "shakespeare_char") is None
    assert longer_window_spread(48, "openwebtext") is None
    few = [run({0: 4.2, 200: 2.6, 400: 2.5 + by}, config=LAPTOP | {"block_size": 48}) for by in (0.0, 0.1)]
    control, test = (Facts.of(item) for item in few)
    parts = noise(control, test, align(control, test)).parts
    errors = [part.standard_error for part in parts if part.name.startswith("evaluation")]
    assert errors == [pytest.approx(bound.sd / math.sqrt(240))] * 2


def test_one_seed_and_other_kernels_share_every_draw() -> None:
    hashes: dict[str, object] = {"sha256": "a", "tokens_sha256": "b"}
    settings = TrainConfig.from_dict({**LAPTOP, "seed": 3, "threads": 1}).to_dict()
    first = replace(_measured(1.9, 0.01), config=settings, corpus=hashes)
    other = replace(
        _measured(1.9004, 0.01), config=settings | {"compile": True, "threads": 4, "eval_iters": 7}, corpus=hashes
    )
    seed = replace(_measured(1.91, 0.01), config=settings | {"seed": 4}, corpus=hashes)
    assert same_draws(Facts.of(first), Facts.of(other))
    assert not same_draws(Facts.of(first), Facts.of(seed))
    assert all(part.standard_error == 0 for part in _noise(first, other).parts if part.of_seed)


def test_what_evaluations_have_in_common_is_measured_from_the_losses_by_stretch() -> None:
    chance = np.random.default_rng(4)
    text = chance.normal(0, 0.2, 100)
    runs = [
        replace(_measured(1.9, 0.01), val_blocks=tuple((text + chance.normal(0, 0.02, 100)).tolist())) for _ in range(2)
    ]
    first, second = (Facts.of(item) for item in runs)
    assert paired_fraction(first, second, 1.0) == pytest.approx(0.1, rel=0.25)
    assert paired_fraction(first, Facts.of(_measured(1.9, 0.01)), 0.7) == 0.7


def test_the_shipped_table_is_complete() -> None:
    found = shipped_table()
    assert found.spreads
    for entry in found.spreads:
        assert entry.id
        assert entry.source
        assert (entry.format is None) != (not entry.recipe)
        assert entry.sd > 0
        assert entry.n == entry.df + 1
    assert found.model is not None
    assert len(bank()) >= 20
    assert found.evaluation_bound.reason
    assert 0 < found.paired_fraction <= 1
    assert window_spread(8, "shakespeare_char") is None


@pytest.mark.parametrize("broken", [{"sd": None}, {"df": 0}, {"sd": -1.0}, {"sd": float("nan")}])
def test_a_spread_without_its_numbers_is_refused(broken: dict[str, object]) -> None:
    document = _spreads(0.01, 5)
    assert isinstance(document, dict)
    document["spreads"][0] |= broken
    with pytest.raises(ValueError, match="laptop"):
        read_table(document)
    assert json.dumps(document)
