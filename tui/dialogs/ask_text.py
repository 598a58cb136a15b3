"""What a person wants the model to go on from, and how freely."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Horizontal
from textual.content import Content
from textual.validation import Integer, Number
from textual.widgets import Input, Label, Static

from engine.story import TextRequest
from tui import format as fmt
from tui.dialogs.dialog import Dialog
from tui.language import mark, tr

FIELDS = (
    ("temperature", mark("temperature"), Number(0.0, 10.0), mark("0 takes the likeliest; 0.8 is usual")),
    ("top-p", "top-p", Number(0.0, 1.0), mark("of the likeliest tokens, this share")),
    ("seed", mark("seed"), Integer(0, 2**31 - 1), mark("same seed, same text")),
    ("tokens", mark("tokens"), Integer(1, 100_000), mark("at most so many")),
)
"""Id, label, range, and what it does."""


class AskTextDialog(Dialog[TextRequest | None]):
    """A prompt of one's own with its checkpoint; None: nothing is asked."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Leave it", id="ask.leave"),
        Binding("down", "next_source(1)", "Older", tooltip="The next older checkpoint", id="ask.older"),
        Binding("up", "next_source(-1)", "Newer", tooltip="The next newer checkpoint", id="ask.newer"),
    ]
    DEFAULT_CSS = """
    AskTextDialog {
        & #asked { height: 1; margin-top: 1; }
        & #asked Label { width: 14; color: $muted; }
        & #fields { grid-size: 3; grid-columns: 13 12 1fr; grid-gutter: 0 1; height: auto; margin-top: 1; }
        & #fields Label { height: 1; color: $muted; }
        & Input { height: 1; background: $panel; }
        & #prompt { width: 1fr; }
        & #source { margin-top: 1; height: 1; }
        & #complaint { height: 1; color: $warning; }
    }
    """

    def __init__(self, last: TextRequest, sources: tuple[str, ...]) -> None:
        super().__init__(
            tr("A prompt of your own"),
            tr("The text is written on the CPU, beside a training that goes on."),
            tr("Enter  write    tab  next field    ↑ ↓  checkpoint    Esc  leave"),
        )
        self._last = last
        self._sources = sources
        self._at = sources.index(last.source) if last.source in sources else 0

    def compose_answer(self) -> ComposeResult:
        """The prompt, where it comes from, and four numbers."""
        with Horizontal(id="asked"):
            yield Label(Content(tr("prompt")))
            yield Input(self._last.prompt, placeholder=tr("how the text begins"), id="prompt", compact=True)
        yield Static("", id="source", markup=False)
        values = (self._last.temperature, self._last.top_p, self._last.seed, self._last.max_tokens)
        with Grid(id="fields"):
            for (name, label, validator, about), value in zip(FIELDS, values, strict=True):
                yield Label(Content(tr(label)))
                # A seed in full: the shortest form of a number would round it.
                said = str(value) if isinstance(value, int) else f"{value:g}"
                yield Input(said, validators=[validator], id=name, compact=True)
                yield Label(Content(tr(about)))
        yield Static("", id="complaint")

    def on_mount(self) -> None:
        """Name the checkpoint."""
        self.action_next_source(0)

    def action_next_source(self, by: int) -> None:
        """Take another checkpoint; after the oldest comes the newest again."""
        self._at = (self._at + by) % len(self._sources)
        name = self._sources[self._at]
        shown = tr("the finished model") if name == "model" else tr("checkpoint {name}", name=fmt.clean(name))
        self.query_one("#source", Static).update(
            Content(
                tr(
                    "from {shown} ({at} of {sources})",
                    shown=shown,
                    at=self._at + 1,
                    sources=len(self._sources),
                )
            )
        )

    @on(Input.Submitted)
    def _answer(self) -> None:
        found = {name: self.query_one(f"#{name}", Input) for name, *_ in FIELDS}
        for name, label, validator, _ in FIELDS:
            if not validator.validate(found[name].value).is_valid:
                low, high = validator.minimum, validator.maximum
                text = tr(
                    "{name} is a number from {low} to {high}.",
                    name=tr(label),
                    low=fmt.short(low),
                    high=fmt.thousands(high),
                )
                self.query_one("#complaint", Static).update(Content(text))
                found[name].focus()
                return
        self.dismiss(
            TextRequest(
                prompt=self.query_one("#prompt", Input).value,
                source=self._sources[self._at],
                max_tokens=int(found["tokens"].value),
                temperature=float(found["temperature"].value),
                top_p=float(found["top-p"].value),
                seed=int(found["seed"].value),
            )
        )
