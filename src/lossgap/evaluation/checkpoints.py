"""The states of a run whose models can be evaluated: its last and its best, and what its record reports of each.

Of a run folder they are found by the iterations of the reported values. A checkpoint that is named itself (a file, or a
folder of nanoGPT's) is one state, which stands for both. torch is loaded when a checkpoint is read, not before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lossgap.comparison.alignment import Alignment
from lossgap.comparison.curve import Value
from lossgap.comparison.facts import Facts
from lossgap.comparison.metric import Metric
from lossgap.comparison.reevaluation import Which
from lossgap.errors import CheckpointError
from lossgap.runs.run import Run
from lossgap.strangers import one_line, shown

if TYPE_CHECKING:
    from lossgap.gpt import GPT
    from lossgap.training.checkpoint import Checkpoint

_BEFORE_ANY = 1e8
"""nanoGPT's best_val_loss is 1e9 before the first evaluation."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """A checkpoint without its optimizer, and its model: in evaluation mode, built without dropout, on the CPU."""

    checkpoint: Checkpoint
    model: GPT

    @property
    def context(self) -> int:
        """Tokens."""
        return self.model.config.block_size


@dataclass(frozen=True, kw_only=True)
class ModelState:
    """A state to evaluate: its checkpoint (None, with `why`, if there is none) and what is reported of it."""

    found: Loaded | None = None
    reported: Value | None = None
    """Val loss in nats per token."""
    per_token: float = 1.0
    """The factor by which the comparison multiplied it to have its own unit."""
    why: str = ""


def check(run: Run, side: str) -> None:
    """Refuse a run without a checkpoint: CheckpointError (`nothing-to-reevaluate`)."""
    if not run.has_checkpoint():
        raise CheckpointError(
            "nothing-to-reevaluate",
            f"{side} ({one_line(shown(run.path))}) is a log without a checkpoint, so there is no model to evaluate: "
            "name its run folder or its ckpt.pt instead, or leave --reevaluate out",
        )


def states(facts: Facts, side: str, alignment: Alignment) -> Mapping[Which, ModelState]:
    """The last state of a run (always loaded) and the best, each checkpoint read once.

    `side` is control or test. Raises CheckpointError (`nothing-to-reevaluate`, `bad-checkpoint`).
    """
    run = facts.run
    check(run, side)
    from lossgap.training import checkpoint as checkpoints

    if run.format == "checkpoint":
        found = checkpoints.find(run.path)
        alone = ModelState(found=loaded(found), reported=_said_by(found))
        return {"last": alone, "best": alone}
    files = {
        iteration: path
        for path in checkpoints.checkpoint_files(run.path)
        if (iteration := checkpoints.iteration_of(path)) is not None
    }
    if not files:
        raise CheckpointError(
            "nothing-to-reevaluate",
            f"{side} ({one_line(shown(run.path))}): none of its checkpoints can be read; name another run folder",
        )
    return _of_folder(facts, side, alignment, files)


def _of_folder(facts: Facts, side: str, alignment: Alignment, files: Mapping[int, Path]) -> Mapping[Which, ModelState]:
    from lossgap.training import checkpoint as checkpoints

    last, best = (_reported(facts, side, alignment, of) for of in ("last", "best"))
    at_last = max(files)
    if last.reported is not None and int(last.reported.iter) in files:
        at_last = int(last.reported.iter)
    end = replace(last, found=loaded(checkpoints.load(files[at_last])))
    if best.reported is None:
        return {"last": end, "best": ModelState(why=f"{side}'s record has no val loss during the training")}
    at_best = int(best.reported.iter)
    if at_best == at_last:
        return {"last": end, "best": replace(best, found=end.found)}
    if at_best not in files:
        why = f"{side} has no checkpoint of iteration {at_best}, where its best val loss is"
        return {"last": end, "best": ModelState(why=why)}
    return {"last": end, "best": replace(best, found=loaded(checkpoints.load(files[at_best])))}


def _reported(facts: Facts, side: str, alignment: Alignment, of: Which) -> ModelState:
    """The value that the comparison shows; where it compares no val loss, the run's own."""
    metric, value = alignment.metric, getattr(alignment.row(of), side)
    if isinstance(metric, Metric) and metric.name == "val_loss" and value is not None:
        factor = metric.control_factor if side == "control" else metric.test_factor
        return ModelState(reported=replace(value, value=value.value / factor), per_token=factor)
    if facts.val is None:
        return ModelState(reported=facts.final if of == "last" else None)
    return ModelState(reported=(facts.final or facts.val.last) if of == "last" else facts.val.best)


def _said_by(found: Checkpoint) -> Value | None:
    """Return the best val loss that a checkpoint records, if it is that of this iteration."""
    state = found.part("state")
    # nanoGPT writes only where the val loss improves, unless always_save_checkpoint is set (its default).
    own = state.get("best_iter") == found.iter_num if state else found.config.get("always_save_checkpoint") is False
    loss = found.best_val_loss
    return Value(value=loss, iter=float(found.iter_num)) if own and math.isfinite(loss) and loss < _BEFORE_ANY else None


def loaded(found: Checkpoint) -> Loaded:
    """The model of a verified checkpoint; its optimizer is given up. Raises CheckpointError (`bad-checkpoint`)."""
    from lossgap.gpt import GPT, GPTConfig
    from lossgap.training import checkpoint as checkpoints

    args = found.model_args
    if args["n_embd"] % args["n_head"]:
        raise CheckpointError(
            "bad-checkpoint",
            f"{one_line(str(found.path))} cannot be used: its n_embd={args['n_embd']} is not a multiple of its "
            f"n_head={args['n_head']}; take another checkpoint of the run",
        )
    model = GPT(GPTConfig.from_model_args(args)).eval()
    model.use_attention("fused")
    checkpoints.fill(model, found)
    found.optimizer.clear()
    return Loaded(found, model)
