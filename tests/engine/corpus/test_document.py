from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.corpus import document
from engine.corpus.document import DocumentReader, section_chars
from engine.corpus.source import list_files
from engine.errors import CorpusError
from tests.engine.corpus.conftest import corpus_settings, prose

Read = Callable[..., tuple[list[str], DocumentReader]]


@pytest.fixture
def read(workspace: Path) -> Read:
    def run(
        name: str, data: bytes, *, section: int = 1000, text_field: str = "text"
    ) -> tuple[list[str], DocumentReader]:
        (workspace / name).write_bytes(data)
        (file,) = list_files(corpus_settings(name), workspace).files
        reader = DocumentReader(text_field, section)
        seen: list[int] = []
        documents = list(reader.read(file, seen.append))
        assert sum(seen) == len(data)
        assert reader.tally.num_documents == len(documents)
        return documents, reader

    return run


def test_a_short_text_is_one_document_with_every_byte_of_it(read: Read) -> None:
    text = "a\r\n\r\nb\n\n\n c\ttab \u2028 ü\0"
    documents, _ = read("a.txt", text.encode())
    assert documents == [text]


def test_a_byte_order_mark_is_no_text(read: Read) -> None:
    assert read("a.txt", b"\xef\xbb\xbfhello")[0] == ["hello"]
    assert read("a.jsonl", b'\xef\xbb\xbf{"text": "hello"}')[0] == ["hello"]


def test_a_long_text_is_cut_at_blank_lines_and_nothing_is_lost(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = prose(100_000)
    documents, _ = read("a.txt", text.encode(), section=3000)
    assert "".join(documents) == text
    assert len(documents) > 20
    assert all(len(part) <= 6000 for part in documents)
    assert all(part.endswith("\n\n") for part in documents[:-1])
    # The cuts depend on the text alone, not on how it came in.
    monkeypatch.setattr(document, "CHUNK_BYTES", 777)
    assert read("a.txt", text.encode(), section=3000)[0] == documents


@pytest.mark.parametrize(
    "text", ["x" * 9999, "word " * 2000, "\n" * 9999, " " * 9999, "😀" * 5000, "a\n b\n" * 2000]
)
def test_text_without_paragraphs_is_cut_all_the_same(read: Read, text: str) -> None:
    documents, _ = read("a.txt", text.encode())
    assert "".join(documents) == text
    assert all(0 < len(part) <= 2000 for part in documents)


def test_invalid_utf8_is_replaced_and_counted_across_chunks(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ("ü\ufffd東".encode() * 30 + b"\xff" + "é".encode()) * 20 + b"\xe6\x9d"
    whole = data.decode("utf-8", "replace")
    for chunk_bytes in (1, 2, 7, 1 << 20):
        monkeypatch.setattr(document, "CHUNK_BYTES", chunk_bytes)
        documents, reader = read("a.txt", data)
        assert "".join(documents) == whole
        assert reader.tally.num_invalid_sequences == 21


def test_a_file_that_is_mostly_odd_is_refused_when_read(read: Read) -> None:
    with pytest.raises(CorpusError, match="not text"):
        read("a.txt", b"good text" + b"\xff" * 100)


def test_jsonl_lines_are_documents_and_bad_ones_are_counted(read: Read) -> None:
    good = ['one "quoted"\n', "zwölf 😀", "x\0y"]
    lines = [json.dumps({"id": 1, "text": text}).encode() for text in good]
    bad = [
        b"{",
        b"[1]",
        b'"text"',
        b'{"text": 4}',
        b'{"text": null}',
        b'{"other": "x"}',
        b'{"text":"\\ud800"}',
        b"{}x",
    ]
    bad.append(b'{"z": ' + b"[" * 100_000)
    data = b"\n".join([*lines, b"", b"  ", *bad, b'{"text": ""}', b'{"text": "last \xff"}'])
    documents, reader = read("a.jsonl", data)
    assert documents == [*good, "last \ufffd"]
    assert reader.tally.num_bad_lines == len(bad)
    assert reader.tally.num_invalid_sequences == 1


def test_any_name_of_the_text_field(read: Read) -> None:
    assert read("a.jsonl", b'{"my text!": "hello"}\n', text_field="my text!")[0] == ["hello"]


def test_jsonl_of_bad_lines_alone_is_refused(read: Read) -> None:
    with pytest.raises(CorpusError, match="no line that is a JSON object"):
        read("a.jsonl", b"{}\n" * 10)


def test_a_line_too_long_is_skipped_and_the_next_is_read(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MAX_LINE_BYTES", 100)
    fits = json.dumps({"text": "x" * 80}).encode()
    data = b'{"text": "' + b"y" * 1000 + b'"}\n' + fits + b"\n" + b'{"text": "' + b"z" * 500
    documents, reader = read("a.jsonl", data)
    assert documents == ["x" * 80]
    assert reader.tally.num_bad_lines == 2


def test_sections_suit_the_size_of_the_corpus() -> None:
    assert section_chars(10_000) == 1 << 10
    assert section_chars(1_000_000) == 10_000
    assert section_chars(10**12) == 1 << 18
