"""Bytes to lines: every way of ending a line, in blocks of any size."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossgap.runs.readers import decoding


def lines(data: bytes, size: int = decoding.BLOCK_BYTES) -> list[tuple[int, str]]:
    return [item for block in decoding.blocks(io.BytesIO(data), size) for item in decoding.numbered(block)]


@settings(max_examples=200, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x1b["), max_size=20)),
    size=st.integers(16, 64),
)
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_lines_are_numbered_whatever_the_block(codec: str, texts: list[str], size: int) -> None:
    texts = [text.replace("\ufeff", "") for text in texts]
    whole = "first line, which is read at once\n" * 3 + "".join(f"{text}\n" for text in texts)
    expected = list(enumerate(whole.split("\n")[:-1], 1))
    assert lines(whole.encode(codec), max(size, 4 * max(map(len, [*texts, "x" * 34])) + 8)) == expected


def test_carriage_returns_share_a_line_and_count_where_nothing_else_ends_lines() -> None:
    assert lines(b"a\r\nb\r50%\rc\nd") == [(1, "a"), (2, "b"), (2, "50%"), (2, "c"), (3, "d")]
    assert lines(b"a\rb\rc") == [(1, "a"), (2, "b"), (3, "c")]


def test_ansi_goes_also_where_only_its_print_is_left() -> None:
    assert (
        decoding.clean("\x1b[1miter \x1b[36m9\x1b[0m: \x1b]0;title\x07x \x1b[2K[1;36m5[0m ^[[1m6^[[0m")
        == "iter 9: x 5 6"
    )
    assert lines("\x1b[1mé\x1b[0m [1;36m7[0m\n".encode()) == [(1, "é 7")]


def test_utf_16_without_a_mark() -> None:
    for codec in ("utf-16-le", "utf-16-be"):
        assert lines("iter 0: loss 4.0\niter 1".encode(codec)) == [(1, "iter 0: loss 4.0"), (2, "iter 1")]


def test_a_line_without_end_stays_in_bounded_memory() -> None:
    blocks = list(decoding.blocks(io.BytesIO(b"x" * 100 + b" y" * 5000), 1024))
    assert max(len(block.data) for block in blocks) <= 3 * 1024
    assert {block.line for block in blocks} == {1}
    assert b"".join(block.data for block in blocks) == b"x" * 100 + b" y" * 5000
