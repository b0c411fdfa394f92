"""The training loop: evaluate, save, update, from one iteration to the last."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lossgap.config import TrainConfig
from lossgap.errors import TrainingError
from lossgap.evaluation.losses import BLOCKS
from lossgap.evaluation.splits import Evaluation, Evaluator
from lossgap.gpt import GPT
from lossgap.runs.run_record import RunRecord
from lossgap.schedule import learning_rate
from lossgap.training import distributed
from lossgap.training.batches import Batches
from lossgap.training.checkpoint import numbered_name
from lossgap.training.distributed import Share
from lossgap.training.draws import Draws
from lossgap.training.numerics import Numerics
from lossgap.training.optimizer import Scaler, set_rates
from lossgap.training.progress import Progress
from lossgap.training.signals import StopRequest
from lossgap.training.trackers import Tracker
from lossgap.training.update import accumulate, apply

COMPILING = "compiling, often 30 to 60 s, or seconds where torch's cache has it already; Ctrl-C stops it at once"
SETTLING = 5
"""Iterations of a process before its MFU counts, as in nanoGPT."""


class Interrupted(Exception):  # noqa: N818  # no error: the run was stopped by its user and can go on
    """A signal ended the run: after it was saved, or while its model was compiled, with nothing to save yet."""

    def __init__(self, number: int, iteration: int, *, saved: bool = True) -> None:
        super().__init__(number, iteration)
        self.number = number
        self.iteration = iteration
        self.saved = saved


@dataclass(kw_only=True)
class State:
    """The values that change while training, beside weights and moments."""

    iteration: int = 0
    """The next update to make."""
    evaluated_at: int | None = None
    """The last iteration whose evaluation is recorded."""
    best_val_loss: float = 1e9
    best_iter: int | None = None
    seconds: float = 0.0
    """Training time without evaluation and checkpoints."""
    mfu: float | None = None
    """Running mean, nine parts old to one part new, as in nanoGPT."""


@dataclass(frozen=True)
class _Pending:
    iteration: int
    loss: Tensor
    grad_norm: Tensor
    lr: float


@dataclass(kw_only=True)
class Loop:
    """One training in one process. `record` is None in every process but the first."""

    config: TrainConfig
    numerics: Numerics
    share: Share
    model: GPT
    step_model: nn.Module
    """The model as it is trained: compiled, wrapped for several processes, or itself."""
    optimizer: torch.optim.Optimizer
    scaler: Scaler
    draws: Draws
    batches: Batches
    evaluator: Evaluator
    record: RunRecord | None
    trackers: list[Tracker]
    progress: Progress
    stop: StopRequest
    save: Callable[[list[str], State], None]
    """Write the state under these names; the first process's, others do nothing."""
    peak_flops: float | None
    state: State
    _pending: list[_Pending] = field(default_factory=list)
    _span_start: float = 0.0
    _last_save: float = 0.0
    _grad_norm: float | None = None
    """The gradient norm of the last update whose loss was read."""
    _iterations_here: int = 0

    def run(self) -> None:
        """Train up to and with update `max_iters`. Raises Interrupted, TrainingError."""
        self._last_save = self._span_start = time.perf_counter()
        while self.state.iteration <= self.config.max_iters:
            self._before_update()
            if self.config.eval_only:
                return
            first = self.numerics.compile and self._iterations_here == 0
            self._pending.append(self._compile() if first else self._update())
            self.state.iteration += 1
            self._iterations_here += 1
            if self._due_to_flush():
                self.flush()
            self._stop_if_asked()
        self.flush()
        self._save(["ckpt-final.pt", "ckpt-last.pt"])

    def _before_update(self) -> None:
        """Evaluate and save where this iteration asks for it."""
        c, i = self.config, self.state.iteration
        if c.eval_only:
            self.evaluate()
            return
        names = []
        if i % c.eval_interval == 0:
            # Where a resume finds the evaluation recorded, the run may have been killed between two names of its
            # checkpoint: they are written again.
            improved = self.evaluate() if self.state.evaluated_at != i else self.state.best_iter == i
            if i > 0:
                names = self._names_at_evaluation(improved)
        if i in c.checkpoint_at:
            names.append(numbered_name(i))
        if names:
            self._save(list(dict.fromkeys(["ckpt-last.pt", *names])))

    def _names_at_evaluation(self, improved: bool) -> list[str]:
        names = ["ckpt-last.pt"]
        if improved:
            names.append("ckpt-best.pt")
        if self.config.always_save_checkpoint:
            names.append(numbered_name(self.state.iteration))
        if improved or self.config.always_save_checkpoint:
            names.append("ckpt.pt")
            self.progress.saving(self.config.out_dir)
        return names

    def evaluate(self) -> bool:
        """Evaluate, record, and return whether the val loss is the best so far."""
        self.flush()
        c, i = self.config, self.state.iteration
        if c.eval_mode == "sampled":
            evaluation = self.evaluator.sampled(self.model, self.draws, i, c.eval_iters, c.batch_size)
        else:
            evaluation = self.evaluator.exact(self.model, i)
        self._report(evaluation, "eval")
        self.progress.evaluated(evaluation)
        self.state.evaluated_at = i
        improved = evaluation.val_loss < self.state.best_val_loss
        if improved:
            self.state.best_val_loss, self.state.best_iter = evaluation.val_loss, i
        self._span_start = time.perf_counter()
        return improved

    def final_evaluation(self) -> Evaluation:
        """The exact losses of the state after the last update."""
        evaluation = self.evaluator.exact(self.model, self.state.iteration, blocks=BLOCKS)
        self._report(evaluation, "final")
        return evaluation

    def _report(self, evaluation: Evaluation, kind: str) -> None:
        if self.record is not None:
            self.record.append({"kind": kind, **evaluation.row()})
        values = {"train/loss": evaluation.train_loss, "val/loss": evaluation.val_loss}
        if kind == "eval":
            values["lr"] = learning_rate(self.config, evaluation.iter)
            values["mfu"] = -100.0 if self.state.mfu is None else 100 * self.state.mfu
        for tracker in self.trackers:
            tracker.log(evaluation.iter, values)
        if not (math.isfinite(evaluation.train_loss) and math.isfinite(evaluation.val_loss)):
            raise self._diverged(f"train loss {evaluation.train_loss}, val loss {evaluation.val_loss}")

    def _compile(self) -> _Pending:
        """The first update of a compiled model. It has nothing to save yet, so a signal stops it at once."""
        self.progress.note(COMPILING)
        # One of several processes must not leave the others in the middle of a reduction.
        self.stop.at_once = self.share.world_size == 1
        try:
            if self.stop.at_once and self.stop.number:
                raise KeyboardInterrupt
            return self._update()
        except KeyboardInterrupt:
            if not (self.stop.at_once and self.stop.number):
                raise
            raise Interrupted(self.stop.number, self.state.iteration, saved=False) from None
        finally:
            self.stop.at_once = False

    def _update(self) -> _Pending:
        lr = set_rates(self.optimizer, self.config, self.state.iteration)
        self.draws.before_update(self.state.iteration, self.share.rank)
        micro_losses = accumulate(self.step_model, self.batches, self.numerics, self.scaler, self.share.micro_steps)
        grad_norm = apply(self.model, self.optimizer, self.scaler, self.config.grad_clip)
        return _Pending(self.state.iteration, self.draws.iter_loss(micro_losses), grad_norm, lr)

    def _due_to_flush(self) -> bool:
        """Reading a loss waits for the device: on a CPU it costs nothing, elsewhere it is done at `log_interval`."""
        done = self.state.iteration - 1
        return self.numerics.device_type == "cpu" or done % self.config.log_interval == 0 or len(self._pending) >= 100

    def flush(self) -> None:
        """Read the losses of the iterations since the last flush, record and show them.

        Raises TrainingError (`loss-not-finite`) at the first one that is not a number.
        """
        pending, self._pending = self._pending, []
        if not pending:
            return
        values = torch.stack(
            [torch.stack([p.loss.float() for p in pending]), torch.stack([p.grad_norm for p in pending])]
        )
        values[0] = distributed.mean_over_processes(values[0].clone())
        losses, norms = (
            values.double().cpu().tolist() if values.device.type != "mps" else values.cpu().double().tolist()
        )
        seconds = (time.perf_counter() - self._span_start) / len(pending)
        for item, loss, norm in zip(pending, losses, norms, strict=True):
            self._row(item, loss * self.share.micro_steps, norm, seconds)
        self._span_start = time.perf_counter()

    def _row(self, item: _Pending, loss: float, grad_norm: float, seconds: float) -> None:
        self.state.seconds += seconds
        settled = self._iterations_here - (self.state.iteration - 1 - item.iteration) > SETTLING
        if settled and self.peak_flops:
            rate = self.model.flops_per_token() * self.config.tokens_per_iter / seconds / self.share.world_size
            # A peak that was measured beside other programs is too low: what the training reaches is possible.
            self.peak_flops = max(self.peak_flops, rate)
            mfu = rate / self.peak_flops
            self.state.mfu = mfu if self.state.mfu is None else 0.9 * self.state.mfu + 0.1 * mfu
        if self.record is not None:
            self.record.append(
                {
                    "kind": "iter",
                    "iter": item.iteration,
                    "loss": loss,
                    "lr": item.lr,
                    "grad_norm": grad_norm,
                    "tokens": (item.iteration + 1) * self.config.tokens_per_iter,
                    "seconds": self.state.seconds,
                    "ms": 1000 * seconds,
                    "mfu": self.state.mfu,
                }
            )
        self._grad_norm = grad_norm
        # With float16 an infinite gradient only lowers the loss scale: the update is skipped.
        if not math.isfinite(loss) or not (math.isfinite(grad_norm) or self.scaler.is_enabled()):
            raise self._diverged(f"loss {loss}", item.iteration)
        shown = item.iteration % self.config.log_interval == 0
        self.progress.iterated(item.iteration, loss, seconds, self.state.mfu, shown)
        if shown:
            for tracker in self.trackers:
                tracker.log(item.iteration, {"iter/loss": loss, "lr": item.lr, "grad_norm": grad_norm})

    def _diverged(self, what: str, iteration: int | None = None) -> TrainingError:
        at = self.state.iteration if iteration is None else iteration
        norm = "unknown" if self._grad_norm is None else f"{self._grad_norm}"
        return TrainingError(
            "loss-not-finite",
            f"iteration {at}: {what}, gradient norm {norm}: the training has diverged and stops; checkpoints in "
            f"{self.config.out_dir} are from before; try a lower --learning_rate, a longer --warmup_iters, or another "
            "--dtype",
        )

    def _check_next_loss(self) -> None:
        """A state that has no loss is not worth keeping, and must not take the place of one that has.

        The last update may have spoilt the weights, and no loss of them is known yet: the batch drawn ahead gives one.
        """
        batch = self.batches.take()
        self.model.eval()
        with torch.no_grad(), self.numerics.autocast():
            _, loss = self.model(batch.x, batch.y)
        self.model.train()
        if distributed.any_process(0 if math.isfinite(float(loss)) else 1):
            raise self._diverged(f"loss {float(loss)}")

    def _save(self, names: list[str]) -> None:
        self.flush()
        self._check_next_loss()
        if self.record is not None:
            self.record.flush(fsync=True)  # no checkpoint knows more than the record
        self.save(names, self.state)
        self._last_save = self._span_start = time.perf_counter()

    def _stop_if_asked(self) -> None:
        """Save every `checkpoint_seconds`; on a signal save and stop. All processes decide alike."""
        due = time.perf_counter() - self._last_save > self.config.checkpoint_seconds
        flag = distributed.any_process(self.stop.number or (1000 if due and self.share.rank == 0 else 0))
        if flag:
            self._save(["ckpt-last.pt"])
        if 0 < flag < 1000:
            distributed.barrier()  # torchrun gives the others 30 seconds once one has ended: first the save
            raise Interrupted(flag, self.state.iteration)
