"""The trainings behind the reference curves: which recipes, over which seeds, with which commands.

The laptop's recipe at three horizons, and one change at a time; `scripts/train_reference.py` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lossgap.presets import PRESETS, preset

LAPTOP = "shakespeare_char_cpu"
FIVE = (1, 2, 3, 4, 5)
THREE = (1, 2, 3)
UNCHOSEN = (11, 12, 13)
"""Seeds that no preset was chosen on."""
MEASURED: Mapping[str, object] = {"eval_interval": 250, "eval_iters": 50, "log_interval": 250, "threads": 1}
"""How every reference is measured. The windows of an evaluation and the exact losses at the end do not touch the
training; one thread, so that several may be trained side by side."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One recipe of the table."""

    name: str
    about: str
    base: str = LAPTOP
    """The preset that it starts from."""
    changes: Mapping[str, object] = field(default_factory=dict)
    seeds: tuple[int, ...] = THREE
    resumes: str = ""
    """The training whose final state it continues, with `changes`; empty for a fresh one."""

    @property
    def settings(self) -> dict[str, object]:
        """The settings of the recipe: those of the preset with the changes."""
        return {**preset(self.base), **self.changes}

    def folder(self, seed: int) -> str:
        """The name of the run folder of that seed."""
        return f"{self.name}-s{seed}"

    def arguments(self, seed: int, runs: str, *, resume: bool = False) -> list[str]:
        """The words behind `lossgap train`; `resume` goes on with a folder that was begun."""
        changed = [f"--{key}={value}" for key, value in {**MEASURED, **self.changes}.items()]
        out_dir = f"--out_dir={runs}/{self.folder(seed)}"
        if resume:
            return ["--init_from=resume", out_dir]
        if self.resumes:
            return [f"--resume={runs}/{named(self.resumes).folder(seed)}", *changed, out_dir]
        return [self.base, *changed, f"--seed={seed}", out_dir]


def _table() -> tuple[Training, ...]:
    def laptop(name: str, about: str, seeds: tuple[int, ...] = THREE, **changes: object) -> Training:
        return Training(name=name, about=about, seeds=seeds, changes=changes)

    long = {"max_iters": 5000, "lr_decay_iters": 5000}
    return (
        laptop("laptop2000", "nanoGPT's laptop recipe", FIVE),
        laptop("laptop5000", "the laptop recipe over 5,000 iterations", FIVE, **long),
        laptop("batch24", "twice the batch", batch_size=24),
        laptop("dropout02", "dropout 0.2", dropout=0.2),
        laptop("horizon5000", "2,000 iterations of a decay over 5,000", lr_decay_iters=5000),
        laptop("horizon1000", "a decay over 1,000 iterations, then constant", lr_decay_iters=1000),
        Training(
            name="resumed5000",
            about="laptop2000 resumed at 2,000 with the horizon 5,000",
            changes=long,
            resumes="laptop2000",
        ),
        laptop("dropout01", "dropout 0.1", dropout=0.1),
        laptop("context128", "context 128", block_size=128),
        laptop("layers6x192", "6 layers of 192 channels", n_layer=6, n_head=6, n_embd=192),
        laptop("context256", "context 256", block_size=256),
        laptop("laptop10000", "the laptop recipe over 10,000 iterations", FIVE, max_iters=10000, lr_decay_iters=10000),
        Training(
            name="gpu5000",
            about="nanoGPT's GPU recipe: hours on a CPU, minutes on a GPU",
            base="shakespeare_char",
            changes={"compile": False},
            seeds=(1,),
        ),
    )


TRAININGS = _table()
"""Every training, the ones that settle most first."""


def named(name: str) -> Training:
    """The training of that name. Raises KeyError."""
    return next(item for item in (*TRAININGS, *of_presets()) if item.name == name)


def of_presets() -> tuple[Training, ...]:
    """One training for each preset that no entry of the table is made of."""
    known = {item.base for item in TRAININGS}
    return tuple(
        Training(name=name.replace("_", ""), about=f"preset {name}", base=name, seeds=UNCHOSEN)
        for name in PRESETS
        if name not in known
    )
