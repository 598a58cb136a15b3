"""The terminal under the app, where Textual's own driver would spin, stand still or die.

A terminal that is gone ends the app in time, although SIGHUP be ignored: Textual 8 reads its end of file without end.
Bytes that are no UTF-8 are taken as unknown characters, and text that arrives in one burst is a paste, not two hundred
thousand commands. What is pasted comes from outside, so it is cleaned like all such text.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from textual import constants, events
from textual._xterm_parser import BRACKETED_PASTE_END, BRACKETED_PASTE_START, XTermParser
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message

from tui.format import clean

LEAVE_WITHIN_S = 1.5
"""How long an app without a terminal may take to end by itself; then its process is ended, which loses nothing."""
HUNG_UP = 128 + signal.SIGHUP
"""Exit status of an app whose terminal is gone."""
BURST_CHARACTERS = 64
"""So many characters at once were not typed."""
BURST_S = 0.3
"""What follows a burst within this time belongs to it."""
MOST_PASTED = 1_000_000
"""Characters of one paste; what is beyond is left out."""
PASTE_PATIENCE_S = 5.0
"""A paste that goes on no more for so long has lost its end: the keys after it are keys again."""
MOST_COLUMNS, MOST_ROWS = 2000, 1000
"""A terminal that claims to be larger is not believed: each cell takes memory."""

_READ_BYTES = 1 << 16
_PENDING_BYTES = 1 << 16


class Output:
    """What the app draws on: text in, bytes out, and a call where nothing takes them any more."""

    def __init__(self, stream: TextIO, on_gone: Callable[[], None]) -> None:
        self._descriptor = stream.fileno()
        self._encoding = stream.encoding
        self._on_gone = on_gone
        self._pending = bytearray()
        self._is_gone = False

    def fileno(self) -> int:
        """The descriptor of the terminal."""
        return self._descriptor

    def write(self, text: str) -> None:
        """Take text; it is on its way once there is much of it, or with the next `flush`."""
        self._pending += text.encode(self._encoding, "replace")
        if len(self._pending) >= _PENDING_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what was taken; waits while the line is stalled."""
        data, self._pending = memoryview(self._pending), bytearray()
        while data and not self._is_gone:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # another program of this terminal has made it non-blocking
                select.select([], [self._descriptor], [], 1.0)
            except OSError:
                self._is_gone = True
                self._on_gone()


class Keyboard:
    """Bytes of a terminal as Textual's messages.

    Pastes are taken apart from keys here: Textual's parser makes keys of an escape sequence within one.
    """

    def __init__(self) -> None:
        self._parser = XTermParser()
        self._decode = getincrementaldecoder("utf-8")("replace").decode
        self._pasted: str | None = None
        """What came of a paste that has not ended; None: there is none."""
        self._heard_s = float("-inf")
        self._burst_ended_s = float("-inf")

    def feed(self, data: bytes) -> Iterable[Message]:
        """The messages of these bytes, which may end in the middle of one."""
        text, self._heard_s = self._decode(data), time.monotonic()
        while text:
            if self._pasted is None:
                keys, start, text = text.partition(BRACKETED_PASTE_START)
                yield from self._keys(keys)
                self._pasted = "" if start else None
            else:
                seen, end, text = (self._pasted + text).partition(BRACKETED_PASTE_END)
                self._pasted = seen[:MOST_PASTED]
                if end:
                    yield from self._end_paste()

    def _end_paste(self) -> Iterable[Message]:
        pasted, self._pasted = self._pasted, None
        if pasted:
            yield events.Paste(clean(pasted, keep_newlines=True))

    def _keys(self, text: str) -> Iterable[Message]:
        if "\x1b" not in text and self._is_burst(text):
            yield events.Paste(clean(text, keep_newlines=True))
            return
        try:
            for message in self._parser.feed(text) if text else ():
                if isinstance(message, events.Paste):  # one whose beginning came in two parts
                    message.text = clean(message.text, keep_newlines=True)
                if not isinstance(message, events.Resize) or _is_believable(message):
                    yield message
        except (
            ValueError,
            OverflowError,
        ):  # Textual 8.2 takes any digits in a sequence for a number, ":" too
            self._parser = XTermParser()

    def _is_burst(self, text: str) -> bool:
        now_s = time.monotonic()
        if len(text) < BURST_CHARACTERS and now_s - self._burst_ended_s > BURST_S:
            return False
        self._burst_ended_s = now_s
        return bool(text)

    @property
    def patience_s(self) -> float | None:
        """How long to wait for more until a `tick` is due; None: for ever."""
        if self._pasted is not None:
            return PASTE_PATIENCE_S / 5
        return constants.ESCAPE_DELAY if self._parser._timeout_time is not None else None

    def tick(self) -> Iterable[Message]:
        """What became clear because nothing more came: that escape was a key, that a paste is over."""
        yield from self._parser.tick()
        if self._pasted is not None and time.monotonic() - self._heard_s > PASTE_PATIENCE_S:
            yield from self._end_paste()


def _is_believable(message: events.Resize) -> bool:
    return 0 < message.size.width <= MOST_COLUMNS and 0 < message.size.height <= MOST_ROWS


class _Bell(threading.Event):
    """An event that a select hears as well, so that a thread can wait for it and for input without looking up."""

    def __init__(self) -> None:
        super().__init__()
        self._heard, self._rung = os.pipe()

    def fileno(self) -> int:
        return self._heard

    def set(self) -> None:
        if not self.is_set():
            super().set()
            os.write(self._rung, b"!")

    def clear(self) -> None:
        if self.is_set():
            super().clear()
            os.read(self._heard, 1)


class Terminal(LinuxDriver):
    """Textual's driver for a real terminal, with an input and an output of our own."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        self._is_leaving = False
        self._file: Any = Output(_drawable(), self.leave)
        self.exit_event: _Bell = _Bell()

    def start_application_mode(self) -> None:
        """Begin to draw and to listen; from here on a termination leaves the terminal as it was."""
        signal.signal(signal.SIGTERM, lambda *_: self.leave(128 + signal.SIGTERM))
        super().start_application_mode()  # type: ignore[no-untyped-call]

    def leave(self, return_code: int = HUNG_UP) -> None:
        """End the app, and its process where that takes too long; from any thread, any number of times."""
        if self._is_leaving:
            return
        self._is_leaving = True
        last = threading.Timer(LEAVE_WITHIN_S, os._exit, (return_code,))
        last.daemon = True
        last.start()
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the app with it
            self._loop.call_soon_threadsafe(self._app.exit, None, return_code)

    def run_input_thread(self) -> None:
        """Read the keyboard until the app leaves or the terminal is gone."""
        keyboard = Keyboard()
        while not self.exit_event.is_set():
            # Waking ten times a second, as Textual does, would interrupt the training each time.
            if (
                self.fileno
                in select.select([self.fileno, self.exit_event.fileno()], [], [], keyboard.patience_s)[0]
            ):
                try:
                    data = os.read(self.fileno, _READ_BYTES)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                if not data:
                    self.leave()
                    return
                for message in keyboard.feed(data):
                    self.process_message(message)
            for message in keyboard.tick():
                self.process_message(message)


def _drawable() -> TextIO:
    """Where to draw: where errors go, as Textual does, else where output goes."""
    streams = [stream for stream in (sys.__stderr__, sys.__stdout__) if stream is not None]
    terminals = [stream for stream in streams if stream.isatty()]
    return (terminals or streams)[0]
