"""What becomes of arms that end, fail, are there already or twice, whatever trains them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lossgap.attribution import measure
from lossgap.attribution.arm import Arm, ArmResult, Failure, arm_folder
from lossgap.attribution.design import Design, Switched, design
from lossgap.attribution.divide import check
from lossgap.attribution.executor import Done
from lossgap.attribution.explanation import Contribution, Division, FailedArm, Quantity
from lossgap.attribution.factor import Factor
from lossgap.attribution.gather import HOPELESS, Ended, Gathered, gather
from lossgap.errors import TrainingError

from .fake_executor import FakeExecutor, arm_of, loss_of, name_of, result_of

TWO = design(("a", "b"), 12, kind="factorial")
"""Seeds 1, 2, 3; arms 1, ab1, a1, b1, and so on."""
FOUR = design(("a", "b", "c", "d"), 24, kind="permutations")
"""Seeds 1, 2, 3, eight arms each."""


class Watching(list[Ended]):
    """Collects what is told of the progress."""

    def __call__(self, ended: Ended) -> None:
        self.append(ended)

    @property
    def told(self) -> list[str]:
        """Lines about failures."""
        return [item.what for item in self if item.what]


def seeds(found: Gathered) -> dict[int, list[str]]:
    return {seed: [name_of(found.arms[seed, arm]) for arm in found.design.arms(seed)] for seed in found.design.seeds}


def dies(*names: str, failure: Failure = "killed", times: int = 99) -> FakeExecutor:
    """Arms of these names fail so often; the root is set by the fixture."""
    return FakeExecutor(Path(), lambda arm, tried: failure if name_of(arm) in names and tried < times else None)


def gathered(executor: FakeExecutor, root: Path, wanted: Design = TWO) -> tuple[Gathered, Watching]:
    executor.root = root
    watch = Watching()
    return gather(wanted, arm_of, executor, root, watch), watch


def test_every_arm_is_trained_once_and_gives_the_games(tmp_path: Path) -> None:
    executor = FakeExecutor(tmp_path)
    found, watch = gathered(executor, tmp_path)
    assert sorted(executor.ran) == sorted(f"{arm}{seed}" for arm in ("", "a", "b", "ab") for seed in (1, 2, 3))
    assert executor.rounds[0][:4] == ["1", "ab1", "a1", "b1"], "seed by seed"
    assert found.games("last")[2] == pytest.approx({frozenset(): 1.02, frozenset("a"): 1.12, frozenset("b"): 1.22,
                                                    frozenset("ab"): 1.32})  # fmt: skip
    assert found.games("best")[3][frozenset("a")] == pytest.approx(1.08)
    assert (found.complete, found.cached, found.failed, found.replaced, found.spent) == (True, frozenset(), (), (), 24)
    assert [(item.done, item.total) for item in watch] == [(n, 12) for n in range(1, 13)]


def test_what_an_earlier_experiment_trained_is_not_trained_again(tmp_path: Path) -> None:
    there = [arm_of(frozenset("a"), 1), arm_of(frozenset("ab"), 3)]
    for arm in there:
        measure.keep(result_of(arm), tmp_path)
    executor = FakeExecutor(tmp_path)
    found, watch = gathered(executor, tmp_path)
    assert len(executor.ran) == 10
    assert not {"a1", "ab3"} & set(executor.ran)
    assert found.cached == {arm.key for arm in there}
    assert found.spent == 20
    assert watch[0].done == 3
    again = FakeExecutor(tmp_path)
    once_more, _ = gathered(again, tmp_path)
    assert again.rounds == []
    assert once_more.games("last") == found.games("last")


@pytest.mark.parametrize("damage", ["loss", "digest", "key", "cut", "deep", "list"])
def test_a_result_that_is_not_what_was_stored_is_trained_again(damage: str, tmp_path: Path) -> None:
    arm = arm_of(frozenset("a"), 1)
    measure.keep(result_of(arm), tmp_path)
    path = arm_folder(arm.key, tmp_path) / measure.RESULT
    content = json.loads(path.read_text())
    if damage == "loss":
        content["result"]["val_loss"] = 0.5
    elif damage == "digest":
        content["sha256"] = "0" * 64
    text = json.dumps(content)
    if damage == "key":  # whole, but another arm's
        measure.keep(result_of(arm_of(frozenset("b"), 1)), tmp_path)
        text = (arm_folder(arm_of(frozenset("b"), 1).key, tmp_path) / measure.RESULT).read_text()
    path.write_text({"cut": text[:-9], "deep": "[" * 100_000, "list": "[]"}.get(damage, text))
    assert measure.stored(arm.key, tmp_path) is None
    executor = FakeExecutor(tmp_path)
    found, _ = gathered(executor, tmp_path)
    assert "a1" in executor.ran
    assert found.result(1, frozenset("a")) == result_of(arm)


def test_results_of_machines_without_a_common_disk_are_stored(tmp_path: Path) -> None:
    found, _ = gathered(FakeExecutor(tmp_path, stores=False), tmp_path)
    for arm in found.arms.values():
        assert measure.stored(arm.key, tmp_path) == result_of(arm)


@pytest.mark.parametrize("failure", ["killed", "not-finite", "out-of-memory", "failed"])
def test_a_failed_arm_is_told_and_tried_again(failure: Failure, tmp_path: Path) -> None:
    executor = dies("a2", failure=failure, times=1)
    found, watch = gathered(executor, tmp_path)
    assert watch.told == [f"seed 2, a switched: {failure}: as planned; trying again"]
    assert executor.ran.count("a2") == 2
    assert len(executor.ran) == 13
    assert (found.failed, found.replaced, found.design.seeds, found.complete) == ((), (), (1, 2, 3), True)


@pytest.mark.parametrize("failure", ["killed", "not-finite", "out-of-memory", "failed"])
def test_the_seed_of_an_arm_that_fails_again_is_replaced_and_told(failure: Failure, tmp_path: Path) -> None:
    executor = dies("a2", failure=failure)
    found, watch = gathered(executor, tmp_path)
    told = f"seed 2, a switched: {failure}: as planned"
    assert watch.told == [f"{told}; trying again", told]
    assert found.failed == (FailedArm(factors=("a",), seed=2, failure=failure, why="as planned"),)
    assert found.replaced == (2,)
    assert found.design.seeds == (1, 3, 4)
    assert set(found.games("last")) == {1, 3, 4}
    assert seeds(found)[4] == ["4", "ab4", "a4", "b4"]
    assert len(executor.ran) == len(set(executor.ran)) + 1, "only the failed arm ran twice"


def test_the_seed_that_takes_the_place_has_its_own_order(tmp_path: Path) -> None:
    wanted = design(FOUR.factors, 24, kind="permutations", seed=1)
    longer = design(FOUR.factors, 32, kind="permutations", seed=1)
    executor = dies("abcd1", failure="not-finite")
    found, _ = gathered(executor, tmp_path, wanted)
    assert found.design.seeds == (2, 3, 4)
    assert found.design.orders == longer.orders[1:]
    assert all(found.design.arms(seed) == longer.arms(seed) for seed in (2, 3, 4))


def test_a_replacement_that_fails_is_replaced(tmp_path: Path) -> None:
    found, _ = gathered(dies("a2", "ab4"), tmp_path)
    assert found.design.seeds == (1, 3, 5)
    assert found.replaced == (2, 4)
    assert [(item.seed, item.factors) for item in found.failed] == [(2, ("a",)), (4, ("a", "b"))]


class Shuffled(FakeExecutor):
    """Arms end in another order every time."""

    def __init__(self, root: Path, draw: random.Random, *names: str) -> None:
        super().__init__(root, lambda arm, tried: "killed" if name_of(arm) in names else None)
        self.draw = draw

    def ordered(self, arms: Sequence[Arm]) -> Sequence[Arm]:
        return self.draw.sample(list(arms), len(arms))


def test_the_order_in_which_arms_end_reaches_no_digit(tmp_path: Path) -> None:
    wanted = design(("a", "b", "c", "d"), 48, kind="permutations")
    found = []
    for attempt in range(12):
        root = tmp_path / str(attempt)
        executor = Shuffled(root, random.Random(attempt), "1", "abcd3", "abcd4", "7")
        result, _ = gathered(executor, root, wanted)
        found.append((result.design, result.replaced, result.failed, list(result.games("last").items())))
    assert all(item == found[0] for item in found[1:])
    assert found[0][0].seeds == (2, 5, 6, 8, 9, 10)


def test_arms_that_are_the_same_train_once(tmp_path: Path) -> None:
    """A factor that is a seed, or settings without effect, make two cells of the design one arm."""

    def one_for_both(switched: Switched, seed: int) -> Arm:
        return arm_of(switched - {"b"}, seed)

    executor = FakeExecutor(tmp_path)
    watch = Watching()
    found = gather(TWO, one_for_both, executor, tmp_path, watch)
    assert sorted(executor.ran) == sorted(f"{arm}{seed}" for arm in ("", "a") for seed in (1, 2, 3))
    assert [(item.done, item.total) for item in watch][-1] == (6, 6)
    assert found.games("last")[1][frozenset("b")] == found.games("last")[1][frozenset()]


def test_a_shared_arm_that_fails_costs_every_seed_it_belongs_to(tmp_path: Path) -> None:
    def shared(switched: Switched, seed: int) -> Arm:
        return arm_of(switched, 2 if (switched, seed) == (frozenset("a"), 1) else seed)

    executor = dies("a2")
    executor.root = tmp_path
    found = gather(TWO, shared, executor, tmp_path, Watching())
    assert found.replaced == (1, 2)
    assert found.design.seeds == (3, 4, 5)
    assert [(item.seed, item.factors) for item in found.failed] == [(1, ("a",)), (2, ("a",))]


# ---------------------------------------------------------------------------------------------
# When to give up


def hopeless(*, times: int) -> FakeExecutor:
    return FakeExecutor(Path(), lambda arm, tried: "not-finite" if set(arm.config) == {"b"} and tried < times else None)


def test_a_combination_that_fails_with_every_seed_ends_the_experiment_before_the_budget_is_spent(
    tmp_path: Path,
) -> None:
    wanted = design(("a", "b"), 80, kind="factorial")
    executor = hopeless(times=99)
    with pytest.raises(TrainingError) as caught:
        gathered(executor, tmp_path, wanted)
    assert caught.value.slug == "arms-fail"
    line = str(caught.value)
    assert line.startswith("3 seeds failed, the last with these factors switched: b; not-finite: as planned; ")
    assert "\n" not in line
    assert executor.ran == [
        *("1", "ab1", "a1", "b1", "2", "ab2", "a2", "b2", "3", "ab3", "a3", "b3"),
        *("b1", "b2", "b3"),
    ]
    assert executor.closed == 2


def test_where_no_arm_trains_it_ends_after_the_first_few(tmp_path: Path) -> None:
    executor = FakeExecutor(tmp_path, lambda arm, tried: "failed")
    with pytest.raises(TrainingError, match="no arm gave a result"):
        gathered(executor, tmp_path, design(("a", "b"), 80, kind="factorial"))
    assert executor.ran == ["1", "ab1", "a1", "b1"] * 2


def test_while_the_control_trains_the_rest_is_not_called_hopeless(tmp_path: Path) -> None:
    """Its arms end last here, as on a machine that trains many at a time."""

    class ControlLast(FakeExecutor):
        def run(self, arms: Sequence[Arm]) -> Iterator[Done]:
            yield from super().run(sorted(arms, key=lambda arm: not arm.config))

    executor = ControlLast(tmp_path, lambda arm, tried: "not-finite" if arm.config else None)
    with pytest.raises(TrainingError, match="3 seeds failed") as caught:
        gathered(executor, tmp_path)
    assert "no arm gave a result" not in str(caught.value)
    assert len(executor.ran) > 2 * HOPELESS


def test_where_the_first_arms_failed_by_chance_it_goes_on(tmp_path: Path) -> None:
    executor = dies("1", "ab1", "a1", "b1", times=1)
    found, watch = gathered(executor, tmp_path)
    assert (found.complete, found.failed, found.replaced) == (True, (), ())
    assert len(watch.told) == HOPELESS
    assert executor.ran[:8] == ["1", "ab1", "a1", "b1"] * 2


@pytest.mark.parametrize(
    ("failing", "advice"),
    [
        ({"", "a", "b", "ab"}, "no arm gave a result"),
        ({""}, "the control itself cannot be trained"),
        ({"ab"}, "the test itself cannot be trained"),
        ({"a"}, "regroup the factors"),
    ],
)
def test_what_never_trains_decides_the_advice(failing: set[str], advice: str, tmp_path: Path) -> None:
    executor = FakeExecutor(tmp_path, lambda arm, tried: "failed" if name_of(arm)[:-1] in failing else None)
    with pytest.raises(TrainingError, match=advice) as caught:
        gathered(executor, tmp_path, design(("a", "b"), 12, kind="factorial"))
    assert ("regroup" in str(caught.value)) == (failing == {"a"})


def test_two_combinations_that_never_train_do_not_bring_new_seeds_into_it(tmp_path: Path) -> None:
    for attempt in range(12):
        root = tmp_path / str(attempt)
        executor = Shuffled(root, random.Random(attempt))
        executor.fate = lambda arm, tried: "not-finite" if "b" in arm.config else None
        with pytest.raises(TrainingError, match="3 seeds failed"):
            gathered(executor, root, design(("a", "b"), 12, kind="factorial"))
        assert {name[-1] for name in executor.ran} == {"1", "2", "3"}
        assert all(executor.ran.count(name) <= 2 for name in executor.ran)


def test_a_combination_that_only_failed_at_first_does_not_end_it(tmp_path: Path) -> None:
    wanted = design(("a", "b"), 40, kind="factorial")
    executor = hopeless(times=1)
    found, watch = gathered(executor, tmp_path, wanted)
    assert found.design == wanted
    assert len(executor.ran) == 50
    assert executor.closed == 1
    assert len(watch.told) == 10


def test_a_combination_that_works_with_one_seed_is_not_hopeless(tmp_path: Path) -> None:
    wanted = design(("a", "b"), 40, kind="factorial")
    executor = dies("b2", "b3", "b4", "b5")
    found, _ = gathered(executor, tmp_path, wanted)
    assert found.replaced == (2, 3, 4, 5)
    assert found.design.seeds == (1, 6, 7, 8, 9, 10, 11, 12, 13, 14)
    assert executor.closed == 0


class ThoseFirst(FakeExecutor):
    """In the first round the arms of one combination end before the others, as they may with many workers."""

    def ordered(self, arms: Sequence[Arm]) -> Sequence[Arm]:
        return sorted(arms, key=lambda arm: set(arm.config) != {"b"}) if len(self.rounds) == 1 else arms


def test_what_failed_is_tried_again_before_the_rest(tmp_path: Path) -> None:
    executor = ThoseFirst(tmp_path, lambda arm, tried: "not-finite" if set(arm.config) == {"b"} else None)
    with pytest.raises(TrainingError, match="3 seeds failed"):
        gathered(executor, tmp_path, design(("a", "b"), 40, kind="factorial"))
    assert executor.ran == ["b1", "b2", "b3"] * 2


def test_one_seed_alone_is_given_up_after_its_second_failure(tmp_path: Path) -> None:
    executor = dies("1")
    with pytest.raises(TrainingError, match="1 seeds failed"):
        gathered(executor, tmp_path, design(("a", "b"), 4, kind="factorial"))
    assert executor.ran == ["1", "1"]


def test_more_failed_seeds_than_the_design_has_end_the_experiment(tmp_path: Path) -> None:
    one_each = {1: "", 2: "a", 3: "b", 4: "ab"}
    executor = FakeExecutor(
        tmp_path, lambda arm, tried: "killed" if one_each.get(arm.seed or 0) == name_of(arm)[:-1] else None
    )
    with pytest.raises(TrainingError) as caught:
        gathered(executor, tmp_path)
    assert caught.value.slug == "arms-fail"
    assert str(caught.value).startswith("4 seeds failed, the last with these factors switched: a, b; killed:")


# ---------------------------------------------------------------------------------------------
# Ctrl-C


class Stopped(FakeExecutor):
    """Ctrl-C while the arm after `after` others is awaited, which ends and is stored all the same."""

    after = 6

    def run(self, arms: Sequence[Arm]) -> Iterator[Done]:
        for done in super().run(arms):
            if len(self.ran) > self.after:
                raise KeyboardInterrupt
            yield done


def test_ctrl_c_leaves_the_seeds_that_are_complete(tmp_path: Path) -> None:
    executor = Stopped(tmp_path)
    found, _ = gathered(executor, tmp_path)
    assert not found.complete
    assert found.design.seeds == (1,)
    assert set(found.games("last")) == {1}
    executor = Stopped(tmp_path)
    executor.after = 99
    rest, _ = gathered(executor, tmp_path)
    assert rest.complete
    assert len(executor.ran) == 5, "one arm ended when nobody waited for it any more"
    assert len(rest.cached) == 7


def test_an_arm_that_ends_with_ctrl_c_counts(tmp_path: Path) -> None:
    executor = Stopped(tmp_path)
    executor.after = 7
    found, _ = gathered(executor, tmp_path)
    assert found.design.seeds == (1, 2)
    assert found.spent == 16
    assert found.cached == frozenset()


def test_ctrl_c_before_a_seed_is_complete_leaves_none(tmp_path: Path) -> None:
    executor = Stopped(tmp_path)
    executor.after = 2
    found, _ = gathered(executor, tmp_path)
    assert (found.design.seeds, found.games("last"), found.complete) == ((), {}, False)


def test_ctrl_c_after_permutations_keeps_the_orders_of_the_complete_seeds(tmp_path: Path) -> None:
    executor = Stopped(tmp_path)
    executor.after = 17
    found, _ = gathered(executor, tmp_path, FOUR)
    assert found.design == replace(FOUR, seeds=(1, 2), orders=FOUR.orders[:2])


class InTheMiddle(Watching):
    """Ctrl-C while the progress is shown."""

    def __call__(self, ended: Ended) -> None:
        super().__call__(ended)
        if ended.done == 4:
            raise KeyboardInterrupt


def test_what_counts_after_ctrl_c_is_on_the_disk(tmp_path: Path) -> None:
    """Results come from machines with other disks; one that is used and not stored would fail the check of the sum."""
    found = gather(TWO, arm_of, FakeExecutor(tmp_path, stores=False), tmp_path, InTheMiddle())
    assert found.design.seeds == (1,)
    check(division(found), found, tmp_path)


def test_ctrl_c_while_a_result_is_stored_does_not_use_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = measure.keep

    def interrupted(result: ArmResult, root: Path) -> None:
        if result.key == arm_of(frozenset("b"), 2).key:
            raise KeyboardInterrupt
        keep(result, root)

    monkeypatch.setattr(measure, "keep", interrupted)
    found, _ = gathered(FakeExecutor(tmp_path, stores=False), tmp_path)
    assert found.design.seeds == (1,)
    check(division(found), found, tmp_path)


def division(found: Gathered) -> Division:
    """What the made-up losses divide into, without intervals."""
    a, b = (
        Contribution(
            factor=Factor(name=name, settings={name: (False, True)}),
            value=value,
            ci=None,
            verdict="inconclusive",
            per_seed=(),
        )
        for name, value in (("a", 0.1), ("b", 0.2))
    )
    unknown = Quantity(value=None, why="made up")
    assert found.games("last")[1][frozenset("ab")] == loss_of(arm_of(frozenset("ab"), 1))
    return Division(
        at="last",
        reported=unknown,
        measurement=Quantity(value=0.0),
        common=Quantity(value=0.3),
        ends=(1.0, 1.3),
        own_context=(0.0, 0.0),
        contributions=(a, b),
        interactions=(),
        not_reproduced=unknown,
        screened_out=Quantity(value=0.0),
    )
