"""`Stand`: a training put together for measuring, without a run folder, whose updates are timed whole or by part.

    stand = Stand(config)
    stand.updates(30)          # seconds of each of 30 updates
    stand.parts(30)            # the same, by part: data, forward, backward, optimizer
    stand.evaluation()         # seconds of one evaluation as the config asks for it

It is the code that `lossgap train` runs: `accumulate`, `apply`, `Batches`, `Evaluator`. Parts are timed by what is
handed to that code, and on an accelerator each part waits for the device, which costs time that an update of a real
training does not take: so whole updates are timed apart from the parts.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lossgap.config import TrainConfig
from lossgap.corpus import Corpus, open_corpus
from lossgap.evaluation.splits import Evaluator
from lossgap.gpt import gpt_config, n_places
from lossgap.machine.device import resolve_device
from lossgap.training import optimizer
from lossgap.training.batches import Batch, Batches
from lossgap.training.distributed import share
from lossgap.training.draws import CounterDraws, Draws, NanoGPTDraws
from lossgap.training.numerics import applied, before_cuda, resolve
from lossgap.training.update import accumulate, apply

WARM_UP = 3
"""Updates before the first that is timed: memory is taken, and kernels are chosen, in the first ones."""


@dataclass(frozen=True, kw_only=True)
class UpdateTimes:
    """Seconds of one update, by part."""

    data: float
    """Drawing the next batch."""
    forward: float
    backward: float
    optimizer: float
    """Clipping, AdamW or Muon, and dropping the gradients."""
    other: float
    """The rest that lies between: learning rate, reading the loss."""


class Stand:
    """One training, ready to be timed. Raises what a start raises: ConfigError, CorpusError, MachineError."""

    def __init__(self, config: TrainConfig, corpus: Corpus | None = None) -> None:
        self.config = config
        self.corpus = corpus or open_corpus(config.dataset)
        device = resolve_device(config.device).value
        before_cuda(config.deterministic, device)
        self.numerics, _ = resolve(config, device, 1, {})
        keyed = config.dropout_rng == "counter"
        self.draws: Draws = (
            NanoGPTDraws(config.seed) if config.rng == "nanogpt" else CounterDraws(config.seed, keyed_dropout=keyed)
        )
        with applied(self.numerics):
            self.model = self.draws.new_model(gpt_config(config, self.corpus.vocab_size))
            self.model.use_attention(self.numerics.attention)
            self.model.to(device)
            self.optimizer = optimizer.build(self.model, config, self.numerics)
            self.scaler = optimizer.scaler(self.numerics)
            whole = share(0, 1, config.batch_size, config.gradient_accumulation_steps)
            places = n_places(config.n_layer) if config.dropout and keyed and config.rng == "counter" else 0
            self.batches = Batches(self.corpus, self.draws, whole, config.block_size, places, device, 0)
        self.step_model: nn.Module = self.model
        if self.numerics.compile:
            self.step_model = torch.compile(self.model)  # type: ignore[assignment]  # callable like what it wraps
        self.iteration = 0
        self.slowest = 0.0
        """Seconds of the slowest update after the first."""
        self.losses: list[float] = []
        """The loss of every update so far, nats per token."""

    def updates(self, count: int) -> list[float]:
        """Seconds of each of the next `count` updates, after `WARM_UP` at the first call."""
        with applied(self.numerics):
            self._warm_up()
            return [self._update(None) for _ in range(count)]

    def parts(self, count: int) -> list[UpdateTimes]:
        """The same by part."""
        with applied(self.numerics):
            self._warm_up()
            found = []
            for _ in range(count):
                watch = _Watch(self._wait)
                total = self._update(watch)
                optimizer_seconds = watch.seconds["optimizer"]
                backward = watch.seconds["accumulate"] - watch.seconds["data"] - watch.seconds["forward"]
                found.append(
                    UpdateTimes(
                        data=watch.seconds["data"],
                        forward=watch.seconds["forward"],
                        backward=backward,
                        optimizer=optimizer_seconds,
                        other=max(0.0, total - watch.seconds["accumulate"] - optimizer_seconds),
                    )
                )
            return found

    def evaluation(self, mode: str = "") -> float:
        """Seconds of one evaluation of both splits, `sampled` or `exact`; by default the config's mode."""
        evaluator, c = Evaluator(self.corpus, self.numerics), self.config
        with applied(self.numerics):
            if (mode or c.eval_mode) == "exact":
                return evaluator.exact(self.model, 0).seconds
            return evaluator.sampled(self.model, self.draws, 0, c.eval_iters, c.batch_size).seconds

    def memory(self) -> int:
        """Bytes: on CUDA the most that tensors took, else what this process has now."""
        if self.numerics.device_type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.numerics.device))
        import psutil

        return int(psutil.Process().memory_info().rss)

    def digest(self) -> bytes:
        """The bits of all parameters."""
        return b"".join(p.detach().cpu().numpy().tobytes() for p in self.model.parameters())

    def _warm_up(self) -> None:
        if self.iteration == 0:
            for _ in range(WARM_UP):
                self._update(None)

    def _wait(self) -> None:
        if self.numerics.device_type == "cuda":
            torch.cuda.synchronize(self.numerics.device)
        elif self.numerics.device_type == "mps":
            torch.mps.synchronize()

    def _update(self, watch: _Watch | None) -> float:
        """One update; its seconds, from the end of the one before."""
        start, c = time.perf_counter(), self.config
        optimizer.set_rates(self.optimizer, c, self.iteration)
        self.draws.before_update(self.iteration, 0)
        steps = self.batches.share.micro_steps
        if watch is None:
            losses = accumulate(self.step_model, self.batches, self.numerics, self.scaler, steps)
            apply(self.model, self.optimizer, self.scaler, c.grad_clip)
        else:
            model, source = _TimedModel(self.step_model, watch), _TimedSource(self.batches, watch)
            before = watch.now()
            losses = accumulate(model, source, self.numerics, self.scaler, steps)
            watch.add("accumulate", before)
            before = watch.now()
            apply(self.model, self.optimizer, self.scaler, c.grad_clip)
            watch.add("optimizer", before)
        self.losses.append(float(losses.sum()))
        self._wait()
        self.iteration += 1
        took = time.perf_counter() - start
        self.slowest = max(self.slowest, took) if self.iteration > 1 else 0.0
        return took


class _Watch:
    """Adds up seconds by name."""

    def __init__(self, wait: object) -> None:
        self.wait = wait
        self.seconds = dict.fromkeys(("data", "forward", "accumulate", "optimizer"), 0.0)

    def now(self) -> float:
        if callable(self.wait):
            self.wait()
        return time.perf_counter()

    def add(self, name: str, since: float) -> None:
        self.seconds[name] += self.now() - since


class _TimedModel(nn.Module):
    """A model whose forward pass is timed."""

    def __init__(self, model: nn.Module, watch: _Watch) -> None:
        super().__init__()
        self.model, self.watch = model, watch

    def forward(self, x: Tensor, y: Tensor, keys: Tensor | None) -> object:
        """Return what the model returns."""
        before = self.watch.now()
        found: object = self.model(x, y, keys)
        self.watch.add("forward", before)
        return found


class _TimedSource:
    """Batches whose drawing is timed."""

    def __init__(self, batches: Batches, watch: _Watch) -> None:
        self.batches, self.watch = batches, watch

    def take(self) -> Batch:
        return self.batches.take()

    def prefetch(self) -> None:
        before = self.watch.now()
        self.batches.prefetch()
        self.watch.add("data", before)


PARTS: tuple[str, ...] = tuple(item.name for item in dataclasses.fields(UpdateTimes))
"""The parts of an update, in the order in which tables list them."""
