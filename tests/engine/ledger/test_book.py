"""The ledger on real SQLite files: what is entered comes back, what is damaged is named, nothing is overwritten."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from engine.errors import StoreError
from engine.ledger.book import FILE_NAME, LedgerBook, to_csv, to_json
from engine.records import LedgerEntry
from tests.engine.ledger.entries import ledger_entry


@pytest.fixture
def book(tmp_path: Path) -> LedgerBook:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return LedgerBook(folder, busy_ms=50)


def at_rest(book: LedgerBook) -> bytes:
    """The file's bytes, with nothing of it still in the write-ahead log (a reader may leave an empty one)."""
    log = book.path.with_name(f"{FILE_NAME}-wal")
    assert not log.exists() or log.stat().st_size == 0
    return book.path.read_bytes()


def test_no_ledger_has_no_entries_and_is_not_made_by_looking(book: LedgerBook) -> None:
    assert book.entries() == [] and book.history("x") == [] and book.verify() == 0
    assert list(book.path.parent.iterdir()) == []


def test_an_entry_comes_back_as_it_was(book: LedgerBook) -> None:
    known = ledger_entry()
    optional = [f.name for f in msgspec.structs.fields(LedgerEntry) if "None" in str(f.type)]
    unknown = ledger_entry(run_id="run-2", **dict.fromkeys(optional))
    assert book.record(known) and book.record(unknown)
    assert list(book.path.parent.iterdir()) == [book.path], "no half-made file is left"
    assert book.entries() == [known, unknown]
    assert book.path.stat().st_mode & 0o777 == 0o600


def test_a_run_that_goes_on_gets_another_entry(book: LedgerBook) -> None:
    stopped = ledger_entry(state="stopped", tokens=1000)
    other = ledger_entry(run_id="run-0", started_at=1.0)
    finished = ledger_entry(at=1_760_009_999.0, tokens=2000, machine_energy_j=72_000.0)
    for entry in (stopped, other, finished):
        assert book.record(entry)
    assert book.history("run-1") == [stopped, finished]
    assert book.entries() == [other, finished]
    assert book.verify() == 3


def test_an_equal_entry_is_entered_once(book: LedgerBook) -> None:
    assert book.record(ledger_entry())
    assert not book.record(ledger_entry())
    assert not book.record(ledger_entry(at=1_999_999_999.0)), "the same facts at another time are no news"
    assert not book.record(ledger_entry(cost=0.00170004)), "below a millionth the books cannot tell"
    assert book.record(ledger_entry(restarts=1))
    assert book.record(ledger_entry()), "back to what it was is news again"
    assert book.verify() == 3


def test_money_is_kept_as_whole_millionths(book: LedgerBook) -> None:
    book.record(ledger_entry(cost=0.1 + 0.2, price_per_kwh=0.17))
    with sqlite3.connect(book.path) as connection:
        stored = connection.execute(
            "SELECT cost_micro, price_micro, typeof(cost_micro) FROM entry"
        ).fetchone()
    connection.close()
    assert stored == (300_000, 170_000, "integer")
    assert book.entries()[0].cost == 0.3


def test_text_from_outside_and_figures_that_are_none_are_kept(book: LedgerBook) -> None:
    wild = ledger_entry(
        device="\x1b[31m|`\0\n<b>", corpus="f\udcff.txt", loss=float("nan"), val_loss=float("inf")
    )
    book.record(wild)
    found = book.entries()[0]
    assert found.device == wild.device
    assert found.corpus == "f?.txt"
    assert found.loss is None and found.val_loss is None
    with pytest.raises(StoreError, match="elapsed_s"):
        book.record(ledger_entry(elapsed_s=float("nan")))


# --- damage


def damage(book: LedgerBook, old: bytes, new: bytes) -> None:
    content = at_rest(book)
    assert content.count(old) == 1
    book.path.write_bytes(content.replace(old, new))


def test_a_flipped_byte_is_found_and_its_entry_named(book: LedgerBook) -> None:
    for number in range(1, 6):
        book.record(ledger_entry(run_id=f"run-{number}", device=f"device-{number}"))
    damage(book, b"device-3", b"devicf-3")
    before = at_rest(book)
    for read in (book.verify, book.entries, lambda: book.history("run-1")):
        with pytest.raises(StoreError) as caught:
            read()
        assert "entry 3" in caught.value.title and "run-3" in caught.value.title
        assert caught.value.remedy
    assert at_rest(book) == before


def test_every_byte_of_an_entry_is_guarded(book: LedgerBook) -> None:
    for number in (1, 2, 3):
        book.record(ledger_entry(run_id=f"run-{number}"))
    content = at_rest(book)
    at = content.index(b"run-2") + 5  # past the name, in the columns behind it
    for offset in range(at, at + 700, 7):
        flipped = bytearray(content)
        flipped[offset] ^= 0x10
        book.path.write_bytes(flipped)
        with pytest.raises(StoreError) as caught:
            book.verify()
        assert "entry " in caught.value.title and caught.value.remedy, offset
    book.path.write_bytes(content)
    assert book.verify() == 3


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE entry SET cost_micro = 1 WHERE sequence = 2", "entry 2"),
        ("UPDATE entry SET cost_micro = NULL WHERE sequence = 1", "entry 1"),
        ("UPDATE entry SET machine_energy_j = machine_energy_j + 1 WHERE sequence = 3", "entry 3"),
        ("DELETE FROM entry WHERE sequence = 2", "entry 2 is missing"),
        ("DELETE FROM entry WHERE sequence = 1", "entry 1 is missing"),
        ("UPDATE entry SET facts = '{' WHERE sequence = 2", "entry 2"),
        ("UPDATE entry SET previous_sha256 = sha256 WHERE sequence = 2", "entry 2"),
    ],
)
def test_tampering_is_named(book: LedgerBook, statement: str, named: str) -> None:
    for number in (1, 2, 3):
        book.record(ledger_entry(run_id=f"run-{number}"))
    connection = sqlite3.connect(book.path, isolation_level=None)
    connection.execute(statement)
    connection.close()
    with pytest.raises(StoreError, match=named):
        book.verify()


def test_an_old_damage_does_not_keep_a_new_entry_out(book: LedgerBook) -> None:
    for number in (1, 2):
        book.record(ledger_entry(run_id=f"run-{number}", device=f"device-{number}"))
    damage(book, b"device-1", b"devicf-1")
    assert book.record(ledger_entry(run_id="run-3"))
    with pytest.raises(StoreError, match="entry 1 "):
        book.verify()
    damage(book, b"devicf-1", b"device-1")
    assert book.verify() == 3


@pytest.mark.parametrize(
    "content", [b"", b"not a database at all, " * 200, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_what_is_no_ledger_is_refused_and_left_alone(book: LedgerBook, content: bytes) -> None:
    book.path.write_bytes(content)
    for act in (book.entries, book.verify, lambda: book.record(ledger_entry())):
        with pytest.raises(StoreError) as caught:
            act()
        assert str(book.path) in caught.value.title and caught.value.remedy
    assert book.path.read_bytes() == content
    told = book.begin_anew()
    assert told and "ledger.db.aside-1" in told and "entries 0 could" in told and "are lost" in told
    assert book.path.with_name("ledger.db.aside-1").read_bytes() == content
    assert book.begin_anew() is None, "what is sound stays"
    assert book.record(ledger_entry()) and book.verify() == 1


def test_a_torn_ledger_is_refused(book: LedgerBook) -> None:
    for number in range(40):
        book.record(ledger_entry(run_id=f"run-{number}"))
    content = at_rest(book)
    book.path.write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreError):
        book.verify()
    assert book.path.read_bytes() == content[: len(content) // 2]


def test_a_ledger_begun_anew_has_every_entry_that_can_be_read(book: LedgerBook) -> None:
    for number in range(60):
        book.record(ledger_entry(run_id=f"run-{number}", samples="x" * 900))
    content = bytearray(at_rest(book))
    half = len(content) // 2 // 4096 * 4096
    content[half : half + 4096] = bytes(4096)
    book.path.write_bytes(content)
    told = book.begin_anew()
    assert told and "The others are lost" in told
    assert book.path.with_name("ledger.db.aside-1").read_bytes() == content
    kept = [entry.run_id for entry in book.entries()]
    assert 40 <= len(kept) < 60 and {"run-0", "run-59"} < set(kept)
    assert book.verify() == len(kept), "chained anew"
    assert not list(book.path.parent.glob(".*")), "no half-made file is left"
    assert book.path.stat().st_mode & 0o777 == 0o600


def test_a_ledger_that_may_be_well_again_is_not_moved(book: LedgerBook) -> None:
    book.record(ledger_entry())
    with closing(sqlite3.connect(book.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="cannot be"):
            book.record(ledger_entry(run_id="run-2"))
        other.execute("ROLLBACK")
    assert book.begin_anew() is None and book.verify() == 1


def test_a_ledger_that_is_gone_while_its_log_is_there_is_not_begun_anew(book: LedgerBook) -> None:
    log = book.path.with_name(f"{FILE_NAME}-wal")
    log.write_bytes(b"entries")
    for act in (book.entries, lambda: book.record(ledger_entry())):
        with pytest.raises(StoreError, match="is gone"):
            act()
    assert log.read_bytes() == b"entries" and not book.path.exists()
    assert book.begin_anew() and book.record(ledger_entry()) and book.verify() == 1
    assert log.with_name("ledger.db.aside-1-wal").read_bytes() == b"entries"


def test_a_locked_ledger_says_so_and_takes_the_entry_later(book: LedgerBook) -> None:
    book.record(ledger_entry())
    other = sqlite3.connect(book.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError) as caught:
        book.record(ledger_entry(run_id="run-2"))
    assert "cannot be written" in caught.value.title and "llm-tui report" in caught.value.remedy
    assert len(book.entries()) == 1, "reading goes on"
    other.execute("ROLLBACK")
    other.close()
    assert book.record(ledger_entry(run_id="run-2"))
    assert book.verify() == 2


def test_many_writers_make_one_chain(book: LedgerBook) -> None:
    writers = [
        threading.Thread(target=LedgerBook(book.path.parent).record, args=(ledger_entry(run_id=f"run-{n}"),))
        for n in range(12)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert book.verify() == 12


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder below /tmp that any user can get to, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def as_nobody(act: object) -> str:
    """What a call says in a process without root's rights."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            said = repr(act())  # type: ignore[operator]
        except StoreError as error:
            said = f"StoreError {error}"
        except BaseException as error:  # noqa: BLE001 - the child may only ever leave by os._exit
            said = repr(error)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def test_a_read_only_ledger_is_refused_with_a_remedy(open_folder: Path) -> None:
    book = LedgerBook(open_folder, busy_ms=50)
    book.record(ledger_entry())
    before = at_rest(book)
    book.path.chmod(0o444)
    open_folder.chmod(0o555)
    said = as_nobody(lambda: book.record(ledger_entry(run_id="run-2")))
    assert said.startswith("StoreError") and "\n" in said
    empty = open_folder / "empty"
    open_folder.chmod(0o755)
    empty.mkdir(mode=0o555)
    said = as_nobody(lambda: LedgerBook(empty).record(ledger_entry()))
    assert said.startswith("StoreError") and "writable" in said
    assert at_rest(book) == before and book.verify() == 1


# --- export


def test_json_has_every_field() -> None:
    entries = [ledger_entry(), ledger_entry(run_id="run-2", cost=None)]
    decoded = json.loads(to_json(entries))
    assert [list(item) for item in decoded] == [list(LedgerEntry.__struct_fields__)] * 2
    assert decoded[1]["cost"] is None
    assert msgspec.convert(decoded, list[LedgerEntry]) == entries


def test_csv_has_every_field_and_no_formula() -> None:
    entries = [
        ledger_entry(device='=HYPERLINK("http://x")', corpus="a,b\nc\x1b[31m"),
        ledger_entry(cost=None, cpu_celsius_max=-3.5),
    ]
    rows = list(csv.DictReader(io.StringIO(to_csv(entries))))
    assert list(rows[0]) == list(LedgerEntry.__struct_fields__)
    assert rows[0]["device"].startswith("'=")
    assert rows[0]["corpus"] == "a,b\ufffdc\ufffd[31m"
    assert rows[1]["cost"] == "" and rows[1]["cpu_celsius_max"] == "-3.5"
