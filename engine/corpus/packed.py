"""Packed files of a corpus: .jsonl.gz and .jsonl.zst as streams of bytes, .parquet as texts. Nothing is unpacked whole.

zstandard and pyarrow are of the extra `[data]`, and imported when a file asks for them.
"""

from __future__ import annotations

import gzip
import importlib
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from engine.corpus.source import SourceFile
from engine.errors import CorpusError

_ZST_INPUT_BYTES = 1 << 14
"""Little at a time: what it unpacks to is held at once, and may be a thousand times as much."""
_BUFFER_BYTES = 1 << 20
_PARQUET_ROWS = 256


def open_unpacked(file: SourceFile, stream: BinaryIO) -> BinaryIO:
    """The bytes of a .jsonl file, unpacked where it is packed; `stream` is the file as it lies on the disk.

    Raises: CorpusError where the package that unpacks it is not installed.
    """
    if file.kind == "jsonl.gz":
        return cast(BinaryIO, io.BufferedReader(gzip.GzipFile(fileobj=stream), _BUFFER_BYTES))
    if file.kind == "jsonl.zst":
        zstandard = _needed("zstandard", file)
        return cast(BinaryIO, io.BufferedReader(_ZstReader(stream, zstandard), _BUFFER_BYTES))
    return stream


@contextmanager
def unpacking(file: SourceFile) -> Iterator[None]:
    """Turn what unpackers raise of a damaged file into a CorpusError that names it."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error, _DamagedError) as error:
        raise CorpusError(
            f"{file.shown_path} is damaged or cut off: {str(error).rstrip('.')}.",
            "Fetch it again, or leave it out of corpus.source.",
        ) from error


class _DamagedError(Exception):
    """A packed file that cannot be read to its end."""


class _ZstReader(io.RawIOBase):
    """The frames of a .zst file, one after the other, and a file that is cut off told as such.

    zstandard's own stream reader takes a file that ends within a frame for one that is whole.
    """

    def __init__(self, stream: BinaryIO, zstandard: Any) -> None:
        self._stream = stream
        # As `zstd --long=31` writes: the memory is taken only for a file that was packed so.
        self._unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 31)
        self._error = zstandard.ZstdError
        self._frame = self._unpacker.decompressobj()
        self._is_within = False
        self._packed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as there is something ready; 0 at the end."""
        while not self._ready:
            self._packed = self._packed or self._stream.read(_ZST_INPUT_BYTES)
            if not self._packed:
                if self._is_within:
                    raise _DamagedError("it ends within a frame")
                return 0
            self._unpack()
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _unpack(self) -> None:
        try:
            self._ready = memoryview(self._frame.decompress(self._packed))
        except self._error as error:
            raise _DamagedError(str(error)) from error
        self._packed, self._is_within = b"", True
        if self._frame.eof:
            self._packed, self._is_within = self._frame.unused_data, False
            self._frame = self._unpacker.decompressobj()


def parquet_texts(
    file: SourceFile, stream: BinaryIO, column: str, on_bytes: Callable[[int], None]
) -> Iterator[bytes | None]:
    """The texts of a column, as bytes that should be UTF-8; None for a row that has none.

    Raises: CorpusError where pyarrow is not installed, the file is damaged, or has no such column of text.
    """
    opened = _opened_parquet(file, stream, column)
    binary = _needed("pyarrow", file).large_binary()
    num_rows, num_done, told_bytes = opened.metadata.num_rows, 0, 0
    with _parquet_errors(file):
        for batch in opened.iter_batches(batch_size=_PARQUET_ROWS, columns=[column], use_threads=False):
            yield from batch.column(0).cast(binary).to_pylist()
            num_done += batch.num_rows
            done_bytes = file.size_bytes * num_done // num_rows
            on_bytes(done_bytes - told_bytes)
            told_bytes = done_bytes
    on_bytes(file.size_bytes - told_bytes)


def parquet_text_bytes(file: SourceFile, stream: BinaryIO, column: str) -> int:
    """About how many bytes of text a column holds, by the file's own statistics. Raises: as `parquet_texts`."""
    metadata = _opened_parquet(file, stream, column).metadata
    total_bytes = 0
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for index in range(row_group.num_columns):
            chunk = row_group.column(index)
            if chunk.path_in_schema == column:
                total_bytes += chunk.total_uncompressed_size
    return total_bytes


def _opened_parquet(file: SourceFile, stream: BinaryIO, column: str) -> Any:
    arrow = _needed("pyarrow", file)
    parquet = _needed("pyarrow.parquet", file)
    with _parquet_errors(file):
        opened = parquet.ParquetFile(stream, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        schema = opened.schema_arrow
    found = schema.field(column).type if column in schema.names else None
    if found is None or not _is_text(arrow.types, found):
        names = ", ".join(repr(field.name) for field in schema if _is_text(arrow.types, field.type))
        raise CorpusError(
            f"{file.shown_path} has no column {column!r} of text.",
            f"Its columns of text are {names}: set corpus.text_field." if names else "Name another file.",
        )
    return opened


def _is_text(types: Any, kind: Any) -> bool:
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


@contextmanager
def _parquet_errors(file: SourceFile) -> Iterator[None]:
    """pyarrow's errors as a CorpusError; those of the system pass."""
    error_type = _needed("pyarrow", file).ArrowException
    try:
        yield
    except error_type as error:
        raise CorpusError(
            f"{file.shown_path} cannot be read as .parquet: {str(error).splitlines()[0].rstrip('.')}.",
            "Fetch it again, or leave it out of corpus.source.",
        ) from error


def _needed(module: str, file: SourceFile) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise CorpusError(
            f"{file.shown_path} needs the package {package}, which is not installed.",
            f'Install llm-tui with its extra "data", or run: {sys.executable} -m pip install {package}',
        ) from error
