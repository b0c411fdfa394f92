"""TFRecord framing: length, its checksum, data, their checksum, one after the other.

Format (TensorFlow, `core/lib/io/record_writer.h`): uint64 length, uint32 masked CRC-32C of the length, the data,
uint32 masked CRC-32C of the data, little endian; mask(c) = ((c >> 15 | c << 17) + 0xa282ead8) mod 2^32.
CRC-32C is the Castagnoli polynomial, reflected 0x82F63B78 (RFC 3720, appendix B.4).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, Final

MAX_RECORD: Final = 1 << 20
"""Larger records (graphs, images) are passed over: none holds a scalar alone."""
MAX_LENGTH: Final = 1 << 34
_WINDOW: Final = 1 << 16
"""Bytes in which the next record is looked for after a damaged length."""


def _table() -> list[int]:
    found = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        found.append(crc)
    return found


_CRC: Final = _table()


def masked_crc(data: bytes) -> int:
    """The masked CRC-32C of `data`."""
    crc, table = 0xFFFFFFFF, _CRC
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _length(header: bytes) -> int | None:
    """The length in the 12 bytes of a header; None if its checksum is wrong."""
    length, check = struct.unpack("<QI", header)
    return int(length) if length <= MAX_LENGTH and masked_crc(header[:8]) == check else None


def records(stream: BinaryIO) -> Iterator[bytes | None]:
    """The data of each record, None for one that is damaged or torn; large records are passed over. Raises OSError."""
    while True:
        header = stream.read(12)
        if not header:
            return
        length = _length(header) if len(header) == 12 else None
        if length is None:
            yield None
            if len(header) < 12 or not _resume(stream, header):
                return
            continue
        if length > MAX_RECORD:
            stream.seek(length, 1)
            if len(stream.read(4)) < 4:
                yield None
                return
            continue
        data, check = stream.read(length), stream.read(4)
        if len(data) < length or len(check) < 4:
            yield None
            return
        yield data if masked_crc(data) == int.from_bytes(check, "little") else None


def _resume(stream: BinaryIO, header: bytes) -> bool:
    """Go to the next place where a length has the right checksum; False if there is none near."""
    here = stream.tell()
    window = header[1:] + stream.read(_WINDOW)
    for at in range(len(window) - 11):
        # Lengths of records that matter are below 2^20, so bytes 3 to 7 are zero; that spares most checksums.
        if window[at + 3 : at + 8] == b"\0\0\0\0\0" and _length(window[at : at + 12]) is not None:
            stream.seek(here - 11 + at)
            return True
    return False
