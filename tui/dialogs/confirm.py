"""Yes or no, before something that cannot be taken back by a key."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from tui.dialogs.dialog import Dialog
from tui.language import tr, trn
from tui.own_keys import key


class StopRunDialog(Dialog[bool]):
    """Whether to stop a run; True: stop it."""

    IS_DESTRUCTIVE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "Stop the run", id="stop.yes"),
        Binding("n,escape", "dismiss(False)", "Leave it", id="stop.no"),
    ]

    def __init__(self, run_id: str) -> None:
        super().__init__(
            tr("Stop this run?"),
            tr(
                "Run {run_id} writes a checkpoint and ends. Nothing is lost: {resume} goes on from there "
                "later.\n\nTo leave the app and let the run go on, answer {no} and press {detach}.",
                run_id=run_id,
                resume=key("run.resume"),
                no=key("stop.no"),
                detach=key("run.detach"),
            ),
            tr("y  stop the run      n  leave it running"),
        )


class WelcomeDialog(Dialog[bool]):
    """Whether an empty folder becomes a workspace; True: write settings.toml."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "dismiss(True)", "Write settings.toml", id="welcome.write"),
        Binding("q,escape", "dismiss(False)", "Quit", id="welcome.quit"),
    ]

    def __init__(self, folder: str) -> None:
        super().__init__(
            tr("Welcome to llm-tui"),
            tr(
                "{folder} has no settings.toml yet.\n\nEnter writes one, with every setting explained. As "
                "it stands, it trains a small model on the source of Python's standard library, which is "
                "on this machine already: nothing is downloaded.\n\nThe checks come next; nothing starts "
                "before you say so.",
                folder=folder,
            ),
            tr("Enter  write settings.toml      q  quit, change nothing"),
        )


class UnsavedDialog(Dialog[bool]):
    """Whether changes of the settings may be lost; True: leave without them."""

    IS_DESTRUCTIVE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "Leave", id="unsaved.yes"),
        Binding("n,escape", "dismiss(False)", "Stay", id="unsaved.no"),
    ]

    def __init__(self, num: int) -> None:
        super().__init__(
            tr("Leave without saving?"),
            trn(
                "{num} key is changed in the settings and not saved: {show} shows it, {save} saves.",
                "{num} keys are changed in the settings and not saved: {show} shows them, {save} saves.",
                num,
                show=key("app.settings"),
                save=key("settings.save"),
            ),
            tr("y  leave without them      n  stay"),
        )
