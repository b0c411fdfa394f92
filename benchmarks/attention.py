"""Plain against fused attention on this CPU, forward and backward, by context and dtype.

    python benchmarks/attention.py

Backs `FUSED_FROM` in `lossgap/training/numerics.py`. Prints the median of 15 repetitions in milliseconds; each case
has 16,384 tokens and heads of 32 channels.
"""

from __future__ import annotations

import statistics
import time

import torch
import torch.nn.functional as F

from lossgap.gpt import plain_attention

TOKENS, HEADS, CHANNELS = 16384, 4, 32


def milliseconds(kind: str, context: int, dtype: torch.dtype) -> float:
    """Median time of one forward and backward pass."""
    shape = (max(1, TOKENS // context // 4), HEADS, context, CHANNELS)
    q, k, v = (torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3))
    later = torch.ones(context, context, dtype=torch.bool).triu(1)
    times = []
    for _ in range(18):
        start = time.perf_counter()
        if kind == "plain":
            y = plain_attention(q, k, v, later, 0.0, None)
        else:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y.sum().backward()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[3:])


def main() -> None:
    """One line a case."""
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads")
    print(f"{'dtype':<10}{'context':>8}{'plain ms':>10}{'fused ms':>10}")
    for dtype in (torch.float32, torch.bfloat16):
        for context in (32, 64, 128, 256, 512, 1024):
            plain, fused = milliseconds("plain", context, dtype), milliseconds("fused", context, dtype)
            print(f"{str(dtype).removeprefix('torch.'):<10}{context:>8}{plain:>10.2f}{fused:>10.2f}")


if __name__ == "__main__":
    main()
