"""A bundle: a recorded stretch of a training in one file, to be repeated on another machine.

    bundle = record(...)                       # lossgap.parity.record
    write_bundle(bundle, Path("bundle"))
    bundle = read_bundle(Path("bundle"))       # lossgap.parity.bundle_file

One file, because it travels whole or not at all and names no other path. It is a safetensors file: named arrays of
numbers behind a JSON header, in which nothing can be executed. Its metadata holds the JSON document (schema
`lossgap.bundle/1`) and a SHA-256 over the document and all arrays. The digest finds damage and careless edits; who
means to deceive can compute it anew, so a bundle is believed no more than its sender.

Shapes: N recorded iterations, n micro-batches of an update, B batch, T context.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lossgap.config import TrainConfig
from lossgap.corpus.windows import inputs_and_targets
from lossgap.errors import BundleError
from lossgap.gpt import GPTConfig
from lossgap.parity.evidence import Item
from lossgap.parity.stretch import Job, Moment
from lossgap.random import Split
from lossgap.runs.run_json import open_data, plain, replace_file
from lossgap.strangers import shown
from lossgap.version import __version__

SCHEMA = "lossgap.bundle/1"
DOCUMENT, DIGEST = "lossgap", "sha256"
"""Names in the metadata of the safetensors file."""
HEAD = 4096
"""Bytes in which a bundle's file names its schema."""
Array = npt.NDArray[np.generic]


@dataclass(frozen=True, kw_only=True)
class BundlePoint:
    """A recorded checkpoint: the state before one update, that update's parts, and the evidence of the step."""

    moment: Moment
    lr: float
    gradients: Mapping[str, Tensor] | None
    """Before clipping, without the loss scale, by parameter, as the recording's device had them. None before the first
    update of a training, when AdamW has no moments yet: it is judged from float64's own gradients there."""
    updated: Mapping[str, Tensor] = field(repr=False)
    """The weights after the update."""
    items: tuple[Item, ...] = field(repr=False)

    @property
    def iteration(self) -> int:
        """The update that the state is before."""
        return self.moment.iteration


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A recorded stretch."""

    config: TrainConfig
    shape: GPTConfig
    corpus: Mapping[str, object]
    """`name`, `sha256`, `tokens_sha256`, `hash_method`, as in run.json."""
    numerics: Mapping[str, object]
    """How the recording computed, as `Numerics.to_dict` has it."""
    environment: Mapping[str, object]
    """The recording machine, as `lossgap.machine.probe.environment` has it."""
    version: str = __version__
    """The version of the lossgap that recorded."""
    first: int
    """The first recorded iteration."""
    windows: Tensor = field(repr=False)
    """Tokens of every iteration, (N, n, B, T + 1) int64."""
    evaluation: Mapping[Split, Tensor] = field(repr=False)
    """Tokens of the evaluation batches, each (n, B, T + 1) int64."""
    losses: tuple[float, ...] = field(repr=False)
    """Training loss of each iteration, nats per token, in full precision."""
    grad_norms: tuple[float, ...] = field(repr=False)
    """Before clipping."""
    evaluations: tuple[tuple[int, Split, float], ...] = field(repr=False)
    """(iteration, split, mean loss over the evaluation batches) of states before that iteration's update."""
    points: tuple[BundlePoint, ...]
    """In the order of iterations; the first is the state before the first recorded update."""

    @property
    def iterations(self) -> int:
        """How many were recorded."""
        return len(self.losses)

    @property
    def tokens(self) -> int:
        """Tokens of the corpus that are in it, windows that overlap counted twice."""
        return self.windows.numel() + sum(windows.numel() for windows in self.evaluation.values())

    @property
    def start(self) -> Moment:
        """The state before the first recorded update."""
        return self.points[0].moment

    def batches(self, iteration: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a recorded iteration, each (n, B, T) int64."""
        return _pair(self.windows[iteration - self.first])

    def job(self) -> Job:
        """The recorded training, to be run in any numerics."""
        return Job(
            config=self.config,
            shape=self.shape,
            batches=self.batches,
            evaluation={split: _pair(windows) for split, windows in self.evaluation.items()},
        )


def _pair(windows: Tensor) -> tuple[Tensor, Tensor]:
    x, y = inputs_and_targets(windows.numpy())
    return torch.from_numpy(x), torch.from_numpy(y)


# ---------------------------------------------------------------------------------------------
# Writing


def write_bundle(bundle: Bundle, path: Path, *, overwrite: bool = False) -> int:
    """Write the file, whole or not at all; its size in bytes.

    Raises BundleError (`bundle-exists`, `bundle-unwritable`).
    """
    from safetensors.numpy import save

    check_place(path, overwrite=overwrite)
    try:
        arrays, text = bundle_arrays(bundle), json.dumps(document(bundle), allow_nan=False)
        data = save(arrays, metadata={DOCUMENT: text, DIGEST: digest(text, arrays.items())})
        with replace_file(path) as stream:
            stream.write(data)
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error
    return len(data)


def check_place(path: Path, *, overwrite: bool = False) -> None:
    """A bundle can be written here, and nothing else is lost by it.

    Raises BundleError (`bundle-exists`, `bundle-unwritable`).
    """
    try:
        if path.exists() and not (overwrite and path.is_file() and _may_go(path)):
            what = " and is a folder" if path.is_dir() else " and is not a bundle" if overwrite else ""
            more = "" if overwrite else ", or give --overwrite=True for a bundle that may go"
            raise BundleError(
                "bundle-exists",
                f"{shown(path)} is there already{what}, and nothing is written over it: name another file with "
                f"--out{more}",
            )
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error


def _may_go(path: Path) -> bool:
    """An empty file, or one that begins as a bundle of any version does, whole or torn."""
    with open_data(path) as stream:
        head = stream.read(HEAD)
    return not head or SCHEMA.partition("/")[0].encode() in head


def _unwritable(path: Path, error: Exception) -> BundleError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return BundleError(
        "bundle-unwritable", f"cannot write {shown(path)}: {reason}; name a file in a folder that can be written"
    )


def digest(text: str, arrays: Iterable[tuple[str, Array]]) -> str:
    """SHA-256 (hex) over the document's text and every array's name, kind, shape and bytes."""
    sha = hashlib.sha256(text.encode("utf-8"))
    for name, array in sorted(arrays, key=lambda pair: pair[0]):
        sha.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


def bundle_arrays(bundle: Bundle) -> dict[str, Array]:
    """The arrays of the file by name."""
    kind = token_kind(bundle.shape.vocab_size)
    arrays: dict[str, Array] = {"windows": bundle.windows.numpy().astype(kind)}
    for split, windows in bundle.evaluation.items():
        arrays[f"evaluation.{split}"] = windows.numpy().astype(kind)
    for number, point in enumerate(bundle.points):
        for part, tensors in parts(point).items():
            arrays |= {f"points.{number}.{part}.{name}": tensor.numpy() for name, tensor in tensors.items()}
        arrays[f"points.{number}.sketches"] = np.stack([item.sketch for item in point.items])
    return arrays


def parts(point: BundlePoint) -> dict[str, Mapping[str, Tensor]]:
    """The tensors of a point by what they are; those that it lacks are left out."""
    found = {
        "weights": point.moment.weights,
        "exp_avg": point.moment.exp_avg,
        "exp_avg_sq": point.moment.exp_avg_sq,
        "gradients": point.gradients or {},
        "updated": point.updated,
    }
    return {part: tensors for part, tensors in found.items() if tensors}


def token_kind(vocab_size: int) -> npt.DTypeLike:
    """How tokens are stored."""
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32


def document(bundle: Bundle) -> dict[str, object]:
    """The JSON document of the file."""
    content = {
        "schema": SCHEMA,
        "version": bundle.version,
        "config": bundle.config.to_dict(),
        "model_args": bundle.shape.model_args(),
        "corpus": bundle.corpus,
        "numerics": bundle.numerics,
        "environment": bundle.environment,
        "first": bundle.first,
        "iterations": bundle.iterations,
        "losses": bundle.losses,
        "grad_norms": [norm if np.isfinite(norm) else None for norm in bundle.grad_norms],
        "evaluations": [{"iter": i, "split": split, "loss": loss} for i, split, loss in bundle.evaluations],
        "points": [_point_document(point) for point in bundle.points],
    }
    result = plain(content)
    assert isinstance(result, dict)
    return result


def _point_document(point: BundlePoint) -> dict[str, object]:
    moment = point.moment
    return {
        "iter": moment.iteration,
        "step": moment.step,
        "scale": moment.scale,
        "growth": moment.growth,
        "lr": point.lr,
        "parts": list(parts(point)),
        "items": [
            {
                **item.key._asdict(),
                "exact": item.exact,
                "allowances": {kind: [given.error, given.allowed] for kind, given in item.allowances.items()},
            }
            for item in point.items
        ],
    }
