"""Reads nanoGPT's `meta.pkl` without executing it.

A pickle is a program, and Python's own readers run it: they import what it names, and even with all imports refused a
few bytes can ask for gigabytes of memory. So the opcodes are only listed (`pickletools.genops`, which reads and calls
nothing), and the dozen that build dicts, lists, tuples, str and int are carried out here. Every other one is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lossgap.corpus.tokenizer import CharTokenizer
from lossgap.errors import CorpusError

MAX_BYTES = 16 * 1024 * 1024
"""The largest `meta.pkl` that is read. nanoGPT's own has about 700 bytes."""

MAX_OPCODES = 500_000
"""Instructions that are read. A vocabulary of 65,536 characters needs seven for each; millions take many seconds."""

_STRINGS = frozenset({"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"})
_INTEGERS = frozenset({"INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "LONG4"})
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_MAX_INTEGER = 2**63


class _RefusedError(Exception):
    """The pickle holds something that this reader does not carry out; the message says what."""


class _Mark:
    """Where a group of values begins on the stack."""


@dataclass(frozen=True)
class Meta:
    """The contents of a `meta.pkl`: the size of the vocabulary (None without a file), and its characters if any."""

    vocab_size: int | None
    tokenizer: CharTokenizer | None


def read_meta(path: Path) -> Meta:
    """The vocabulary in nanoGPT's `meta.pkl`: `vocab_size`, and `stoi` and `itos` if they are there.

    `tokenizer` is None without `stoi` and `itos`, or if their tokens are not single characters.

    Raises:
        CorpusError: `hostile-meta` if the file is larger than 16 MB, has more than 500,000 instructions, is torn, or
            holds anything but dicts, lists, tuples, str and int; `bad-meta` if these do not make a vocabulary;
            `unreadable-corpus`.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as problem:
        raise CorpusError("unreadable-corpus", f"{path} cannot be read: {problem.strerror or problem}") from None
    try:
        value = plain_value(content)
    except _RefusedError as problem:
        raise CorpusError(
            "hostile-meta",
            f"{path} is refused, nothing in it was executed: {problem}; only dicts, lists, tuples, str and int are "
            "read; make it again with nanoGPT's prepare.py, or move it away and the folder is read without it",
        ) from None
    return _meta(value, path)


def plain_value(content: bytes) -> object:
    """The value of a pickle made of dicts, lists, tuples, str and int only; raises `_RefusedError` for any other."""
    if len(content) > MAX_BYTES:
        raise _RefusedError(f"it has more than {MAX_BYTES:,} bytes")
    machine = _Machine()
    try:
        for number, (opcode, argument, place) in enumerate(pickletools.genops(content)):
            if number >= MAX_OPCODES:
                raise _RefusedError(f"it has more than {MAX_OPCODES:,} instructions")
            if opcode.name == "STOP":
                return machine.result()
            machine.carry_out(opcode.name, argument, place or 0)
    except IndexError:
        raise _RefusedError("it takes more values than it has made") from None
    except (ValueError, UnicodeDecodeError) as problem:
        raise _RefusedError(f"it is not a whole pickle ({str(problem)[:100]})") from None
    raise _RefusedError("it has no end")


class _Machine:
    """The stack and the memory of a pickle that is being read."""

    def __init__(self) -> None:
        self._stack: list[object] = []
        self._memory: dict[int, object] = {}
        self._containers: dict[str, Callable[[], None]] = {
            "EMPTY_DICT": lambda: self._stack.append({}),
            "EMPTY_LIST": lambda: self._stack.append([]),
            "EMPTY_TUPLE": lambda: self._stack.append(()),
            "MARK": lambda: self._stack.append(_Mark()),
            "DICT": lambda: self._stack.append(_as_dict(self._after_mark())),
            "LIST": lambda: self._stack.append(self._after_mark()),
            "TUPLE": lambda: self._stack.append(tuple(self._after_mark())),
            "TUPLE1": lambda: self._tuple_of(1),
            "TUPLE2": lambda: self._tuple_of(2),
            "TUPLE3": lambda: self._tuple_of(3),
            "SETITEM": lambda: self._set_items(self._take(2)),
            "SETITEMS": lambda: self._set_items(self._after_mark()),
            "APPEND": lambda: self._append(self._take(1)),
            "APPENDS": lambda: self._append(self._after_mark()),
        }

    def carry_out(self, name: str, argument: object, place: int) -> None:
        """One opcode; `_RefusedError` if it is not among those that build plain values."""
        if name in ("PROTO", "FRAME"):
            return
        if name in self._containers:
            self._containers[name]()
        elif name == "MEMOIZE":
            self._memory[len(self._memory)] = self._stack[-1]
        elif name in _PUTS and isinstance(argument, int):
            self._memory[argument] = self._stack[-1]
        elif name in _GETS and isinstance(argument, int):
            if argument not in self._memory:
                raise _RefusedError(f"byte {place} recalls a value that was never kept")
            self._stack.append(self._memory[argument])
        elif (name in _STRINGS and isinstance(argument, str)) or (name in _INTEGERS and _is_small_integer(argument)):
            self._stack.append(argument)
        else:
            raise _RefusedError(f"byte {place} is the instruction {name} ({str(argument)[:60]!r})")

    def result(self) -> object:
        """The value that the pickle made."""
        if len(self._stack) != 1:
            raise _RefusedError(f"it leaves {len(self._stack)} values, not 1")
        return self._stack[0]

    def _take(self, count: int) -> list[object]:
        if len(self._stack) < count:
            raise IndexError
        taken = self._stack[-count:]
        if any(isinstance(value, _Mark) for value in taken):
            raise _RefusedError("it uses the beginning of a group as a value")
        del self._stack[-count:]
        return taken

    def _after_mark(self) -> list[object]:
        values: list[object] = []
        while not isinstance(value := self._stack.pop(), _Mark):
            values.append(value)
        return values[::-1]

    def _tuple_of(self, count: int) -> None:
        self._stack.append(tuple(self._take(count)))

    def _set_items(self, items: list[object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise _RefusedError("it puts items into something that is not a dict")
        target.update(_as_dict(items))

    def _append(self, items: list[object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise _RefusedError("it appends to something that is not a list")
        target.extend(items)


def _is_small_integer(value: object) -> bool:
    # bool is refused: protocol 0 writes it as an integer, and it would pass as the id 0 or 1.
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MAX_INTEGER


def _as_dict(items: list[object]) -> dict[str | int, object]:
    keys, values = items[::2], items[1::2]
    if len(keys) != len(values):
        raise _RefusedError("a dict has a key without a value")
    # Only plain keys: a deeply nested tuple as a key would be hashed, and that recurses.
    plain = [key for key in keys if isinstance(key, (str, int))]
    if len(plain) != len(keys):
        raise _RefusedError("a dict has a key that is neither str nor int")
    return dict(zip(plain, values, strict=True))


def _meta(value: object, path: Path) -> Meta:
    """The vocabulary in the dict, checked: ids 0 to `vocab_size - 1`, and `stoi` the inverse of `itos`."""
    if not isinstance(value, dict):
        raise _bad_meta(path, "it is not a dict")
    size = value.get("vocab_size")
    if not isinstance(size, int) or not 1 <= size <= 2**31:
        # Only a number is shown: the text of a deeply nested list cannot be made.
        shown = str(size) if isinstance(size, int) else f"a {type(size).__name__}"
        raise _bad_meta(path, f"its vocab_size is {shown}, not a whole number from 1 to 2**31")
    stoi, itos = value.get("stoi"), value.get("itos")
    if stoi is None and itos is None:
        return Meta(size, None)
    if not isinstance(stoi, dict) or not isinstance(itos, dict):
        raise _bad_meta(path, "stoi and itos must both be dicts")
    tokens = [itos.get(index) for index in range(min(size, len(itos)))]
    if len(tokens) != size or len(itos) != size or not all(isinstance(token, str) for token in tokens):
        raise _bad_meta(path, f"itos has {len(itos)} entries, not one str for each id from 0 to {size - 1}")
    strings = [token for token in tokens if isinstance(token, str)]
    if stoi != {token: index for index, token in enumerate(strings)} or len(stoi) != size:
        raise _bad_meta(path, "stoi is not the inverse of itos")
    single = all(len(token) == 1 for token in strings)
    return Meta(size, CharTokenizer("".join(strings)) if single else None)


def _bad_meta(path: Path, reason: str) -> CorpusError:
    return CorpusError(
        "bad-meta",
        f"{path} describes no vocabulary: {reason}; make it again with nanoGPT's prepare.py, or move it away and the "
        "folder is read without it",
    )
