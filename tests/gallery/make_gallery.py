"""Train the runs of the gallery and keep them in `data/`; about 10 minutes of one processor core.

    PYTHONPATH=tests python -m gallery.make_gallery [WORK]

WORK (default: out-gallery) holds the run folders; what is finished there is not trained again. The spreads of the
three recipes are measured before, on other seeds, by the commands that this prints (`--spreads`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast
from unittest import mock

from gallery.plants import (
    CONTROL_SEEDS,
    NULL_SEEDS,
    PLANTS,
    PRESET,
    RECIPES,
    SPREAD_SEEDS,
    TEST_SEEDS,
    Plant,
    Settings,
)
from gallery.stored import Stored, save, take
from lossgap.api import train
from lossgap.corpus import open_corpus
from lossgap.errors import LossgapError
from lossgap.random import Int64

TINY = 4000
"""Characters of the corpus that is soon known by heart."""


def main(argv: list[str]) -> int:
    """Train what is missing, recipe by recipe: nulls first, then plants."""
    if "--spreads" in argv:
        print("\n".join(spread_commands()))
        return 0
    work = Path(argv[0] if argv else "out-gallery")
    write_corpora(work)
    for recipe in RECIPES:
        nulls = [_run(work, f"null/{recipe}/{seed}", recipe, {"seed": seed}) for seed in NULL_SEEDS]
        _say(save(f"nulls-{recipe}", nulls))
    for recipe in RECIPES:
        mine = [plant for plant in PLANTS if plant.recipe == recipe]
        _say(save(f"plants-{recipe}", [run for plant in mine for run in planted(work, plant)]))
    return 0


def spread_commands() -> list[str]:
    """One command per recipe, which prints its entry of data/spreads.json."""
    base = "python scripts/measure_spread.py"
    return [
        shlex.join(
            [*base.split(), PRESET, f"--seeds={SPREAD_SEEDS}", "--dry=True", f"--runs=out-gallery/spread-{name}"]
        )
        + " "
        + shlex.join([f"--id=gallery {name}", *(f"--{key}={value}" for key, value in settings.items())])
        for name, settings in RECIPES.items()
    ]


def write_corpora(work: Path) -> None:
    """The text in capitals; with the letters of each word in another order; its first 4,000 characters."""
    corpus = open_corpus("shakespeare_char")
    assert corpus.tokenizer is not None, "a text has characters"
    text = corpus.tokenizer.decode([*corpus.train.tolist(), *corpus.val.tolist()])
    work.mkdir(parents=True, exist_ok=True)
    order = random.Random(1)
    shuffled = "\n".join(
        " ".join("".join(order.sample(word, len(word))) for word in line.split(" ")) for line in text.split("\n")
    )
    for name, content in (("upper", text.upper()), ("shuffled", shuffled), ("tiny", text[:TINY])):
        (work / f"{name}.txt").write_text(content, encoding="utf-8")


def planted(work: Path, plant: Plant) -> list[Stored]:
    """The tests of a plant, and its controls where the recipe's null runs are not those."""
    runs: list[Stored] = []
    if plant.of:
        return runs
    for control_seed, seed in zip(CONTROL_SEEDS, TEST_SEEDS, strict=True):
        if plant.control:
            key = f"{plant.name}/control/{control_seed}"
            runs.append(_run(work, key, plant.recipe, {**plant.control, "seed": control_seed}))
        if plant.test:
            key = f"{plant.name}/test/{seed}"
            first = None if plant.first is None else {**plant.test, **plant.first, "seed": seed}
            runs.append(_run(work, key, plant.recipe, {**plant.test, "seed": seed}, plant=plant, first=first))
    return runs


def _run(
    work: Path, key: str, recipe: str, settings: Settings, plant: Plant | None = None, first: Settings | None = None
) -> Stored:
    """The run with these settings; trained once, whatever asks for it."""
    full = {**RECIPES[recipe], **settings}
    full["dataset"] = dataset(work, full.get("dataset"))
    fault = plant.fault if plant is not None else ""
    name = hashlib.sha256(json.dumps([full, first, fault], sort_keys=True).encode()).hexdigest()[:16]
    folder, done = work / "runs" / name, work / "runs" / f"{name}.done"
    if not done.exists():
        with evaluations_in_train_mode() if fault == "train-mode-evaluation" else contextlib.nullcontext():
            if first is None:
                _train(folder, full, overwrite=True)
            else:
                _train(folder, {**RECIPES[recipe], **first, "dataset": full["dataset"]}, overwrite=True)
                again: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
                if fault == "plain-resume":
                    strip_checkpoints(folder)
                    again = batches_from_the_beginning(cast("int", first["max_iters"]) + 1)
                with again:
                    _train(folder, settings, init_from="resume")
        done.touch()
    return take(key, folder, plant.claims if plant is not None else {})


def dataset(work: Path, name: object) -> str:
    """The setting that opens a corpus of the gallery."""
    return str(work / str(name)) if str(name).endswith(".txt") else "shakespeare_char"


def _train(folder: Path, settings: Mapping[str, object], **more: object) -> None:
    """One training; one whose loss is no longer finite stops itself, and that is its record."""
    try:
        configs = [] if "init_from" in more else [PRESET]  # a resumed run has its checkpoint's settings
        train(*configs, **{**settings, **more, "out_dir": str(folder), "checkpoint_seconds": 1e6})
    except LossgapError as error:
        if error.slug != "loss-not-finite":
            raise


@contextlib.contextmanager
def evaluations_in_train_mode() -> Iterator[None]:
    """The fault of a trainer that forgets `model.eval()`."""
    from lossgap.gpt import GPT

    def stay(self: GPT, mode: bool = True) -> GPT:
        return self

    with mock.patch.object(GPT, "eval", stay), mock.patch.object(GPT, "train", stay):
        yield


@contextlib.contextmanager
def batches_from_the_beginning(first: int) -> Iterator[None]:
    """The fault of nanoGPT's resume: iteration `first` reads the batch of iteration 0 again, and so on."""
    from lossgap.training.draws import CounterDraws

    usual = CounterDraws.train_starts

    def again(self: CounterDraws, iteration: int, sequences: range, n_tokens: int, block_size: int) -> Int64:
        return usual(self, iteration - first, sequences, n_tokens, block_size)

    with mock.patch.object(CounterDraws, "train_starts", again):
        yield


def strip_checkpoints(folder: Path) -> None:
    """Leave in the checkpoints what nanoGPT's have: no generators and no digest."""
    import torch

    for path in folder.glob("ckpt*.pt"):
        content = torch.load(path, map_location="cpu", weights_only=True)
        content.pop("lossgap", None)
        path.unlink()
        torch.save(content, path)


def _say(path: Path) -> None:
    print(f"{path.name}: {path.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
