"""The two questions before programs are closed: the request to end, and then the end without asking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from engine.records import OpenProcess
from tui import format as fmt
from tui.dialogs.dialog import Dialog
from tui.language import tr, trn

_MOST_NAMES = 8
_NAME_WIDTH = 48


class CloseQuestion(Dialog[bool]):
    """Whether programs are asked to end; True: ask them."""

    IS_DESTRUCTIVE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "Close them", id="close.yes"),
        Binding("n,escape", "dismiss(False)", "Leave them", id="close.no"),
    ]

    def __init__(self, processes: Sequence[OpenProcess]) -> None:
        super().__init__(
            tr("Close {programs}?", programs=programs(len(processes))),
            tr(
                "{names}\n\nEach gets SIGTERM, the request to end. What it has not saved may be lost.",
                names=names(processes),
            ),
            tr("y  close      n  leave"),
        )


class KillQuestion(Dialog[bool]):
    """Whether programs that did not end are killed; True: kill them."""

    IS_DESTRUCTIVE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "Kill them", id="kill.yes"),
        Binding("n,escape", "dismiss(False)", "Leave them", id="kill.no"),
    ]

    def __init__(self, processes: Sequence[OpenProcess]) -> None:
        super().__init__(
            tr("Kill {programs}?", programs=programs(len(processes))),
            tr(
                "{names}\n\nAsked to end, and still there. SIGKILL ends it at once, without saving "
                "anything: what is open in it is lost.",
                names=names(processes),
            ),
            tr("y  kill      n  leave"),
        )


def programs(number: int) -> str:
    """A number of programs in words."""
    return trn("{num} program", "{num} programs", number)


def name_of(process: OpenProcess) -> str:
    """A program's name, cleaned and cut, with its pid."""
    name = fmt.clean(process.name)
    name = name if len(name) <= _NAME_WIDTH else f"{name[: _NAME_WIDTH - 1]}…"
    return f"{name} (pid {process.pid})"


def names(processes: Sequence[OpenProcess]) -> str:
    """One program a line; of many, the first and how many more."""
    shown = [f"  {name_of(process)}" for process in processes[:_MOST_NAMES]]
    if len(processes) > _MOST_NAMES:
        shown.append(tr("  and {number} more", number=len(processes) - _MOST_NAMES))
    return "\n".join(shown)
