"""The reason for going past a check: without one, it is not waived."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input, Static

from tui.dialogs.dialog import Dialog
from tui.language import tr

LEAST_REASON = 3
"""Characters that a reason has at least."""


class WaiveDialog(Dialog[str | None]):
    """The reason to waive a check; None: it is not waived."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Do not waive", id="waive.cancel"),
    ]
    DEFAULT_CSS = """
    WaiveDialog {
        & Input { margin-top: 1; }
        & #complaint { height: 1; color: $warning; }
    }
    """

    def __init__(self, title: str, evidence: str) -> None:
        super().__init__(
            tr("Waive: {title}", title=title),
            tr("{evidence}\n\nThe reason is kept with the run and stands in its ledger.", evidence=evidence),
            tr("Enter  waive this check for the next start      Esc  do not"),
        )

    def compose_answer(self) -> ComposeResult:
        """The line for the reason."""
        yield Input(placeholder=tr("why this check may be passed over"), max_length=200, id="reason")
        yield Static("", id="complaint")

    @on(Input.Submitted)
    def _answer(self, event: Input.Submitted) -> None:
        reason = event.value.strip()
        if len(reason) < LEAST_REASON:
            complaint = Content(
                tr("A reason of at least {number} characters is needed.", number=LEAST_REASON)
            )
            self.query_one("#complaint", Static).update(complaint)
            return
        self.dismiss(reason)
