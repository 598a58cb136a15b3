"""The documents of a corpus, one after the other, in memory that does not grow with the size of a file.

A .txt, .md or .py file is a document and so is a line of .jsonl or a row of .parquet. A text that is longer than two
sections is cut into sections, at blank lines where it has them, each a document of its own: so a single big file still
yields a validation split, and no text is ever held whole.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import msgspec

from engine.corpus.packed import open_unpacked, parquet_text_bytes, parquet_texts, unpacking
from engine.corpus.source import SourceFile, open_unchanged
from engine.errors import CorpusError

CHUNK_BYTES = 1 << 20
MAX_LINE_BYTES = 16 << 20
"""A longer line of .jsonl is counted as bad: JSON can only be read whole."""
MIN_SECTION_CHARS = 1 << 10
MAX_SECTION_CHARS = 1 << 18
_SECTIONS_PER_CORPUS = 100
_MAX_ODD_FRAC = 0.1
_PEEK_BYTES = 1 << 16
_PEEK_JSONL_BYTES = 1 << 20
_BYTE_ORDER_MARK = codecs.BOM_UTF8

_BLANK_LINE = re.compile(r"\n[ \t\r]*\n(?=\S)")
_LINE_START = re.compile(r"\n(?=\S)")


class Tally(msgspec.Struct):
    """What was met while reading."""

    num_documents: int = 0
    num_invalid_sequences: int = 0
    """Places that were not UTF-8, each replaced by U+FFFD."""
    num_bad_lines: int = 0


class DocumentReader:
    """Reads the files of one corpus; `read` may be called again for the same documents."""

    def __init__(self, text_field: str, section_chars: int) -> None:
        self.tally = Tally()
        self._text_field = text_field
        self._section_chars = section_chars
        self._decoders: dict[str, msgspec.json.Decoder[Any]] = {}

    def read(self, file: SourceFile, on_bytes: Callable[[int], None]) -> Iterator[str]:
        """The documents of a file; none is empty. `on_bytes` is told of every stretch that was read.

        Raises: CorpusError where the file has changed, cannot be read, is binary, or has no good line.
        """
        with open_unchanged(file) as stream:
            if file.kind.startswith("jsonl") or file.kind == "parquet":
                rows = self._rows if file.kind == "parquet" else self._lines
                for text in rows(file, stream, on_bytes):
                    yield from self._counted(_sections(iter((text,)), self._section_chars))
            elif file.kind == "python":
                yield from self._counted(_sections(_python_text(stream, on_bytes), self._section_chars))
            else:
                chunks = self._chunks(file, stream, on_bytes)
                yield from self._counted(_sections(chunks, self._section_chars))

    def _counted(self, documents: Iterable[str]) -> Iterator[str]:
        for document in documents:
            self.tally.num_documents += 1
            yield document

    def _chunks(self, file: SourceFile, stream: BinaryIO, on_bytes: Callable[[int], None]) -> Iterator[str]:
        """A text file in decoded stretches; a byte-order mark at its start is dropped."""
        carried = b""
        num_chars = num_odd = 0
        is_first = True
        while True:
            chunk = stream.read(CHUNK_BYTES)
            data = carried + chunk
            if is_first:
                data, is_first = data.removeprefix(_BYTE_ORDER_MARK), False
            text, num_consumed, num_invalid = _decode(data, is_last=not chunk)
            carried = data[num_consumed:]
            self.tally.num_invalid_sequences += num_invalid
            num_odd += num_invalid + text.count("\0")
            num_chars += len(text)
            if text:
                yield text
            if not chunk:
                break
            on_bytes(len(chunk))
        if num_odd > _MAX_ODD_FRAC * num_chars:
            raise binary_error(file, f"{num_odd / num_chars:.0%} of it is not text in UTF-8")

    def _lines(self, file: SourceFile, stream: BinaryIO, on_bytes: Callable[[int], None]) -> Iterator[str]:
        num_good = num_bad = 0
        decoder = self._decoder_of(file)
        with unpacking(file):
            unpacked = open_unpacked(file, stream)
            packed = None if unpacked is stream else _Packed(stream, on_bytes)
            for line in _bounded_lines(unpacked, packed.told if packed else on_bytes):
                text = None if line is None else self._text_of(line, decoder)
                if text is None:
                    num_bad += 1
                    self.tally.num_bad_lines += 1
                else:
                    num_good += 1
                    if text:
                        yield text
            if packed:
                packed.told(0)
        if num_bad and not num_good:
            raise no_good_line_error(file, self._field_of(file))

    def _rows(self, file: SourceFile, stream: BinaryIO, on_bytes: Callable[[int], None]) -> Iterator[str]:
        for data in parquet_texts(file, stream, self._field_of(file), on_bytes):
            if data is None:
                self.tally.num_bad_lines += 1
                continue
            text, _, num_invalid = _decode(data, is_last=True)
            self.tally.num_invalid_sequences += num_invalid
            if text:
                yield text

    def _field_of(self, file: SourceFile) -> str:
        return file.text_field or self._text_field

    def _decoder_of(self, file: SourceFile) -> msgspec.json.Decoder[Any]:
        """The name of the field is the person's: a record made for it decodes that field and skips the others."""
        name = self._field_of(file)
        if name not in self._decoders:
            line: Any = msgspec.defstruct("Line", [("text", str)], rename={"text": name})
            self._decoders[name] = msgspec.json.Decoder(line)
        return self._decoders[name]

    def _text_of(self, line: bytes, decoder: msgspec.json.Decoder[Any]) -> str | None:
        """The text of a line of .jsonl, None where it is a bad one."""
        try:
            try:
                text: str = decoder.decode(line).text
            except UnicodeDecodeError:
                replaced, _, num_invalid = _decode(line, is_last=True)
                text = decoder.decode(replaced).text
                self.tally.num_invalid_sequences += num_invalid
        except (msgspec.MsgspecError, RecursionError):
            return None
        return text

    def peek(self, file: SourceFile) -> int:
        """Look at a few stretches of a file for what would keep it from being read; about how much it holds unpacked.

        Raises: CorpusError where it is binary, or where none of its first lines is good.
        """
        if file.kind == "python":
            return file.size_bytes
        with open_unchanged(file) as stream:
            if file.kind == "parquet":
                return parquet_text_bytes(file, stream, self._field_of(file))
            if file.kind in ("text", "jsonl"):
                for start in sorted({0, file.size_bytes // 2, max(0, file.size_bytes - _PEEK_BYTES)}):
                    stream.seek(start)
                    _require_text(file, stream.read(_PEEK_BYTES), is_start=start == 0)
                stream.seek(0)
            if file.kind == "text":
                return file.size_bytes
            with unpacking(file):
                head = open_unpacked(file, stream).read(_PEEK_JSONL_BYTES)
            self._require_good_line(file, head)
            return len(head) * file.size_bytes // max(1, min(stream.tell(), file.size_bytes))

    def _require_good_line(self, file: SourceFile, head: bytes) -> None:
        decoder = self._decoder_of(file)
        lines = head.removeprefix(_BYTE_ORDER_MARK).split(b"\n")
        if len(head) == _PEEK_JSONL_BYTES:
            lines = lines[:-1]
        lines = [line for line in lines if line.strip()]
        if lines and all(self._text_of(line, decoder) is None for line in lines):
            raise no_good_line_error(file, self._field_of(file), _fields(lines[0]))


class _Packed:
    """Tells how much of a packed file was read, whenever something of what it unpacks to was."""

    def __init__(self, stream: BinaryIO, on_bytes: Callable[[int], None]) -> None:
        self._stream = stream
        self._on_bytes = on_bytes
        self._told_bytes = 0

    def told(self, _: int) -> None:
        """Unpacked bytes were read: tell the packed ones."""
        position = self._stream.tell()
        self._on_bytes(position - self._told_bytes)
        self._told_bytes = position


def section_chars(total_bytes: int) -> int:
    """How long a section is in a corpus of this size: a hundredth of it, within bounds."""
    return max(MIN_SECTION_CHARS, min(MAX_SECTION_CHARS, total_bytes // _SECTIONS_PER_CORPUS))


def find_cut(text: str, low: int, high: int) -> int:
    """Where to cut a text between two positions: after a blank line, else before a line, else a word, else `high`.

    Before a line that begins without a blank the tokenizer cuts anyway, so that such a cut changes no token.
    """
    for pattern in (_BLANK_LINE, _LINE_START):
        found = pattern.search(text, low, high)
        if found:
            return found.end()
    for mark, offset in (("\n", 1), (" ", 0)):
        position = text.rfind(mark, low + 1, high)
        if position > 0:
            return position + offset
    return high


def _sections(chunks: Iterator[str], target: int) -> Iterator[str]:
    rest = ""
    for chunk in chunks:
        text = rest + chunk
        start = 0
        while len(text) - start > 2 * target:
            cut = find_cut(text, start + target, start + 2 * target)
            yield text[start:cut]
            start = cut
        rest = text[start:]
    if rest:
        yield rest


def _python_text(stream: BinaryIO, on_bytes: Callable[[int], None]) -> Iterator[str]:
    """A file of the standard library; nothing where it is not UTF-8, as a few tests are on purpose."""
    data = stream.read()
    on_bytes(len(data))
    try:
        text = data.removeprefix(_BYTE_ORDER_MARK).decode("utf-8")
    except UnicodeDecodeError:
        return
    if "\0" not in text:
        yield text


def _decode(data: bytes, *, is_last: bool) -> tuple[str, int, int]:
    """Text, bytes consumed (a character that is cut off at the end waits) and places that were not UTF-8."""
    try:
        text, num_consumed = codecs.utf_8_decode(data, "strict", is_last)
    except UnicodeDecodeError:
        text, num_consumed = codecs.utf_8_decode(data, "replace", is_last)
        genuine = data.count("\ufffd".encode(), 0, num_consumed)
        return text, num_consumed, text.count("\ufffd") - genuine
    return text, num_consumed, 0


def _bounded_lines(stream: BinaryIO, on_bytes: Callable[[int], None]) -> Iterator[bytes | None]:
    """The lines of a file that are not blank; None for one that is too long."""
    is_first = True
    while line := stream.readline(MAX_LINE_BYTES + 1):
        on_bytes(len(line))
        is_too_long = len(line) > MAX_LINE_BYTES
        while is_too_long and not line.endswith(b"\n"):
            line = stream.readline(MAX_LINE_BYTES)
            on_bytes(len(line))
            if not line:
                break
        if is_first:
            line, is_first = line.removeprefix(_BYTE_ORDER_MARK), False
        if is_too_long:
            yield None
        elif line.strip():
            yield line


def _require_text(file: SourceFile, sample: bytes, *, is_start: bool) -> None:
    if is_start and sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise binary_error(file, "it is UTF-16")
    if b"\0" in sample:
        raise binary_error(file, "it holds NUL bytes")
    # A sample from the middle may begin and end inside a character.
    text, _, num_invalid = _decode(sample.lstrip(bytes(range(0x80, 0xC0))), is_last=False)
    if num_invalid > _MAX_ODD_FRAC * len(text):
        raise binary_error(file, f"{num_invalid / max(1, len(text)):.0%} of it is not UTF-8")


def binary_error(file: SourceFile, reason: str) -> CorpusError:
    """The error for a file that is no text."""
    return CorpusError(
        f"{file.shown_path} is not text: {reason}.",
        "Convert it to UTF-8 (iconv -f NAME -t UTF-8), or leave it out of corpus.source.",
    )


def no_good_line_error(file: SourceFile, text_field: str, fields: tuple[str, ...] = ()) -> CorpusError:
    """The error for a .jsonl without a usable line; `fields` are those of text that it does have."""
    names = ", ".join(repr(name) for name in fields)
    return CorpusError(
        f"{file.shown_path} has no line that is a JSON object with text in {text_field!r}.",
        f"Its lines have text in {names}: set corpus.text_field."
        if names
        else "Each line must be an object such as {" + f'"{text_field}": "…"' + "}.",
    )


def _fields(line: bytes) -> tuple[str, ...]:
    try:
        found = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ()
    return (
        tuple(name for name, value in found.items() if isinstance(value, str))
        if isinstance(found, dict)
        else ()
    )
