"""The model: nanoGPT's GPT, module for module, so that its checkpoints fit without a converter.

What differs from nanoGPT's `model.py`: dropout takes its mask from a key (`lossgap.dropout`), attention is
plain or fused by choice, initial weights come from outside (`lossgap.training.draws`), generation keeps the
keys and values of earlier tokens (`lossgap.generation`). Six switches of the config leave nanoGPT's architecture:
rotary, qk_norm, relu2, zero_proj, tied and logit_softcap; their defaults are nanoGPT's.

Shapes: B batch, T context, C channels, V vocabulary, H heads, D = C / H, L layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossgap.arithmetic import GPT2_OUTPUTS, flops_per_token
from lossgap.config import ARCHITECTURE, TrainConfig
from lossgap.dropout import dropout

Attention = Literal["plain", "fused"]
Cache = tuple[Tensor, Tensor]
"""Keys and values of the tokens so far, each (B, H, T, D)."""
Rotation = tuple[Tensor, Tensor]
"""Cosines and sines of rotary positions, each (T, D / 2)."""


@dataclass(kw_only=True)
class GPTConfig:
    """The shape of a model: the `model_args` of a nanoGPT checkpoint."""

    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    block_size: int = 1024
    bias: bool = True
    vocab_size: int = GPT2_OUTPUTS
    dropout: float = 0.0
    # From here on our own
    rotary: bool = False
    """Positions by rotating queries and keys (Su et al. 2021, arXiv:2104.09864) instead of learned embeddings."""
    qk_norm: bool = False
    """Queries and keys of root mean square 1 (Dehghani et al. 2023, arXiv:2302.05442), without parameters."""
    relu2: bool = False
    """max(x, 0)^2 in the MLP (So et al. 2021, arXiv:2109.08668) instead of GELU."""
    zero_proj: bool = False
    """Projections into the residual stream, and an untied output layer, start at zero."""
    tied: bool = True
    """Token embedding and output layer are one parameter."""
    logit_softcap: float = 0.0
    """Logits are c tanh(x / c) (Gemma 2, arXiv:2408.00118); 0 is off."""

    def model_args(self) -> dict[str, int | float | bool]:
        """nanoGPT's keys as it stores them in a checkpoint, and of our own those that are not at their default."""
        return {
            name: value
            for name, value in asdict(self).items()
            if name in NANOGPT_ARGS or value != getattr(GPTConfig, name)
        }

    @classmethod
    def from_model_args(cls, args: Mapping[str, int | float | bool], dropout: float = 0.0) -> GPTConfig:
        """The shape that a verified checkpoint's `model_args` state, with this dropout."""
        kinds = {name: type(default) for name, default in asdict(cls()).items()}
        return cls(
            **{name: kinds[name](value) for name, value in {**args, "dropout": dropout}.items() if name in kinds}
        )

    @property
    def is_nanogpt(self) -> bool:
        """True where nanoGPT's own model has this architecture."""
        return self.model_args().keys() <= set(NANOGPT_ARGS)


NANOGPT_ARGS = ("n_layer", "n_head", "n_embd", "block_size", "bias", "vocab_size", "dropout")
"""The keys of `model_args` in nanoGPT's checkpoints."""
ROTARY_BASE = 10000.0
"""The base of the rotary frequencies: arXiv:2104.09864, section 3.4.3."""


def gpt_config(config: TrainConfig, vocab_size: int | None) -> GPTConfig:
    """The shape of the model that a config trains; `vocab_size` None is GPT-2's."""
    return GPTConfig(
        n_layer=config.n_layer,
        n_head=config.n_head,
        n_embd=config.n_embd,
        block_size=config.block_size,
        bias=config.bias,
        vocab_size=vocab_size or GPT2_OUTPUTS,
        dropout=config.dropout,
        **{name: getattr(config, name) for name in ARCHITECTURE},
    )


def n_places(n_layer: int) -> int:
    """How many dropout masks one forward pass uses: embeddings, and three in each layer."""
    return 1 + 3 * n_layer


class LayerNorm(nn.Module):
    """Layer normalisation over C with an optional bias, epsilon 1e-5."""

    def __init__(self, n_embd: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_embd))
        self.bias = nn.Parameter(torch.zeros(n_embd)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which no token sees a later one."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.n_head = config.n_head
        self.qk_norm = config.qk_norm
        self.dropout = config.dropout
        self.kernel: Attention = "plain"

    def forward(
        self,
        x: Tensor,
        later: Tensor,
        attn_key: Tensor | None,
        resid_key: Tensor | None,
        past: Cache | None = None,
        rotation: Rotation | None = None,
    ) -> tuple[Tensor, Cache]:
        """x (B, T, C), dropout keys (B, 2) -> (B, T, C) and the keys and values (B, H, S, D).

        S is T plus the tokens of `past`; `later` (T, S) marks what a token must not see; `rotation` holds the cosines
        and sines (T, D / 2) of rotary positions.
        """
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for part in self.c_attn(x).split(C, dim=2)
        )
        if self.qk_norm:
            q, k = F.rms_norm(q, q.shape[-1:]), F.rms_norm(k, k.shape[-1:])
        if rotation is not None:
            q, k = rotated(q, rotation), rotated(k, rotation)
        if past is not None:
            k, v = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)
        p = self.dropout if self.training else 0.0
        # A fused kernel takes no mask from outside, so it serves where there is none to take.
        if self.kernel == "fused" and past is None and (p == 0.0 or attn_key is None):
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
        else:
            y = plain_attention(q, k, v, later, p, attn_key)
        y = y.transpose(1, 2).reshape(B, T, C)
        return dropout(self.c_proj(y), p, resid_key), (k, v)


def plain_attention(q: Tensor, k: Tensor, v: Tensor, later: Tensor, p: float, key: Tensor | None) -> Tensor:
    """softmax(q k' / sqrt(D)) v without what `later` (T, S) marks: q (B, H, T, D), k and v (B, H, S, D).

    Dropout falls on the weights: one mask bit for each (sequence, head, row, column).
    """
    weights = (q * (1.0 / math.sqrt(q.size(-1)))) @ k.transpose(-2, -1)
    weights = F.softmax(weights.masked_fill_(later, float("-inf")), dim=-1)
    return dropout(weights, p, key) @ v


def rotation_of(positions: Tensor, head_size: int) -> Rotation:
    """Cosines and sines (T, D / 2) of position x base^(-2 i / D), for positions (T,) and head size D."""
    exponents = torch.arange(0, head_size, 2, device=positions.device, dtype=torch.float32) / head_size
    angles = positions[:, None].float() * ROTARY_BASE**-exponents
    return angles.cos(), angles.sin()


def rotated(x: Tensor, rotation: Rotation) -> Tensor:
    """x (B, H, T, D) with its channels i and i + D / 2 turned as a pair by the angle of their position."""
    cos, sin = (part.to(x.dtype) for part in rotation)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


class MLP(nn.Module):
    """C -> 4C -> C with the exact (erf) GELU, or the squared ReLU."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.relu2 = config.relu2
        self.dropout = config.dropout

    def forward(self, x: Tensor, key: Tensor | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        x = self.c_fc(x)
        x = self.c_proj(F.relu(x).square() if self.relu2 else F.gelu(x))
        return dropout(x, self.dropout if self.training else 0.0, key)


class Block(nn.Module):
    """Attention, then MLP, each on the normalised input and added to it."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(config.n_embd, config.bias)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = LayerNorm(config.n_embd, config.bias)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Tensor,
        later: Tensor,
        keys: tuple[Tensor | None, ...],
        past: Cache | None = None,
        rotation: Rotation | None = None,
    ) -> tuple[Tensor, Cache]:
        """x (B, T, C), three dropout keys (B, 2) -> (B, T, C) and the attention's keys and values."""
        y, cache = self.attn(self.ln_1(x), later, keys[0], keys[1], past, rotation)
        x = x + y
        return x + self.mlp(self.ln_2(x), keys[2]), cache


class GPT(nn.Module):
    """nanoGPT's GPT. A new one has the module defaults of torch as weights: fill it before use."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        # The order of construction is nanoGPT's: with torch's generator it decides what is drawn.
        positions = {} if config.rotary else {"wpe": nn.Embedding(config.block_size, config.n_embd)}
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(config.vocab_size, config.n_embd),
                **positions,
                "h": nn.ModuleList([Block(config) for _ in range(config.n_layer)]),
                "ln_f": LayerNorm(config.n_embd, config.bias),
            }
        )
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.tie_weights()

    def tie_weights(self) -> None:
        """Make the token embedding and the output layer one parameter, unless the config unties them."""
        if self.config.tied:
            self.wte.weight = self.lm_head.weight

    def use_attention(self, kernel: Attention) -> None:
        """Choose the attention kernel of every layer."""
        for block in self.blocks():
            block.attn.kernel = kernel

    def set_dropout(self, p: float) -> None:
        """Set the dropout probability of every place."""
        self.config.dropout = p
        for block in self.blocks():
            block.attn.dropout = block.mlp.dropout = p

    def blocks(self) -> list[Block]:
        """The layers, first to last."""
        return list(cast("nn.ModuleList", self.transformer["h"]))  # type: ignore[arg-type]  # a ModuleList of Block

    @property
    def wte(self) -> nn.Embedding:
        """Token embeddings (V, C), the same parameter as the output layer."""
        return cast("nn.Embedding", self.transformer["wte"])

    @property
    def wpe(self) -> nn.Embedding | None:
        """Position embeddings (block_size, C); None with rotary positions."""
        return None if self.config.rotary else cast("nn.Embedding", self.transformer["wpe"])

    def forward(
        self, idx: Tensor, targets: Tensor | None = None, keys: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Logits and, with targets, the mean cross-entropy in nats per token.

        idx and targets (B, T) int64, targets of -1 are not scored; keys (B, n_places, 2) int32 for training with keyed
        dropout. Returns (logits (B, T, V), loss) with targets, else (logits of the last position (B, 1, V), None).
        """
        x, _ = self.hidden(idx, keys)
        if targets is None:
            return self.logits(x[:, [-1], :]), None
        logits = self.logits(x)
        loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.reshape(-1), ignore_index=-1)
        return logits, loss

    def logits(self, x: Tensor) -> Tensor:
        """The output layer on normalised outputs: (B, T, C) -> (B, T, V)."""
        logits: Tensor = self.lm_head(x)
        cap = self.config.logit_softcap
        return cap * torch.tanh(logits / cap) if cap else logits

    def hidden(
        self, idx: Tensor, keys: Tensor | None = None, past: list[Cache] | None = None
    ) -> tuple[Tensor, list[Cache]]:
        """The normalised output of the last layer, idx (B, T) -> (B, T, C), and each layer's keys and values.

        With `past`, idx continues the tokens that it was computed from.
        """
        start = past[0][0].size(-2) if past else 0
        T = idx.size(1)
        assert start + T <= self.config.block_size, f"{start + T} tokens, but block_size is {self.config.block_size}"
        positions = torch.arange(start, start + T, device=idx.device)
        later = torch.ones(T, start + T, dtype=torch.bool, device=idx.device).triu(start + 1)
        place = [None] * n_places(self.config.n_layer) if keys is None else list(keys.unbind(1))
        rotation = rotation_of(positions, self.config.n_embd // self.config.n_head) if self.config.rotary else None
        x = self.wte(idx) if self.wpe is None else self.wte(idx) + self.wpe(positions)
        x = dropout(x, self.config.dropout if self.training else 0.0, place[0])
        caches: list[Cache] = []
        for layer, block in enumerate(self.blocks()):
            keys_of_layer = tuple(place[1 + 3 * layer : 4 + 3 * layer])
            x, cache = block(x, later, keys_of_layer, past[layer] if past else None, rotation)
            caches.append(cache)
        return cast("LayerNorm", self.transformer["ln_f"])(x), caches

    def num_params(self) -> int:
        """Parameters by nanoGPT's count: all but the position embeddings, the tied weights once.

        An untied token embedding multiplies nothing either, and is left out too.
        """
        count = sum(p.numel() for p in self.parameters())
        count -= 0 if self.wpe is None else self.wpe.weight.numel()
        return count if self.config.tied else count - self.wte.weight.numel()

    def flops_per_token(self) -> int:
        """Training FLOPs per token, see `arithmetic.flops_per_token`.

        N by nanoGPT's count. Deviation: N contains vectors that multiply no matrix, so the matrix products are fewer
        per token, by exactly 6 x (LayerNorm parameters, and with `bias` the biases of the linear layers).
        """
        c = self.config
        return flops_per_token(self.num_params(), c.n_layer, c.n_embd, c.block_size)

    def crop_block_size(self, block_size: int) -> None:
        """Cut the context down to `block_size` (at most the present one): position embeddings beyond it go."""
        assert block_size <= self.config.block_size
        self.config.block_size = block_size
        if self.wpe is None:
            return
        self.wpe.weight = nn.Parameter(self.wpe.weight[:block_size].detach().clone())
        self.wpe.num_embeddings = block_size


def parameter_std(name: str, config: GPTConfig) -> float | None:
    """Deviation of a parameter's initial normal distribution, or None where it starts constant.

    0.02; 0.02 / sqrt(2 L) for the projections back into the residual stream (GPT-2, as in nanoGPT), or 0 for them and
    for an untied output layer with `zero_proj`.
    """
    projects = name.endswith("c_proj.weight")
    if config.zero_proj and (projects or (name == "lm_head.weight" and not config.tied)):
        return 0.0
    if projects:
        return 0.02 / math.sqrt(2 * config.n_layer)
    is_matrix = name.endswith(".weight") and "ln_" not in name
    return 0.02 if is_matrix else None


def initialise(model: GPT, normal: Callable[[str, int, float], Tensor]) -> None:
    """Fill every parameter: `normal(name, count, std)` for matrices, 0 for biases, 1 for LayerNorm weights."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            std = parameter_std(name, model.config)
            if std:
                parameter.copy_(normal(name, parameter.numel(), std).view(parameter.shape))
            else:
                parameter.fill_(0.0 if std == 0.0 or name.endswith("bias") else 1.0)
