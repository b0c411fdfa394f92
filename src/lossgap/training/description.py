"""A training's description of itself before it starts: for the record, and for the user."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import nn

from lossgap.arguments import Given
from lossgap.config import TrainConfig
from lossgap.corpus import Corpus
from lossgap.gpt import GPT
from lossgap.machine.peak import Peak
from lossgap.training.distributed import Share
from lossgap.training.numerics import Departure, Numerics, training_attention
from lossgap.training.progress import Opening
from lossgap.training.resume import Start
from lossgap.version import __version__


class Description(TypedDict):
    """The parts of run.json that a resume may change."""

    config: dict[str, object]
    given: dict[str, object]
    effective: dict[str, object]
    differences: list[dict[str, object]]
    corpus: dict[str, object]
    parameters: dict[str, object]
    tokens_per_iter: int
    flops_per_iter: float
    peak: dict[str, object]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a training that it describes itself by."""

    given: Given
    start: Start
    config: TrainConfig
    numerics: Numerics
    departures: list[Departure]
    why_device: str
    share: Share
    corpus: Corpus
    model: GPT
    peak: Peak

    def record(self) -> Description:
        """The description as `run.json` has it."""
        tokens = self.config.tokens_per_iter
        total, by_group = _count_parameters(self.model)
        return {
            "config": self.config.to_dict(),
            "given": self.start.all_given(self.given),
            "effective": {
                **self.numerics.to_dict(),
                "training_attention": training_attention(self.config, self.numerics),
                "rng": self.config.rng,
                "dropout_rng": self.config.dropout_rng,
                "world_size": self.share.world_size,
                "micro_batch": self.share.micro_batch,
                "micro_steps": self.share.micro_steps,
            },
            "differences": [dataclasses.asdict(departure) for departure in self.departures],
            "corpus": self.corpus_record(),
            "parameters": {"total": total, "nanogpt_count": self.model.num_params(), "by_group": by_group},
            "tokens_per_iter": tokens,
            "flops_per_iter": self.model.flops_per_token() * tokens,
            "peak": dataclasses.asdict(self.peak),
        }

    def corpus_record(self) -> dict[str, object]:
        """The corpus as `run.json` and the checkpoints have it."""
        corpus = self.corpus
        return {
            "name": corpus.name,
            "source": corpus.source,
            "sha256": corpus.sha256,
            "tokens_sha256": corpus.tokens_sha256,
            "hash_method": corpus.hash_method,
            "train_tokens": len(corpus.train),
            "val_tokens": len(corpus.val),
            "vocab_size": self.model.config.vocab_size,
        }

    def opening(self, optimizer: torch.optim.Optimizer, first_iter: int) -> Opening:
        """Return what is shown before iteration `first_iter`."""
        config, numerics, found = self.config, self.numerics, self.start.checkpoint
        count, flops = self.model.num_params(), self.model.flops_per_token() * config.tokens_per_iter
        groups = optimizer.param_groups
        decays = [p for group in (groups[0], *groups[2:]) for p in group["params"]]
        others = groups[1]["params"]
        passes = config.tokens_per_iter * (config.max_iters + 1) / len(self.corpus.train)
        peak = f"{self.peak.flops / 1e12:.3g} TFLOP/s" if self.peak.flops else "an unknown peak"
        reasons = [f"{d.setting}={d.asked} was asked, {d.ran} runs: {d.why}" for d in self.departures]
        return Opening(
            version=__version__,
            peak=f"{peak} ({self.peak.source})",
            first_iter=first_iter,
            last_iter=config.max_iters,
            tokens_per_iter=config.tokens_per_iter,
            echo=self.given.echo,
            facts=(
                f"found vocab_size = {self.model.config.vocab_size} (inside {self.corpus.source})",
                f"Resuming training from {found.path}" if found else _beginning(config.init_from),
                f"number of parameters: {count / 1e6:.2f}M",
                f"num decayed parameter tensors: {len(decays)}, with {_numel(decays):,} parameters",
                f"num non-decayed parameter tensors: {len(others)}, with {_numel(others):,} parameters",
                f"using fused AdamW: {numerics.adamw == 'fused'}",
            ),
            decisions=(
                f"lossgap {__version__}: {count:,} parameters, {config.tokens_per_iter:,} tokens and {flops:.3g} FLOPs "
                f"per iteration, {passes:.2f} passes over {self.corpus.name}",
                f"device {numerics.device} ({self.why_device}), {numerics.dtype}, {numerics.threads} threads, "
                f"{'compiled' if numerics.compile else 'eager'}, {training_attention(config, numerics)} attention, "
                f"{numerics.adamw} AdamW",
                f"mfu relative to {peak} ({self.peak.source})",
            ),
            departures=tuple(reasons),
        )


def _beginning(init_from: str) -> str:
    """nanoGPT's line for a new model."""
    if init_from.startswith("gpt2"):
        return f"Initializing from OpenAI GPT-2 weights: {init_from}"
    return "Initializing a new model from scratch"


def _numel(parameters: list[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _count_parameters(model: GPT) -> tuple[int, dict[str, int]]:
    """All parameters, and by group; the tied matrix counts once, as an embedding; an untied output layer as `head`."""
    groups = {"embedding": ("wte", "wpe"), "attention": (".attn.",), "mlp": (".mlp.",), "layer_norm": ("ln_",)}
    if not model.config.tied:
        groups["head"] = ("lm_head",)
    counts = dict.fromkeys(groups, 0)
    for name, parameter in model.named_parameters():
        group = next(group for group, parts in groups.items() if any(part in name for part in parts))
        counts[group] += parameter.numel()
    return sum(counts.values()), counts
