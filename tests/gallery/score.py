"""What the rules say of every pair of the gallery: ranks of the true causes, precision and recall per rule, nulls.

    PYTHONPATH=tests python -m gallery.score [PAGE]      PAGE (docs/gallery.md, say) is written anew

Every plant is shown five ways. visible: all settings. decoy: another setting differs that does no harm. stripped:
nothing but the lines of the losses. nanogpt: its stdout with the settings. huggingface: its Trainer's state. And all is
scored twice: with the shipped table of spreads without the three recipes, and with their spreads, measured on other
seeds, beside it.
"""

from __future__ import annotations

import datetime
import itertools
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Literal
from unittest import mock

from gallery.plants import CONTROL_SEEDS, HELD_OUT, NULL_SEEDS, PLANTS, RECIPES, TEST_SEEDS, Plant
from gallery.stored import DATA, Form, Stored, load, write
from lossgap import load_run
from lossgap.comparison import spread, spread_model
from lossgap.comparison.compare import compare
from lossgap.comparison.comparison import Comparison
from lossgap.comparison.rules import rules
from lossgap.comparison.verdict import MARGIN
from lossgap.runs.run import Run

Mode = Literal["visible", "decoy", "stripped", "nanogpt", "huggingface"]
MODES: tuple[Mode, ...] = ("visible", "decoy", "stripped", "nanogpt", "huggingface")
FORMS: Mapping[Mode, Form] = {"stripped": "stripped", "nanogpt": "stdout", "huggingface": "huggingface"}
"""How a mode is written where the plant does not say it."""
SHOWN_BY_TRAINER = ("batch_size", "max_iters", "lr_decay_iters", "learning_rate", "min_lr", "warmup_iters", "decay_lr")
"""Settings that a trainer_state.json shows, or that the rates of its rows do."""

FEWER = 6
"""Seeds of each recipe whose null pairs are read in the other trainers' formats."""

DECOYS: Mapping[int, Mapping[str, object]] = {
    TEST_SEEDS[0]: {"log_interval": 3, "eval_interval": 50},
    TEST_SEEDS[1]: {"always_save_checkpoint": True, "wandb_run_name": "second try", "wandb_project": "other"},
    TEST_SEEDS[2]: {"out_dir": "out-again", "checkpoint_seconds": 60.0, "checkpoint_at": [100]},
}
"""Settings that do no harm, by the seed of the test."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was said of one pair."""

    word: str
    gap: float | None
    causes: tuple[str, ...]
    """Ids, strongest first."""
    remarks: tuple[str, ...]
    missing: frozenset[str]
    """Settings that are named as missing, without the run's name."""
    differ: tuple[str, ...] = ()
    """Settings that differ in meaning, in the order of the config, the seed left out."""

    @classmethod
    def of(cls, found: Comparison) -> Answer:
        """The part of a comparison that is scored."""
        needs = (need.partition(".")[2] for item in found.findings for need in item.needs)
        return cls(
            word=found.verdict.word,
            gap=found.gap,
            causes=tuple(item.id for item in found.causes),
            remarks=tuple(item.id for item in found.remarks),
            missing=frozenset(needs),
            differ=tuple(item.name for item in found.settings.differ_in_meaning if item.name != "seed"),
        )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The answer to one pair of a plant in one mode."""

    plant: Plant
    seed: int
    mode: Mode
    answer: Answer

    @property
    def held_out(self) -> bool:
        """Whether the pair is of the half that stands for new ones."""
        return self.seed in HELD_OUT

    @property
    def rank(self) -> int | None:
        """The place of the first right cause, from 1."""
        right = {self.plant.truth, *self.plant.also}
        return next((place for place, id in enumerate(self.answer.causes, 1) if id in right), None)

    @property
    def no_need(self) -> bool:
        """Whether the gap lies inside the margin, so that there is nothing to explain."""
        return self.answer.gap is not None and abs(self.answer.gap) <= MARGIN and not self.answer.causes

    @property
    def shown(self) -> bool:
        """Whether the mode shows every setting that was planted, and the setting is what ran."""
        planted = set(self.plant.test) | set(self.plant.control) | set(self.plant.first or ())
        if self.plant.claims or self.plant.fault or self.mode == "stripped":
            return False
        return self.mode != "huggingface" or planted <= set(SHOWN_BY_TRAINER)

    @property
    def named(self) -> bool:
        """Whether the planted setting is named as missing."""
        return bool(self.answer.missing & set(self.plant.names))

    @property
    def right(self) -> bool:
        """True cause first or second; no cause where none is. A setting named as missing is counted apart."""
        if self.plant.kind == "harmless":
            return not self.answer.causes
        if self.plant.kind == "told":  # bare rows neither claim a setting nor show a resume
            return not self.answer.causes and (self.mode == "stripped" or self.plant.truth in self.answer.remarks)
        return self.rank is not None and self.rank <= 2

    @property
    def by_diff(self) -> bool:
        """What a diff of the two configs says: whether a planted setting is the first or second that differs.

        A difference that does no harm is right only where nothing differs.
        """
        planted = set(self.plant.names) | (set(self.plant.test) - set(self.plant.claims))
        if self.plant.kind != "cause":
            return not self.answer.differ
        return bool(planted & set(self.answer.differ[:2]))


@dataclass(frozen=True, kw_only=True)
class Null:
    """The answer to one pair of equal recipes."""

    recipe: str
    seeds: tuple[int, int]
    form: Form
    answer: Answer


@dataclass(frozen=True)
class Scores:
    """All answers."""

    outcomes: tuple[Outcome, ...]
    nulls: tuple[Null, ...]

    def planted(self, mode: Mode, kind: str = "cause") -> list[Outcome]:
        """The outcomes of one mode and kind."""
        return [item for item in self.outcomes if item.mode == mode and item.plant.kind == kind]

    @cached_property
    def fired(self) -> dict[str, tuple[int, int]]:
        """By rule: how often it gave a cause, and how often a right one; over plants in all modes and all nulls."""
        counts: dict[str, tuple[int, int]] = {}
        for id, right, _ in self._fires():
            all_fires, right_ones = counts.get(id, (0, 0))
            counts[id] = (all_fires + 1, right_ones + right)
        return counts

    @cached_property
    def wrong(self) -> dict[str, Counter[str]]:
        """By rule: where it gave a cause that is not true, and how often."""
        found: dict[str, Counter[str]] = {}
        for id, right, where in self._fires():
            if not right:
                found.setdefault(id, Counter())[where] += 1
        return found

    def _fires(self) -> Iterable[tuple[str, bool, str]]:
        for item in self.outcomes:
            right = {item.plant.truth, *item.plant.also} if item.plant.kind == "cause" else set()
            yield from ((id, id in right, item.plant.name) for id in set(item.answer.causes))
        for null in self.nulls:
            yield from ((id, False, f"null pairs of {null.recipe}") for id in set(null.answer.causes))

    def recall(self, id: str, mode: Mode) -> tuple[int, int]:
        """Pairs of the plants whose truth is this rule, and how many of them are answered right."""
        mine = [item for item in self.planted(mode) if item.plant.truth == id]
        return len(mine), sum(item.right for item in mine)


class Shelf:
    """The stored runs, written into a folder and read by the real readers, each once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stored = load()
        self.read: dict[tuple[str, Form], Run] = {}

    def run(self, key: str, form: Form) -> Run:
        """A run as it was trained."""
        if (key, form) not in self.read:
            self.read[key, form] = self.reading(self.stored[key], form)
        return self.read[key, form]

    def reading(self, run: Stored, form: Form) -> Run:
        """Write and read one; its name says nothing."""
        number = sum(1 for _ in self.folder.iterdir())
        return load_run(write(run, self.folder / f"run-{number}", form))


def unseen_table() -> spread.SpreadTable:
    """The shipped table without anything that was learned from the gallery's recipes."""
    others = [item for item in spread_model.bank() if not item.id.startswith("gallery ")]
    return replace(spread.table(), model=spread_model.fitted(others))


def measured_table() -> spread.SpreadTable:
    """The same with the spreads of the gallery's recipes, each over five seeds that no pair here uses."""
    shipped = json.loads(resources.files("lossgap.comparison").joinpath("spreads.json").read_text(encoding="utf-8"))
    own = json.loads((DATA / "spreads.json").read_text(encoding="utf-8"))
    both = spread.read_table({**shipped, **{name: shipped[name] + own[name] for name in ("spreads", "windows")}})
    return replace(both, model=unseen_table().model)


def score(*, measured: bool) -> Scores:
    """Compare all pairs, as if these recipes were new to lossgap, or with their measured spreads beside it."""
    known = measured_table() if measured else unseen_table()
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(spread, "table", return_value=known):
        shelf = Shelf(Path(folder))
        outcomes = tuple(outcome for plant in PLANTS for outcome in _plant(shelf, plant))
        return Scores(outcomes, tuple(_nulls(shelf)))


def _plant(shelf: Shelf, plant: Plant) -> Iterable[Outcome]:
    visible: Form = "stdout" if plant.stdout else "folder"
    for control_seed, seed in zip(CONTROL_SEEDS, TEST_SEEDS, strict=True):
        kept = plant.of or plant.name
        control = f"{kept}/control/{control_seed}" if plant.control else f"null/{plant.recipe}/{control_seed}"
        if not plant.test:
            test = shelf.stored[control].with_settings(plant.claims)
        else:
            test = shelf.stored[f"{kept}/test/{seed}"]
            test = test.with_settings(plant.claims) if plant.of else test
        for mode in MODES:
            form = FORMS.get(mode, visible)
            shown = _decoyed(test, DECOYS[seed]) if mode == "decoy" else test
            found = compare(shelf.run(control, form), shelf.reading(shown, form))
            yield Outcome(plant=plant, seed=seed, mode=mode, answer=Answer.of(found))


def _decoyed(run: Stored, decoy: Mapping[str, object]) -> Stored:
    log, evaluation = decoy.get("log_interval"), decoy.get("eval_interval")
    if isinstance(log, int) and isinstance(evaluation, int):
        return run.thinned(log_interval=log, eval_interval=evaluation)
    return run.with_settings(decoy)


def _nulls(shelf: Shelf) -> Iterable[Null]:
    seeds: Mapping[Form, Sequence[int]] = {
        "folder": NULL_SEEDS,
        "stripped": NULL_SEEDS,
        "stdout": NULL_SEEDS[:FEWER],
        "huggingface": NULL_SEEDS[:FEWER],
    }
    for form, recipe in itertools.product(seeds, RECIPES):
        for first, second in itertools.combinations(seeds[form], 2):
            runs = [shelf.run(f"null/{recipe}/{seed}", form) for seed in (first, second)]
            yield Null(recipe=recipe, seeds=(first, second), form=form, answer=Answer.of(compare(*runs)))


def interval(hits: int, total: int) -> tuple[float, float]:
    """The exact 95% interval of a share (Clopper and Pearson 1934), by quantiles of the beta distribution."""
    from scipy.special import betaincinv

    low = float(betaincinv(hits, total - hits + 1, 0.025)) if hits else 0.0
    high = float(betaincinv(hits + 1, total - hits, 0.975)) if hits < total else 1.0
    return low, high


def rule_ids() -> tuple[str, ...]:
    """All rules in their order."""
    return tuple(item.id for item in rules())


def main(argv: list[str]) -> int:
    """Print the page, and write it where a path is given."""
    from gallery.page import page

    text = page(score(measured=True), score(measured=False), datetime.date.today())
    print(text, end="")
    if argv:
        Path(argv[0]).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
