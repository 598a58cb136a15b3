"""Who looks at another window is called by bell for what is new, once, and never by what happened before."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import App

from engine.records import EventRow, RunState
from tui.herald import Herald


class Terminal(App[str | None]):
    """Counts bells; has a driver that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.bells = 0
        self.written: list[str] = []
        self._driver = self  # type: ignore[assignment]

    is_headless = False  # type: ignore[assignment]

    def bell(self) -> None:
        self.bells += 1

    def write(self, text: str) -> None:
        self.written.append(text)


def events(*kinds: str) -> Sequence[EventRow]:
    return [
        EventRow(at=float(number), level="warning", source="supervisor", kind=kind, text=f"\x1b]0;{kind}\x07")
        for number, kind in enumerate(kinds, start=1)
    ]


def test_only_what_is_new_and_matters_calls() -> None:
    terminal = Terminal()
    herald = Herald(terminal)
    herald.see("run", RunState.RUNNING, "", events("too-hot"))
    herald.see("run", RunState.RUNNING, "", events("too-hot", "checkpoint"))
    assert terminal.bells == 0
    herald.see("run", RunState.RUNNING, "", events("too-hot", "checkpoint", "restart"))
    herald.see("run", RunState.RUNNING, "", events("too-hot", "checkpoint", "restart"))
    herald.see("run", RunState.RUNNING)
    assert terminal.bells == 1
    (sequence,) = terminal.written
    assert sequence.startswith("\x1b]9;llm-tui: ") and sequence.endswith("\x07") and "restart" in sequence
    assert sequence.count("\x1b") == 1 and sequence.count("\x07") == 1, "no text ends the sequence early"
    herald.see("run", RunState.FINISHED, "done")
    herald.see("run", RunState.FINISHED, "done")
    assert terminal.bells == 2 and "finished" in terminal.written[-1]
    herald.see("other", RunState.FAILED, "long ago")
    assert terminal.bells == 2
