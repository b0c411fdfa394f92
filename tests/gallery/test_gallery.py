"""The thresholds of the gallery, from its stored runs: nothing is trained here."""

from __future__ import annotations

import datetime
import json
import re
from collections import Counter

import pytest

from gallery.page import page
from gallery.plants import CONTROL_SEEDS, NULL_SEEDS, PLANTS, RECIPES, SPREAD_SEEDS, TEST_SEEDS
from gallery.score import MODES, Mode, Null, Scores, interval, rule_ids, score
from gallery.stored import DATA, load

MOST_BYTES = 3_000_000
MOST_NULLS = 0.05
"""Share of null pairs that may have any cause."""
MOST_PER_RULE = 2
"""Null pairs that one rule may blame."""
MOST_DECOYS = 0
"""Pairs in which a setting that was added as a decoy is among the causes."""
LEAST_SHOWN = 0.95
"""Of the pairs whose planted setting the mode shows, the share whose true cause is first or second."""
FLOORS: dict[tuple[str, Mode], int] = {
    ("measured", "visible"): 88,
    ("measured", "decoy"): 88,
    ("measured", "stripped"): 48,
    ("measured", "nanogpt"): 88,
    ("measured", "huggingface"): 36,
    ("unknown", "visible"): 85,
    ("unknown", "decoy"): 85,
    ("unknown", "stripped"): 48,
    ("unknown", "nanogpt"): 83,
    ("unknown", "huggingface"): 36,
}
"""Of the 105 pairs with a planted cause, how many are answered right at least: what was measured on 2026-11-24.

30 of them are faults that no setting shows, beside true or trivial settings; a setting that is only named as missing
does not count (stripped); gaps inside the margin have no cause.
"""

SPREADS = ("measured", "unknown")


@pytest.fixture(scope="module")
def scores() -> dict[str, Scores]:
    return {spread: score(measured=spread == "measured") for spread in SPREADS}


def test_the_gallery_is_as_large_as_asked() -> None:
    causes = [plant for plant in PLANTS if plant.kind == "cause"]
    assert len({plant.name for plant in PLANTS}) == len(PLANTS)
    assert len(causes) >= 20
    assert len(TEST_SEEDS) == len(CONTROL_SEEDS) == 3
    assert sum(bool(plant.claims) for plant in causes) >= 2, "faults that the config does not show"
    assert (len(RECIPES), len(NULL_SEEDS)) == (3, 15)
    assert {plant.truth for plant in PLANTS} | {id for plant in PLANTS for id in plant.also} <= set(rule_ids())


def test_the_spreads_come_from_seeds_that_no_pair_uses() -> None:
    assert min(*NULL_SEEDS, *CONTROL_SEEDS, *TEST_SEEDS) > SPREAD_SEEDS


def test_the_data_is_small_and_names_no_folder_of_a_machine() -> None:
    assert sum(path.stat().st_size for path in DATA.iterdir()) < MOST_BYTES
    for run in load().values():
        assert not re.search(r"['\"( ]/\w", json.dumps(run.record)), run.key


def null_pairs(scores: Scores, form: str) -> list[Null]:
    return [item for item in scores.nulls if item.form == form]


FORMS = ("folder", "stripped")


@pytest.mark.parametrize("form", FORMS)
def test_all_null_pairs_are_there(scores: dict[str, Scores], form: str) -> None:
    for found in scores.values():
        assert len({(item.recipe, item.seeds) for item in null_pairs(found, form)}) == 315


@pytest.mark.parametrize(
    ("spread", "form"),
    [
        ("measured", "folder"),
        ("measured", "stripped"),
        ("unknown", "folder"),
        ("unknown", "stripped"),
    ],
)
def test_few_null_pairs_have_a_cause(scores: dict[str, Scores], spread: str, form: str) -> None:
    mine = null_pairs(scores[spread], form)
    blamed = [item for item in mine if item.answer.causes]
    assert len(blamed) <= MOST_NULLS * len(mine), [(item.recipe, item.seeds, item.answer.causes) for item in blamed]


@pytest.mark.parametrize(
    ("spread", "form"),
    [
        ("measured", "folder"),
        ("measured", "stripped"),
        ("unknown", "folder"),
        ("unknown", "stripped"),
    ],
)
def test_no_rule_blames_null_pairs_again_and_again(scores: dict[str, Scores], spread: str, form: str) -> None:
    counts = Counter(id for item in null_pairs(scores[spread], form) for id in set(item.answer.causes))
    assert not {id: count for id, count in counts.items() if count > MOST_PER_RULE}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("spread", SPREADS)
def test_only_the_known_rule_blames_null_pairs(scores: dict[str, Scores], spread: str, form: str) -> None:
    blamed = {id for item in null_pairs(scores[spread], form) for id in item.answer.causes}
    assert blamed <= {"not-in-the-settings"}


@pytest.mark.parametrize(("spread", "mode"), list(FLOORS))
def test_planted_causes_are_found(scores: dict[str, Scores], spread: str, mode: Mode) -> None:
    mine = scores[spread].planted(mode)
    missed = [(item.plant.name, item.seed, item.answer.causes) for item in mine if not item.right]
    assert len(mine) == 105
    assert len(mine) - len(missed) >= FLOORS[spread, mode], missed


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("spread", SPREADS)
def test_differences_of_arithmetic_are_not_blamed(scores: dict[str, Scores], spread: str, mode: Mode) -> None:
    found = scores[spread].planted(mode, "harmless")
    mine = [item for item in found if item.plant.name in ("bfloat16", "numerics")]
    assert len(mine) == 2 * len(TEST_SEEDS)
    assert not [(item.plant.name, item.seed, item.answer.causes) for item in mine if item.answer.causes]


@pytest.mark.parametrize("spread", SPREADS)
def test_a_setting_that_was_not_applied_is_told(scores: dict[str, Scores], spread: str) -> None:
    told = [item for mode in ("visible", "decoy") for item in scores[spread].planted(mode, "told")]
    mine = [item for item in told if item.plant.name == "setting-not-applied"]
    assert len(mine) == 2 * len(TEST_SEEDS)
    assert all(item.right for item in mine)


@pytest.mark.parametrize("spread", SPREADS)
def test_a_decoy_is_never_a_cause(scores: dict[str, Scores], spread: str) -> None:
    found = scores[spread]
    seen = {(item.plant.name, item.seed): set(item.answer.causes) for item in found.planted("visible")}
    healthy = [item for item in found.planted("decoy") if "diverged" not in {item.plant.truth, *item.plant.also}]
    assert len(healthy) > 70
    # The rows that a decoy leaves out matter where the losses jump about.
    blamed = [item for item in healthy if not set(item.answer.causes) <= seen[item.plant.name, item.seed]]
    assert len(blamed) <= MOST_DECOYS, [(item.plant.name, item.seed, item.answer.causes) for item in blamed]


@pytest.mark.parametrize("mode", ["visible", "decoy"])
@pytest.mark.parametrize("spread", SPREADS)
def test_a_trivial_setting_beside_a_fault_is_never_the_cause(
    scores: dict[str, Scores], spread: str, mode: Mode
) -> None:
    mine = [item for item in scores[spread].planted(mode) if item.plant.of]
    assert len(mine) == 4 * len(TEST_SEEDS)
    for item in mine:
        assert set(item.answer.causes) <= {item.plant.truth, *item.plant.also}, (item.plant.name, item.seed)


@pytest.mark.parametrize("mode", ["visible", "decoy", "nanogpt", "huggingface"])
@pytest.mark.parametrize("spread", SPREADS)
def test_where_the_setting_is_shown_it_is_the_first_or_second_cause(
    scores: dict[str, Scores], spread: str, mode: Mode
) -> None:
    mine = [item for item in scores[spread].planted(mode) if item.shown and not item.no_need]
    missed = [(item.plant.name, item.seed, item.answer.causes) for item in mine if not item.right]
    assert len(mine) >= (25 if mode == "huggingface" else 70)
    assert len(missed) <= (1 - LEAST_SHOWN) * len(mine), missed


@pytest.mark.parametrize("spread", SPREADS)
def test_the_rules_beat_a_diff_of_the_configs(scores: dict[str, Scores], spread: str) -> None:
    mine = scores[spread].planted("visible")
    shown = [item for item in mine if item.answer.word == "different"]
    assert sum(item.right for item in shown) > sum(item.by_diff for item in shown)


def test_the_page_has_every_table(scores: dict[str, Scores]) -> None:
    text = page(scores["measured"], scores["unknown"], datetime.date(2026, 11, 24))
    assert all(f"\n## {title}\n" in text for title in ("Null pairs", "Confusion", "By rule", "By plant"))
    assert text.count("| held out |") == 2 * len(MODES)


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"), [(0, 315, 0.0, 0.01164), (5, 100, 0.01643, 0.11283), (10, 10, 0.69150, 1.0)]
)
def test_the_interval_is_the_exact_one(hits: int, total: int, low: float, high: float) -> None:
    """0 of n: 1 - 0.025^(1/n); 5 of 100 as tables of Clopper and Pearson give it; 10 of 10: 0.025^(1/10)."""
    assert interval(hits, total) == pytest.approx((low, high), abs=2e-5)
