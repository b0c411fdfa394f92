"""A stretch of a training without files: the arithmetic of `lossgap train`, from a state in memory.

    trace = run_stretch(job, numerics, moment, 50, keep=(0, 49), evaluate=(0, 50))

Losses, gradient norms, weights and evaluations are bit-equal to those of `lossgap train` with the same config,
numerics and start: both run `lossgap.training.update`. Shapes: n micro-batches of an update, B batch, T context.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lossgap.config import TrainConfig
from lossgap.evaluation.losses import evaluating
from lossgap.evaluation.splits import mean_loss
from lossgap.gpt import GPT, GPTConfig, n_places
from lossgap.random import Split
from lossgap.training import optimizer as optimizers
from lossgap.training.batches import Batch
from lossgap.training.draws import CounterDraws, Draws, NanoGPTDraws
from lossgap.training.numerics import Numerics, applied
from lossgap.training.optimizer import Scaler
from lossgap.training.update import accumulate, apply


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The state of a training before one update, on the CPU."""

    iteration: int
    weights: Mapping[str, Tensor]
    """By parameter name; the tied matrix once, as `named_parameters` gives it."""
    exp_avg: Mapping[str, Tensor] = field(default_factory=dict)
    exp_avg_sq: Mapping[str, Tensor] = field(default_factory=dict)
    """AdamW's moments by parameter name; empty before the first update."""
    step: int = 0
    """Updates made, by AdamW's count."""
    scale: float | None = None
    """The scale of the loss scaler for float16; None takes torch's first one."""
    growth: int = 0
    """Updates since the loss scale last changed."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """The job of a stretch: what is trained, and on what data, apart from the numerics."""

    config: TrainConfig
    shape: GPTConfig
    batches: Callable[[int], tuple[Tensor, Tensor]]
    """Inputs and targets of an iteration, each (n, B, T) int64 on the CPU."""
    evaluation: Mapping[Split, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Inputs and targets of the evaluation batches, each (n, B, T) int64 on the CPU."""

    def draws(self) -> Draws:
        """The source of dropout keys."""
        if self.config.rng == "nanogpt":
            return NanoGPTDraws(self.config.seed)
        return CounterDraws(self.config.seed, keyed_dropout=self.config.dropout_rng == "counter")

    def keys(self, iteration: int) -> Tensor | None:
        """Dropout keys of an iteration, (n, B, places, 2) int32 on the CPU, or None where there are none."""
        c = self.config
        if c.dropout == 0 or c.rng != "counter" or c.dropout_rng != "counter":
            return None
        sequences = range(c.gradient_accumulation_steps * c.batch_size)
        keys = self.draws().dropout_keys(iteration, sequences, n_places(self.shape.n_layer))
        assert keys is not None
        return keys.view(c.gradient_accumulation_steps, c.batch_size, *keys.shape[1:])

    def micro_batches(self, iteration: int) -> list[Batch]:
        """The micro-batches of an iteration, on the CPU."""
        (x, y), keys = self.batches(iteration), self.keys(iteration)
        return [Batch(x[n], y[n], None if keys is None else keys[n]) for n in range(len(x))]

    def finer(self, pieces: int) -> Job:
        """The same training with every micro-batch cut into so many equal ones: equal but for rounding, and smaller."""
        if pieces == 1:
            return self
        return _Finer(
            config=self.config, shape=self.shape, batches=self.batches, evaluation=self.evaluation, pieces=pieces
        )


@dataclass(frozen=True, kw_only=True)
class _Finer(Job):
    pieces: int

    def micro_batches(self, iteration: int) -> list[Batch]:
        def cut(tensor: Tensor | None) -> list[Tensor | None]:
            return [None] * self.pieces if tensor is None else list(tensor.chunk(self.pieces))

        return [
            Batch(x, y, keys)
            for batch in super().micro_batches(iteration)
            for x, y, keys in zip(batch.x.chunk(self.pieces), batch.y.chunk(self.pieces), cut(batch.keys), strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The results of a stretch, in full precision."""

    first: int
    """The first iteration."""
    losses: tuple[float, ...]
    """Training loss of each iteration, nats per token."""
    grad_norms: tuple[float, ...]
    """Before clipping."""
    moments: Mapping[int, Moment]
    """The states asked for, each before the update of its iteration; `first + n` is the state after the last one."""
    evaluations: tuple[tuple[int, Split, float], ...]
    """(iteration, split, mean loss) of the state before that iteration's update."""


class Stretch:
    """A model and its numerics, to train from any state: build it once where several stretches are run."""

    def __init__(self, job: Job, numerics: Numerics) -> None:
        self.job, self.numerics = job, numerics
        self.model = new_model(job.shape, job.config.dropout)
        self.model.use_attention(numerics.attention)
        self.model.to(numerics.device)
        self.step_model: nn.Module = self.model
        if numerics.compile:
            self.step_model = torch.compile(self.model)  # type: ignore[assignment]  # callable like the module
        self.draws = job.draws()

    def run(
        self,
        moment: Moment,
        iterations: int,
        *,
        keep: Collection[int] = (),
        evaluate: Collection[int] = (),
        each: Callable[[int, float], None] | None = None,
    ) -> Trace:
        """Train `iterations` updates from `moment`.

        `keep` and `evaluate` are iterations from `moment.iteration` to `moment.iteration + iterations`, the latter the
        state after the last update. `each` is told (iteration, loss) after each update. A loss that is not finite
        does not end the stretch: it is in the trace.
        """
        with applied(self.numerics):
            return self._run(moment, iterations, keep, evaluate, each)

    def _run(
        self,
        moment: Moment,
        iterations: int,
        keep: Collection[int],
        evaluate: Collection[int],
        each: Callable[[int, float], None] | None,
    ) -> Trace:
        optimizer, scaler = self.load(moment)
        losses: list[float] = []
        norms: list[float] = []
        moments: dict[int, Moment] = {}
        evaluations: list[tuple[int, Split, float]] = []
        last = moment.iteration + iterations
        for iteration in range(moment.iteration, last + 1):
            if iteration in keep:
                moments[iteration] = moment_of(iteration, self.model, optimizer, scaler)
            if iteration in evaluate:
                evaluations += [(iteration, split, mean_loss(self.evaluate(split))) for split in self.job.evaluation]
            if iteration == last:
                break
            loss, norm = self.update(iteration, optimizer, scaler)
            losses.append(loss)
            norms.append(norm)
            if each is not None:
                each(iteration, loss)
        return Trace(
            first=moment.iteration,
            losses=tuple(losses),
            grad_norms=tuple(norms),
            moments=moments,
            evaluations=tuple(evaluations),
        )

    def load(self, moment: Moment) -> tuple[torch.optim.AdamW, Scaler]:
        """Put the weights into the model; an optimizer and a loss scaler in the moment's state."""
        fill(self.model, moment.weights)
        optimizer = optimizers.adamw(self.model, self.job.config, self.numerics)
        if moment.exp_avg:
            optimizers.restore(optimizer, _optimizer_state(self.model, optimizer, moment), self.job.config)
        scaler = optimizers.scaler(self.numerics)
        if moment.scale is not None and scaler.is_enabled():
            state = {**scaler.state_dict(), "scale": moment.scale, "_growth_tracker": moment.growth}
            scaler.load_state_dict(state)
        self.model.train()
        return optimizer, scaler

    def update(self, iteration: int, optimizer: torch.optim.AdamW, scaler: Scaler) -> tuple[float, float]:
        """One update; the loss and the gradient norm as a run's record has them."""
        loss = self.gradients(iteration, optimizer, scaler)
        norm = apply(self.model, optimizer, scaler, self.job.config.grad_clip)
        return loss, _float(norm)

    def gradients(self, iteration: int, optimizer: torch.optim.AdamW, scaler: Scaler) -> float:
        """Fill the parameters' gradients for one update, multiplied by the loss scale; the loss."""
        self.set_rate(optimizer, iteration)
        self.draws.before_update(iteration, 0)
        source = _Source(self.job, iteration, self.numerics.device)
        losses = accumulate(self.step_model, source, self.numerics, scaler, len(source.batches))
        return _float(self.draws.iter_loss(losses)) * len(source.batches)

    def set_rate(self, optimizer: torch.optim.AdamW, iteration: int) -> None:
        """Give the optimizer the learning rate of an iteration."""
        optimizers.set_rates(optimizer, self.job.config, iteration)

    def evaluate(self, split: Split, batches: int | None = None) -> list[float]:
        """The loss of the model as it stands on each evaluation batch of a split, or on the first `batches` ones."""
        x, y = (tokens[:batches].to(self.numerics.device) for tokens in self.job.evaluation[split])
        with evaluating(self.model, self.numerics):
            return [_float(self.model(inputs, targets)[1]) for inputs, targets in zip(x, y, strict=True)]


def run_stretch(
    job: Job,
    numerics: Numerics,
    moment: Moment,
    iterations: int,
    *,
    keep: Collection[int] = (),
    evaluate: Collection[int] = (),
    each: Callable[[int, float], None] | None = None,
) -> Trace:
    """See `Stretch.run`; for one stretch."""
    return Stretch(job, numerics).run(moment, iterations, keep=keep, evaluate=evaluate, each=each)


def new_model(shape: GPTConfig, dropout: float) -> GPT:
    """A model of this shape without weights, on the CPU, in training mode."""
    with torch.device("meta"):
        model = GPT(dataclasses.replace(shape, dropout=dropout))
    model.to_empty(device="cpu")
    model.tie_weights()
    return model


def fill(model: GPT, weights: Mapping[str, Tensor]) -> None:
    """Copy the weights, by parameter name, into the model."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
            parameter.grad = None


def moment_of(iteration: int, model: GPT, optimizer: torch.optim.AdamW, scaler: Scaler) -> Moment:
    """A copy of the present state, before update `iteration`."""
    parameters = dict(model.named_parameters())
    moments = {name: optimizer.state[p] for name, p in parameters.items() if p in optimizer.state}
    scaled = scaler.state_dict() if scaler.is_enabled() else {}
    return Moment(
        iteration=iteration,
        weights={name: _copy(parameter) for name, parameter in parameters.items()},
        exp_avg={name: _copy(values["exp_avg"]) for name, values in moments.items()},
        exp_avg_sq={name: _copy(values["exp_avg_sq"]) for name, values in moments.items()},
        step=max((int(values["step"]) for values in moments.values()), default=0),
        scale=float(scaled["scale"]) if scaled else None,
        growth=int(scaled["_growth_tracker"]) if scaled else 0,
    )


def _optimizer_state(model: GPT, optimizer: torch.optim.AdamW, moment: Moment) -> dict[str, object]:
    """The moments in the form of `Optimizer.state_dict`, whose indices count the parameters group by group."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    ordered = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
    state = {
        index: {
            "step": torch.tensor(float(moment.step)),
            "exp_avg": moment.exp_avg[name].clone(),
            "exp_avg_sq": moment.exp_avg_sq[name].clone(),
        }
        for index, name in enumerate(ordered)
    }
    return {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}


class _Source:
    """The micro-batches of one iteration, on the device."""

    def __init__(self, job: Job, iteration: int, device: str) -> None:
        self.batches = [
            Batch(batch.x.to(device), batch.y.to(device), None if batch.keys is None else batch.keys.to(device))
            for batch in job.micro_batches(iteration)
        ]
        self.taken = 0

    def take(self) -> Batch:
        return self.batches[self.taken]

    def prefetch(self) -> None:
        self.taken += 1


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone()


def _float(value: Tensor) -> float:
    """The number, without another rounding."""
    return float(value.detach())
