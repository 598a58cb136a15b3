"""Event files that TensorBoard opens: scalars alone, written without its packages.

A file is a row of records, each with its length and two checksums; a record is a protocol buffer of which five fields
are needed. Why by hand: docs/decisions/0005-event-files.md.
Source: tensorflow/core/lib/io/record_writer.cc; tensorflow/core/util/event.proto and framework/summary.proto.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

_VERSION = b"brain.Event:2"
_CASTAGNOLI = 0x82F63B78
"""The polynomial of CRC-32C, reflected. Source: RFC 3720, B.4."""
_MASK_DELTA = 0xA282EAD8


def write_events(
    path: Path, began_at: float, events: Iterable[tuple[float, int, Mapping[str, float]]]
) -> None:
    """Write events (when, step, value by tag) to a file, which replaces what is there only once it is whole.

    Raises: OSError.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            file.write(_record(_double(1, began_at) + _bytes(3, _VERSION)))
            for at, step, values in events:
                summary = b"".join(
                    _bytes(1, _bytes(1, tag.encode()) + _float(2, value)) for tag, value in values.items()
                )
                file.write(_record(_double(1, at) + _whole(2, step) + _bytes(5, summary)))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + _masked(length) + data + _masked(data)


def _masked(data: bytes) -> bytes:
    """The checksum as record files keep it: turned and moved, so that a checksum of checksums is none of them."""
    crc = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """CRC-32C, which zlib does not have."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _table_entry(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (_CASTAGNOLI if byte & 1 else 0)
    return byte


_TABLE = tuple(_table_entry(byte) for byte in range(256))


# --- protocol buffers: a key (field number, kind of value), then the value ----------------------------------------


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _whole(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)
