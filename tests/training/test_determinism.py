"""A run depends on its config alone: not on repetition, evaluation, folder or the cut into micro-batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from lossgap.arguments import Given
from lossgap.config import TrainConfig
from lossgap.corpus import open_corpus
from lossgap.gpt import GPTConfig, n_places
from lossgap.kernels.check import certify
from lossgap.training.batches import Batches
from lossgap.training.distributed import share
from lossgap.training.draws import CounterDraws
from lossgap.training.numerics import applied, resolve
from lossgap.training.optimizer import adamw
from lossgap.training.progress import Silence
from lossgap.training.train import train_given

from .small import SETTINGS, Ended, bits, record, rows, same_run

Train = Callable[..., Ended]
VOCABULARY = 22


def config(**settings: Any) -> TrainConfig:
    return TrainConfig.from_dict({"dataset": "text.txt", **SETTINGS, **settings})


# ---------------------------------------------------------------------------------------------
# One step, again and again


def fingerprint(tensors: Iterator[torch.Tensor]) -> str:
    """A hash of their bits."""
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(tensor.detach().contiguous().view(torch.uint8).numpy().data)
    return sha.hexdigest()


@contextmanager
def repeated_step(settings: TrainConfig) -> Iterator[Callable[[], str]]:
    """A function that makes the first update of a training from the same start, and hashes gradients and weights."""
    numerics, _ = resolve(settings, "cpu", 1, {})
    assert numerics.compile == settings.compile
    with applied(numerics):
        draws = CounterDraws(settings.seed, keyed_dropout=True)
        one = share(0, 1, settings.batch_size, settings.gradient_accumulation_steps)
        corpus = open_corpus(settings.dataset)
        shape = {name: getattr(settings, name) for name in ("n_layer", "n_head", "n_embd", "block_size", "bias")}
        model = draws.new_model(GPTConfig(**shape, vocab_size=VOCABULARY, dropout=settings.dropout))
        model.use_attention(numerics.attention)
        first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        step_model = torch.compile(model) if numerics.compile else model
        places = n_places(settings.n_layer)
        batches = [
            Batches(corpus, draws, one, settings.block_size, places, "cpu", iteration).take() for iteration in range(2)
        ]

        def step() -> str:
            model.load_state_dict(first)
            optimizer = adamw(model, settings, numerics)
            for batch in batches:
                _, loss = step_model(batch.x, batch.y, batch.keys)
                (loss / len(batches)).backward()
            gradients = fingerprint(p.grad for p in model.parameters() if p.grad is not None)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            return gradients + fingerprint(model.parameters())

        yield step
    torch._dynamo.reset()


compiles = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch's own, while it compiles
WIDE = {"compile": True, "n_layer": 1, "batch_size": 12, "block_size": 64, "n_embd": 64}
"""Embedding gradients of 768 tokens a step, which two threads add up: the place where a CPU is not deterministic."""


@compiles
def test_a_compiled_step_has_one_hash() -> None:
    with repeated_step(config(**WIDE)) as step:
        assert len({step() for _ in range(30)}) == 1


@compiles
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("compiled", [True, False])
def test_a_step_repeated_500_times_has_one_hash(compiled: bool) -> None:
    with repeated_step(config(**WIDE | {"compile": compiled})) as step:
        assert len({step() for _ in range(500)}) == 1


def test_the_hash_sees_the_last_bit_of_one_gradient() -> None:
    # The test of the tests above: what they count would not stay 1 if one bit moved.
    values = torch.ones(1000)
    other = values.clone()
    other[500] = torch.nextafter(other[500], torch.tensor(2.0))
    assert fingerprint(iter([values])) != fingerprint(iter([other]))


def test_without_deterministic_the_promise_is_given_up_and_recorded(train: Train) -> None:
    assert train("run", deterministic=False, max_iters=1).code == 0
    effective = record("run")["effective"]
    assert isinstance(effective, dict)
    assert effective["deterministic"] is False
    assert not torch.are_deterministic_algorithms_enabled()


# ---------------------------------------------------------------------------------------------
# What a training does not depend on


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run that the others are compared with."""
    return tmp_path_factory.mktemp("kept")


def weights(folder: Path | str) -> dict[str, object]:
    """Final weights and moments."""
    return {name: value for name, value in bits(Path(folder, "ckpt-final.pt")).items() if "best_val" not in name}


def iterations(folder: Path | str) -> list[dict[str, object]]:
    return [row for row in rows(folder) if row["kind"] == "iter"]


MEASURES: dict[str, dict[str, object]] = {
    "eval_iters": {"eval_iters": 7},
    "eval_interval": {"eval_interval": 3},
    "no evaluation": {"eval_interval": 10**6},
    "exact evaluation": {"eval_mode": "exact"},
    "no final evaluation": {"final_eval": False},
    "log_interval": {"log_interval": 7},
    "checkpoints": {"checkpoint_seconds": 1e-9, "checkpoint_at": (1, 2, 3), "always_save_checkpoint": False},
}


@pytest.mark.parametrize("measure", MEASURES)
def test_weights_do_not_depend_on_how_they_are_measured(measure: str, kept: Path, train: Train) -> None:
    if not (kept / "whole").exists():
        assert train(kept / "whole").code == 0
    assert train("a folder of another name", **MEASURES[measure]).code == 0
    assert weights("a folder of another name") == weights(kept / "whole")
    assert iterations("a folder of another name") == iterations(kept / "whole")


def test_the_same_command_twice_is_the_same_run(train: Train) -> None:
    assert (train("first").code, train("second").code) == (0, 0)
    same_run("first", "second")


def test_another_seed_is_another_run(train: Train) -> None:
    assert (train("first", max_iters=2).code, train("second", max_iters=2, seed=1338).code) == (0, 0)
    assert weights("first") != weights("second")
    assert iterations("first")[0]["loss"] != iterations("second")[0]["loss"]


def test_what_the_process_did_before_does_not_matter(train: Train) -> None:
    assert train("first", max_iters=5).code == 0
    torch.manual_seed(99)
    torch.rand(1000)
    torch.set_num_threads(1)
    try:
        assert train("second", max_iters=5).code == 0
    finally:
        torch.set_num_threads(2)
    same_run("first", "second")


def test_a_training_leaves_the_process_as_it_was(train: Train) -> None:
    before = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    assert train("run", max_iters=1, threads=before[0] + 1).code == 0
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


# ---------------------------------------------------------------------------------------------
# The cut into micro-batches

CUTS = [(8, 1), (4, 2), (2, 4), (1, 8)]


def global_batch(batch_size: int, steps: int, iteration: int) -> list[torch.Tensor]:
    """Inputs, targets and mask keys of one iteration, its micro-batches one after the other."""
    one = share(0, 1, batch_size, steps)
    draws = CounterDraws(1337, keyed_dropout=True)
    batches = Batches(open_corpus("text.txt"), draws, one, 32, n_places(2), "cpu", iteration)
    parts = []
    for _ in range(steps):
        batch = batches.take()
        assert batch.keys is not None
        parts.append((batch.x, batch.y, batch.keys))
        batches.prefetch()
    return [torch.cat(part) for part in zip(*parts, strict=True)]


@pytest.mark.parametrize("cut", CUTS[1:])
@pytest.mark.parametrize("iteration", [0, 1, 1000])
def test_the_global_batch_and_its_masks_do_not_depend_on_the_cut(cut: tuple[int, int], iteration: int) -> None:
    whole, parts = global_batch(*CUTS[0], iteration), global_batch(*cut, iteration)
    assert all(torch.equal(first, second) for first, second in zip(whole, parts, strict=True))
    assert not torch.equal(whole[0], global_batch(*CUTS[0], iteration + 1)[0])


def test_losses_do_not_depend_on_the_cut_but_for_rounding(train: Train) -> None:
    losses = []
    for batch_size, steps in CUTS[:3]:
        folder = f"run-{steps}"
        assert train(folder, batch_size=batch_size, gradient_accumulation_steps=steps, eval_interval=100).code == 0
        losses.append([float(str(row["loss"])) for row in iterations(folder)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)
    assert max(losses[0]) - min(losses[0]) > 0.3  # it learned something, so equality says something


def test_the_python_call_is_the_command(train: Train) -> None:
    assert train("first", max_iters=3).code == 0
    values = {"dataset": "text.txt", **SETTINGS, "max_iters": 3, "out_dir": "second"}
    train_given(Given(values, {}), Silence(), certify)
    same_run("first", "second")
