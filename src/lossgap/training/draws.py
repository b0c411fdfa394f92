"""Where a run's random numbers come from: counters (the default), or torch's generator as in nanoGPT.

Both sources stand behind `Draws`, so that model and loop do not know which one they have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lossgap import random
from lossgap.gpt import GPT, GPTConfig, initialise, parameter_std
from lossgap.random import Int64, Split


class Draws(Protocol):
    """The random numbers of one run."""

    def new_model(self, config: GPTConfig) -> GPT:
        """A model with its initial weights, on the CPU."""

    def train_starts(self, iteration: int, sequences: range, n_tokens: int, block_size: int) -> Int64:
        """Window starts of some sequences of the global batch of one iteration, (len(sequences),)."""

    def eval_starts(self, split: Split, windows: range, n_tokens: int, block_size: int) -> Int64:
        """Window starts of some evaluation windows, (len(windows),)."""

    def dropout_keys(self, iteration: int, sequences: range, places: int) -> Tensor | None:
        """Keys (len(sequences), places, 2) int32, or None where torch's generator makes the masks."""

    def before_update(self, iteration: int, rank: int) -> None:
        """Called by process `rank` before its forward passes of one iteration."""

    def iter_loss(self, micro_losses: Tensor) -> Tensor:
        """The loss that an iteration reports, of its micro-batches' losses (n,): a scalar."""

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold so that the next draws are the same."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from `state`."""


class CounterDraws:
    """Counter-based numbers: nothing drawn depends on what was drawn before, so there is no state."""

    def __init__(self, seed: int, keyed_dropout: bool) -> None:
        self.seed = seed
        self.keyed_dropout = keyed_dropout

    def new_model(self, config: GPTConfig) -> GPT:
        """Weights from `lossgap.random.normal`, a function of (seed, parameter name, position)."""
        with _Undrawn():
            model = GPT(config)
        initialise(model, lambda name, count, std: torch.from_numpy(random.normal(self.seed, name, count, std)))
        return model

    def train_starts(self, iteration: int, sequences: range, n_tokens: int, block_size: int) -> Int64:
        """See `lossgap.random.window_starts`."""
        return random.window_starts(self.seed, iteration, sequences, n_tokens, block_size)

    def eval_starts(self, split: Split, windows: range, n_tokens: int, block_size: int) -> Int64:
        """See `lossgap.random.eval_starts`."""
        return random.eval_starts(self.seed, split, windows, n_tokens, block_size)

    def dropout_keys(self, iteration: int, sequences: range, places: int) -> Tensor | None:
        """See `lossgap.random.dropout_keys`."""
        if not self.keyed_dropout:
            return None
        return torch.from_numpy(random.dropout_keys(self.seed, iteration, sequences, places))

    def before_update(self, iteration: int, rank: int) -> None:
        """A device that makes the masks itself starts from (seed, iteration, rank), so that a resume repeats them."""
        if not self.keyed_dropout:
            word = random.words(self.seed, random.Purpose.DROPOUT, iteration, 1, rank)[0]
            torch.manual_seed(int(word) >> 1)

    def iter_loss(self, micro_losses: Tensor) -> Tensor:
        """The mean: the loss of the whole share."""
        return micro_losses.mean()

    def state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Nothing to do."""


class _Undrawn(TorchFunctionMode):
    """Leaves out the modules' own initialisation, which would be drawn for nothing.

    `torch.device("meta")` would, too, but imports torch's compiler to do so.
    """

    def __torch_function__(  # the signature is torch's
        self, func: Callable[..., object], types: object, args: tuple[object, ...] = (), kwargs: Any = None
    ) -> object:
        """Return the tensor that an initialiser would fill; call anything else."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


class NanoGPTDraws:
    """nanoGPT's draws, in nanoGPT's order, from torch's global CPU generator.

    Order: the modules' own initialisation, nanoGPT's over it, the first batch; then per iteration the evaluation's
    batches (train, then val), the dropout of the forward pass, the next batch.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.last_starts: Tensor | None = None
        self.replay: Tensor | None = None

    def new_model(self, config: GPTConfig) -> GPT:
        """Seeds the generator and draws as nanoGPT's constructor does, the tied matrix twice."""
        torch.manual_seed(self.seed)
        model = GPT(config)

        def redraw(module: nn.Module) -> None:
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, mean=0.0, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

        model.apply(redraw)
        for name, parameter in model.named_parameters():
            std = parameter_std(name, config)
            if std is not None and name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, mean=0.0, std=std)
            elif std == 0.0:
                nn.init.zeros_(parameter)
        return model

    def train_starts(self, iteration: int, sequences: range, n_tokens: int, block_size: int) -> Int64:
        """The next ones of the generator: which iteration they are for follows from the order of calls."""
        starts, self.replay = self.replay, None
        # A resume with another batch size, context or corpus cannot use the batch that was drawn ahead.
        if starts is None or len(starts) != len(sequences) or not _within(starts, n_tokens - block_size):
            starts = torch.randint(n_tokens - block_size, (len(sequences),))
        self.last_starts = starts
        result: Int64 = starts.numpy().astype(np.int64)
        return result

    def eval_starts(self, split: Split, windows: range, n_tokens: int, block_size: int) -> Int64:
        """The next ones of the generator: other windows at every evaluation."""
        result: Int64 = torch.randint(n_tokens - block_size, (len(windows),)).numpy().astype(np.int64)
        return result

    def dropout_keys(self, iteration: int, sequences: range, places: int) -> Tensor | None:
        """None: the masks come from the generator, inside the forward pass."""
        return None

    def before_update(self, iteration: int, rank: int) -> None:
        """Nothing: the generator goes on."""

    def iter_loss(self, micro_losses: Tensor) -> Tensor:
        """The last micro-batch's, as nanoGPT prints it."""
        return micro_losses[-1]

    def state(self) -> dict[str, Tensor]:
        """The generator, and the batch that was drawn ahead."""
        assert self.last_starts is not None, "a checkpoint is written after the first batch was drawn"
        return {"generator": torch.get_rng_state(), "starts": self.last_starts}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from `state`; from nanoGPT's own checkpoint, which has none, go on as nanoGPT does: re-seeded."""
        if state:
            torch.set_rng_state(state["generator"].cpu())
            self.replay = state["starts"]


def _within(starts: Tensor, bound: int) -> bool:
    return bool(((starts >= 0) & (starts < bound)).all())
