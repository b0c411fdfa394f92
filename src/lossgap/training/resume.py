"""The meaning of a start: a fresh run, the continuation of one, or a branch off an earlier checkpoint of one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lossgap import suggestion
from lossgap.arguments import Given
from lossgap.config import ARCHITECTURE, TrainConfig, differences
from lossgap.config_file import train_config
from lossgap.errors import CheckpointError, ConfigError, RunFolderError, warn
from lossgap.runs.run_json import RUN_FILE, read_run_json
from lossgap.runs.values import as_mapping
from lossgap.schedule import learning_rate
from lossgap.settings import settings_of
from lossgap.strangers import shown
from lossgap.training import checkpoint
from lossgap.training.checkpoint import Checkpoint
from lossgap.training.takeover import check_dataset, without_trackers

SHAPE = ("n_layer", "n_head", "n_embd", "bias")
MACHINE_BOUND = ("device", "backend", "dtype", "compile")
"""Settings of nanoGPT's checkpoint that describe the machine it ran on, not the recipe."""
ABOUT_THE_START = ("init_from", "resume", "overwrite", "out_dir")
"""Settings that say where a training begins and where it writes, no part of what it is."""
MOST_NAMED = 8
"""Runs that a message lists."""
_DRAWING = ("eval_interval", "eval_iters", "eval_mode")
"""With `rng=nanogpt` evaluations draw from the training's generator, so these change the training, too."""


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
    doubts: tuple[tuple[str, str], ...] = ()
    """Slug and text of what the user may not have meant, to be warned of before the start."""
    afresh: bool = False
    """True if a resume was asked for in a folder that has no checkpoint: what is there was never finished."""
    given_before: Mapping[str, object] = field(default_factory=dict)
    """The settings that the user named at the earlier starts of the run, as `run.json` has them."""
    corpus_before: Mapping[str, object] = field(default_factory=dict)
    """The corpus that the run was trained on before, as its record has it; empty if unknown or fresh."""

    @property
    def iteration(self) -> int:
        """The first update to make."""
        return self.checkpoint.iter_num if self.checkpoint else 0

    @property
    def numerics_before(self) -> Mapping[str, object]:
        """The numerics that the checkpoint ran with; empty if unknown or fresh."""
        return self.checkpoint.part("numerics") if self.checkpoint else {}

    @property
    def seams_before(self) -> list[Mapping[str, object]]:
        """The seams of the run up to this checkpoint."""
        seams = self.checkpoint.part("record").get("seams") if self.checkpoint else None
        return [seam for seam in seams if isinstance(seam, dict)] if isinstance(seams, list) else []

    def all_given(self, given: Given) -> dict[str, object]:
        """Return what the user named at the earlier starts and at this one, with sources, for `run.json`."""
        left_out = ABOUT_THE_START if self.given_before else ()
        now = {
            name: {"value": value, "source": given.sources.get(name, "")}
            for name, value in given.values.items()
            if name not in left_out
        }
        return {**self.given_before, **now}

    @property
    def in_place(self) -> bool:
        """True if the run continues in its own folder."""
        return self.checkpoint is not None and self.branch_of is None


def plan(given: Given) -> Start:
    """Decide how to start. Reads checkpoints, writes nothing.

    `--init_from=resume` goes on in `out_dir` from its newest checkpoint. `--resume=PATH` goes on from the run folder
    or checkpoint named: in place if that is the newest state of its folder, else in a new folder, so that the later
    part of the run is not lost. Raises CheckpointError, ConfigError, RunFolderError.
    """
    # The other settings complete those of the checkpoint: with the defaults they may be a combination that cannot work.
    asked = TrainConfig.from_dict({name: given.values[name] for name in ABOUT_THE_START if name in given.values})
    if not asked.resume and asked.init_from != "resume":
        config = train_config(given)
        return Start(config=config, out_dir=Path(config.out_dir))
    named = Path(asked.resume or asked.out_dir)
    found = None
    if asked.resume or checkpoint.exists(named):
        found = checkpoint.newest(named) if checkpoint.exists(named) and named.is_dir() else checkpoint.load(named)
    return _continue(given, asked, found) if found is not None else _afresh(given, asked, named)


def _afresh(given: Given, asked: TrainConfig, named: Path) -> Start:
    """The folder has no checkpoint: a run killed before its first one begins again, with the settings of its record.

    Raises CheckpointError `no-run-to-resume` where there is no record either and no recipe was given.
    """
    out_dir = asked.out_dir if "out_dir" in given.values or not asked.resume else asked.resume
    document = read_run_json(named) if checkpoint.exists(named / "run.json") else {}
    if not document and "dataset" not in given.values:
        raise _no_run(named)
    recorded = as_mapping(document.get("config"))
    known = {name: value for name, value in recorded.items() if name in settings_of(TrainConfig)}
    began = known.get("init_from", "scratch")
    known, left = without_trackers(known, given.values)
    corpus = as_mapping(document.get("corpus"))
    if "dataset" not in given.values:
        check_dataset(named / "run.json", str(known.get("dataset", "")), corpus)
    start = {"init_from": "scratch" if began == "resume" else began, "resume": "", "out_dir": out_dir}
    merged = {**known, **given.values, **start}
    config = train_config(dataclasses.replace(given, values=merged))
    note = f"{shown(named)} has no checkpoint yet: starting afresh"
    before = as_mapping(document.get("given"))
    return Start(
        config=config,
        out_dir=Path(out_dir),
        notes=(note, *left),
        afresh=True,
        given_before=before,
        corpus_before=corpus,
    )


def _no_run(named: Path) -> CheckpointError:
    """There is nothing to resume in the folder; names the runs that are near."""
    try:
        near = sorted(path.parent for path in Path().glob("*/" + RUN_FILE))[:MOST_NAMED]
    except OSError:
        near = []
    said = f"runs here: {', '.join(shown(path) for path in near)}" if near else "no folder here holds one"
    return CheckpointError(
        "no-run-to-resume",
        f"there is no run in {shown(named)} to resume; {said}: name one with --out_dir=FOLDER, or start one, e.g. "
        f"{suggestion.train('shakespeare_char_cpu')}",
    )


def _continue(given: Given, asked: TrainConfig, found: Checkpoint) -> Start:
    before = config_of(found)
    explicit = {name: value for name, value in given.values.items() if name not in ABOUT_THE_START}
    _check_shape(explicit, found)
    reused = _reused_numerics(found, explicit)
    recorded, left = without_trackers(before.to_dict(), explicit)
    if "dataset" not in explicit:
        check_dataset(found.path, before.dataset, found.part("corpus"))
    merged = {**recorded, **reused, **explicit}
    config = train_config(dataclasses.replace(given, values=merged))
    # A checkpoint that was named once is kept for good.
    named = tuple(sorted({*before.checkpoint_at, *config.checkpoint_at}))
    if config.block_size > int(found.model_args["block_size"]):
        raise ConfigError(
            "shape-fixed",
            f"--block_size={config.block_size} is longer than the checkpoint's {found.model_args['block_size']}: a "
            "resumed model can be cropped, not stretched; leave the flag out",
        )
    out_dir, branch_of = _where(given, asked, found)
    config = dataclasses.replace(
        config, out_dir=str(out_dir), resume="", overwrite=asked.overwrite, checkpoint_at=named
    )
    unknown = () if found.lossgap else MACHINE_BOUND
    changes = tuple(
        Change(setting=d.name, before=d.control, after=d.test)
        for d in differences(before, config)
        if d.name not in (*reused, *unknown) and _has_meaning(d.name, config)
    )
    return Start(
        config=config,
        out_dir=out_dir,
        checkpoint=found,
        branch_of=branch_of,
        changes=changes,
        given_before=as_mapping(found.part("record").get("given")),
        notes=(*_notes(config, found, changes, branch_of), *left),
        corpus_before=found.part("corpus"),
        doubts=tuple(_doubts(before, config, found.iter_num)),
    )


def _has_meaning(name: str, config: TrainConfig) -> bool:
    """True if a training with another value of this setting would be another training."""
    if name in (*ABOUT_THE_START, "eval_only"):
        return False
    return settings_of(TrainConfig)[name].meaning or (config.rng == "nanogpt" and name in _DRAWING)


def config_of(found: Checkpoint) -> TrainConfig:
    """The settings a checkpoint was trained with: ours in full, nanoGPT's as far as they are known and valid here.

    Raises CheckpointError (`bad-checkpoint`) where they are not a valid config.
    """
    own = found.part("config")
    shape = {name: found.model_args[name] for name in (*SHAPE, "block_size")}
    shape |= {name: _arg(found, name) for name in ARCHITECTURE}
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


def _reused_numerics(found: Checkpoint, explicit: Mapping[str, object]) -> dict[str, bool]:
    """Choices that a resume takes over as they ran, unless a flag says otherwise or the device is another kind.

    The others are left open by the config itself (`auto`, 0) and resolved from the checkpoint.
    """
    numerics = found.part("numerics")
    device = str(explicit.get("device", numerics.get("device")))
    if device.split(":")[0] != str(numerics.get("device")).split(":")[0]:
        return {}
    value = numerics.get("compile")
    return {"compile": value} if "compile" not in explicit and isinstance(value, bool) else {}


def _arg(found: Checkpoint, name: str) -> int | float | bool:
    """A part of the model's shape; nanoGPT's where the checkpoint does not state it."""
    default: int | float | bool = getattr(TrainConfig, name)
    return found.model_args.get(name, default)


def _check_shape(explicit: Mapping[str, object], found: Checkpoint) -> None:
    for name in (*SHAPE, *ARCHITECTURE):
        if name in explicit and explicit[name] != _arg(found, name):
            raise ConfigError(
                "shape-fixed",
                f"--{name}={explicit[name]} does not fit: the checkpoint's model has {name}={_arg(found, name)}, "
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
    later = _newest_iteration(home, found.iter_num)
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


def _newest_iteration(folder: Path, at_least: int) -> int:
    """The newest state of a folder from which one could go on: a damaged checkpoint does not count."""
    later = {
        iteration: path
        for path in checkpoint.checkpoint_files(folder)
        if (iteration := checkpoint.iteration_of(path)) is not None and iteration > at_least
    }
    whole = (iteration for iteration in sorted(later, reverse=True) if checkpoint.is_whole(later[iteration]))
    return next(whole, at_least)


def _notes(config: TrainConfig, found: Checkpoint, changes: tuple[Change, ...], branch_of: Path | None) -> list[str]:
    iteration = found.iter_num
    notes = [f"continuing from iteration {iteration} of {shown(found.path)} in {config.out_dir}"]
    if branch_of is not None:
        notes.append(f"{shown(branch_of)} keeps what it holds after iteration {iteration}")
    notes += [f"changed from here on: {change.setting} = {change.after} (was {change.before})" for change in changes]
    return notes


def _doubts(before: TrainConfig, config: TrainConfig, iteration: int) -> Iterator[tuple[str, str]]:
    """Yield what the learning rate does from `iteration` on that a schedule in one go would not do."""
    more = config.max_iters + 1 - iteration
    if more <= 0 or iteration == 0 or not config.decay_lr:
        return
    was = learning_rate(before, min(iteration - 1, before.max_iters))
    rate = learning_rate(config, iteration)
    if rate > 1.05 * was and iteration > config.warmup_iters:
        yield (
            "rate-rises-again",
            f"the learning rate rises again at iteration {iteration}: {was:.3g} before it, {rate:.3g} after it "
            f"(lr_decay_iters={config.lr_decay_iters}, was {before.lr_decay_iters}); the whole is a run of neither "
            f"schedule: train {config.max_iters} iterations in one go to compare with such a run",
        )
    elif config.lr_decay_iters <= iteration and config.max_iters > before.max_iters >= before.lr_decay_iters:
        yield (
            "decay-already-over",
            f"--max_iters={config.max_iters}: the decay ended at iteration {config.lr_decay_iters}, so the {more} "
            f"iterations from here run at min_lr={config.min_lr}; --lr_decay_iters={config.max_iters} would stretch "
            "the decay, and the rate would rise again",
        )


def warn_doubts_of(start: Start) -> None:
    """Warn, before anything is trained, of what the user may not have meant by this start."""
    for slug, text in start.doubts:
        warn(slug, text)
