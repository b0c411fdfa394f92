"""The records of a W&B run (`run-ID.wandb`), read without wandb.

Framing (LevelDB's log, as wandb writes it): 7 bytes `:W&B` 0xE1BE 0x00, then blocks of 32 KiB of chunks
{uint32 CRC-32 of type and data, uint16 length, uint8 type: 1 full, 2 first, 3 middle, 4 last}, little endian.
Record (wandb/proto/wandb_internal.proto): history = 2, summary = 3, config = 5, run = 17, exit = 18, environment = 26.
An item has key = 1 or nested_key = 2 (repeated), and value_json = 16 or, since 0.23, integer = 5, number = 6.
Fields with names, e-mail addresses and hosts of people are not looked at.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final

from lossgap.runs.readers.base import Number
from lossgap.runs.readers.formats.jsonl import Printed, parse
from lossgap.runs.readers.stores import protobuf

IDENT: Final = b":W&B"
BLOCK: Final = 32768
MAX_RECORD: Final = 16 << 20
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4

HISTORY: Final = 2
SUMMARY: Final = 3
CONFIG: Final = 5
RUN: Final = 17
EXIT: Final = 18
ENVIRONMENT: Final = 26


def chunks(stream: BinaryIO) -> Iterator[bytes | None]:
    """The records in the file, None for one that is damaged or torn. Raises OSError."""
    block = stream.read(BLOCK)
    if not block.startswith(IDENT):
        yield None
        return
    at, parts = 7, b""
    open_record = False
    while block:
        while at + 7 <= len(block):
            check, length, kind = struct.unpack_from("<IHB", block, at)
            data = block[at + 7 : at + 7 + length]
            if kind == 0 and length == 0:
                break  # the rest of the block is padding
            at += 7 + length
            whole = len(data) == length and kind in (_FULL, _FIRST, _MIDDLE, _LAST)
            if not whole or zlib.crc32(bytes([kind]) + data) != check:
                yield None
                open_record, parts = False, b""
                if not whole:
                    break  # the length may be wrong: the next block begins with a chunk
                continue
            if kind == _FULL:
                yield data
            elif kind == _FIRST:
                open_record, parts = True, data
            elif not open_record:
                continue  # what began it was damaged
            elif len(parts) > MAX_RECORD:
                open_record, parts = False, b""
                yield None
            else:
                parts += data
                if kind == _LAST:
                    yield parts
                    open_record, parts = False, b""
        block, at = stream.read(BLOCK), 0
    if open_record:
        yield None


def items(message: bytes, wanted: int) -> dict[str, object]:
    """`{key: value}` of the items in a message, numbers as printed; nested keys joined with `/`. Raises WireError."""
    found: dict[str, object] = {}
    for number, _, value in protobuf.fields(message):
        if number == wanted and isinstance(value, bytes):
            name, item = _item(value)
            if name:
                found[name] = item
    return found


def _item(message: bytes) -> tuple[str, object]:
    name, nested, value = "", [], None  # type: str, list[str], object
    for number, wire, part in protobuf.fields(message):
        if number == 1:
            name = protobuf.text(part)
        elif number == 2:
            nested.append(protobuf.text(part))
        elif number == 16 and isinstance(part, bytes):
            value = parse(part.decode("utf-8", "replace"))
        elif number == 5 and isinstance(part, int):
            value = Printed(protobuf.signed(part))
        elif number == 6 and wire == protobuf.FIXED64 and isinstance(part, bytes):
            value = Printed(repr(protobuf.double(part)))
        elif number in (7, 8) and isinstance(part, bytes):
            value = parse(protobuf.text(part, MAX_RECORD)) if number == 8 else protobuf.text(part)
    return name or "/".join(nested), value


def inner(message: bytes, wanted: int) -> bytes:
    """The first field of that number; empty if there is none. Raises WireError."""
    for number, _, value in protobuf.fields(message):
        if number == wanted and isinstance(value, bytes):
            return value
    return b""


def history_step(message: bytes) -> Number:
    """HistoryRecord.step = 2 {num = 1}. Raises WireError."""
    for number, _, value in protobuf.fields(inner(message, 2)):
        if number == 1 and isinstance(value, int):
            return protobuf.signed(value)
    return None
