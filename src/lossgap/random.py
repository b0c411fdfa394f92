"""Counter-based random numbers: what a run draws depends on its config, never on the machine.

Every number is addressed, not queued: it is a function of (seed, purpose, iteration or name,
position). So evaluating more often, resuming, or sharing a batch among processes changes nothing
that is drawn. The generator is Philox 4x64-10 (Salmon et al. 2011, "Parallel Random Numbers: As
Easy as 1, 2, 3"), in NumPy's native code; only its raw 64-bit integers are used.

Nothing here depends on the instruction set. Integers become floats by operations that IEEE 754
rounds exactly (add, subtract, multiply, divide, square root), one ufunc each, so that no compiler can fuse
two of them; `np.log` and `torch.normal_` are not used, because their last bit depends on the CPU.

    window_starts   (seed, iteration, sequence)                  -> where a training window starts
    eval_starts     (seed, split, k)                             -> where an evaluation window starts
    normal          (seed, parameter name, position)             -> initial weights
    dropout_keys    (seed, iteration, sequence, place)           -> the key of one dropout mask
    keep_mask       (key, position)                              -> its bits
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "val"]
UInt64 = NDArray[np.uint64]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_U64 = 2**64 - 1


class Purpose(IntEnum):
    """The purpose of a stream. The numbers are part of the format: never reuse or renumber one."""

    WEIGHTS = 1
    BATCHES = 2
    EVAL_TRAIN = 3
    EVAL_VAL = 4
    DROPOUT = 5
    ORDER = 6
    TWINS = 7


def words(seed: int, purpose: Purpose, stream: int, count: int, first: int = 0) -> UInt64:
    """`count` words of the stream (seed, purpose, stream), from position `first` on.

    Shape (count,), uint64. Philox gives four words a counter value, so word i of a stream is word
    i % 4 of counter value i // 4; asking for a part gives the same words as asking for the whole.
    """
    block, offset = divmod(first, 4)
    # NumPy counts up before it draws: the counter is set one below, with the borrow carried along.
    counter = ((stream & _U64) << 64) + block - 1
    generator = np.random.Philox(key=(int(purpose) << 64) | (seed & _U64), counter=counter % 2**256)
    drawn: UInt64 = generator.random_raw(count + offset)
    return drawn[offset:]


def below(word: UInt64, bound: int) -> Int64:
    """Integers in [0, bound), same shape as `word`: floor(word * bound / 2**64).

    For bounds up to 2**63. The bias is below bound / 2**64 (Lemire 2019, "Fast Random Integer Generation in an
    Interval", without its rejection step: one word gives one number, so positions stay fixed).
    """
    low_mask, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    bound_high, bound_low = np.uint64(bound >> 32), np.uint64(bound & 0xFFFFFFFF)
    high, low = word >> shift, word & low_mask
    middle = high * bound_low + ((low * bound_low) >> shift)
    carry = (low * bound_high + (middle & low_mask)) >> shift
    result: Int64 = (high * bound_high + (middle >> shift) + carry).astype(np.int64)
    return result


def window_starts(seed: int, iteration: int, sequences: range, n_tokens: int, block_size: int) -> Int64:
    """Starts of the training windows of these sequences of the global batch of one iteration.

    Shape (len(sequences),). `sequences` is a contiguous range of indices into the global batch of
    batch_size * gradient_accumulation_steps windows, so a process can ask for its own share.
    Uniform over [0, n_tokens - block_size), as in nanoGPT's `get_batch`.
    """
    drawn = words(seed, Purpose.BATCHES, iteration, len(sequences), sequences.start)
    return below(drawn, n_tokens - block_size)


def eval_starts(seed: int, split: Split, windows: range, n_tokens: int, block_size: int) -> Int64:
    """Starts of the evaluation windows `windows` of a split: the same ones at every evaluation.

    Shape (len(windows),). With more `eval_iters`, the first windows stay what they were.
    """
    purpose = Purpose.EVAL_TRAIN if split == "train" else Purpose.EVAL_VAL
    return below(words(seed, purpose, 0, len(windows), windows.start), n_tokens - block_size)


def name_stream(name: str) -> int:
    """The 64-bit stream number of a name (BLAKE2b, first 8 bytes, little endian)."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def normal(seed: int, name: str, count: int, std: float, chunk: int = 1 << 15) -> Float32:
    """`count` normal numbers with mean 0 and deviation `std` for the parameter `name`.

    Shape (count,). One word gives one number: u = (word's upper 52 bits + 1/2) / 2**52, then the
    normal quantile of u in float64, times std, rounded once to float32.
    """
    result = np.empty(count, dtype=np.float32)
    stream = name_stream(name)
    for start in range(0, count, chunk):  # the temporaries of one chunk stay in the cache
        stop = min(start + chunk, count)
        word = words(seed, Purpose.WEIGHTS, stream, stop - start, start)
        uniform = ((word >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
        result[start:stop] = normal_quantile(uniform) * std
    return result


# Wichura 1988, "Algorithm AS 241: The Percentage Points of the Normal Distribution", PPND16:
# relative accuracy about 1e-16. Coefficients from the highest power down.
_CENTRE = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
     13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608),
    (5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
     5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0),
)  # fmt: skip
_MIDDLE = (
    (7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258,
     3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
     0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1.0),
)  # fmt: skip
_FAR = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386, 0.026532189526576123093,
     0.29656057182850489123, 1.7848265399172913358, 5.4637849111641143699, 6.6579046435011037772),
    (2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4,
     0.0148753612908506148525, 0.13692988092273580531, 0.59983220655588793769, 1.0),
)  # fmt: skip


def _horner(coefficients: tuple[float, ...], x: Float64) -> Float64:
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value *= x
        value += coefficient
    return value


def exact_log(x: Float64) -> Float64:
    """Natural logarithm of positive numbers, the same bits on every IEEE 754 machine; same shape as `x`.

    x = m * 2**e with m in [sqrt(1/2), sqrt(2)); log m = 2 atanh(s), s = (m - 1) / (m + 1), whose
    series in s**2 is cut after s**23 (s**2 < 0.0295, so the rest is below 1e-18). Error within 2 units in the
    last place.
    """
    mantissa, exponent = np.frexp(x)
    small = mantissa < np.sqrt(0.5)
    mantissa = np.where(small, mantissa * 2.0, mantissa)
    exponent = exponent.astype(np.float64) - small
    s = (mantissa - 1.0) / (mantissa + 1.0)
    series = _horner(tuple(2.0 / k for k in range(23, 0, -2)), s * s)
    series *= s
    # ln 2 in two parts, the first with trailing zeros, so that exponent * part is exact.
    low: Float64 = exponent * 1.90821492927058770002e-10 + series
    result: Float64 = exponent * 6.93147180369123816490e-01 + low
    return result


def normal_quantile(u: Float64) -> Float64:
    """The x with P(X <= x) = u for a standard normal X; u in (0, 1), same shape. AS 241 (PPND16)."""
    q = u - 0.5
    r = 0.180625 - q * q
    x = q * (_horner(_CENTRE[0], r) / _horner(_CENTRE[1], r))
    tail = np.flatnonzero(np.abs(q) > 0.425)
    q_tail = q[tail]
    r = np.sqrt(-exact_log(np.minimum(u[tail], 1.0 - u[tail])))
    middle = r - 1.6
    value = _horner(_MIDDLE[0], middle) / _horner(_MIDDLE[1], middle)
    beyond = np.flatnonzero(r > 5.0)
    far = r[beyond] - 5.0
    value[beyond] = _horner(_FAR[0], far) / _horner(_FAR[1], far)
    x[tail] = np.copysign(value, q_tail)
    return x


def dropout_keys(seed: int, iteration: int, sequences: range, n_places: int) -> NDArray[np.int32]:
    """The key of every dropout mask of these sequences in one iteration.

    Shape (len(sequences), n_places, 2), int32. One Philox word a sequence, then SplitMix64's
    finaliser (Steele et al. 2014) over word + place * golden ratio: a key does not depend on how
    many places or sequences there are.
    """
    word = words(seed, Purpose.DROPOUT, iteration, len(sequences), sequences.start)
    place = np.arange(1, n_places + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = word[:, None] + place[None, :]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    keys: NDArray[np.int32] = z.view(np.int32).reshape(len(sequences), n_places, 2)
    return keys


# The mask hash is a 32-bit bijection of the position, keyed twice: C. Wellons' triple32 ("Prospecting for
# Hash Functions", exact bias 0.0208) with the first key word added before the first round, the
# second before the second. tests/test_random.py measures rates and correlations.
ROUNDS = ((17, 0xED5AD4BB), (11, 0xAC4C1B51), (15, 0x31848BAB))
LAST_SHIFT = 14
_CHUNK = 1 << 14  # two uint32 buffers of this length stay in a core's own cache


def drop_threshold(p: float) -> int:
    """Hashes below this value are dropped: round(p * 2**32), in [0, 2**32)."""
    return min(round(p * 2**32), 2**32 - 1)


def keep_mask(keys: NDArray[np.int32], count: int, p: float, threads: int = 1) -> NDArray[np.bool_]:
    """Which of `count` positions each key keeps, each with probability 1 - p.

    `keys` (B, 2) int32; result (B, count) bool; count <= 2**32. Position is the flat index within one
    sequence: (row, channel) or (head, row, column). NumPy's native loops over pieces that stay in the cache.
    """
    kept = np.empty((len(keys), count), dtype=np.bool_)
    jobs = [(row, start) for row in range(len(keys)) for start in range(0, count, _CHUNK * 8)]
    if threads > 1 and kept.size > _CHUNK * 8:
        list(_pool(threads).map(lambda job: _fill(kept, keys, p, *job), jobs))
    else:
        for job in jobs:
            _fill(kept, keys, p, *job)
    return kept


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="dropout")


def _fill(kept: NDArray[np.bool_], keys: NDArray[np.int32], p: float, row: int, first: int) -> None:
    key = keys[row].view(np.uint32)
    threshold = np.uint32(drop_threshold(p))
    last = min(first + _CHUNK * 8, kept.shape[1])
    hashes = np.empty(_CHUNK, dtype=np.uint32)
    scratch = np.empty(_CHUNK, dtype=np.uint32)
    for start in range(first, last, _CHUNK):
        stop = min(start + _CHUNK, last)
        x, y = hashes[: stop - start], scratch[: stop - start]
        np.add(np.arange(start, stop, dtype=np.uint32), key[0], out=x)
        for index, (shift, multiplier) in enumerate(ROUNDS):
            np.right_shift(x, np.uint32(shift), out=y)
            np.bitwise_xor(x, y, out=x)
            if index == 1:
                np.add(x, key[1], out=x)
            np.multiply(x, np.uint32(multiplier), out=x)
        np.right_shift(x, np.uint32(LAST_SHIFT), out=y)
        np.bitwise_xor(x, y, out=x)
        np.greater_equal(x, threshold, out=kept[row, start:stop])
