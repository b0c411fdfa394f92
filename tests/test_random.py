"""The counter-based numbers: golden values, independence of the machine, distributions, masks without structure."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import lossgap
from lossgap import random
from lossgap.dropout import dropout, keep_mask, tensor_mask

SEED = 1337
SIGMAS = 5.0
RATES = (0.1, 0.2, 0.5)
LAPTOP = "n_layer=4, n_head=4, n_embd=128, block_size=64, vocab_size=65, bias=False"
GPU = "n_layer=6, n_head=6, n_embd=384, block_size=256, vocab_size=65, bias=False"
WEIGHTS_SHA256 = {
    LAPTOP: "152b902a248f8198bae49b47805456c78bd36a94b847de1d0ffcde2066facb53",
    GPU: "40ba10f5748fc2526835388987475a959a90eec272f392fb3ba712c18e4137a8",
}
QUANTILES_SHA256 = "8d63b7aa2d06ac4e873f5c4327c702e93b8441453e44a67547d2f2521d4cf9cf"


# ---------------------------------------------------------------------------------------------
# Golden values: they are the format, and never change


def test_golden_window_starts() -> None:
    assert random.window_starts(SEED, 0, range(6), 1_003_854, 64).tolist() == [
        742125, 75498, 565084, 988047, 529381, 508447
    ]  # fmt: skip
    assert random.window_starts(SEED, 1, range(3), 1_003_854, 64).tolist() == [343892, 561417, 719728]
    far = random.window_starts(7, 2000, range(3), 2**40, 1024)
    assert far.tolist() == [862835075845, 144899040541, 391090177719]


def test_golden_evaluation_windows_keys_and_weights() -> None:
    assert random.eval_starts(SEED, "train", range(3), 1_003_854, 64).tolist() == [122997, 128126, 263236]
    assert random.eval_starts(SEED, "val", range(3), 111_540, 64).tolist() == [78595, 34831, 95077]
    assert random.dropout_keys(SEED, 0, range(2), 2).tolist() == [
        [[-1196308473, -443702297], [-437671226, -1458091479]],
        [[-644685614, 315447038], [331026252, -1685802445]],
    ]
    expected = [0.022090593352913857, 0.019402366131544113, 0.012361491098999977, 0.02496192790567875]
    assert random.normal(SEED, "transformer.wte.weight", 4, 0.02).tolist() == expected


_HASH_PROGRAM = """
import hashlib
import numpy as np
import torch
from lossgap import random
from lossgap.gpt import GPTConfig
from lossgap.training.draws import CounterDraws
sha = hashlib.sha256()
for name, parameter in CounterDraws({seed}, True).new_model(GPTConfig({shape})).named_parameters():
    sha.update(name.encode())
    sha.update(parameter.detach().numpy().astype("<f4").tobytes())
quantiles = random.normal_quantile(np.linspace(0, 1, 100_003)[1:-1])
print(torch.backends.cpu.get_cpu_capability(), sha.hexdigest(), hashlib.sha256(quantiles.tobytes()).hexdigest())
"""


def hashes(shape: str, variables: dict[str, str]) -> tuple[str, str, str]:
    """Capability level, SHA-256 of the initial weights, SHA-256 of some float64 quantiles, all in a new process."""
    environment = {**os.environ, **variables, "PYTHONPATH": str(Path(lossgap.__file__).parent.parent)}
    program = _HASH_PROGRAM.format(seed=SEED, shape=shape)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    capability, weights, quantiles = done.stdout.split()
    return capability, weights, quantiles


@pytest.mark.parametrize("capability", ["default", "avx2", "avx512"])
@pytest.mark.parametrize("shape", [LAPTOP, GPU], ids=["laptop", "gpu"])
def test_initial_weights_are_the_same_bits_at_every_capability_level(shape: str, capability: str) -> None:
    found, weights, quantiles = hashes(shape, {"ATEN_CPU_CAPABILITY": capability})
    if found.lower() != capability and not (capability == "default" and found == "NO AVX"):
        pytest.skip(f"this CPU runs torch at {found}, not at {capability}")
    assert weights == WEIGHTS_SHA256[shape]
    assert quantiles == QUANTILES_SHA256


def test_initial_weights_are_the_same_bits_without_numpys_vector_code() -> None:
    level = pytest.importorskip("numpy._core._multiarray_umath")
    features = [name for name in level.__cpu_dispatch__ if level.__cpu_features__.get(name)]
    if not features:
        pytest.skip("NumPy has no code here beyond its baseline")
    variables = {"NPY_DISABLE_CPU_FEATURES": " ".join(features)}
    # float64 quantiles show what float32 weights would hide: a logarithm that differs in its last bit.
    assert hashes(LAPTOP, variables)[1:] == (WEIGHTS_SHA256[LAPTOP], QUANTILES_SHA256)


# ---------------------------------------------------------------------------------------------
# Addresses


@given(
    seed=st.integers(0, 2**64 - 1),
    stream=st.integers(0, 2**64 - 1),
    first=st.integers(0, 40),
    count=st.integers(0, 40),
)
@settings(max_examples=60, deadline=None)
def test_a_part_of_a_stream_is_that_part_of_the_whole(seed: int, stream: int, first: int, count: int) -> None:
    whole = random.words(seed, random.Purpose.BATCHES, stream, first + count)
    part = random.words(seed, random.Purpose.BATCHES, stream, count, first)
    assert part.tolist() == whole[first:].tolist()


@given(start=st.integers(0, 30), length=st.integers(0, 30), iteration=st.integers(0, 2**40))
@settings(max_examples=60, deadline=None)
def test_a_share_of_a_batch_is_that_part_of_the_whole(start: int, length: int, iteration: int) -> None:
    """However a batch is divided among processes and micro-batches, each sequence keeps its window and its keys."""
    part, whole = range(start, start + length), range(start + length)
    draws: tuple[Callable[[range], NDArray[Any]], ...] = (
        lambda sequences: random.window_starts(SEED, iteration, sequences, 1_003_854, 64),
        lambda sequences: random.eval_starts(SEED, "train", sequences, 1_003_854, 64),
        lambda sequences: random.eval_starts(SEED, "val", sequences, 1_003_854, 64),
        lambda sequences: random.dropout_keys(SEED, iteration, sequences, 5),
    )
    for draw in draws:
        assert draw(part).tolist() == draw(whole)[start:].tolist()
    # Nor does a key depend on how many places there are.
    few, many = (random.dropout_keys(SEED, iteration, whole, places) for places in (2, 5))
    assert few.tolist() == many[:, :2].tolist()


def test_every_part_of_an_address_counts() -> None:
    addresses = [
        (SEED, random.Purpose.BATCHES, 0), (SEED + 1, random.Purpose.BATCHES, 0),
        (SEED, random.Purpose.DROPOUT, 0), (SEED, random.Purpose.BATCHES, 1),
        (SEED + 2**63, random.Purpose.BATCHES, 0), (SEED, random.Purpose.BATCHES, 2**63),
    ]  # fmt: skip
    drawn = {tuple(random.words(*address, 8).tolist()) for address in addresses}
    assert len(drawn) == len(addresses)


@given(word=st.integers(0, 2**64 - 1), bound=st.integers(1, 2**63))
@settings(max_examples=300, deadline=None)
def test_below_is_the_exact_product(word: int, bound: int) -> None:
    assert random.below(np.array([word], dtype=np.uint64), bound).tolist() == [(word * bound) >> 64]


def test_window_starts_are_uniform_and_in_range() -> None:
    starts = random.window_starts(SEED, 3, range(200_000), 1064, 64)
    counts = np.bincount(starts, minlength=1000)
    assert len(counts) == 1000
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


# ---------------------------------------------------------------------------------------------
# Normal numbers


def test_normal_numbers_have_the_moments_and_the_distribution() -> None:
    x = random.normal(SEED, "a parameter", 400_000, 1.0).astype(np.float64)
    n = len(x)
    assert abs(x.mean()) < SIGMAS / math.sqrt(n)
    assert abs(x.var() - 1.0) < SIGMAS * math.sqrt(2 / n)
    assert abs((x**3).mean()) < SIGMAS * math.sqrt(15 / n)
    assert abs((x**4).mean() - 3.0) < SIGMAS * math.sqrt(96 / n)
    assert abs((x[1:] * x[:-1]).mean()) < SIGMAS / math.sqrt(n)
    assert scipy.stats.kstest(x, "norm").pvalue > 1e-3
    assert np.abs(x).max() > 4.0  # the tails are there: P(no |x| > 4 in 400,000) = 1e-11


def test_parameters_and_seeds_have_numbers_of_their_own() -> None:
    draws = [random.normal(*key, 100_000, 1.0) for key in ((1, "a"), (1, "b"), (2, "a"))]
    for x, y in itertools.combinations(draws, 2):
        assert abs(np.corrcoef(x, y)[0, 1]) < SIGMAS / math.sqrt(len(x))


def test_normal_numbers_do_not_depend_on_the_chunk() -> None:
    whole = random.normal(SEED, "a", 1000, 0.02)
    assert whole.tolist() == random.normal(SEED, "a", 1000, 0.02, chunk=7).tolist()
    assert whole[:10].tolist() == random.normal(SEED, "a", 10, 0.02).tolist()


def test_quantile_and_logarithm_are_accurate() -> None:
    u = np.concatenate([np.logspace(-15.5, -0.31, 4001), np.linspace(0.001, 0.999, 4001)])
    u = np.concatenate([u, 1.0 - u[u > 1e-10]])
    exact = scipy.special.ndtri(u)
    np.testing.assert_allclose(random.normal_quantile(u), exact, rtol=2e-14, atol=1e-15)
    x = np.concatenate([u, np.logspace(-300, 300, 4001)])
    reference = np.log(x)
    error = np.abs(random.exact_log(x) - reference)
    assert (error <= 3 * np.spacing(np.abs(reference)) + 1e-17).all()


# ---------------------------------------------------------------------------------------------
# Dropout masks

HEADS, ROWS, COLUMNS, SEQUENCES, PLACES = 4, 64, 64, 4, 5


def masks(seed: int, iteration: int, p: float) -> NDArray[np.float64]:
    """Kept (1) or dropped (0), centred: (sequences, places, heads, rows, columns)."""
    keys = random.dropout_keys(seed, iteration, range(SEQUENCES), PLACES).reshape(-1, 2)
    kept = random.keep_mask(keys, HEADS * ROWS * COLUMNS, p)
    return kept.reshape(SEQUENCES, PLACES, HEADS, ROWS, COLUMNS).astype(np.float64) - (1.0 - p)


def sigmas(x: NDArray[np.float64], y: NDArray[np.float64], p: float) -> float:
    """Correlation of two centred masks in standard errors: its variance is 1 / n where they are independent."""
    return abs(float((x * y).mean())) / (p * (1 - p)) * math.sqrt(x.size)


@pytest.mark.parametrize("p", RATES)
def test_the_rate_is_binomial(p: float) -> None:
    keys = random.dropout_keys(SEED, 0, range(16), 4).reshape(-1, 2)
    kept = random.keep_mask(keys, 40_000, p)
    assert abs(kept.mean() - (1 - p)) < SIGMAS * math.sqrt(p * (1 - p) / kept.size)
    each = kept.mean(axis=1)
    spread = math.sqrt(p * (1 - p) / kept.shape[1])
    assert (np.abs(each - (1 - p)) < SIGMAS * spread).all()
    # Neither clumped nor too even: the spread over the masks is the binomial one (chi-square, 64 masks).
    statistic = (((each - (1 - p)) / spread) ** 2).sum()
    assert 1e-5 < scipy.stats.chi2.cdf(statistic, len(each)) < 1 - 1e-5


@pytest.mark.parametrize("p", RATES)
def test_neighbours_are_uncorrelated(p: float) -> None:
    mask = masks(SEED, 0, p)
    for axis, name in enumerate(("sequences", "places", "heads", "rows", "columns")):
        length = mask.shape[axis]
        for lag in (lag for lag in (1, 2, 3, 4, 8, 16, 32) if lag < length):
            first, second = mask.take(range(length - lag), axis), mask.take(range(lag, length), axis)
            assert sigmas(first, second, p) < SIGMAS, f"{name} {lag} apart"
    for name, other in {
        "iterations": masks(SEED, 1, p),
        "far iterations": masks(SEED, 2**20, p),
        "seeds": masks(SEED + 1, 0, p),
    }.items():
        assert sigmas(mask, other, p) < SIGMAS, name


@pytest.mark.parametrize("p", RATES)
@pytest.mark.parametrize("count", [1, 7, 1000, 16_385, 131_072, 200_001])
def test_native_and_tensor_masks_are_the_same_bits(p: float, count: int) -> None:
    keys = random.dropout_keys(SEED, 11, range(3), 2)[:, 1]
    native = random.keep_mask(keys, count, p)
    assert native.shape == (3, count)
    assert np.array_equal(native, tensor_mask(torch.from_numpy(keys), count, p).numpy())
    assert np.array_equal(native, random.keep_mask(keys, count, p, threads=2))


def test_native_and_tensor_masks_agree_at_the_edges_of_int32() -> None:
    edges = (0, 1, -1, 2**31 - 1, -(2**31))
    keys = np.array(list(itertools.product(edges, edges)), dtype=np.int32)
    for p in (1e-9, 0.5, 1 - 1e-9):
        native = random.keep_mask(keys, 4099, p)
        assert np.array_equal(native, tensor_mask(torch.from_numpy(keys), 4099, p).numpy())


@given(cuts=st.lists(st.integers(1, 11), max_size=4), p=st.sampled_from(RATES))
@settings(max_examples=40, deadline=None)
def test_masks_do_not_depend_on_how_the_batch_is_split(cuts: list[int], p: float) -> None:
    shape = torch.Size((12, 3, 5, 7))
    whole = keep_mask(torch.from_numpy(random.dropout_keys(SEED, 5, range(12), 4)[:, 2]), shape, p)
    edges = [0, *sorted(set(cuts)), 12]
    for start, stop in itertools.pairwise(edges):
        keys = torch.from_numpy(random.dropout_keys(SEED, 5, range(start, stop), 4)[:, 2])
        part = keep_mask(keys, torch.Size((stop - start, *shape[1:])), p)
        assert torch.equal(part, whole[start:stop])


def test_dropout_scales_what_it_keeps_and_its_gradient() -> None:
    key = torch.from_numpy(random.dropout_keys(SEED, 0, range(2), 1)[:, 0])
    x = torch.ones(2, 50, requires_grad=True)
    y = dropout(x, 0.2, key)
    kept = keep_mask(key, x.shape, 0.2)
    assert torch.equal(y, kept * (1.0 / 0.8))
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, kept * (1.0 / 0.8))
    assert dropout(x, 0.0, key) is x


def test_without_a_key_the_mask_is_torchs() -> None:
    x = torch.ones(4, 100)
    torch.manual_seed(SEED)
    found = dropout(x, 0.3, None)
    torch.manual_seed(SEED)
    assert torch.equal(found, torch.nn.functional.dropout(x, 0.3))


def test_with_zero_keys_the_hash_is_triple32() -> None:
    """C. Wellons' triple32 in Python's integers."""
    x = 12345
    for shift, multiplier in random.ROUNDS:
        x = ((x ^ (x >> shift)) * multiplier) % 2**32
    x ^= x >> random.LAST_SHIFT
    keys = np.zeros((1, 2), dtype=np.int32)
    just_below, just_above = x / 2**32, (x + 1) / 2**32
    assert random.keep_mask(keys, 12346, just_below)[0, 12345]
    assert not random.keep_mask(keys, 12346, just_above)[0, 12345]


def test_a_name_is_a_stream() -> None:
    assert random.name_stream("a") == int.from_bytes(hashlib.blake2b(b"a", digest_size=8).digest(), "little")
