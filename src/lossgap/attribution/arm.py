"""`Arm`: one training of an experiment, and `ArmResult`: what it gave.

    arm = Arm(config={...}, seed=1, measurement=Measurement(context=64, evaluations=20), corpus="86c4...")
    arm.key        # content hash: equal arms of two experiments are one arm, and are trained once

Both are plain records that travel between processes and machines as JSON.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from lossgap.runs.values import as_float, as_int, as_list, as_text

Failure = Literal["not-finite", "out-of-memory", "killed", "failed"]
"""The loss left the numbers; memory ran out; the worker died; anything else that the arm's own trainer said."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """How every arm of an experiment is measured, whatever it trains."""

    context: int
    """Tokens: the common context, the smaller `block_size` of the two ends."""
    evaluations: int = 20
    """Evaluations along each training, evenly spaced; the best of them is `best`."""
    tokens: int = 32768
    """Tokens of each split in such an evaluation, about. The final and the best state are measured on all of val."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One training: its settings, its seed, and how it is measured."""

    config: Mapping[str, object]
    """`TrainConfig` settings that change the training, without `seed`; a foreign trainer's, by their names."""
    seed: int | None
    """None: the trainer offers no seed."""
    measurement: Measurement
    corpus: str
    """SHA-256 (hex) of the tokens; of a foreign trainer's data folders where they are nanoGPT's, else ""."""
    code: str
    """Hash of the code that matters for the result: ours, or the foreign trainer's command and files."""
    command: tuple[str, ...] = ()
    """A foreign trainer's arguments, with placeholders; empty for ours."""
    reader: str = ""
    """Format of the foreign trainer's log."""
    seed_arg: str = ""
    """The foreign trainer's seed flag with the placeholder {seed}; empty: our launcher seeds torch."""
    train_tokens: int = 0
    """Our trainer reads this many tokens of the train split, from its beginning; 0: all of them."""
    folder: str = ""
    """The working folder of a foreign trainer."""
    override_form: str = "--{key}={value}"
    """The arguments that set one of a foreign trainer's settings."""
    time_limit: float | None = None
    """Seconds after which a foreign trainer is ended; it changes no result, so it is not in the key."""

    @cached_property
    def key(self) -> str:
        """SHA-256 (hex) of the content."""
        document = asdict(self) | {"config": dict(self.config), "schema": "lossgap.arm/1"}
        del document["time_limit"]
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8")).hexdigest()

    def to_dict(self) -> dict[str, object]:
        """JSON-safe; `Arm.from_dict` reads it."""
        return asdict(self) | {"config": dict(self.config), "command": list(self.command)}

    @classmethod
    def from_dict(cls, content: Mapping[str, object]) -> Arm:
        """From `to_dict`'s mapping, of our own making. Raises TypeError for another shape."""
        values = dict(content)
        measurement = values.pop("measurement")
        assert isinstance(measurement, Mapping)
        command = tuple(str(word) for word in as_list(values.pop("command", [])))
        return cls(measurement=Measurement(**measurement), command=command, **values)  # type: ignore[arg-type]  # to_dict made them


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """The losses of one arm, nats per token, in evaluation mode."""

    key: str
    val_loss: float
    """The loss of the last state on the common measurement."""
    best_val_loss: float
    """The loss of the state that its own evaluations found best, on the common measurement."""
    own_val_loss: float
    """The loss of the last state at the arm's own context."""
    own_best_val_loss: float
    best_iter: int
    exact: bool
    """True if the losses are of checkpoints evaluated on all of val; else they are the log's."""
    standard_error: float | None
    """The standard error of each loss; 0 if exact, None if nothing gives it."""
    seconds: float
    run: str
    """The run folder or log."""
    curve: tuple[tuple[int, float], ...] = field(default=())
    """(iteration, val loss) of the arm's own evaluations."""
    note: str = ""
    """The remark that a reader of the result needs about this arm; empty for none."""

    def to_dict(self) -> dict[str, object]:
        """JSON-safe; `ArmResult.from_dict` reads it."""
        return asdict(self) | {"curve": [list(point) for point in self.curve]}

    @classmethod
    def from_dict(cls, content: Mapping[str, object]) -> ArmResult | None:
        """From a stored mapping; None where a value is missing or of another type."""
        numbers = {
            name: as_float(content.get(name))
            for name in ("val_loss", "best_val_loss", "own_val_loss", "own_best_val_loss", "seconds")
        }
        key, run, best_iter = as_text(content.get("key")), as_text(content.get("run")), as_int(content.get("best_iter"))
        if key is None or run is None or best_iter is None or any(value is None for value in numbers.values()):
            return None
        points = [as_list(point) for point in as_list(content.get("curve"))]
        pairs = [(as_int(point[0]), as_float(point[1])) for point in points if len(point) == 2]
        curve = tuple((at, loss) for at, loss in pairs if at is not None and loss is not None)
        return cls(
            key=key,
            best_iter=best_iter,
            exact=content.get("exact") is True,
            standard_error=as_float(content.get("standard_error")),
            run=run,
            curve=curve,
            note=as_text(content.get("note")) or "",
            **{name: float(value) for name, value in numbers.items() if value is not None},
        )


class ArmFailed(Exception):  # noqa: N818  # a result of the experiment, told with its kind
    """An arm that gave no result."""

    def __init__(self, failure: Failure, why: str) -> None:
        super().__init__(failure, why)
        self.failure = failure
        self.why = why


def arm_folder(key: str, root: Path) -> Path:
    """Where an arm trains and what it leaves."""
    return root / "arms" / key
