"""`lossgap tune --minutes`: successive halving on seeds, with real trainings at a tiny scale."""

from __future__ import annotations

import json
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
from lossgap.config_file import resolve_arguments, train_config
from lossgap.errors import LossgapError
from lossgap.presets import preset
from lossgap.tuning import search as searching
from lossgap.tuning.search import FIRST_SEED, FRESH_SEED, Found, draw, plan, search

TINY: dict[str, Any] = {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 16, "batch_size": 4, "threads": 1}
SPACE = {"rate": tuple({"learning_rate": rate, "min_lr": 0.0} for rate in (1e-9, 1e-3, 3e-3, 1e-2))}


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


def searched(place: Path, minutes: float = 0.02) -> Found:
    config = lossgap.TrainConfig.from_dict(
        {**preset("shakespeare_char_cpu"), **TINY, "dataset": str(place / "text.txt"), "compile": False}
    )
    ARMS.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "SPACE", SPACE)
        patch.setattr(searching, "update_seconds", lambda config, corpus: 0.01)
        corpus = lossgap.open_corpus(config.dataset)
        return search(config, corpus, plan(minutes, recipes=4), place, Here, lambda line: None)


@pytest.fixture(scope="module")
def found(place: Path) -> Found:
    return searched(place)


def test_halving_ends_with_one_recipe_that_learns(found: Found) -> None:
    assert [len(rung) for rung in found.rungs] == [4, 2, 1]
    assert found.settings["learning_rate"] != 1e-9
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
    assert config.max_iters == config.lr_decay_iters == found.rungs[-1][0].iterations


def test_the_cost_is_known_before() -> None:
    assert plan(10).cost == 600 * (5 + 2)
    with pytest.raises(LossgapError, match="must be above 0"):
        plan(0)


def test_a_time_in_which_nothing_can_be_trained(place: Path) -> None:
    with pytest.raises(LossgapError) as caught:
        searched(place, minutes=1e-9)
    assert caught.value.slug == "nothing-fits"


def test_the_space_is_drawn_alike_every_time() -> None:
    base = lossgap.TrainConfig()
    assert draw(base, 16) == draw(base, 16)
    assert len({json.dumps(item) for item in draw(base, 16)}) == 16
    assert draw(base, 16)[0] == {}
