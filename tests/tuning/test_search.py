"""`lossgap tune --minutes`, `--target`: successive halving on seeds, with real trainings at a tiny scale."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import lossgap
from lossgap import schemas
from lossgap.attribution.arm import Arm
from lossgap.attribution.executor import Done, Executor
from lossgap.attribution.local import work
from lossgap.cli import tune as command
from lossgap.config_file import resolve_arguments, train_config
from lossgap.errors import ConfigError, LossgapError
from lossgap.presets import preset
from lossgap.tuning import search as searching
from lossgap.tuning import search_price, space, update_time
from lossgap.tuning.search import FIRST_SEED, FRESH_SEED, Found, Search
from lossgap.tuning.search_price import plan, tries
from lossgap.tuning.space import KNOWN, candidates
from lossgap.tuning.update_time import UpdateClock

TINY: dict[str, Any] = {
    "n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 16, "batch_size": 4, "threads": 1,
    "learning_rate": 1e-9, "min_lr": 0.0,
}  # fmt: skip
RATES = tuple({"learning_rate": rate} for rate in (1e-8, 1e-3, 1e-2))
UPDATE = 0.01
"""Seconds of an update, as the searches here are told: their trainings have the same lengths on every machine."""


class Here(Executor):
    """Trains in this process, and keeps what it was given."""

    def __init__(self, root: Path, at_once: int) -> None:
        self.root, self.at_once = root, at_once

    def run(self, arms: Sequence[Arm]) -> Iterator[Done]:
        for arm in arms:
            ARMS.append(arm)
            yield work(arm.to_dict(), str(self.root))

    def __enter__(self) -> Here:
        return self


ARMS: list[Arm] = []


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    (folder / "text.txt").write_text("to be or not to be, that is the question\n" * 200, encoding="utf-8")
    return folder


def searched(
    place: Path,
    minutes: float | None = 0.016,
    target: float | None = None,
    *,
    update: float = UPDATE,
    real: float = 0.0,
) -> Found:
    """A search in which an update takes `update` seconds, and `real` in the trainings (0: the same)."""
    config = lossgap.TrainConfig.from_dict(
        {**preset("shakespeare_char_cpu"), **TINY, "dataset": str(place / "text.txt"), "compile": False}
    )
    ARMS.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(space, "KNOWN", RATES)
        patch.setattr(search_price, "CHOOSING", 24)
        patch.setattr(update_time, "update_seconds", lambda config, corpus: update)
        patch.setattr(searching, "real_update", lambda run: real or update)
        patch.setattr(searching, "explain_root", lambda: place)
        return Search(config, minutes, target, Here, lambda line: None).run(lambda line: None)


@pytest.fixture(scope="module")
def found(place: Path) -> Found:
    return searched(place)


def test_halving_ends_with_a_recipe_that_learns(found: Found) -> None:
    assert [len(rung) for rung in found.rungs] == [4, 2]
    assert [rung[0].iterations for rung in found.rungs] == [24, 48]
    assert (found.changes, found.settings["max_iters"], found.why) == ({"learning_rate": 1e-2}, 96, "")
    for rung, following in zip(found.rungs, found.rungs[1:], strict=False):
        kept = [c.settings for c in rung[: len(following)]]
        assert all(c.settings in kept for c in following)
        assert [c.val_loss for c in rung] == sorted(c.val_loss for c in rung)


def test_the_figure_is_of_seeds_that_did_not_choose(found: Found) -> None:
    assert {arm.seed for arm in ARMS[-2:]} == {FRESH_SEED, FRESH_SEED + 1}
    assert {arm.seed for arm in ARMS[:-2]} == {FIRST_SEED}
    assert len(found.val_losses) == 2
    assert found.rungs[-1][0].val_loss not in found.val_losses


def test_a_search_that_goes_on_trains_nothing_twice(found: Found, place: Path) -> None:
    keys = [arm.key for arm in ARMS]
    results = sorted(place.glob("arms/*/result.json"))
    times = [path.stat().st_mtime_ns for path in results]
    again = searched(place)
    assert [arm.key for arm in ARMS] == keys
    assert again.val_losses == found.val_losses
    assert [path.stat().st_mtime_ns for path in results] == times


def test_the_answer_and_its_document(found: Found, tmp_path: Path) -> None:
    assert len(found.text().splitlines()) <= 24
    body = json.loads(json.dumps(found.json(), allow_nan=False))
    jsonschema.Draft202012Validator(schemas.load("search")).validate(body)
    found.write(tmp_path / "best.py")
    config = train_config(resolve_arguments([str(tmp_path / "best.py")]))
    assert config.to_dict() == found.settings
    assert config.max_iters == config.lr_decay_iters == 2 * found.rungs[-1][0].iterations


def test_a_time_that_is_too_short_to_choose_is_the_recipes_own(place: Path) -> None:
    short = searched(place, minutes=0.007)
    assert (short.rungs, short.changes, short.settings["max_iters"]) == ((), {}, 42)
    assert {arm.seed for arm in ARMS} == {FRESH_SEED, FRESH_SEED + 1}
    assert "42 updates" in short.why
    assert "too short to prefer another recipe" in short.text()
    body = json.loads(json.dumps(short.json(), allow_nan=False))
    jsonschema.Draft202012Validator(schemas.load("search")).validate(body)


def test_a_time_in_which_nothing_can_be_trained(place: Path) -> None:
    with pytest.raises(LossgapError) as caught:
        searched(place, minutes=1e-6)
    assert caught.value.slug == "nothing-fits"


def test_a_timing_that_the_training_contradicts_is_replaced(place: Path) -> None:
    slow = searched(place, real=3 * UPDATE)
    assert [rung[0].iterations for rung in slow.rungs] == [24]  # 16 were left for the next, too few for a rung
    assert slow.settings["max_iters"] == 32
    close = searched(place, real=1.5 * UPDATE)
    assert [rung[0].iterations for rung in close.rungs] == [24, 48]


def test_a_target_is_reached_in_the_first_time_that_does(place: Path, found: Found) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_price, "SHORTEST", 0.004)
        there = searched(place, minutes=0.1, target=round(found.val_loss + 0.01, 4))
        assert there.reached is True
        assert there.plan.seconds == pytest.approx(60 * 0.016)  # 0.004 and 0.008 did not do it
        assert "is reached in" in there.text()
        never = searched(place, minutes=0.006, target=0.1)
    assert never.reached is False
    assert never.plan.seconds == pytest.approx(0.36)
    assert "is not reached in" in never.text()


def test_rungs_follow_from_the_speed() -> None:
    assert [plan(10, update).rungs for update in (0.025, 0.1, 0.5, 2.0, 6.0)] == [5, 5, 3, 1, 0]
    wanted = plan(1, 0.05)
    assert (wanted.rungs, wanted.recipes, wanted.cost) == (3, 8, 60 * (3 + 2))
    assert [wanted.share(rung) for rung in range(3)] == [7.5, 15, 30]
    assert wanted.share(0) / wanted.update >= search_price.CHOOSING
    with pytest.raises(LossgapError, match="must be above 0"):
        plan(0, 0.05)


def test_the_times_of_a_target() -> None:
    assert tries(3) == [0.5, 1, 2, 3]
    assert tries(0.2) == [0.2]


def test_the_recipe_comes_first_then_known_good_ones() -> None:
    base = train_config(resolve_arguments(["shakespeare_char_cpu"]))
    first = candidates(base, 32)
    assert first == candidates(base, 32)
    assert len({json.dumps(item, sort_keys=True) for item in first}) == 32
    assert first[: 1 + len(KNOWN)] == [{}, *KNOWN]
    assert first[1]["optimizer"] == "muon"
    assert candidates(base, 2) == first[:2]


def test_a_recipe_that_cannot_be_is_left_out() -> None:
    odd = dataclasses.replace(train_config(resolve_arguments(["shakespeare_char_cpu"])), n_embd=132, n_head=4)
    assert not any(item.get("rotary") and "n_embd" not in item for item in candidates(odd, 32))


def test_a_timing_is_taken_again_when_it_is_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = lossgap.TrainConfig()
    other = dataclasses.replace(config, learning_rate=1e-3)
    taken: list[float] = []

    def timed(seconds: float, hours: float, asked: lossgap.TrainConfig = config) -> float:
        def measured(config: lossgap.TrainConfig, corpus: object) -> float:
            taken.append(seconds)
            return seconds

        monkeypatch.setattr(update_time, "update_seconds", measured)
        monkeypatch.setattr(time, "time", lambda: 3600 * hours)
        return UpdateClock(tmp_path / "times.json", 1).seconds(asked, None)  # type: ignore[arg-type]

    assert timed(0.1, 1.0) == 0.1
    assert timed(0.5, 1.5) == 0.1
    assert timed(0.5, 1.5, other) == 0.1  # a rate leaves the seconds alone
    assert taken == [0.1]
    assert timed(0.12, 2.5) == 0.1  # they agree: the arms of the search stay
    assert timed(0.5, 4.0) == 0.5
    assert taken == [0.1, 0.12, 0.5]
    (tmp_path / "times.json").write_text("[1, {", encoding="utf-8")
    assert timed(0.2, 4.0) == 0.2


@pytest.mark.parametrize("flags", [["--dry-run"], ["--dry-run", "--target=1.7"], []])
def test_the_price_is_shown_before(
    flags: list[str], place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(update_time, "update_seconds", lambda config, corpus: UPDATE)
    monkeypatch.setattr(searching, "explain_root", lambda: place)
    monkeypatch.setattr(Search, "run", lambda self, say: pytest.fail("it was started"))
    words = ["--minutes=4", f"--dataset={place / 'text.txt'}", *(f"--{k}={v}" for k, v in TINY.items()), *flags]
    if flags:
        assert command.main(words) == 0
        shown = capsys.readouterr().out
        assert "at most" in shown if "--target=1.7" in flags else "28 min of updates" in shown
        assert "16 of" in shown or "32 of" in shown
        assert len(shown.splitlines()) <= 24
        assert command.main([*words, "--json"]) == 0
        body = json.loads(capsys.readouterr().out)
        jsonschema.Draft202012Validator(schemas.load("search_price")).validate(body)
        return
    with pytest.raises(ConfigError) as caught:  # no terminal to ask on
        command.main(words)
    assert caught.value.slug == "needs-yes"


def test_a_dry_run_is_of_a_search() -> None:
    with pytest.raises(ConfigError) as caught:
        command.main(["--dry-run"])
    assert caught.value.slug == "no-search"
