"""Orders of the factors, balanced over neighbouring seeds.

A few random orders leave it to luck at which places a factor is switched, and few seeds then agree by chance where the
place is what matters. So orders come in blocks that are Williams squares (Williams 1949): over the orders of a block
and their reverses every factor stands at every place equally often, and follows every other one equally often. Which
factor is which letter of the square is random in each block, so a single order is still each of the k! with equal
probability, and the contributions stay unbiased.
"""

from __future__ import annotations

from collections.abc import Sequence

from lossgap import random


def order(factors: Sequence[str], seed: int) -> tuple[str, ...]:
    """The order of a seed: a function of the factors and the seed."""
    k = len(factors)
    if not k:
        return ()
    block, row = divmod(max(seed, 1) - 1, block_size(k))
    keys = random.words(block, random.Purpose.ORDER, 0, k).tolist()
    letters = [name for _, name in sorted(zip(keys, factors, strict=True))]
    # The rows of a block come in random order, too: one that is cut off must not always lack the same ones.
    rows = [place for _, place in sorted(zip(_more(block, k), range(block_size(k)), strict=True))]
    return tuple(letters[(step + rows[row]) % k] for step in _zigzag(k))


def block_size(k: int) -> int:
    """Orders of a block: k; half of it where k is even, as the reverse of a row is then another row of the square."""
    return max(1, k // 2 if k % 2 == 0 else k)


def _more(block: int, k: int) -> list[int]:
    return [int(word) for word in random.words(block, random.Purpose.ORDER, 1, block_size(k))]


def _zigzag(k: int) -> list[int]:
    """0, 1, k - 1, 2, k - 2, ...: its neighbours differ by every number once."""
    return [(step + 1) // 2 if step % 2 else -step // 2 % k for step in range(k)]
