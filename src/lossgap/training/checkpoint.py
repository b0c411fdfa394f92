"""Checkpoints: nanoGPT's dict plus one key `lossgap`, written whole or not at all, verified when read.

Files of a run folder, each one a state before the update that its `iter_num` names:

    ckpt-last.pt      rolling: at every evaluation and every `checkpoint_seconds`
    ckpt-best.pt      at the lowest val loss of an evaluation
    ckpt-000500.pt    numbered: at evaluations with `always_save_checkpoint` (the 2 newest stay), and at `checkpoint_at`
    ckpt-final.pt     after the last update
    ckpt.pt           what nanoGPT would have there: the best, or with `always_save_checkpoint` the newest
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lossgap import suggestion
from lossgap.config import TrainConfig
from lossgap.errors import CheckpointError, RunFolderError, TrainingError
from lossgap.gpt import GPT
from lossgap.runs.run_json import replace_file, sync_folder
from lossgap.strangers import shown
from lossgap.training import optimizer as optimizers
from lossgap.training.verification import check_archive, check_parts, check_tree, digest

SCHEMA = "lossgap.checkpoint/1"
NUMBERED = re.compile(r"ckpt-(\d{6,})\.pt")
KEPT_NUMBERED = 2
_UNREADABLE = (
    OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError, AssertionError,
    OverflowError, RecursionError, MemoryError, struct.error, pickle.UnpicklingError, zipfile.BadZipFile,
    NotImplementedError,
)  # fmt: skip
"""All that torch.load and zipfile were seen to raise for damaged or hostile files."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state of a training before update `iter_num`."""

    path: Path
    model: dict[str, Tensor]
    optimizer: dict[str, object]
    model_args: dict[str, int | float | bool]
    iter_num: int
    best_val_loss: float
    config: dict[str, object]
    """nanoGPT's settings."""
    lossgap: dict[str, object] = field(default_factory=dict)
    """Ours; empty in nanoGPT's own checkpoint."""

    def part(self, name: str) -> dict[str, object]:
        """A mapping in the `lossgap` key; empty if there is none."""
        value = self.lossgap.get(name)
        return value if isinstance(value, dict) else {}


def numbered_name(iteration: int) -> str:
    """File name of the numbered checkpoint of an iteration."""
    return f"ckpt-{iteration:06d}.pt"


def write(folder: Path, names: Iterable[str], state: dict[str, object]) -> None:
    """Write `state` under every one of `names`, each whole or not at all.

    Adds the digest that `load` verifies. Raises TrainingError (`checkpoint-unwritable`); then what stood under the
    names before still does.
    """
    ours = state["lossgap"]
    assert isinstance(ours, dict)
    ours.pop("digest", None)
    ours["digest"] = digest(state)
    first, *others = names
    try:
        with replace_file(folder / first) as stream:
            torch.save(state, stream)
        for name in others:
            _link(folder / first, folder / name)
        if others:
            sync_folder(folder)
    except (OSError, RuntimeError) as error:  # torch's zip writer turns a full disk into a RuntimeError
        raise TrainingError(
            "checkpoint-unwritable",
            f"cannot write {shown(folder / first)}: {_system_reason(error)}; the checkpoint before it is untouched: "
            f"make room, then go on with: {resume_command(folder)}",
        ) from error


def _system_reason(error: BaseException) -> str:
    """Return the system's first reason: torch's writer, closing its file, hides that behind an error of its own."""
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            reason = cause.strerror
        cause = cause.__context__
    return reason


def resume_command(folder: Path) -> str:
    """Return the command that resumes the run in a folder."""
    return suggestion.train(init_from="resume", out_dir=shown(folder))


def _link(source: Path, target: Path) -> None:
    """Give the file a second name in one step; where there are no hard links, a copy."""
    temporary = target.with_name(f"{target.name}.tmp-{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    try:
        os.link(source, temporary)
    except OSError:
        with replace_file(target) as stream, source.open("rb") as content:
            while block := content.read(1 << 20):
                stream.write(block)
        return
    os.replace(temporary, target)


def prune_numbered(folder: Path, keep: Iterable[int]) -> None:
    """Remove numbered checkpoints but the newest two and those of the iterations `keep`."""
    numbered = {int(match[1]): path for path in folder.iterdir() if (match := NUMBERED.fullmatch(path.name))}
    loose = sorted(set(numbered) - set(keep))
    for iteration in loose[: max(0, len(loose) - KEPT_NUMBERED)]:
        numbered[iteration].unlink(missing_ok=True)


def load(path: Path) -> Checkpoint:
    """Read and verify one checkpoint, ours or nanoGPT's, onto the CPU; nothing in it is executed.

    Raises CheckpointError: `no-checkpoint`, or `bad-checkpoint` for one that is torn, tampered with or hostile,
    with the one before it offered if there is one.
    """
    try:
        return _load(path)
    except CheckpointError as error:
        if error.slug != "bad-checkpoint":
            raise
        before = _newest_good(path.parent, excluding=path)
        offer = "no other checkpoint beside it is whole: start anew (--overwrite=True removes what is there)"
        if before is not None:
            command = suggestion.train(resume=shown(before.path))
            offer = f"the one before it is whole (iteration {before.iter_num}): go on from there with {command}"
        raise CheckpointError(error.slug, f"{error}; {offer}") from None


def newest(folder: Path) -> Checkpoint | None:
    """The checkpoint of a run folder with the highest iteration, verified; None if it has none.

    Raises CheckpointError (`bad-checkpoint`) if the newest file is not whole, with the one before it offered.
    """
    readable = {path: header for path in checkpoint_files(folder) if (header := iteration_of(path)) is not None}
    unreadable = [path for path in checkpoint_files(folder) if path not in readable]
    best = max(readable, key=lambda path: (readable[path], -_preference(path)), default=None)
    for path in unreadable:
        if best is None or path.stat().st_mtime >= best.stat().st_mtime:
            return load(path)
    return None if best is None else load(best)


def _preference(path: Path) -> int:
    order = ("ckpt-final.pt", "ckpt-last.pt", "ckpt-best.pt", "ckpt.pt")
    return order.index(path.name) if path.name in order else len(order)


def checkpoint_files(folder: Path) -> list[Path]:
    """The checkpoints in a folder, by name; a file with several names once."""
    files: dict[tuple[int, int], Path] = {}
    for path in sorted(folder.glob("ckpt*.pt"), key=lambda path: (_preference(path), path.name)):
        if path.is_file():
            status = path.stat()
            identity = (status.st_dev, status.st_ino) if status.st_ino else (0, hash(path))
            files.setdefault(identity, path)
    return sorted(files.values())


def find(path: Path) -> Checkpoint:
    """The checkpoint that `path` means: a checkpoint file, or the newest of a run folder.

    Raises CheckpointError (`no-checkpoint`, `bad-checkpoint`).
    """
    if path.is_dir():
        found = newest(path)
        if found is None:
            raise CheckpointError(
                "no-checkpoint", f"{shown(path)} has no checkpoint (ckpt*.pt): name another run folder, or train one"
            )
        return found
    return load(path)


def _newest_good(folder: Path, excluding: Path) -> Checkpoint | None:
    others = [path for path in checkpoint_files(folder) if not path.samefile(excluding)]
    headers = {path: header for path in others if (header := iteration_of(path)) is not None}
    for path in sorted(headers, key=lambda path: -headers[path]):
        with contextlib.suppress(CheckpointError):
            return _load(path)
    return None


def iteration_of(path: Path) -> int | None:
    """The iteration that a checkpoint names, read without its tensors and not verified; None if it cannot be read."""
    try:
        check_archive(path, checksums=False)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        iteration = content["iter_num"]
    except _UNREADABLE:
        return None
    return iteration if isinstance(iteration, int) and not isinstance(iteration, bool) else None


def is_whole(path: Path) -> bool:
    """True if `load` would read it."""
    try:
        _load(path)
    except CheckpointError:
        return False
    return True


def set_aside(folder: Path, after: int) -> list[str]:
    """Rename the damaged checkpoints of a run that goes on from iteration `after`, the newest that is whole.

    They are those that cannot be read or name a later iteration; each becomes NAME.damaged. Returns the new names.
    Call it under the folder's lock. Raises CheckpointError (`checkpoint-not-movable`), RunFolderError (`run-went-on`).
    """
    moved = []
    for path in sorted(folder.glob("ckpt*.pt")):
        iteration = iteration_of(path) if path.is_file() else after
        if iteration is None or iteration > after:
            if is_whole(path):
                raise went_on(folder)
            moved.append(f"{path.name}.damaged")
            try:
                os.replace(path, path.with_name(moved[-1]))
            except OSError as error:
                reason = error.strerror or type(error).__name__
                raise CheckpointError(
                    "checkpoint-not-movable",
                    f"{shown(path)} is damaged and cannot be renamed ({reason}): remove it, then resume again",
                ) from error
    return moved


def _load(path: Path) -> Checkpoint:
    if not exists(path) or not path.is_file():
        raise CheckpointError(
            "no-checkpoint", f"{_cut(path)}: there is no such checkpoint or run folder; {_neighbours(path)}"
        )
    try:
        check_archive(path, checksums=True)
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}, not nanoGPT's dict")
        check_tree(content, path.stat().st_size)
        check_parts(content)
        return _checked(path, content)
    except _UNREADABLE as error:
        raise _bad(path, _reason(error)) from error


def went_on(folder: Path) -> RunFolderError:
    """The one-line error where another process wrote checkpoints between the look at a folder and its lock."""
    return RunFolderError(
        "run-went-on",
        f"{shown(folder)}: another process trained there until just now; start again, to go on from its end",
    )


def exists(path: Path) -> bool:
    """True if there is such a file or folder; False for a name that the system would never take."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, a NUL in it, no permission
        return False


NEAR = 5
"""Runs that a message about a missing one names."""


def _cut(path: Path) -> str:
    text = shown(path)
    return text if len(text) <= 200 else f"{text[:197]}..."


def _neighbours(path: Path) -> str:
    folder = path.parent
    names = [file.name for file in checkpoint_files(folder)] if exists(folder) and folder.is_dir() else []
    if names:
        return f"in {shown(folder)} there are {', '.join(names)}"
    near = sorted(file.parent for file in Path().glob("*/run.json"))[:NEAR]
    return f"runs here: {', '.join(shown(run) for run in near)}" if near else "train one first"


def _reason(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    if isinstance(error, zipfile.BadZipFile):
        return "it is not a whole file of torch.save"
    if isinstance(error, pickle.UnpicklingError):
        return "it holds objects other than tensors and numbers, which are not loaded"
    line = text[0][:200] if text else type(error).__name__
    return line if line.isprintable() else ascii(line)  # it may quote the file


def _bad(path: Path, reason: str) -> CheckpointError:
    return CheckpointError("bad-checkpoint", f"{shown(path)} cannot be used: {reason}")


def _checked(path: Path, content: dict[str, Any]) -> Checkpoint:
    """The checkpoint that the verified dict is, its digest compared if it has one. Raises ValueError."""
    ours = content.get("lossgap", {})
    if not isinstance(ours, dict):
        raise ValueError("its 'lossgap' is of the wrong kind")
    if ours:
        if ours.get("schema") != SCHEMA:
            raise ValueError(f"its schema is {str(ours.get('schema'))[:60]!a}, this version reads {SCHEMA!r}")
        found = digest({**content, "lossgap": {key: value for key, value in ours.items() if key != "digest"}})
        if ours.get("digest") != found:
            raise ValueError("its content does not match its digest, so it was changed after it was written")
    model = {name.removeprefix("_orig_mod."): tensor for name, tensor in content["model"].items()}
    return Checkpoint(
        path=path,
        # Without fused attention (torch before 2.0) nanoGPT keeps its causal masks in the checkpoint.
        model={name: tensor for name, tensor in model.items() if not name.endswith(".attn.bias")},
        optimizer=content["optimizer"],
        model_args={str(key): value for key, value in content["model_args"].items() if isinstance(value, int | float)},
        iter_num=content["iter_num"],
        best_val_loss=float(content["best_val_loss"]),
        config={str(key): value for key, value in content["config"].items()},
        lossgap=ours,
    )


def fill(model: GPT, found: Checkpoint) -> None:
    """Put the checkpoint's weights into a model of its shape. Raises CheckpointError (`bad-checkpoint`)."""
    try:
        model.load_state_dict(found.model)
    except (RuntimeError, TypeError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise _bad(found.path, f"its weights do not fit its model_args: {' '.join(lines[1:3])[:200]}") from error


_ADAMW = {"step", "exp_avg", "exp_avg_sq"}
_MUON = {"momentum_buffer"}
"""The state that each keeps of a parameter."""


def restore_optimizer(optimizer: torch.optim.Optimizer, found: Checkpoint, model: GPT, config: TrainConfig) -> None:
    """Put the moments and step counts into the optimizer. Raises CheckpointError (`bad-checkpoint`).

    Where the context was cropped, the moments of the position embeddings are cropped with it.
    """
    try:
        optimizers.restore(optimizer, found.optimizer, config)
        if len(optimizer.state) not in (0, len(list(model.parameters()))):  # 0: before the first update
            raise ValueError(f"it has moments of {len(optimizer.state)} parameters")
        muon = {id(p) for group in optimizer.param_groups if "momentum" in group for p in group["params"]}
        for parameter, moments in optimizer.state.items():
            are_tensors = all(isinstance(value, Tensor) for value in moments.values())
            wanted = _MUON if id(parameter) in muon else _ADAMW
            if set(moments) != wanted or not are_tensors or ("step" in moments and moments["step"].dim() != 0):
                raise ValueError(f"it is not that of optimizer={config.optimizer}")
            for name, value in moments.items():
                if isinstance(value, Tensor) and value.dim() == 2 and value.shape != parameter.shape:
                    moments[name] = value[: parameter.shape[0]].clone()
                if isinstance(value, Tensor) and value.dim() and moments[name].shape != parameter.shape:
                    raise ValueError(
                        f"a moment has the shape {tuple(value.shape)}, its parameter {tuple(parameter.shape)}"
                    )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise _bad(found.path, f"its optimizer state does not fit its weights: {_reason(error)}") from error


def tensors(part: Mapping[str, object]) -> dict[str, Tensor]:
    """The tensors of a part of the `lossgap` key."""
    return {name: value for name, value in part.items() if isinstance(value, Tensor)}
