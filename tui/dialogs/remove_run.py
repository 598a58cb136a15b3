"""Whether a run is archived or deleted: what goes, what stays, and what that frees."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid
from textual.content import Content
from textual.widgets import Static

from engine.shelf import Removal
from tui import format as fmt
from tui.dialogs.dialog import Dialog
from tui.language import tr


class RemoveRunDialog(Dialog[bool]):
    """True: remove it."""

    IS_DESTRUCTIVE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "Remove", id="remove.yes"),
        Binding("n,escape", "dismiss(False)", "Leave it", id="remove.no"),
    ]

    DEFAULT_CSS = """
    RemoveRunDialog {
        & #weighed { grid-size: 2; grid-columns: 9 1fr; grid-rows: auto; height: auto; margin: 1 0; }
        & #weighed Static { height: auto; }
        & .label { color: $muted; }
        & #goes { color: $warning; }
    }
    """

    def __init__(self, told: Removal) -> None:
        is_deletion = told.kind == "delete"
        super().__init__(
            tr("Delete this run?") if is_deletion else tr("Archive this run?"),
            told.run_id,
            tr("y  delete it      n  leave it as it is")
            if is_deletion
            else tr("y  archive it      n  leave it as it is"),
        )
        self._told = told

    def compose_answer(self) -> ComposeResult:
        """What is freed, what goes and what stays, each in a column of its own; then what cannot be had back."""
        told = self._told
        with Grid(id="weighed"):
            for name, label, value in (
                ("frees", tr("Frees"), fmt.size(told.freed_bytes)),
                ("goes", tr("Goes"), fmt.said(told.goes)),
                ("stays", tr("Stays"), fmt.said(told.stays)),
            ):
                yield Static(Content(label), classes="label")
                yield Static(Content(value), id=name)
        yield Static(
            Content(
                tr("What is deleted cannot be had back.")
                if told.kind == "delete"
                else tr("An archived run stays in the list; what goes cannot be had back.")
            )
        )
