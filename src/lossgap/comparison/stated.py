"""The settings of a run as facts: what the record or the user says, and what was inferred."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from lossgap.comparison.fact import Fact, Known, Unknown
from lossgap.comparison.recorded import RecordedCurves
from lossgap.runs.values import as_float, as_text
from lossgap.strangers import short

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Stated(RecordedCurves):
    """Settings by their nanoGPT names."""

    def setting(self, name: str) -> Fact[object]:
        """A setting: as it ran, else as the record or the user says, else as inferred."""
        run = self.run
        if run.effective.get(name) is not None:
            return Known(run.effective[name], "stated", "as it ran")
        if run.config.get(name) is not None:
            return Known(run.config[name], "stated", run.config_sources.get(name, "the record"))
        for item in run.inferred:
            if item.name == name and item.value is not None:
                return Known(item.value, "inferred", item.why)
        return Unknown(f"{name} is not in the record", (name,))

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of all settings that are said or inferred."""
        inferred = {item.name for item in self.run.inferred}
        return frozenset(self.run.effective.keys() | self.run.config.keys() | inferred)

    def _typed(self, name: str, kind: str, accept: Callable[[object], T | None]) -> Fact[T]:
        said = self.setting(name)
        if isinstance(said, Unknown):
            return said
        value = accept(said.value)
        if value is None:
            return Unknown(f"{name} is {short(said.value)}, which is no {kind}", (name,))
        return Known(value, said.evidence, said.how)

    def integer(self, name: str) -> Fact[int]:
        """A setting that is a whole number; 2000.0 is one."""
        return self._typed(name, "whole number", whole)

    def number(self, name: str) -> Fact[float]:
        """A setting that is a finite number."""
        return self._typed(name, "number", as_float)

    def flag(self, name: str) -> Fact[bool]:
        """A setting that is true or false."""
        return self._typed(name, "truth value", lambda value: value if isinstance(value, bool) else None)

    def text(self, name: str) -> Fact[str]:
        """A setting that is a text."""
        return self._typed(name, "text", as_text)

    def size(self, name: str) -> Fact[int]:
        """A whole number of at least 1."""
        return self._typed(name, "whole number above 0", _positive)

    @cached_property
    def n_layer(self) -> Fact[int]:
        """Transformer blocks."""
        return self.size("n_layer")

    @cached_property
    def n_head(self) -> Fact[int]:
        """Heads per block."""
        return self.size("n_head")

    @cached_property
    def n_embd(self) -> Fact[int]:
        """Channels."""
        return self.size("n_embd")

    @cached_property
    def bias(self) -> Fact[bool]:
        """True if there are biases."""
        return self.flag("bias")

    @cached_property
    def block_size(self) -> Fact[int]:
        """Context of the training, tokens."""
        return self.size("block_size")

    @cached_property
    def batch_size(self) -> Fact[int]:
        """Sequences per micro-batch."""
        return self.size("batch_size")

    @cached_property
    def max_iters(self) -> Fact[int]:
        """The last iteration that was asked for."""
        return self.integer("max_iters")

    @cached_property
    def eval_iters(self) -> Fact[int]:
        """Batches per split in an evaluation."""
        return self.size("eval_iters")

    @cached_property
    def dropout(self) -> Fact[float]:
        """Probability."""
        return self.number("dropout")

    @cached_property
    def weight_decay(self) -> Fact[float]:
        """AdamW's."""
        return self.number("weight_decay")

    @cached_property
    def learning_rate(self) -> Fact[float]:
        """The highest."""
        return self.number("learning_rate")

    @cached_property
    def min_lr(self) -> Fact[float]:
        """The lowest after the decay."""
        return self.number("min_lr")

    @cached_property
    def warmup_iters(self) -> Fact[int]:
        """Iterations of warm-up."""
        return self.integer("warmup_iters")

    @cached_property
    def decay_lr(self) -> Fact[bool]:
        """True if the rate is scheduled at all."""
        return self.flag("decay_lr")

    @cached_property
    def horizon(self) -> Fact[int]:
        """Iteration at which the decay ends (`lr_decay_iters`)."""
        if self.decay_lr.value is False:
            return Unknown("the learning rate is constant")
        return self.size("lr_decay_iters")

    @cached_property
    def seed(self) -> Fact[int]:
        """The seed. nanoGPT fixes 1337 in its source (plus the rank), for every run."""
        said = self.integer("seed")
        if not said.known and self.run.format == "nanogpt":
            return Known(1337, "inferred", "fixed in nanoGPT's train.py")
        return said

    @cached_property
    def compile(self) -> Fact[bool]:
        """True if the model was compiled."""
        return self.flag("compile")


def _positive(value: object) -> int | None:
    found = whole(value)
    return found if found is not None and found > 0 else None


def whole(value: object) -> int | None:
    """A whole number of at most 64 bits, also one that is written as a float, else None."""
    number = as_float(value)
    if number is None or number != int(number) or abs(number) >= 2**63:
        return None
    return value if isinstance(value, int) else int(number)
