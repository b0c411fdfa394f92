"""A stretch in memory is `lossgap train`, bit for bit."""

from __future__ import annotations

import pytest
import torch

from lossgap.corpus import open_corpus
from lossgap.parity.drawing import checkpoint_moment, draw, new_draws
from lossgap.parity.stretch import Stretch, run_stretch
from lossgap.training.checkpoint import load

from .small import config, job, numerics, rows, train

CASES: list[dict[str, object]] = [
    {},
    {"dropout": 0.2, "gradient_accumulation_steps": 2},
    {"dtype": "bfloat16"},
    {"dtype": "bfloat16", "dropout": 0.2, "gradient_accumulation_steps": 3, "bias": True},
    {"dtype": "float16", "gradient_accumulation_steps": 2},
    {"attention": "fused", "adamw": "loop", "grad_clip": 0.0},
    {"rng": "nanogpt", "dtype": "float32"},
]


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_a_stretch_from_scratch_is_the_training(settings: dict[str, object]) -> None:
    run = train("run", **settings)
    chosen = config(**settings)
    work, moment = job(chosen)
    trace = run_stretch(work, numerics(chosen), moment, 10, keep=(0, 10), evaluate=(0, 4, 8))
    recorded = rows(run, "iter")
    assert len(recorded) == 10
    assert list(trace.losses) == [row["loss"] for row in recorded]
    assert list(trace.grad_norms) == [row["grad_norm"] for row in recorded]
    if chosen.rng == "counter":
        found = {(iteration, split): loss for iteration, split, loss in trace.evaluations}
        for row in rows(run, "eval"):
            iteration = int(row["iter"])
            assert found[iteration, "train"] == row["train_loss"]
            assert found[iteration, "val"] == row["val_loss"]
    final = load(run / "ckpt-final.pt")
    last = trace.moments[10]
    assert all(torch.equal(last.weights[name], final.model[name]) for name in last.weights)
    assert (last.step, trace.moments[0].step) == (10, 0)


@pytest.mark.parametrize(
    "settings", [*CASES[:4], {**CASES[4], "checkpoint_at": (6,)}, CASES[6]], ids=lambda settings: str(settings)
)
def test_a_stretch_from_a_checkpoint_is_the_training(settings: dict[str, object]) -> None:
    run = train("run", **{"checkpoint_at": (6,), **settings})
    chosen = config(**settings)
    work, _ = job(chosen)
    corpus, draws, mine = open_corpus("text.txt"), new_draws(chosen), numerics(chosen)
    moment = checkpoint_moment(load(run / "ckpt-000006.pt"), chosen, work.shape, mine, draws)
    assert moment.iteration == moment.step == 6
    drawn = draw(chosen, work.shape, corpus, draws, 6, 4, 1)
    trace = run_stretch(drawn.job(chosen, work.shape), mine, moment, 4)
    assert list(trace.losses) == [row["loss"] for row in rows(run, "iter")[6:]]
    assert list(trace.grad_norms) == [row["grad_norm"] for row in rows(run, "iter")[6:]]


def test_a_stretch_goes_on_from_a_moment_of_another() -> None:
    chosen = config(dropout=0.2, dtype="bfloat16")
    work, moment = job(chosen)
    stretch = Stretch(work, numerics(chosen))
    whole = stretch.run(moment, 10, keep=(5,))
    rest = stretch.run(whole.moments[5], 5)
    again = stretch.run(moment, 10)
    assert rest.first == 5
    assert rest.losses == whole.losses[5:]
    assert again.losses == whole.losses


def test_each_is_told_every_loss() -> None:
    chosen = config()
    work, moment = job(chosen)
    told: list[tuple[int, float]] = []
    trace = run_stretch(work, numerics(chosen), moment, 3, each=lambda *pair: told.append(pair))
    assert told == list(enumerate(trace.losses))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch's own, while it compiles
def test_a_compiled_stretch_is_the_compiled_training() -> None:
    run = train("run", compile=True)
    chosen = config(compile=True)
    work, moment = job(chosen)
    trace = run_stretch(work, numerics(chosen), moment, 10)
    assert list(trace.losses) == [row["loss"] for row in rows(run, "iter")]
