"""Whether a run is archived or deleted: what goes, what stays, and what that frees."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

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

    def __init__(self, told: Removal) -> None:
        is_deletion = told.kind == "delete"
        super().__init__(
            tr("Delete this run?") if is_deletion else tr("Archive this run?"),
            tr(
                "{run_id}\n\nFrees    {freed}\nGoes     {goes}\nStays    {stays}",
                run_id=fmt.clean(told.run_id),
                freed=fmt.size(told.freed_bytes),
                goes=fmt.said(told.goes),
                stays=fmt.said(told.stays),
            )
            + "\n\n"
            + (
                tr("What is deleted cannot be had back.")
                if is_deletion
                else tr("An archived run stays in the list; what goes cannot be had back.")
            ),
            tr("y  delete it      n  leave it as it is")
            if is_deletion
            else tr("y  archive it      n  leave it as it is"),
        )
