"""`train`: from what was given to a run folder.

1. Decide the start (`resume`), join the process group, resolve the numerics.
2. Open the corpus, build model, optimizer, draws and batches, or take them from the checkpoint.
3. Take the run folder and begin, continue or branch its record.
4. Run the loop, then score the final state exactly.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lossgap.arguments import Given
from lossgap.arithmetic import GPT2_OUTPUTS
from lossgap.config import TrainConfig, warn_doubts
from lossgap.corpus import open_corpus
from lossgap.errors import LossgapError
from lossgap.evaluation.splits import Evaluator
from lossgap.gpt import GPT, GPTConfig, gpt_config, n_places
from lossgap.machine.device import resolve_device
from lossgap.machine.peak import device_peak
from lossgap.machine.probe import environment
from lossgap.runs.folder import prepare_out_dir
from lossgap.runs.run import Run, read_run
from lossgap.runs.run_record import RunRecord
from lossgap.schedule import context_parts
from lossgap.training import checkpoint, distributed, optimizer
from lossgap.training.batches import Batches
from lossgap.training.description import Parts
from lossgap.training.distributed import Share
from lossgap.training.draws import CounterDraws, Draws, NanoGPTDraws
from lossgap.training.fitting import check_fit
from lossgap.training.loop import Interrupted, Loop, State
from lossgap.training.numerics import Departure, Numerics, applied, before_cuda, resolve, warn_slow
from lossgap.training.progress import Progress, Silence
from lossgap.training.restoring import check_vocabulary, inexact, restore, warn_inexact
from lossgap.training.resume import Start, plan, warn_doubts_of
from lossgap.training.signals import StopRequest
from lossgap.training.takeover import check_corpus
from lossgap.training.trackers import check_trackers, open_trackers
from lossgap.version import __version__


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a training ended: the run, and the exact final losses if they were measured."""

    run: Run
    train_loss: float | None
    val_loss: float | None


DeviceCheck = Callable[[TrainConfig, GPTConfig, Numerics, int], str]
"""Checks the device on which a model is about to be trained, with so many sequences in a micro-batch, and gives back a
line to show; raises LossgapError where the device is not to be trusted. `kernels.check.certify` is one."""


def train_given(given: Given, progress: Progress, check: DeviceCheck) -> Outcome:
    """Run the training that was asked for, to its end; `check` is used where `canary` is set.

    Raises LossgapError for what the user can mend, Interrupted after a signal.
    """
    if distributed.rank() > 0:
        progress = Silence()
    with distributed.one_voice():
        start = plan(given)
        check_trackers(start.config)
    warn_doubts(start.config)
    warn_doubts_of(start)
    with StopRequest() as stop:
        if _is_finished(start):
            return _finished(start, progress)
        device = resolve_device(start.config.device)
        before_cuda(start.config.deterministic, device.value)
        with distributed.process_group(start.config.backend, device.value) as (rank, world_size, own_device):
            share = distributed.share(
                rank, world_size, start.config.batch_size, start.config.gradient_accumulation_steps
            )
            numerics, departures = resolve(start.config, own_device, world_size, start.numerics_before)
            if rank == 0:
                warn_slow(numerics)
            with applied(numerics):
                return _Training(given, start, share, numerics, departures, device.why, progress, stop, check).run()


def _is_finished(start: Start) -> bool:
    found = start.checkpoint
    if found is None or not start.in_place or found.iter_num <= start.config.max_iters:
        return False
    with contextlib.suppress(LossgapError):
        run = read_run(start.out_dir)
        return run.status == "finished" and (run.final is not None or not start.config.final_eval)
    return False


def _finished(start: Start, progress: Progress) -> Outcome:
    run = read_run(start.out_dir)
    progress.note(
        f"{start.out_dir}: finished at iteration {start.iteration - 1}; nothing to do (raise --max_iters to go on)"
    )
    final = run.final or {}
    train_loss, val_loss = final.get("train_loss"), final.get("val_loss")
    return Outcome(
        run=run,
        train_loss=train_loss if isinstance(train_loss, float) else None,
        val_loss=val_loss if isinstance(val_loss, float) else None,
    )


class _Training:
    """The parts of one training, put together."""

    def __init__(
        self,
        given: Given,
        start: Start,
        share: Share,
        numerics: Numerics,
        departures: list[Departure],
        why_device: str,
        progress: Progress,
        stop: StopRequest,
        check: DeviceCheck,
    ) -> None:
        self.check = check
        self.given, self.start, self.share, self.numerics = given, start, share, numerics
        self.departures, self.why_device, self.progress, self.stop = departures, why_device, progress, stop
        self.config = start.config
        self.corpus = open_corpus(self.config.dataset)
        source = start.checkpoint.path if start.checkpoint is not None else start.out_dir
        self.corpus_notes = check_corpus(source, start.corpus_before, self.corpus, "dataset" in given.values)
        check_fit(self.config, numerics, share.micro_batch, self.corpus.vocab_size or GPT2_OUTPUTS)
        self.draws = _draws(self.config)
        self.model = self._model()
        self.model.use_attention(numerics.attention)
        self.model.to(numerics.device)
        self.optimizer = optimizer.build(self.model, self.config, numerics)
        self.scaler = optimizer.scaler(numerics)
        self.state = State()
        if start.checkpoint is not None:
            found = start.checkpoint
            self.state = restore(found, self.config, self.model, self.optimizer, self.scaler, self.draws)
        self.batches = self._batches()
        self.peak = device_peak(numerics.device, numerics.dtype, numerics.tf32, numerics.threads)
        self.environment = environment(numerics.device)

    def run(self) -> Outcome:
        """Train, score, and close the record in the state it ended in."""
        if self.config.canary:
            self._canary()
        with contextlib.ExitStack() as stack:
            record = self._record(stack)
            loop = self._loop(record)
            stack.callback(self.progress.close)
            self.progress.open(self._parts.opening(self.optimizer, self.state.iteration))
            for note in (*self.start.notes, *self.corpus_notes):
                self.progress.note(note)
            try:
                if record is not None:
                    loop.trackers += open_trackers(self.config, self.start.out_dir, self.state.iteration)
                loop.run()
                final = loop.final_evaluation() if self._wants_final() else None
            except BaseException as error:
                stopped = isinstance(error, Interrupted | KeyboardInterrupt)
                if record is not None:
                    with contextlib.suppress(LossgapError):  # on a full disk, too, the first error is the one to tell
                        record.finish("interrupted" if stopped else "failed")
                if isinstance(error, Interrupted):
                    self.progress.note(self._stopped(error))
                raise
            finally:
                for tracker in loop.trackers:
                    tracker.close()
            if record is not None:
                record.finish("finished", final.losses() if final else None)
            distributed.barrier()
        return Outcome(
            run=read_run(self.start.out_dir),
            train_loss=final.train_loss if final else None,
            val_loss=final.val_loss if final else None,
        )

    def _stopped(self, error: Interrupted) -> str:
        """One line on what a signal ended, and how to go on."""
        said = f"stopped by {signal.Signals(error.number).name} before iteration {error.iteration}"
        if not error.saved and self.start.checkpoint is None:
            return f"{said}, while compiling: nothing was trained yet; the same command with --overwrite starts again"
        how = "saved" if error.saved else "while compiling: nothing is lost"
        return f"{said}, {how}; go on with: {checkpoint.resume_command(self.start.out_dir)}"

    def _canary(self) -> None:
        """Every process checks the device it will train on, before anything is written."""
        problem: LossgapError | None = None
        try:
            note = self.check(self.config, self.model.config, self.numerics, self.share.micro_batch)
        except LossgapError as error:
            problem = error
        if distributed.any_process(1 if problem else 0):
            raise problem or SystemExit(1)
        self.progress.note(note)

    @property
    def _parts(self) -> Parts:
        return Parts(
            given=self.given,
            start=self.start,
            config=self.config,
            numerics=self.numerics,
            departures=self.departures,
            why_device=self.why_device,
            share=self.share,
            corpus=self.corpus,
            model=self.model,
            peak=self.peak,
        )

    def _wants_final(self) -> bool:
        return self.config.final_eval and not self.config.eval_only

    def _model(self) -> GPT:
        """From the checkpoint, from GPT-2, or from scratch; always after the draws made a new one, as in nanoGPT."""
        found, config = self.start.checkpoint, self.config
        if found is not None:
            check_vocabulary(found, self.corpus)
            whole = dataclasses.replace(config, block_size=int(found.model_args["block_size"]))
            model = self.draws.new_model(gpt_config(whole, int(found.model_args["vocab_size"])))
            checkpoint.fill(model, found)
            if config.block_size < model.config.block_size:
                model.crop_block_size(config.block_size)
            return model
        if config.init_from.startswith("gpt2"):
            from lossgap.training.gpt2 import check_tokens, pretrained

            model = pretrained(config.init_from, config.dropout)
            check_tokens(config.init_from, model, self.corpus)
            if config.block_size < model.config.block_size:
                model.crop_block_size(config.block_size)
            shape = {
                name: getattr(model.config, name) for name in ("n_layer", "n_head", "n_embd", "bias", "block_size")
            }
            self.departures += [
                Departure(name, getattr(config, name), value, f"{config.init_from} has a shape of its own")
                for name, value in shape.items()
                if name in self.given.values and getattr(config, name) != value
            ]
            self.config = dataclasses.replace(config, **shape)
            return model
        return self.draws.new_model(gpt_config(config, self.corpus.vocab_size))

    def _batches(self) -> Batches:
        keyed = self.config.dropout > 0 and self.config.rng == "counter" and self.config.dropout_rng == "counter"
        places = n_places(self.config.n_layer) if keyed else 0
        device, block_size = self.numerics.device, self.model.config.block_size
        parts = partial(context_parts, self.config)
        return Batches(self.corpus, self.draws, self.share, block_size, places, device, self.state.iteration, parts)

    def _loop(self, record: RunRecord | None) -> Loop:
        step_model: nn.Module = self.model
        if self.numerics.compile:
            step_model = torch.compile(step_model)  # type: ignore[assignment]  # callable like the module it wraps
        if self.share.world_size > 1:
            step_model = DistributedDataParallel(step_model)
        return Loop(
            config=self.config,
            numerics=self.numerics,
            share=self.share,
            model=self.model,
            step_model=step_model,
            optimizer=self.optimizer,
            scaler=self.scaler,
            draws=self.draws,
            batches=self.batches,
            evaluator=Evaluator(self.corpus, self.numerics),
            record=record,
            trackers=[],
            progress=self.progress,
            stop=self.stop,
            save=lambda names, state: self._save(record, names, state),
            peak_flops=self.peak.flops,
            state=self.state,
        )

    def _save(self, record: RunRecord | None, names: list[str], state: State) -> None:
        if record is None:
            return
        folder, document = self.start.out_dir, record.document
        content: dict[str, object] = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "model_args": self.model.config.model_args(),
            "iter_num": state.iteration,
            "best_val_loss": state.best_val_loss,
            "config": self.config.nanogpt_dict(),
            "lossgap": {
                "schema": checkpoint.SCHEMA,
                "version": __version__,
                "config": self.config.to_dict(),
                "numerics": self.numerics.to_dict(),
                "versions": self._versions(),
                "state": dataclasses.asdict(state),
                "scaler": self.scaler.state_dict(),
                "draws": self.draws.state(),
                "tokenizer": self.corpus.tokenizer.to_dict() if self.corpus.tokenizer else {},
                "corpus": self._parts.corpus_record(),
                "record": {"given": document["given"], "seams": document["seams"]},
            },
        }
        checkpoint.write(folder, names, content)
        checkpoint.prune_numbered(folder, self.config.checkpoint_at)

    def _versions(self) -> dict[str, str | int]:
        """Return the versions that bit-equality needs beside the numerics."""
        return {"torch": str(torch.__version__), "processes": self.share.world_size}

    def _record(self, stack: contextlib.ExitStack) -> RunRecord | None:
        """Take the folder and begin, continue or branch the record; the first process's part."""
        problem: LossgapError | None = None
        record: RunRecord | None = None
        if self.share.rank == 0:
            try:
                record = self._open_record(stack)
            except LossgapError as error:
                problem = error
        if distributed.any_process(1 if problem else 0):
            raise problem or SystemExit(1)
        return record

    def _open_record(self, stack: contextlib.ExitStack) -> RunRecord:
        start = self.start
        if start.afresh and not self.config.overwrite and checkpoint.checkpoint_files(start.out_dir):
            raise checkpoint.went_on(start.out_dir)
        overwrite = start.afresh or self.config.overwrite
        stack.enter_context(prepare_out_dir(start.out_dir, overwrite=overwrite, resume=start.in_place))
        if start.in_place:
            for name in checkpoint.set_aside(start.out_dir, self.state.iteration):
                self.progress.note(f"{start.out_dir}: a damaged checkpoint is out of the way, as {name}")
        if start.in_place and (start.out_dir / "run.json").exists():
            record = stack.enter_context(RunRecord.open(start.out_dir))
            record.update(status="running", final=None, seams=start.seams_before, **self._parts.record())
        else:
            record = stack.enter_context(
                RunRecord.create(
                    start.out_dir,
                    version=__version__,
                    name=start.out_dir.resolve().name,
                    environment=self.environment,
                    notices=[*start.notes, *self.corpus_notes, *(text for _, text in start.doubts)],
                    seams=start.seams_before,
                    **self._parts.record(),
                )
            )
            if start.branch_of is not None:
                record.copy_until(start.branch_of, self.state.iteration, self.state.evaluated_at)
        if start.in_place:
            record.cut(self.state.iteration, self.state.evaluated_at)
        self._seam(record)
        return record

    def _seam(self, record: RunRecord) -> None:
        """Record what a resume changes, and warn where it is not exact."""
        found = self.start.checkpoint
        if found is None:
            return
        reason = inexact(found, self.numerics, self._versions())
        corpus_before = found.part("corpus").get("tokens_sha256", self.corpus.tokens_sha256)
        changes = [dataclasses.asdict(change) for change in self.start.changes]
        if corpus_before != self.corpus.tokens_sha256:
            changes.append({"setting": "corpus", "before": corpus_before, "after": self.corpus.tokens_sha256})
        warn_inexact(reason)
        if changes or reason or self.start.branch_of is not None:
            record.add_seam(
                at=self.state.iteration,
                source=str(found.path),
                changed=changes,
                why="resumed" if self.start.in_place else "branched off",
                exact=not reason and not changes,
                note=reason,
                digest=str(found.lossgap.get("digest", "")),
            )


def _draws(config: TrainConfig) -> Draws:
    if config.rng == "nanogpt":
        return NanoGPTDraws(config.seed)
    return CounterDraws(config.seed, keyed_dropout=config.dropout_rng == "counter")
