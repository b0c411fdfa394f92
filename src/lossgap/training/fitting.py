"""Does a training fit into the memory of its device? Asked before anything is made: a killed process says nothing."""

from __future__ import annotations

from lossgap.arithmetic import nanogpt_parameters, training_bytes
from lossgap.config import TrainConfig
from lossgap.errors import ConfigError, warn
from lossgap.machine.memory import Memory, memory_of
from lossgap.training.numerics import Numerics, training_attention

SURELY = 0.5
"""The part of the estimate that no kernel of ours does without: half of it more than all of the memory cannot fit."""
GIB = 2.0**30


def check_fit(config: TrainConfig, numerics: Numerics, sequences: int, vocab_size: int) -> None:
    """Warn where a training with so many `sequences` in a micro-batch needs more memory than is free.

    Raises ConfigError `does-not-fit` where half of the estimate is more than the device has at all.
    """
    memory = memory_of(numerics.device)
    if memory is not None:
        judge(needed(config, numerics, sequences, vocab_size), memory, config, sequences)


def needed(config: TrainConfig, numerics: Numerics, sequences: int, vocab_size: int) -> float:
    """Bytes by `arithmetic.training_bytes`."""
    return training_bytes(
        nanogpt_parameters(config.n_layer, config.n_embd, vocab_size, bias=config.bias),
        config.n_layer,
        config.n_head,
        config.n_embd,
        config.block_size,
        sequences,
        vocab_size,
        width=4 if numerics.dtype == "float32" else 2,
        plain=training_attention(config, numerics) == "plain",
    )


def judge(wanted: float, memory: Memory, config: TrainConfig, sequences: int) -> None:
    """Warn, raise, or say nothing."""
    if wanted <= memory.free:
        return
    said = f"a micro-batch of {sequences:,} sequences needs about {wanted / GIB:,.1f} GiB of memory"
    remedy = (
        f"a smaller --batch_size ({config.batch_size} now) with a larger --gradient_accumulation_steps "
        f"({config.gradient_accumulation_steps} now) trains the same tokens in an iteration in less"
    )
    if SURELY * wanted > memory.total:
        raise ConfigError(
            "does-not-fit", f"{said} and this device has {memory.total / GIB:,.1f}: it would be killed; {remedy}"
        )
    warn("may-not-fit", f"{said} and {memory.free / GIB:,.1f} are free; {remedy}")
