"""Quantities that follow from settings alone: parameters, tokens and FLOPs of nanoGPT's architecture."""

from __future__ import annotations

GPT2_OUTPUTS = 50304
"""nanoGPT's vocabulary where the corpus names none: GPT-2's 50,257 tokens, rounded up to a multiple of 64."""


def nanogpt_parameters(n_layer: int, n_embd: int, vocab_size: int, *, bias: bool) -> int:
    """Parameters as nanoGPT counts them: all but the position embeddings, the shared embedding once.

    V C + L (12 C^2 + 2 C) + C, with biases 11 C more in each block and C in the last layer norm. Source: the shapes of
    nanoGPT's model.py.
    """
    count = vocab_size * n_embd + n_layer * (12 * n_embd**2 + 2 * n_embd) + n_embd
    return count + (n_layer * 11 * n_embd + n_embd if bias else 0)


def training_bytes(
    parameters: int,
    n_layer: int,
    n_head: int,
    n_embd: int,
    block_size: int,
    sequences: int,
    vocab_size: int,
    *,
    width: int,
    plain: bool,
) -> float:
    """Bytes that one training of nanoGPT's model keeps at its fullest, with `sequences` in a micro-batch.

    `width` bytes for each activation (4 in float32, 2 in 16 bits); `plain` attention keeps its (T, T) weights, the
    fused one does not. Weights, gradients and AdamW's two moments: 16 N. For each token 17 C activations in a block
    (34 bytes in 16 bits), 2.5 H T attention weights, and the logits with their gradient, 12 V in float32. Source:
    Korthikanti et al. 2022 (arXiv 2205.05198), equation 2, without the dropout masks.
    """
    block = 17 * n_embd + (2.5 * n_head * block_size if plain else 0)
    return 16.0 * parameters + sequences * block_size * (width * n_layer * block + 12 * vocab_size)


def flops_per_token(parameters: int, n_layer: int, n_embd: int, block_size: int) -> int:
    """Forward and backward FLOPs of one token: 6 N + 12 L C T.

    Source: PaLM (arXiv 2204.02311), appendix B, as in nanoGPT's estimate_mfu; N leaves the position embeddings out.
    """
    return 6 * parameters + 12 * n_layer * n_embd * block_size


def muon_flops(n_layer: int, n_embd: int) -> int:
    """FLOPs that Muon adds to one update, whatever its tokens: 280 C^3 in each layer.

    Five Newton-Schulz steps (kellerjordan.github.io/posts/muon) on a matrix of m rows and n >= m columns are three
    products, 5 (4 m^2 n + 2 m^3); a layer's four matrices have m = C and n = 3 C, C, 4 C, 4 C.
    """
    return 280 * n_layer * n_embd**3
