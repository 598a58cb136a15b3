"""The app on a real terminal that misbehaves: gone, stalled, tiny, resized without end, full of odd bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from textual import events

from tests.conftest import wait_for
from tests.faults.seat import ROOT, Seat, app_argv
from tui.terminal import HUNG_UP, Keyboard

ON_RUN = "Heat and power"
LEAVE_S = 2.0
SLACK_S = 3.0
"""What a busy machine may add."""


def deaf() -> None:
    """Ignore hang-ups, as a shell with nohup does."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@pytest.fixture
def seats() -> Iterator[list[Seat]]:
    taken: list[Seat] = []
    yield taken
    for seat in taken:
        seat.close()


@pytest.mark.parametrize("controls", [True, False], ids=["controlling", "another's"])
def test_without_a_terminal_the_app_leaves_although_it_ignores_the_hang_up(
    seats: list[Seat], controls: bool
) -> None:
    seat = Seat(app_argv(), before=deaf, controls=controls)
    seats.append(seat)
    seat.wait_to_see(ON_RUN)
    used_s = seat.cpu_s()
    ended = psutil.Process(seat.process.pid)
    seat.hang_up()
    began_s = time.monotonic()
    assert seat.wait_for_end() == HUNG_UP
    assert time.monotonic() - began_s < LEAVE_S + SLACK_S
    assert used_s > 0
    assert not ended.is_running()


def test_a_hang_up_that_is_heard_ends_it_at_once(seats: list[Seat]) -> None:
    seat = Seat(app_argv())
    seats.append(seat)
    seat.wait_to_see(ON_RUN)
    seat.hang_up()
    assert seat.wait_for_end() in (-signal.SIGHUP, HUNG_UP)


def test_a_stalled_line_is_waited_for_and_one_that_then_breaks_ends_it(seats: list[Seat]) -> None:
    seat = Seat(app_argv(), size=(200, 50), before=deaf)
    seats.append(seat)
    seat.wait_to_see(ON_RUN)
    seat.is_reading = False
    for _ in range(20):  # far more than the line's buffer and the driver's queue hold
        seat.type(b"21")
        time.sleep(0.05)
    wait_for(lambda: is_idle(seat), what="an app that waits for its terminal")
    shown = len(seat.sent)
    seat.is_reading = True
    seat.type(b"2")
    seat.wait_to_see(ON_RUN, shown)
    seat.is_reading = False
    for _ in range(20):
        seat.type(b"12")
        time.sleep(0.05)
    seat.hang_up()
    assert seat.wait_for_end() == HUNG_UP


def is_idle(seat: Seat) -> bool:
    """Whether the program takes less than a tenth of a core."""
    before_s, began_s = seat.cpu_s(), time.monotonic()
    time.sleep(1.0)
    return seat.cpu_s() - before_s < 0.1 * (time.monotonic() - began_s)


def test_a_termination_leaves_the_terminal_as_it_was(seats: list[Seat]) -> None:
    seat = Seat(app_argv())
    seats.append(seat)
    seat.wait_to_see(ON_RUN)
    seat.process.terminate()
    assert seat.wait_for_end() == 128 + signal.SIGTERM
    wait_for(lambda: b"\x1b[?1049l" in seat.sent and b"\x1b[?25h" in seat.sent, 20, "the screen of before")


def test_odd_bytes_and_large_pastes_are_survived(seats: list[Seat]) -> None:
    seat = Seat(app_argv())
    seats.append(seat)
    seat.wait_to_see(ON_RUN)
    seat.type(b"\xe9")
    seat.type(bytes(set(range(0x80, 0x100))))
    seat.type(b"\x1b[48;99999999;99999999;1;1t")  # a terminal that claims 10^16 cells
    seat.type(b"\x1b[200~" + b"q" * 200_000 + b"\x1b[201~")
    seat.type("día ".encode() * 40_000)  # a terminal that does not tell what is pasted
    time.sleep(0.5)
    before = len(seat.sent)
    seat.type(b"?")
    seat.wait_to_see("Help: run", before)
    seat.type(b"q")
    time.sleep(0.3)
    seat.type(b"q")
    assert seat.wait_for_end() == 0
    assert "goes on" in seat.text


def test_nine_hundred_resizes_and_sizes_without_room(seats: list[Seat]) -> None:
    seat = Seat(app_argv())
    seats.append(seat)
    seat.wait_to_see(ON_RUN)
    for number in range(900):
        seat.resize(20 + number % 180, 5 + number % 60)
        time.sleep(0.001)
    for size, keys in (((1, 1), b"12"), ((20, 5), b"38"), ((0, 0), b""), ((1, 60), b"26")):
        seat.resize(*size)
        time.sleep(0.1)
        seat.type(keys)
        time.sleep(0.3)
    before = len(seat.sent)
    seat.resize(80, 24)
    seat.type(b"2")
    seat.wait_to_see(ON_RUN, before)
    seat.type(b"q")
    assert seat.wait_for_end() == 0


def test_a_dumb_terminal_and_one_without_a_keyboard_get_plain_lines(
    tmp_path: Path, seats: list[Seat]
) -> None:
    """An empty folder: what is told is the first of the plain lines, then the run's refusal of a bad corpus."""
    (tmp_path / "settings.toml").write_text('[corpus]\nsource = "absent"\n')
    seat = Seat([sys.executable, "-m", "tui"], env={"TERM": "dumb"}, cwd=tmp_path)
    seats.append(seat)
    assert seat.wait_for_end(90) == 3
    wait_for(lambda: "No terminal here" in seat.text and "corpus" in seat.text, 20, "plain lines")
    assert b"\x1b" not in seat.sent


@pytest.mark.parametrize("closed", ["<&-", "</dev/null", ">&-"])
def test_closed_and_empty_streams_are_told_in_plain_lines(tmp_path: Path, closed: str) -> None:
    command = f'exec "$0" -m tui --workspace {tmp_path}/nowhere {closed}'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2
    assert "not a folder" in done.stderr
    assert "Traceback" not in done.stderr


def keys(keyboard: Keyboard, *pieces: bytes) -> list[str]:
    """What the pieces are taken for: names of keys, and pastes as their text."""
    found: list[str] = []
    for piece in pieces:
        for message in keyboard.feed(piece):
            if isinstance(message, events.Paste):
                found.append(f"paste {message.text}")
            elif isinstance(message, events.Key):
                found.append(message.key)
            else:
                found.append(type(message).__name__)
    return found


def test_bytes_become_keys_pastes_and_nothing_else() -> None:
    assert keys(Keyboard(), b"q\x1b[A") == ["q", "up"]
    assert keys(Keyboard(), b"\xc3", b"\xa9") == ["é"]
    assert len(keys(Keyboard(), b"\xe9", b"q")) == 2
    assert keys(Keyboard(), b"\x1b[200~x\x1b]52;c;AA\x07\nq\x1b[20", b"1~") == ["paste x␛]52;c;AA␇\nq"]
    assert keys(Keyboard(), b"xy" * 300) == ["paste " + "xy" * 300]
    assert keys(Keyboard(), b"\x1b[200~" + b"x" * 90, b"y" * 90, b"\x1b[201~q") == [
        "paste " + "x" * 90 + "y" * 90,
        "q",
    ]
    assert keys(Keyboard(), b"\x1b[B" * 200) == ["down"] * 200
    assert keys(Keyboard(), b"\x1b[48;9999999;9999999;1;1t", b"\x1b[48;24;80;1;1t") == ["Resize"]
    keyboard = Keyboard()
    assert keys(keyboard, b"\x1b[99999999999999999999u", b"q") == ["q"]
    assert keys(keyboard, b"\x1b[:R", b"\x1b[1:;:~", b"q")[-1] == "q"


def test_what_follows_a_burst_at_once_belongs_to_it() -> None:
    keyboard = Keyboard()
    assert keys(keyboard, b"w" * 100, b"xy") == ["paste " + "w" * 100, "paste xy"]
    time.sleep(0.4)
    assert keys(keyboard, b"x") == ["x"]
