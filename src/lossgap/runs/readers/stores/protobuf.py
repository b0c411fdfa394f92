"""Protocol buffers on the wire: the fields of a message, without its schema.

Source: protobuf.dev/programming-guides/encoding. Lengths are checked, nothing is copied but the fields, and
groups (wire types 3 and 4) and wrong bytes end the message with `WireError`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5

Field = tuple[int, int, int | bytes]
"""(number, wire type, value): an int for a varint, else the bytes."""


class WireError(ValueError):
    """The bytes are not a message."""


def fields(message: bytes) -> Iterator[Field]:
    """The fields of a message, in their order. Raises WireError."""
    at, end = 0, len(message)
    while at < end:
        key = message[at]
        if key < 0x80:  # one byte, as nearly all keys and sizes are: without a call
            at += 1
        else:
            key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, at = _varint(message, at)
            yield number, wire, value
            continue
        if wire == BYTES:
            if at < end and message[at] < 0x80:
                size, at = message[at], at + 1
            else:
                size, at = _varint(message, at)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise WireError(f"wire type {wire}")
        if size > end - at:
            raise WireError("a field goes beyond its message")
        yield number, wire, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise WireError("a varint without end")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7


def signed(value: int) -> int:
    """An int64 from its varint."""
    return value - (1 << 64) if value >= 1 << 63 else value


def double(value: bytes) -> float:
    """A double from its eight bytes."""
    return float(struct.unpack("<d", value)[0])


def single(value: bytes) -> float:
    """A float from its four bytes."""
    return float(struct.unpack("<f", value)[0])


def text(value: int | bytes, limit: int = 1000) -> str:
    """A string field; empty where the field is not a string."""
    return value[:limit].decode("utf-8", "replace") if isinstance(value, bytes) else ""
