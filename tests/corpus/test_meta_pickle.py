from __future__ import annotations

import os
import pickle
import pickletools
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossgap.corpus.meta_pickle import MAX_BYTES, Meta, plain_value, read_meta
from lossgap.corpus.tokenizer import CharTokenizer
from lossgap.errors import CorpusError

CHARS = "\n !abß"


def vocabulary(chars: str = CHARS) -> dict[str, object]:
    return {"vocab_size": len(chars), "itos": dict(enumerate(chars)), "stoi": {c: i for i, c in enumerate(chars)}}


class Reducer:
    """A pickle of this calls `function` when Python's own reader reads it."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nanogpts_meta_in_every_protocol(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "meta.pkl"
    path.write_bytes(pickle.dumps(vocabulary(), protocol=protocol))
    assert read_meta(path) == Meta(6, CharTokenizer(CHARS))


PLAIN = st.recursive(
    st.text() | st.integers(min_value=-(2**62), max_value=2**62),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(-9, 9), inner),
)


@given(PLAIN, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_values_come_back(value: object, protocol: int) -> None:
    assert plain_value(pickle.dumps(value, protocol=protocol)) == value


def hostile(tmp_path: Path) -> dict[str, bytes]:
    mark = tmp_path / "executed"
    proto = pickle.PROTO + b"\x04"
    good = pickle.dumps(vocabulary())
    return {
        "os.system": pickle.dumps(Reducer(os.system, f"touch {mark}")),
        "os.system inside": pickle.dumps({**vocabulary(), "more": [Reducer(os.system, f"touch {mark}")]}),
        "os.system, protocol 0": pickle.dumps(Reducer(os.system, f"touch {mark}"), protocol=0),
        "a class": pickle.dumps({"vocab_size": Path("x")}),
        "a builtin": pickle.dumps({"vocab_size": len}),
        "persistent id": b"Psome-id\n.",
        "binary persistent id": proto + b"\x8c\x01aQ.",
        "extension": proto + b"\x82\x01.",
        "bytes": pickle.dumps({"vocab_size": b"6"}),
        "float": pickle.dumps({"vocab_size": 6.0}),
        "None": pickle.dumps(None),
        "bool": pickle.dumps({"vocab_size": True}),
        "bool of protocol 0": pickle.dumps({"vocab_size": True}, protocol=0),
        "large integer": pickle.dumps({"vocab_size": 2**64}),
        "set": pickle.dumps({1, 2}),
        "tuple as key": pickle.dumps({(1, 2): 3}),
        "empty": b"",
        "no pickle": b"\x00\x01\x02",
        "text": b"vocab_size: 65\n",
        "no end": good[:-1],
        "two values": pickle.MARK + b"K\x01K\x02.",
        "only a mark": b"(.",
        "mark as value": proto + b"}K\x01(s.",
        "stack is empty": b"s.",
        "memory never filled": b"h\x05.",
        "string said to be 2**62 long": proto + b"\x8d" + (2**62).to_bytes(8, "little") + b"a.",
        "frame said to be 2**62 long": proto + b"\x95" + (2**62).to_bytes(8, "little") + b"K\x01.",
        "a digit too many": b"I" + b"9" * 100_000 + b"\n.",
        "too large": pickle.dumps({"a": "x" * MAX_BYTES}),
        "odd dict": b"(K\x01d.",
        "append to int": b"K\x01K\x02a.",
    }


@pytest.mark.parametrize("name", list(hostile(Path())))
def test_hostile_meta_is_refused_and_nothing_runs(tmp_path: Path, name: str) -> None:
    path = tmp_path / "meta.pkl"
    path.write_bytes(hostile(tmp_path)[name])
    with pytest.raises(CorpusError) as caught:
        read_meta(path)
    # Two marks alone are plain, but no vocabulary.
    assert caught.value.slug in ("hostile-meta", "bad-meta") if name == "only a mark" else "hostile-meta"
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()
    if name == "too large":
        assert "it has more than 16,777,216 bytes" in str(caught.value)


def test_every_cut_is_refused() -> None:
    whole = pickle.dumps(vocabulary())
    assert plain_value(whole) == vocabulary()
    for length in range(len(whole)):
        with pytest.raises(Exception, match=r"pickle|end|values|instruction"):
            plain_value(whole[:length])


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any-meta.pkl"
    path.write_bytes(content)
    with pytest.raises(CorpusError):
        read_meta(path)


OPCODES = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]


@given(st.lists(st.sampled_from(OPCODES) | st.binary(min_size=1, max_size=4)).map(b"".join))
def test_any_instructions_are_a_value_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any-instructions.pkl"
    path.write_bytes(content + b".")
    with pytest.raises(CorpusError):
        read_meta(path)


def test_deep_nesting_costs_no_recursion(tmp_path: Path) -> None:
    path = tmp_path / "meta.pkl"
    deep = b"]" * 100_000 + b"a" * 99_999
    for content, reason in ((deep + b".", "it is not a dict"), (b"}\x8c\x0avocab_size" + deep + b"s.", "is a list")):
        path.write_bytes(content)
        with pytest.raises(CorpusError, match=reason):
            read_meta(path)


def test_memory_bomb_costs_no_memory(tmp_path: Path, run_python: Callable[..., str]) -> None:
    path = tmp_path / "meta.pkl"
    # LONG_BINPUT 2**26 - 1: Python's C reader makes room for twice as many entries of 8 bytes, 1 GB.
    path.write_bytes(b"}r\xff\xff\xff\x03" + b".")
    program = """
import sys
from pathlib import Path
from lossgap.corpus.meta_pickle import read_meta
from lossgap.errors import CorpusError
before = peak_memory()
try:
    read_meta(Path(sys.argv[1]))
except CorpusError as problem:
    print(peak_memory() - before, problem.slug)
"""
    grown, slug = run_python(program, str(path)).split()
    assert slug == "bad-meta"
    assert int(grown) < 50_000_000


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"vocab_size": 0}, "vocab_size"),
        ({"vocab_size": "6"}, "vocab_size"),
        ({"vocab_size": 7}, "itos has 6 entries"),
        ({"itos": {}}, "itos has 0 entries"),
        ({"itos": ["a"] * 6}, "both be dicts"),
        ({"itos": {str(i): c for i, c in enumerate(CHARS)}}, "one str for each id"),
        ({"itos": dict(enumerate("\n !abb"))}, "inverse"),
        ({"stoi": {}}, "inverse"),
        ({"stoi": 5}, "both be dicts"),
    ],
)
def test_plain_meta_that_is_no_vocabulary(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    path = tmp_path / "meta.pkl"
    path.write_bytes(pickle.dumps({**vocabulary(), **change}))
    with pytest.raises(CorpusError, match=reason) as caught:
        read_meta(path)
    assert caught.value.slug == "bad-meta"


def test_vocabulary_without_characters_or_with_longer_tokens(tmp_path: Path) -> None:
    path = tmp_path / "meta.pkl"
    path.write_bytes(pickle.dumps({"vocab_size": 50_257}))
    assert read_meta(path) == Meta(50_257, None)
    path.write_bytes(pickle.dumps({"vocab_size": 2, "itos": {0: "the", 1: "a"}, "stoi": {"the": 0, "a": 1}}))
    assert read_meta(path) == Meta(2, None)


def test_a_vocabulary_of_all_that_two_bytes_hold(tmp_path: Path) -> None:
    characters = [chr(0x10000 + number) for number in range(65_536)]
    content = {
        "vocab_size": 65_536,
        "itos": dict(enumerate(characters)),
        "stoi": {c: i for i, c in enumerate(characters)},
    }
    path = tmp_path / "meta.pkl"
    for protocol in (2, 4):
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        assert read_meta(path).vocab_size == 65_536


def test_millions_of_instructions_are_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "meta.pkl"
    path.write_bytes(b"\x80\x02" + b"}" * 15_000_000 + b".")
    start = time.thread_time()
    with pytest.raises(CorpusError, match="more than 500,000 instructions") as caught:
        read_meta(path)
    assert caught.value.slug == "hostile-meta"
    assert time.thread_time() - start < 8
