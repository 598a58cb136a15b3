"""What comes from outside reaches no terminal raw: every screen and dialog on a real terminal, and the plain lines."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator

import pytest
from msgspec.structs import replace

from engine import Workspace
from engine.records import EventRow, RunState
from engine.runs import folder as folders
from engine.runs.client import to_json
from tests.faults.hostile import EVIL, MARK, poisoned
from tests.faults.seat import ROOT, Seat
from tests.tui.recorded import GPU, checks, closings, estimated, in_state, opened_programs, program
from tui import closing, headless
from tui.streams import _Cleaned

OUR_SEQUENCES = re.compile(
    r"\x1b(\[[0-9;]*[mH]|\[\?[0-9]+([hl]|\$p)|\[[<>][0-9]*u|\]22;[a-z-]+(\x07|\x1b\\))"
)
"""Colours, the cursor, modes of the terminal, the pointer's shape: nothing else is ever sent."""
KEYS = (
    *("2", "p", "c", "x", "\x1b", "z", "z", "?", "\x1b", "\x10", "hea", "\x1b"),
    *("1", "j", "j", "x", "\x1b", "w", "because", "\x1b", "t", "\x1b", "s"),
    *("3", "j", "4", " ", "j", " ", "o", "\x1b", "t", "\x1b", "a", "\x1b", "D", "\x1b", "\x1b"),
    *("5", "6", "/", "cor", "\r", "\r", "5", "\r", "\x1b"),
    *("7", "j", "p", "\r", "\x1b", "8", "j", "/", "x", "\r", "\x1b", "\x1b"),
)


@pytest.fixture
def seat() -> Iterator[Seat]:
    taken = Seat([sys.executable, "-m", "tests.faults.hostile"], size=(110, 30))
    yield taken
    taken.close()


def press(seat: Seat, keys: str) -> str:
    """Press keys and wait until nothing more is drawn; what was sent meanwhile."""
    before = len(seat.sent)
    seat.type(keys.encode())
    deadline, newest = time.monotonic() + 1.0, before
    while time.monotonic() < deadline:
        time.sleep(0.12)
        if len(seat.sent) == newest > before:
            break
        newest = len(seat.sent)
    assert seat.process.poll() is None, f"{keys!r} ended the app: {seat.text[-6000:]}"
    return bytes(seat.sent[before:]).decode("utf-8", "replace")


def raw(text: str) -> list[str]:
    """What of a text a terminal would obey, beside line ends."""
    return [
        letter
        for letter in text
        if letter not in "\r\n" and unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn")
    ]


def test_no_screen_dialog_notification_or_title_sends_it(seat: Seat) -> None:
    seat.wait_to_see(MARK)
    press(seat, "\x1b")  # the digest
    shown = {keys for keys in KEYS if MARK in press(seat, keys)}
    assert len(shown) >= 8, shown  # what is drawn late counts for the next key
    seat.resize(80, 24)
    for keys in "12345678":
        press(seat, keys)
    sent = bytes(seat.sent).decode("utf-8")  # strictly: half a character would shift what follows
    assert not re.search(rf"\x1b\[[0-9;]*{MARK}", sent)
    left = OUR_SEQUENCES.sub("", sent)
    assert raw(left) == [], [left[max(0, at - 30) : at + 30] for at in range(len(left)) if raw(left[at])]


CRASH = """
from pathlib import Path
from tests.faults.hostile import EVIL, HostileBridge
from tests.tui.recorded import in_state
from tui.app import LlmTui
from tui.streams import guard_streams
class Broken(HostileBridge):
    def runs(self):
        raise ValueError(EVIL)
guard_streams()
app = LlmTui(Path("/home/ana/gpt"), Broken(in_state("gpu")))
app.run()
raise SystemExit(app.return_code)
"""


def test_an_error_of_our_own_is_told_harmlessly() -> None:
    seat = Seat([sys.executable, "-c", CRASH])
    try:
        assert seat.wait_for_end() == 1
        seat.wait_for_quiet()
        assert "ValueError" in seat.text and f"␛[{MARK}m" in seat.text
        sent = seat.sent.decode("utf-8").replace("\a", "", 1)  # Textual's own bell
        assert raw(OUR_SEQUENCES.sub("", sent)) == []
    finally:
        seat.close()


@pytest.mark.parametrize("stream", ["stdout", "as json"])
def test_plain_lines_and_json_say_it_harmlessly(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    shot = poisoned(in_state("gpu"))
    records = [shot.status, poisoned(estimated(GPU)), poisoned(opened_programs()), *map(poisoned, checks())]
    if stream == "as json":
        for record in records:
            said = to_json(record)
            assert said.isascii() and raw(said) == []
            assert EVIL in json.dumps(json.loads(said), ensure_ascii=False) or MARK in said
        return
    monkeypatch.setattr(sys, "stdout", _Cleaned(sys.stdout))  # as every command has it
    for check in checks():
        headless.print_check(replace(poisoned(check), status="fail"))
    headless.print_status(replace(shot.status, state=RunState.FAILED, reason=EVIL))
    headless.print_estimate(poisoned(estimated(GPU, move=True)))
    closing.print_list(poisoned(opened_programs()))
    said = capsys.readouterr().out
    assert said.count(MARK) > 20
    assert raw(said) == []


def test_a_stream_of_the_command_line_lets_nothing_through() -> None:
    below = io.TextIOWrapper(io.BytesIO(), "ascii", newline="")
    stream = _Cleaned(below)
    stream.write(EVIL)
    stream.writelines([EVIL, "grün\n"])
    stream.flush()
    said = below.buffer.getvalue().decode("ascii")
    assert MARK in said and "gr?n\n" in said
    assert raw(said) == []


def test_the_whole_command_line_in_a_hostile_folder(make_workspace: Callable[..., Workspace]) -> None:
    """Names that attack, of the folder, of the corpus, of a run; a run's own record in the store."""
    name = "w \x1b]0;owned\x07\x9b31m \u202e [bold]"
    workspace = make_workspace(name=name)
    (workspace.folder / "text" / "\x1b[2J\x9b.txt").write_text("text\n" * 100)
    settings, plan = workspace.plan()
    plan = replace(plan, device=replace(plan.device, name=EVIL.encode("utf-8", "replace").decode()))
    run = folders.create(workspace.folder, settings, plan, {}, "test")
    store = run.open(read_only=False)
    evil = EVIL.encode("utf-8", "replace").decode()
    store.put(EventRow(at=time.time(), level="error", source="x", kind="x", text=evil))
    store.set_state(RunState.FAILED, evil)
    store.close()
    commands = (
        ["runs"],
        ["status"],
        ["status", "--json"],
        ["ledger", "--csv"],
        ["report"],
        ["init"],
        ["status", "\x1b[31m"],
        ["estimate", "--set", "corpus.source=\x1b]52;c;AA\x07"],
        ["\x1b[31mfrobnicate"],
    )
    script = (
        "import sys\nfrom tui.cli import main\nfor line in sys.argv[1:]:\n"
        "    try: main(line.split('|'), prog_name='llm-tui')\n    except SystemExit: pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *("|".join(command) for command in commands)],
        cwd=workspace.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=120,
    )
    said = (done.stdout + done.stderr).decode("utf-8")
    assert raw(said) == [], [line for line in said.splitlines() if raw(line)]
    assert "Traceback" not in said
    assert "failed" in said and "No such command" in said and "is there already" in said


def test_a_refused_close_of_a_hostile_program_is_told_harmlessly(capsys: pytest.CaptureFixture[str]) -> None:
    report = poisoned(closings((program(77, EVIL), "refused")))
    for told in report.closings:
        print(closing._outcome(told))
    said = capsys.readouterr().out
    assert MARK in said
    assert raw(said) == []
