"""Whether a step of the person's own is so: it is ticked by hand before every start."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from tui import format as fmt
from tui.dialogs.dialog import Dialog
from tui.language import tr


class TickDialog(Dialog[bool]):
    """One step to look at; True: it is so."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,space,y", "dismiss(True)", "It is so", id="tick.yes"),
        Binding("n,escape", "dismiss(False)", "Not yet", id="tick.no"),
    ]

    def __init__(self, step: str) -> None:
        super().__init__(
            tr("Is it so?"),
            tr("{step}\n\nA tick counts for the next start only.", step=fmt.clean(step)),
            tr("Enter  it is so, tick it      Esc  not yet"),
        )
