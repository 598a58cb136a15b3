"""Whether a run is archived or deleted: what goes, what stays, and what that frees."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from engine.shelf import Removal
from tui import format as fmt
from tui.dialogs.dialog import Dialog


class RemoveRunDialog(Dialog[bool]):
    """True: remove it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "Remove", id="remove.yes"),
        Binding("n,escape", "dismiss(False)", "Leave it", id="remove.no"),
    ]

    def __init__(self, told: Removal) -> None:
        is_deletion = told.kind == "delete"
        super().__init__(
            "Delete this run?" if is_deletion else "Archive this run?",
            f"{fmt.clean(told.run_id)}\n\n"
            f"Frees    {fmt.size(told.freed_bytes)}\n"
            f"Goes     {told.goes}\n"
            f"Stays    {told.stays}\n\n"
            + (
                "What is deleted cannot be had back."
                if is_deletion
                else "An archived run stays in the list; what goes cannot be had back."
            ),
            f"y  {told.kind} it      n  leave it as it is",
        )
