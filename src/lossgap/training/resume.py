"""What a start means: a fresh run, the continuation of one, or a branch off an earlier checkpoint of one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lossgap.config import TrainConfig, differences
from lossgap.config_file import train_config
from lossgap.corpus import Corpus
from lossgap.errors import CheckpointError, ConfigError, RunFolderError, warn
from lossgap.runs.document import shown
from lossgap.settings import Given
from lossgap.training import checkpoint
from lossgap.training.checkpoint import Checkpoint
from lossgap.training.numerics import Numerics
from lossgap.training.schedule import learning_rate

SHAPE = ("n_layer", "n_head", "n_embd", "bias")
MACHINE_BOUND = ("device", "backend", "dtype", "compile")
"""Settings of nanoGPT's checkpoint that speak of the machine it ran on, not of the recipe."""
_ABOUT_THE_START = ("init_from", "resume", "overwrite", "out_dir")


@dataclass(frozen=True, kw_only=True)
class Change:
    """A setting that differs from the checkpoint's, and changes what the run means from here on."""

    setting: str
    before: object
    after: object


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a training begins."""

    config: TrainConfig
    out_dir: Path
    checkpoint: Checkpoint | None = None
    branch_of: Path | None = None
    """The run folder whose earlier rows begin this run's record; None for a fresh or continued run."""
    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()
    afresh: bool = False
    """Whether a resume was asked for in a folder that has no checkpoint: what is there was never finished."""

    @property
    def iteration(self) -> int:
        """The first update to make."""
        return self.checkpoint.iter_num if self.checkpoint else 0

    @property
    def numerics_before(self) -> Mapping[str, object]:
        """The numerics that the checkpoint ran with; empty if unknown or fresh."""
        return self.checkpoint.part("numerics") if self.checkpoint else {}

    @property
    def in_place(self) -> bool:
        """Whether the run's own folder goes on."""
        return self.checkpoint is not None and self.branch_of is None


def plan(given: Given) -> Start:
    """Decide how to start. Reads checkpoints, writes nothing.

    `--init_from=resume` goes on in `out_dir` from its newest checkpoint. `--resume=PATH` goes on from the run folder
    or checkpoint named: in place if that is the newest state of its folder, else in a new folder, so that the later
    part of the run is not lost. Raises CheckpointError, ConfigError, RunFolderError.
    """
    asked = train_config(given)
    if not asked.resume and asked.init_from != "resume":
        return Start(config=asked, out_dir=Path(asked.out_dir))
    named = Path(asked.resume or asked.out_dir)
    if named.exists() or asked.resume:
        found = checkpoint.newest(named) if named.is_dir() else checkpoint.load(named)
    else:
        found = None
    if found is None:
        note = f"{shown(named)} has no checkpoint yet: starting afresh"
        fresh = dataclasses.replace(asked, init_from="scratch", resume="")
        if asked.resume and "out_dir" not in given.values:
            fresh = dataclasses.replace(fresh, out_dir=asked.resume)
        return Start(config=fresh, out_dir=Path(fresh.out_dir), notes=(note,), afresh=True)
    return _continue(given, asked, found)


def _continue(given: Given, asked: TrainConfig, found: Checkpoint) -> Start:
    before = config_of(found)
    explicit = {name: value for name, value in given.values.items() if name not in _ABOUT_THE_START}
    _check_shape(explicit, found)
    reused = _reused_numerics(found, explicit)
    config = TrainConfig.from_dict({**before.to_dict(), **reused, **explicit})
    if config.block_size > int(found.model_args["block_size"]):
        raise ConfigError(
            "shape-fixed",
            f"--block_size={config.block_size} is longer than the checkpoint's {found.model_args['block_size']}: a "
            "resumed model can be cropped, not stretched; leave the flag out",
        )
    out_dir, branch_of = _where(given, asked, found)
    config = dataclasses.replace(config, out_dir=str(out_dir), resume="", overwrite=asked.overwrite)
    changes = tuple(
        Change(setting=d.name, before=d.control, after=d.test)
        for d in differences(before, config)
        if d.name not in _ABOUT_THE_START and d.name not in reused
    )
    return Start(
        config=config,
        out_dir=out_dir,
        checkpoint=found,
        branch_of=branch_of,
        changes=changes,
        notes=tuple(_notes(before, config, found, changes, branch_of)),
    )


def config_of(found: Checkpoint) -> TrainConfig:
    """The settings a checkpoint was trained with: ours in full, nanoGPT's as far as they are known and valid here.

    Raises CheckpointError (`bad-checkpoint`) where they are no config.
    """
    own = found.part("config")
    shape = {name: found.model_args[name] for name in (*SHAPE, "block_size")}
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    values = own or {k: v for k, v in found.config.items() if k in known and k not in MACHINE_BOUND}
    began = values.get("init_from", "scratch")
    values = {**values, **shape, "init_from": "scratch" if began == "resume" else began, "resume": ""}
    if "dropout" in found.model_args and "dropout" not in values:
        values["dropout"] = found.model_args["dropout"]
    try:
        return TrainConfig.from_dict(values)
    except ConfigError as error:
        raise CheckpointError("bad-checkpoint", f"{shown(found.path)} cannot be used: its config: {error}") from error


def _reused_numerics(found: Checkpoint, explicit: Mapping[str, object]) -> dict[str, bool | int]:
    """Choices that a resume takes over as they ran, unless a flag says otherwise or the device is another kind."""
    numerics = found.part("numerics")
    device = str(explicit.get("device", numerics.get("device")))
    if device.split(":")[0] != str(numerics.get("device")).split(":")[0]:
        return {}
    reused: dict[str, bool | int] = {}
    for name, kind in (("compile", bool), ("threads", int)):
        value = numerics.get(name)
        if name not in explicit and isinstance(value, kind):
            reused[name] = value
    return reused


def _check_shape(explicit: Mapping[str, object], found: Checkpoint) -> None:
    for name in SHAPE:
        if name in explicit and explicit[name] != found.model_args[name]:
            raise ConfigError(
                "shape-fixed",
                f"--{name}={explicit[name]} does not fit: the checkpoint's model has {name}={found.model_args[name]}, "
                "which a resume cannot change; leave the flag out, or train a new model in another out_dir",
            )


def _where(given: Given, asked: TrainConfig, found: Checkpoint) -> tuple[Path, Path | None]:
    """The folder to go on in, and the folder it branches off, if it does."""
    home = found.path.parent
    if not asked.resume:
        return home, None
    explicit = Path(asked.out_dir) if "out_dir" in given.sources and given.sources["out_dir"].startswith("--") else None
    if explicit is not None and explicit.resolve() != home.resolve():
        return explicit, home
    later = _newest_iteration(home)
    if later <= found.iter_num:
        return home, None
    if explicit is not None:
        raise RunFolderError(
            "branch-needs-folder",
            f"{shown(home)} goes on to iteration {later} after {found.path.name}; continuing there would lose that: "
            "leave --out_dir out to branch off into a new folder, or name another one",
        )
    stem = home.with_name(f"{home.resolve().name}-from-{found.iter_num:06d}")
    for number in range(1, 1000):
        folder = stem if number == 1 else stem.with_name(f"{stem.name}-{number}")
        if not folder.exists():
            return folder, home
    raise RunFolderError("branch-needs-folder", f"{shown(stem)} and its successors exist: name a folder with --out_dir")


def _newest_iteration(folder: Path) -> int:
    iterations = [checkpoint.iteration_of(path) for path in checkpoint.checkpoint_files(folder)]
    return max((iteration for iteration in iterations if iteration is not None), default=0)


def _notes(
    before: TrainConfig, config: TrainConfig, found: Checkpoint, changes: tuple[Change, ...], branch_of: Path | None
) -> list[str]:
    iteration = found.iter_num
    notes = [f"continuing from iteration {iteration} of {shown(found.path)} in {config.out_dir}"]
    if branch_of is not None:
        notes.append(f"{shown(branch_of)} keeps what it holds after iteration {iteration}")
    notes += [f"changed from here on: {change.setting} = {change.after} (was {change.before})" for change in changes]
    if iteration <= config.max_iters:
        was = learning_rate(before, min(max(iteration - 1, 0), before.max_iters))
        rate = learning_rate(config, iteration)
        if iteration > 0 and rate > 1.05 * was and iteration > config.warmup_iters:
            notes.append(
                f"the learning rate rises again at the seam: {was:.3g} before it, {rate:.3g} after it "
                f"(lr_decay_iters={config.lr_decay_iters}, was {before.lr_decay_iters})"
            )
    return notes


def check_vocabulary(found: Checkpoint, corpus: Corpus) -> None:
    """Refuse a corpus whose tokens mean something else than the checkpoint's.

    Raises CheckpointError (`vocabulary-mismatch`).
    """
    wanted = int(found.model_args["vocab_size"])
    if corpus.vocab_size is not None and corpus.vocab_size != wanted:
        raise CheckpointError(
            "vocabulary-mismatch",
            f"{shown(found.path)} was trained on a vocabulary of {wanted} tokens, {corpus.name} has "
            f"{corpus.vocab_size}: continue on the corpus it was trained on (--dataset), or train a new model",
        )
    chars = found.part("tokenizer").get("chars")
    if isinstance(chars, str) and corpus.tokenizer is not None and corpus.tokenizer.chars not in (None, chars):
        raise CheckpointError(
            "vocabulary-mismatch",
            f"{shown(found.path)} and {corpus.name} both have {wanted} tokens, but not the same characters: "
            "continue on the corpus it was trained on (--dataset), or train a new model",
        )


def inexact(found: Checkpoint, numerics: Numerics, versions: Mapping[str, object]) -> str:
    """Why a continuation is not bit-equal to an uninterrupted run, in one line; empty if it is."""
    if not found.lossgap:
        return "nanoGPT's checkpoint holds no generator: batches are drawn anew from here on"
    before = found.part("numerics")
    now = numerics.to_dict()
    reasons = [
        f"{name} was {before[name]}, is {now[name]}" for name in now if name in before and before[name] != now[name]
    ]
    then = found.part("versions")
    reasons += [
        f"{name} was {then[name]}, is {versions[name]}"
        for name in versions
        if then.get(name, versions[name]) != versions[name]
    ]
    return "; ".join(reasons)


def warn_inexact(reason: str) -> None:
    """Say in one line where exactness cannot be kept."""
    if reason:
        warn("resume-not-exact", f"the continuation is not bit-equal to an uninterrupted run: {reason}")
