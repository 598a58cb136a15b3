"""The log of a run: its events and the output of its processes as one story, of which a window is held.

The output may be large: it is read in blocks from wherever one looks, never whole, save to search it.
"""

from __future__ import annotations

import bisect
import contextlib
import re
import threading
from pathlib import Path

from engine.records import EventRow, LogMarkRow
from engine.runs.folder import RunFolder
from engine.story import AFTER, BEFORE, OUTPUT, LogLine, LogView

BLOCK_BYTES = 256 * 1024
"""Read at a time."""
WINDOW_BYTES = 4 * BLOCK_BYTES
"""Of the output, held at most."""
LINE_BYTES = 4096
"""A longer line is shown as several."""
SEARCH_BYTES = 1024 * 1024


class _Window:
    """A stretch of the output file, in whole lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.begins = 0
        self.ends = 0
        self.size = 0
        self.lines: list[tuple[int, int, str]] = []
        """Where each begins and ends, and its text."""

    @property
    def reached(self) -> int:
        """The byte behind the last line, be that one whole or not."""
        return self.lines[-1][1] if self.lines else self.ends

    def look(self) -> bool:
        """Follow the end of the file, where the window stands there; whether something changed."""
        was_at_end, old = self.reached >= self.size, self.size
        self.size = self._path.stat().st_size if self._path.exists() else 0
        if self.size == old:
            return False
        if self.size < self.ends or (was_at_end and self.size - self.ends > WINDOW_BYTES):
            self.go_to(self.size)
        elif was_at_end:
            self._grow(self.size)
        return True

    def go_to(self, offset: int) -> None:
        """Begin anew around an offset; at the end of the file: before it."""
        self.lines = []
        begins = max(0, min(offset, self.size) - (BLOCK_BYTES if offset >= self.size else BLOCK_BYTES // 4))
        self.begins = self.ends = self.line_after(begins) if begins else 0
        self._grow(min(self.size, self.begins + BLOCK_BYTES))

    def earlier(self) -> None:
        """Take in a block before the window, and let go of one behind it where it becomes too long."""
        begins = max(0, self.begins - BLOCK_BYTES)
        begins = self.line_after(begins) if begins else 0
        if begins >= self.begins:  # one line without an end
            begins = max(0, self.begins - BLOCK_BYTES)
        self.lines = self._read(begins, self.begins) + self.lines
        self.begins = begins
        while self.lines and self.ends - self.begins > WINDOW_BYTES:
            self.ends = self.lines.pop()[0]

    def later(self) -> None:
        """The other way round."""
        self._grow(min(self.size, self.ends + BLOCK_BYTES))

    def _grow(self, ends: int) -> None:
        """Read on to about `ends`; a last line that is not whole is read again next time."""
        while self.lines and self.lines[-1][0] >= self.ends:
            self.lines.pop()
        found = self._read(self.ends, ends)
        self.lines += found
        if found and ends < self.size:
            # The block was cut through a line, unless that line fills it.
            cut = self.lines.pop() if len(found) > 1 else None
            self.ends = cut[0] if cut else ends
        elif found:
            self.ends = found[-1][1] if found[-1][2].endswith("\n") else found[-1][0]
        drop = 0
        while self.ends - self.begins > WINDOW_BYTES and drop < len(self.lines) - 1:
            drop += 1
            self.begins = self.lines[drop][0]
        del self.lines[:drop]

    def _read(self, begins: int, ends: int) -> list[tuple[int, int, str]]:
        with self._path.open("rb") as file:
            file.seek(begins)
            data = file.read(ends - begins)
        found, at = [], begins
        for line in re.findall(rb"[^\n]*\n|[^\n]+$", data):
            for start in range(0, len(line), LINE_BYTES):
                part = line[start : start + LINE_BYTES]
                found.append((at, at + len(part), part.decode("utf-8", "replace")))
                at += len(part)
        return found

    @property
    def written_at(self) -> float:
        """When the file was last written to."""
        return self._path.stat().st_mtime

    def line_after(self, offset: int) -> int:
        """Where the next line begins, at most a block away."""
        with self._path.open("rb") as file:
            file.seek(offset)
            found = file.read(BLOCK_BYTES).find(b"\n")
        return offset + found + 1 if found >= 0 else offset


class LogReader:
    """One viewer's look at a run's log; every call reads from the disk, and belongs into a thread.

    Calls from several threads wait for each other, for a call that nobody waits for any more goes on in its thread;
    only a search, which may take long and leaves the window alone, keeps nobody waiting.

    Raises: StoreError where run.db cannot be read; OSError where the log cannot.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._window = _Window(folder.log_path)
        self._events: list[tuple[int, EventRow]] = []
        self._marks: list[LogMarkRow] = []
        self._lock = threading.RLock()

    def poll(self) -> LogView | None:
        """The window, followed to the end of the output where it stood there; None: nothing new."""
        with self._lock:
            with contextlib.closing(self._folder.open()) as store:
                events = store.events(self._events[-1][0] if self._events else 0)
                after = self._marks[-1].offset if self._marks else -1
                marks = store.rows(LogMarkRow, "WHERE offset > ? ORDER BY offset", (after,))
            self._events += events
            self._marks += marks
            is_first = not self._window.size
            has_grown = self._window.look()
            if is_first and has_grown:
                self._window.go_to(self._window.size)
            return self.view() if events or marks or has_grown else None

    def view(self) -> LogView:
        """The window as it was last read."""
        with self._lock:
            window = self._window
            told = [(row.at, 0, _event_line(number, row)) for number, row in self._events]
            lines = sorted([*told, *self._output()], key=lambda entry: entry[:2])
            return LogView(
                lines=tuple(line for _, _, line in lines),
                bytes_before=window.begins,
                bytes_after=window.size - window.reached,
                total_bytes=window.size,
            )

    def _output(self) -> list[tuple[float, int, LogLine]]:
        """The lines of the window with the time to order them by: of the first mark behind them, else the newest."""
        window, offsets = self._window, [mark.offset for mark in self._marks]
        last_at = window.written_at if window.lines else 0.0
        found: list[tuple[float, int, LogLine]] = []
        for begins, ends, text in window.lines:
            place = bisect.bisect_left(offsets, ends)
            at = self._marks[place].at if place < len(offsets) else last_at if self._marks else None
            found.append((last_at if at is None else at, 1, _output_line(begins, at, text.rstrip("\r\n"))))
        if found and window.begins:
            found.insert(0, (found[0][0], 1, _output_line(-1, None, "", BEFORE)))
        if found and window.reached < window.size:
            found.append((found[-1][0], 1, _output_line(-2, None, "", AFTER)))
        return found

    def earlier(self) -> LogView:
        """The window with a block more before it."""
        with self._lock:
            self._window.earlier()
            return self.view()

    def later(self) -> LogView:
        """The window with a block more behind it."""
        with self._lock:
            self._window.later()
            return self.view()

    def go_to(self, offset: int | None) -> LogView:
        """A new window around a byte of the output; None: at its end."""
        with self._lock:
            self._window.go_to(self._window.size if offset is None else offset)
            return self.view()

    def find(self, needle: str, offset: int, is_backwards: bool, cancelled: threading.Event) -> int | None:
        """Where the next line of output holds a text: a byte of it; None: there is none, or it was cancelled.

        The search begins with the line behind `offset`, or ends before that byte; large and small ASCII letters are
        the same.
        """
        wanted = needle.encode("utf-8", "replace").lower()
        overlap = len(wanted) - 1
        path = self._folder.log_path
        if not wanted or not path.exists():
            return None
        size = path.stat().st_size
        at = min(size, offset if is_backwards else self._window.line_after(offset))
        with path.open("rb") as file:
            while not cancelled.is_set() and (at > 0 if is_backwards else at < size):
                begins = max(0, at - SEARCH_BYTES) if is_backwards else at
                file.seek(begins)
                data = file.read((at - begins if is_backwards else SEARCH_BYTES) + overlap).lower()
                found = data.rfind(wanted) if is_backwards else data.find(wanted)
                if found >= 0:
                    return begins + found
                at = begins if is_backwards else at + SEARCH_BYTES
        return None


def _output_line(number: int, at: float | None, text: str, kind: str = "") -> LogLine:
    return LogLine(number=number, at=at, level="", source=OUTPUT, kind=kind, text=text)


def _event_line(number: int, row: EventRow) -> LogLine:
    return LogLine(number=number, at=row.at, level=row.level, source=row.source, kind=row.kind, text=row.text)
