"""The parts sum to the gap, each from its own source, and one corrupted arm is noticed."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lossgap.attribution import effects as formulas
from lossgap.attribution import measure
from lossgap.attribution.arm import Arm, ArmResult, Measurement, arm_folder
from lossgap.attribution.design import Design, Kind, Switched, design, quantile, together
from lossgap.attribution.divide import TOLERANCE, Reported, check, divide
from lossgap.attribution.effects import RESOLUTION
from lossgap.attribution.explanation import At, Division, Quantity
from lossgap.attribution.factor import Factor
from lossgap.attribution.gather import Gathered
from lossgap.errors import TrainingError

NAMES = ("capacity", "batch", "length")
FACTORS = {name: Factor(name=name, settings={}) for name in (*NAMES, "optimizer")}
REPORTED = Reported(gap=Quantity(value=-0.19), error=0.02)
Losses = Callable[[int, Switched], float]


def some(seed: int, switched: Switched) -> float:
    """Losses with interactions of all orders, and with noise; a function of the arm."""
    noise = int.from_bytes(hashlib.sha256(f"{seed}{sorted(switched)}".encode()).digest()[:2], "big") / 2**16
    one_of_two = ("batch" in switched) != ("length" in switched)
    return 3.0 - 0.2 * math.pow(len(switched), 1.5) + 0.1 * one_of_two + 0.1 * noise


def gathered(
    root: Path,
    kind: Kind = "factorial",
    losses: Losses = some,
    dropped: Sequence[str] = (),
    seeds: int = 4,
    own: Losses = lambda seed, switched: 0.0,
) -> Gathered:
    """Arms as a worker leaves them; `best` is 0.1 below, `own` is what the own context changes."""
    least = Design(kind=kind, factors=NAMES, seeds=(), dropped=tuple(dropped)).arms_per_seed
    made = design(NAMES, least * seeds, 11, kind, dropped)
    arms, results = {}, {}
    for seed in made.seeds:
        for switched in made.arms(seed):
            arm = Arm(
                config=dict.fromkeys(sorted(switched), 1),
                seed=seed,
                measurement=Measurement(context=8),
                corpus="",
                code="",
            )
            loss = losses(seed, switched)
            result = ArmResult(
                key=arm.key,
                val_loss=loss,
                best_val_loss=loss - 0.1 - 0.001 * len(switched),
                own_val_loss=loss + own(seed, switched),
                own_best_val_loss=loss - 0.1 + own(seed, switched),
                best_iter=7,
                exact=True,
                standard_error=0.0,
                seconds=1.0,
                run="nowhere",
            )
            measure.keep(result, root)
            arms[seed, switched], results[arm.key] = arm, result
    return Gathered(design=made, arms=arms, results=results, cached=frozenset(), failed=(), replaced=(), complete=True)


def divided(found: Gathered, at: At = "last", reported: Reported = REPORTED, scaled: bool = False) -> Division:
    return divide(found, FACTORS, at, 0.01, reported, scaled)


KINDS: list[tuple[Kind, tuple[str, ...]]] = [
    ("factorial", ()),
    ("permutations", ()),
    ("factorial", ("optimizer",)),
    ("permutations", ("optimizer",)),
]


@pytest.mark.parametrize(("kind", "dropped"), KINDS)
@pytest.mark.parametrize("at", ["last", "best"])
def test_the_parts_sum_to_the_gap(tmp_path: Path, kind: Kind, dropped: tuple[str, ...], at: At) -> None:
    found = gathered(tmp_path, kind, dropped=dropped)
    division = divided(found, at)
    check(division, found, tmp_path)
    assert abs(division.remainder) < TOLERANCE
    assert division.common.value is not None
    assert division.common.value == pytest.approx(division.ends[1] - division.ends[0], abs=1e-12)
    whole = sum(item.value for item in division.contributions) + (division.screened_out.value or 0)
    assert whole == pytest.approx(division.common.value, abs=1e-12)
    parts = [division.not_reproduced.value, division.measurement.value, division.common.value]
    assert sum(value for value in parts if value is not None) == pytest.approx(-0.19, abs=1e-12)
    assert (division.screened_out.value == 0) == (not dropped)


@given(st.lists(st.floats(1e-3, 100), min_size=24, max_size=24))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_losses_the_sum_is_the_gap_within_a_billionth(tmp_path: Path, losses: list[float]) -> None:
    table = iter(losses)
    found = gathered(tmp_path, losses=lambda seed, switched: next(table), seeds=3)
    check(divided(found), found, tmp_path)
    assert abs(divided(found).remainder) < 1e-9


def arms_of(found: Gathered) -> list[tuple[int, Switched]]:
    return [(seed, switched) for seed in found.design.seeds for switched in found.design.arms(seed)]


@pytest.mark.parametrize(("kind", "dropped"), KINDS)
def test_any_one_arm_that_is_corrupted_in_memory_is_named(tmp_path: Path, kind: Kind, dropped: tuple[str, ...]) -> None:
    sound = gathered(tmp_path, kind, dropped=dropped, seeds=3)
    for seed, switched in arms_of(sound):
        key = sound.arms[seed, switched].key
        other = replace(sound.results[key], val_loss=sound.results[key].val_loss + 2e-9)
        found = replace(sound, results={**sound.results, key: other})
        with pytest.raises(TrainingError) as caught:
            check(divided(found), found, tmp_path)
        assert caught.value.slug == "sum-not-gap"
        assert f"seed {seed}" in str(caught.value)
        assert (", ".join(sorted(switched)) or "none") in str(caught.value)
        assert str(arm_folder(key, tmp_path)) in str(caught.value)
        assert str(caught.value).isprintable()
        check(divided(found, "best"), found, tmp_path)


def change(path: Path) -> None:
    """One digit of a loss."""
    content = json.loads(path.read_text())
    content["result"]["val_loss"] += 1e-8
    path.write_text(json.dumps(content))


def replaced(path: Path) -> None:
    """Another training's result, whole, under its own digest."""
    content = json.loads(path.read_text())
    result = ArmResult.from_dict({**content["result"], "val_loss": 2.0})
    assert result is not None
    measure.keep(result, path.parents[2])


@pytest.mark.parametrize("harm", [change, replaced, Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-9])])
@pytest.mark.parametrize("kind", ["factorial", "permutations"])
def test_any_one_arm_that_is_corrupted_on_the_disk_is_named(
    tmp_path: Path, kind: Kind, harm: Callable[[Path], object]
) -> None:
    found = gathered(tmp_path, kind, seeds=3)
    division = divided(found)
    for seed, switched in arms_of(found):
        path = arm_folder(found.arms[seed, switched].key, tmp_path) / measure.RESULT
        sound = path.read_bytes()
        harm(path)
        with pytest.raises(TrainingError) as caught:
            check(division, found, tmp_path)
        assert caught.value.slug == "sum-not-gap"
        assert f"seed {seed}" in str(caught.value)
        path.write_bytes(sound)
    check(division, found, tmp_path)


def test_a_wrong_formula_is_a_sum_that_is_not_the_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = gathered(tmp_path)
    right = formulas.total
    monkeypatch.setattr(formulas, "total", lambda weights, game: right(weights, game) * (1 + 1e-7))
    with pytest.raises(TrainingError, match="fault of lossgap") as caught:
        check(divided(found), found, tmp_path)
    assert caught.value.slug == "sum-not-gap"


def test_a_contribution_that_is_not_a_number_is_not_the_gap(tmp_path: Path) -> None:
    found = gathered(tmp_path)
    division = divided(found)
    first = replace(division.contributions[0], value=float("nan"))
    with pytest.raises(TrainingError) as caught:
        check(replace(division, contributions=(first, *division.contributions[1:])), found, tmp_path)
    assert caught.value.slug == "sum-not-gap"


def test_intervals_hold_together_with_the_gap(tmp_path: Path) -> None:
    found = gathered(tmp_path)
    division = divided(found)
    t = quantile(4, together(3))
    for item in division.contributions:
        spread = max(t * statistics.stdev(item.per_seed) / 2, RESOLUTION)
        assert item.ci == pytest.approx((item.value - spread, item.value + spread))
    gaps = [some(seed, frozenset(NAMES)) - some(seed, frozenset()) for seed in found.design.seeds]
    middle, half = statistics.mean(gaps), max(t * statistics.stdev(gaps) / 2, RESOLUTION)
    assert division.common.ci == pytest.approx((middle - half, middle + half))
    pairs = quantile(4, 3)
    for joint in division.interactions:
        assert joint.ci is not None
        of_pair = [
            formulas.interaction(found.games("last")[seed], NAMES, *joint.factors) for seed in found.design.seeds
        ]
        assert joint.ci[1] - joint.ci[0] == pytest.approx(max(pairs * statistics.stdev(of_pair), 2 * RESOLUTION))


def test_contributions_come_largest_first_and_permutations_tell_no_interactions(tmp_path: Path) -> None:
    division = divided(gathered(tmp_path / "one"))
    sizes = [abs(item.value) for item in division.contributions]
    assert sizes == sorted(sizes, reverse=True)
    assert {item.factors for item in division.interactions} == {
        ("capacity", "batch"), ("capacity", "length"), ("batch", "length"),
    }  # fmt: skip
    assert divided(gathered(tmp_path / "other", "permutations")).interactions == ()


def test_what_the_own_context_gains_is_measurement_and_not_divided(tmp_path: Path) -> None:
    """The test's longer context is worth 0.05 to it, and 0.01 more with every other seed."""
    plain = divided(gathered(tmp_path / "plain"))
    whole = frozenset(NAMES)
    found = gathered(
        tmp_path / "own", own=lambda seed, switched: -0.05 - 0.01 * (seed % 2) if switched == whole else 0.0
    )
    division = divided(found)
    check(division, found, tmp_path / "own")
    assert [item.value for item in division.contributions] == [item.value for item in plain.contributions]
    assert division.measurement.value == pytest.approx(-0.055)
    assert division.own_context == pytest.approx((0.0, -0.055))
    assert division.not_reproduced.value == pytest.approx(-0.19 - (division.common.value or 0) + 0.055)
    assert plain.measurement.value == pytest.approx(0)


def test_an_unknown_reported_gap_is_unknown_and_not_zero(tmp_path: Path) -> None:
    found = gathered(tmp_path)
    division = divided(found, reported=Reported(gap=Quantity(value=None, why="the runs report no loss in common")))
    assert division.not_reproduced == Quantity(value=None, why="the runs report no loss in common")
    check(division, found, tmp_path)
    scaled = divided(found, scaled=True).not_reproduced
    assert scaled.value is None
    assert "scale" in scaled.why


@pytest.mark.parametrize("error", [0.0, 0.02])
def test_what_is_not_reproduced_allows_for_the_seeds_of_the_runs_themselves(error: float, tmp_path: Path) -> None:
    """Each run is one seed, evaluated once: the interval is for one more seed, and not for the mean of all."""
    found = gathered(tmp_path)
    values = [found.result(seed, frozenset(NAMES)).own_val_loss for seed in found.design.seeds]
    values = [
        a - found.result(seed, frozenset()).own_val_loss for a, seed in zip(values, found.design.seeds, strict=True)
    ]
    ci = divided(found, reported=replace(REPORTED, error=error)).not_reproduced.ci
    assert ci is not None
    half = quantile(4, 1) * math.sqrt(statistics.variance(values) * (1 + 1 / 4) + error**2)
    assert ci == pytest.approx((-0.19 - statistics.fmean(values) - half, -0.19 - statistics.fmean(values) + half))


def test_without_the_noise_of_the_reports_there_is_no_interval(tmp_path: Path) -> None:
    unknown = replace(REPORTED, error=None, why="nobody says how many windows")
    found = divided(gathered(tmp_path), reported=unknown).not_reproduced
    assert found.value is not None
    assert (found.ci, found.why) == (None, "nobody says how many windows")


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_give_values_without_intervals(tmp_path: Path, seeds: int) -> None:
    found = gathered(tmp_path, seeds=seeds)
    division = divided(found)
    check(division, found, tmp_path)
    for item in division.contributions:
        assert (item.ci, item.verdict) == (None, "inconclusive")
        assert item.why
    assert division.common.ci is None
    assert division.not_reproduced.ci is None
    assert division.not_reproduced.why
