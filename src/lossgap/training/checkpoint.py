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
import hashlib
import json
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from lossgap.config import TrainConfig
from lossgap.errors import CheckpointError, TrainingError
from lossgap.gpt import GPT
from lossgap.runs.document import replace_file, shown
from lossgap.training import optimizer as optimizers

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


def digest(value: object) -> str:
    """SHA-256 over nested dicts, lists, numbers, texts and tensors: equal for equal content, bit for bit."""
    sha = hashlib.sha256()
    _feed(sha, value)
    return sha.hexdigest()


def _feed(sha: hashlib._Hash, value: object) -> None:
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1)
        sha.update(f"tensor {value.dtype} {tuple(value.shape)}\n".encode())
        sha.update(flat.view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping):
        sha.update(f"mapping {len(value)}\n".encode())
        for key in sorted(value, key=repr):
            sha.update(f"{key!r}\n".encode())
            _feed(sha, value[key])
    elif isinstance(value, list | tuple):
        sha.update(f"list {len(value)}\n".encode())
        for item in value:
            _feed(sha, item)
    else:
        sha.update(f"{json.dumps(value)}\n".encode())


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
    except (OSError, RuntimeError) as error:  # torch's zip writer turns a full disk into a RuntimeError
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise TrainingError(
            "checkpoint-unwritable",
            f"cannot write {shown(folder / first)}: {reason}; the checkpoint before it is untouched: make room, then "
            f"go on with lossgap train --init_from=resume --out_dir={shown(folder)}",
        ) from error


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
        offer = "there is no other checkpoint beside it"
        if before is not None:
            offer = f"the one before it is whole (iteration {before.iter_num}): --resume={shown(before.path)}"
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
    """The iteration that a checkpoint names, read without its tensors; None if it cannot be read."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        iteration = content["iter_num"]
    except _UNREADABLE:
        return None
    return iteration if isinstance(iteration, int) else None


def _load(path: Path) -> Checkpoint:
    if not path.is_file():
        raise CheckpointError(
            "no-checkpoint", f"{shown(path)}: there is no such checkpoint or run folder; {_neighbours(path)}"
        )
    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise _bad(path, _reason(error)) from error
    return _checked(path, content)


def _neighbours(path: Path) -> str:
    names = [file.name for file in checkpoint_files(path.parent)] if path.parent.is_dir() else []
    return f"in {shown(path.parent)} there are {', '.join(names)}" if names else "train one first"


def _check_archive(path: Path) -> None:
    """CRC of every part, and no part that would unpack to more than the file holds."""
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("it is compressed, which torch never writes")
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"its part {damaged!r} fails its checksum")


def _reason(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    if isinstance(error, zipfile.BadZipFile):
        return "it is not a whole file of torch.save"
    if isinstance(error, pickle.UnpicklingError):
        return "it holds objects that a checkpoint of tensors and numbers has not, which are not loaded"
    return text[0][:200] if text else type(error).__name__


def _bad(path: Path, reason: str) -> CheckpointError:
    return CheckpointError("bad-checkpoint", f"{shown(path)} cannot be used: {reason}")


def _checked(path: Path, content: object) -> Checkpoint:
    """The dict's shape, then its digest if it has one."""
    if not isinstance(content, dict):
        raise _bad(path, f"it holds a {type(content).__name__}, not nanoGPT's dict")
    kinds: dict[str, type | tuple[type, ...]] = {
        "model": dict,
        "optimizer": dict,
        "model_args": dict,
        "iter_num": int,
        "best_val_loss": (float, int, Tensor),
        "config": dict,
    }
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            raise _bad(path, f"its {key!r} is missing or of the wrong kind")
    model = {str(name).removeprefix("_orig_mod."): tensor for name, tensor in content["model"].items()}
    if not all(isinstance(tensor, Tensor) for tensor in model.values()):
        raise _bad(path, "its 'model' holds something other than tensors")
    ours = content.get("lossgap", {})
    if not isinstance(ours, dict):
        raise _bad(path, "its 'lossgap' is of the wrong kind")
    if ours:
        _verify(path, content, ours)
    return Checkpoint(
        path=path,
        model=model,
        optimizer=content["optimizer"],
        model_args=_model_args(path, content["model_args"]),
        iter_num=content["iter_num"],
        best_val_loss=float(content["best_val_loss"]),
        config={str(key): value for key, value in content["config"].items()},
        lossgap=ours,
    )


def _verify(path: Path, content: dict[str, object], ours: dict[str, object]) -> None:
    if ours.get("schema") != SCHEMA:
        raise _bad(path, f"its schema is {str(ours.get('schema'))[:60]!r}, this version reads {SCHEMA!r}")
    stated = ours.get("digest")
    try:
        found = digest({**content, "lossgap": {key: value for key, value in ours.items() if key != "digest"}})
    except (TypeError, ValueError, RuntimeError) as error:
        raise _bad(path, _reason(error)) from error
    if stated != found:
        raise _bad(path, "its content does not match its digest, so it was changed after it was written")


def _model_args(path: Path, args: dict[object, object]) -> dict[str, int | float | bool]:
    wanted = {"n_layer": int, "n_head": int, "n_embd": int, "block_size": int, "bias": bool, "vocab_size": int}
    for name, kind in wanted.items():
        value = args.get(name)
        if not isinstance(value, kind) or (kind is int and not (isinstance(value, int) and 0 < value < 2**31)):
            raise _bad(path, f"its model_args[{name!r}] is {str(value)[:40]}, not a usable {kind.__name__}")
    return {str(key): value for key, value in args.items() if isinstance(value, int | float)}


def fill(model: GPT, found: Checkpoint) -> None:
    """Put the checkpoint's weights into a model of its shape. Raises CheckpointError (`bad-checkpoint`)."""
    try:
        model.load_state_dict(found.model)
    except (RuntimeError, TypeError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise _bad(found.path, f"its weights do not fit its model_args: {' '.join(lines[1:3])[:200]}") from error


def restore_optimizer(optimizer: torch.optim.AdamW, found: Checkpoint, model: GPT, config: TrainConfig) -> None:
    """Put the moments and step counts into the optimizer. Raises CheckpointError (`bad-checkpoint`).

    Where the context was cropped, the moments of the position embeddings are cropped with it.
    """
    try:
        optimizers.restore(optimizer, found.optimizer, config)
        for parameter, moments in optimizer.state.items():
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
