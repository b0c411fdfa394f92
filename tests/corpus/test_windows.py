from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossgap.corpus import count_starts, evenly_spaced_windows, exact_windows, token_window
from lossgap.errors import CorpusError


@given(st.integers(2, 400), st.integers(1, 90))
def test_exact_windows_score_each_token_after_the_first_once(n_tokens: int, length: int) -> None:
    starts, lengths = exact_windows(n_tokens, length)
    scored = [target for s, t in zip(starts, lengths, strict=True) for target in range(s + 1, s + t + 1)]
    assert scored == list(range(1, n_tokens))
    assert set(lengths[:-1].tolist()) <= {length}
    assert 1 <= lengths[-1] <= length
    assert starts.dtype == lengths.dtype == np.int64


@given(st.integers(2, 400), st.integers(1, 90), st.integers(0, 50))
def test_evenly_spaced_windows(n_tokens: int, length: int, count: int) -> None:
    if n_tokens <= length:
        with pytest.raises(CorpusError):
            evenly_spaced_windows(n_tokens, length, count)
        return
    starts = evenly_spaced_windows(n_tokens, length, count)
    assert len(starts) == min(count, (n_tokens - 1) // length)
    gaps = np.diff(starts)
    assert (gaps >= length).all()
    assert gaps.size == 0 or gaps.max() - gaps.min() <= 1
    if len(starts) > 1:
        assert (starts[0], starts[-1]) == (0, n_tokens - length - 1)


def test_evenly_spaced_windows_far_out() -> None:
    starts = evenly_spaced_windows(2**62, 256, 3)
    assert starts.tolist() == [0, (2**62 - 257) // 2, 2**62 - 257]


@given(st.data(), st.integers(1, 20), st.integers(0, 5))
def test_token_window_is_inputs_and_next_tokens(data: st.DataObject, length: int, batch: int) -> None:
    tokens = np.array(data.draw(st.lists(st.integers(0, 65_535), min_size=length + 1, max_size=60)), dtype=np.uint16)
    highest = count_starts(len(tokens), length, "train") - 1
    starts = data.draw(st.lists(st.integers(0, highest), min_size=batch, max_size=batch))
    x, y = token_window(tokens, np.array(starts, dtype=np.int64), length)
    assert x.shape == y.shape == (batch, length)
    assert x.dtype == y.dtype == np.int64
    assert x.flags.c_contiguous
    assert y.flags.c_contiguous
    for row, start in enumerate(starts):
        assert x[row].tolist() == tokens[start : start + length].tolist()
        assert y[row].tolist() == tokens[start + 1 : start + length + 1].tolist()


@pytest.mark.parametrize("start", [-1, 6])
def test_start_out_of_range(start: int) -> None:
    tokens = np.arange(10, dtype=np.uint16)
    token_window(tokens, np.array([0, 5]), 4)
    with pytest.raises(IndexError, match="between 0 and 5"):
        token_window(tokens, np.array([0, start]), 4)


def test_corpus_smaller_than_block_size_plus_one() -> None:
    assert count_starts(65, 64, "val") == 1
    with pytest.raises(CorpusError) as caught:
        count_starts(64, 64, "val")
    assert caught.value.slug == "corpus-too-small"
    for part in ("val split", "64 tokens", "block_size=64", "needs 65", "--block_size=63"):
        assert part in str(caught.value)
    with pytest.raises(CorpusError):
        exact_windows(1, 64)
