"""data-order, and the likeness of losses that it looks at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comparison.findings.answer import ask, laptop
from comparison.findings.losses import batches, falling, printed
from comparison.made import LAPTOP, curve, run
from lossgap.comparison.findings.likeness import of

NOT_OURS = {"n_layer": 4}
COUNT = 400


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 3.0), st.floats(0.01, 0.3))
def test_the_same_batches_are_told_from_others(seed: int, end: float, scatter: float) -> None:
    hard = batches(COUNT, seed, scatter)
    other = batches(COUNT, seed + 1, scatter)
    noise = batches(COUNT, seed + 2, scatter * 0.7)
    same = of(falling(COUNT) + hard, falling(COUNT, end) + 0.8 * hard + noise)
    unlike = of(falling(COUNT) + hard, falling(COUNT, end) + other)
    assert same is not None
    assert same.same
    assert unlike is not None
    assert unlike.same is not True


def test_the_fall_of_both_curves_is_no_likeness() -> None:
    found = of(falling(COUNT) + batches(COUNT, 1), falling(COUNT) + batches(COUNT, 2))
    assert found is not None
    assert found.same is False


def test_few_losses_and_flat_ones_tell_nothing() -> None:
    assert of(falling(40), falling(40)) is None
    assert of(np.ones(200), np.ones(200)) is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"eval_iters": 200}, "eval_iters 20 and 200"),
        ({"eval_interval": 500}, "eval_interval 250 and 500"),
        ({"n_embd": 192}, "n_embd 128 and 192"),
        ({"batch_size": 24}, "batch_size 12 and 24"),
        ({"dropout": 0.2}, "dropout masks draw from the generator of the batches on a CPU"),
    ],
)
def test_what_changes_nanogpts_batches(changes: dict[str, Any], says: str) -> None:
    found = ask("data-order", laptop(), laptop(1.905, **changes)).remark
    assert says in found.text
    assert "although both have seed 1337" in found.text
    assert found.evidence == "computed"


@pytest.mark.parametrize(
    ("control", "test", "same"),
    [
        ({"device": "cuda", "dropout": 0.0}, {"device": "cuda", "dropout": 0.2}, True),
        ({"device": "cpu", "dropout": 0.0}, {"device": "mps", "dropout": 0.0}, True),
        ({"device": "cpu", "dropout": 0.1}, {"device": "cpu", "dropout": 0.2}, True),
        ({"device": "cpu", "dropout": 0.2}, {"device": "cuda", "dropout": 0.2}, False),
        ({"device": "cpu", "dropout": 0.0}, {"device": "cpu", "dropout": 0.2}, False),
        ({"learning_rate": 1e-3}, {"learning_rate": 1e-2, "out_dir": "x", "log_interval": 7}, True),
    ],
)
def test_dropout_shifts_the_batches_on_a_cpu_only(control: dict[str, Any], test: dict[str, Any], same: bool) -> None:
    known: dict[str, Any] = {"vocab_size": 65, "eval_interval": 250}
    found = ask("data-order", laptop(**known, **control), laptop(1.905, **known, **test))
    assert not found.ruled_out, "nanoGPT's seed is read off its source: a copy may have another"
    assert found.silent is same
    stated = ask("data-order", laptop(seed=1, **known, **control), laptop(1.905, seed=1, **known, **test))
    assert bool(stated.ruled_out) is same
    assert found.silent is same


def test_a_resumed_run_had_other_batches() -> None:
    seam = run(curve(1.9), seams=[{"iter": 1000, "from": 1500, "changed": [], "line": 3}])
    assert "test was resumed" in ask("data-order", laptop(), seam).remark.text


def test_what_it_lacks_is_named_unless_the_losses_tell() -> None:
    bare = {name: value for name, value in LAPTOP.items() if name != "eval_iters"}
    assert "test.eval_iters" in ask("data-order", laptop(), run(curve(1.905), config=bare)).needs
    hard = batches(COUNT)
    pair = [printed(falling(COUNT) + hard, config=bare), printed(falling(COUNT) + hard * 0.9, config=bare)]
    found = ask("data-order", *pair)
    assert not found.needs
    assert found.ruled_out[0].evidence == "inferred"


def test_losses_that_contradict_the_settings() -> None:
    pair = [printed(falling(COUNT) + batches(COUNT, seed)) for seed in (1, 2)]
    found = ask("data-order", *pair).remark
    assert "something differs that the records do not say" in found.text
    agree = ask("data-order", pair[0], printed(falling(COUNT) + batches(COUNT, 1) * 1.1))
    assert "agree with that" in agree.ruled_out[0].text


def test_our_own_batches_depend_on_the_seed_and_not_on_evaluations() -> None:
    def own(**changes: object) -> object:
        config = LAPTOP | {"seed": 1, "rng": "counter"} | changes
        return run(curve(1.9), config=config, format="lossgap")

    assert ask("data-order", own(), own(eval_iters=99, dropout=0.3)).ruled_out  # type: ignore[arg-type]
    assert "seed 1 and 2" in ask("data-order", own(), own(seed=2)).remark.text  # type: ignore[arg-type]


def test_other_trainers_are_judged_by_their_losses_alone() -> None:
    pair = [printed(falling(COUNT) + batches(COUNT, seed), format="llmc", config={}) for seed in (1, 2)]
    assert "other batches" in ask("data-order", *pair).remark.text
    assert ask("data-order", run(curve(1.9), format="llmc"), run(curve(1.8), format="llmc")).silent
