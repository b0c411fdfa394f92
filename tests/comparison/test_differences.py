from __future__ import annotations

from comparison.made import GPU, LAPTOP, curve, run
from lossgap.comparison.differences import compare_settings
from lossgap.comparison.facts import Facts
from lossgap.runs.run import Inferred


def test_only_control_only_test_and_differing() -> None:
    control = Facts.of(run(curve(1.9), config=LAPTOP | {"seed": 1, "my_setting": 3}))
    test = Facts.of(run(curve(1.7), config=GPU | {"out_dir": "out"}))
    found = compare_settings(control, test)
    assert [item.name for item in found.only_control] == ["seed", "my_setting"]
    assert [item.name for item in found.only_test] == ["out_dir"]
    differing = {item.name: (item.control, item.test, item.factor) for item in found.differ}
    assert differing["n_layer"] == (4, 6, "capacity")
    assert differing["dropout"] == (0.0, 0.2, "regularisation")
    assert differing["eval_iters"] == (20, 200, None)
    assert "learning_rate" not in differing
    assert "learning_rate" in {item.name for item in found.same}


def test_measurement_and_output_do_not_make_another_training() -> None:
    control = Facts.of(run({}, config={"out_dir": "a", "eval_iters": 20, "n_layer": 4}))
    test = Facts.of(run({}, config={"out_dir": "b", "eval_iters": 200, "n_layer": 5}))
    found = compare_settings(control, test)
    assert [item.name for item in found.differ_in_meaning] == ["n_layer"]
    assert len(found.differ) == 3


def test_inferred_values_are_marked_with_their_run() -> None:
    test = Facts.of(run({}, config={}, inferred=[Inferred(name="n_layer", value=6, why="the recipe")]))
    found = compare_settings(Facts.of(run({}, config={"n_layer": 4})), test)
    assert found.differ[0].inferred == ("test",)


def test_equal_values_of_other_types() -> None:
    def differ(first: object, second: object) -> bool:
        one, two = (Facts.of(run({}, config={"x": value})) for value in (first, second))
        return bool(compare_settings(one, two).differ)

    assert not differ(1, 1.0)
    assert not differ((1, 2), [1, 2])
    assert differ(1, True)
    assert differ("1", 1)
    assert differ([1, 2], [2, 1])


def test_as_it_ran_counts_not_as_it_was_asked() -> None:
    control = Facts.of(run({}, config={"dtype": "bfloat16"}, effective={"dtype": "float32"}))
    test = Facts.of(run({}, config={"dtype": "float32"}))
    assert not compare_settings(control, test).differ


def test_nothing_known_says_that_nothing_can_be_compared() -> None:
    bare = Facts.of(run(curve(1.9), config={}))
    assert not compare_settings(bare, bare).comparable
    assert compare_settings(Facts.of(run({})), Facts.of(run({}))).comparable
