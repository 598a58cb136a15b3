"""The texts of a model: the steps that it spoke at, one text large, and the one that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.events import MouseScrollDown, MouseScrollUp

from tui import format as fmt
from tui.language import tr
from tui.widgets.lines import BLUE, FAINT, MUTED, ORANGE, TEXT, Line, said_and_gone_on, wrap
from tui.widgets.panel import Panel
from tui.widgets.rows import Rows

if TYPE_CHECKING:
    from engine.story import SampleAt

_MOST_CHARACTERS = 100_000
"""Of one text from outside."""
_WIDE_ROW = 70
WHEEL_ROWS = 3


class StepRows(Rows):
    """The steps at which the model spoke, and how well it did then."""

    HELP = (
        "The steps with a sample. ◀ stands at the left, ▶ at the right; l puts the selected one at the left."
    )

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(tr("Steps"), id=id)
        self._samples: tuple[SampleAt, ...] = ()
        self._left: int | None = None
        self._points = True

    def point(self, points: bool) -> None:
        """Whether the selected step is what stands at the right, and is marked so."""
        if points != self._points:
            self._points = points
            self.redraw()

    def show(self, samples: tuple[SampleAt, ...], left: int | None) -> None:
        """Show other samples, newest first; `left` is the step at the left. The cursor stays on its step."""
        was, stood_first = self.selected, self.cursor == 0
        self._samples, self._left = tuple(reversed(samples)), left
        steps = [sample.step for sample in self._samples]
        self.move_to(0 if was is None or stood_first or was.step not in steps else steps.index(was.step))

    @property
    def selected(self) -> SampleAt | None:
        """The sample under the cursor."""
        return self._samples[self.cursor] if self.cursor < len(self._samples) else None

    @property
    def num_rows(self) -> int:
        """One a sample."""
        return len(self._samples)

    def when_empty(self) -> list[Line]:
        """Before the first sample."""
        return [[(tr("No sample yet: the first comes with the training."), MUTED)]]

    def row(self, index: int, width: int) -> Line:
        """Step, losses, and which side it stands at."""
        sample = self._samples[index]
        left = "◀" if sample.step == self._left else " "
        right = "▶" if index == self.cursor and self._points else " "
        line: Line = [
            (f"{left}{right} ", ORANGE),
            (f"{sample.step:>8}", TEXT),
            (tr("  loss {loss:>6}", loss=fmt.number(sample.loss, 3)), BLUE),
            (tr("  val {val_loss:>6}", val_loss=fmt.number(sample.val_loss, 3)), ORANGE),
        ]
        if width >= _WIDE_ROW:
            line += [
                (tr("  {tokens:>7} tokens", tokens=fmt.count(sample.tokens)), MUTED),
                (f"  {fmt.date(sample.at)}", FAINT),
            ]
        return line


class WordsPanel(Panel):
    """One text with its prompt in grey; longer ones are scrolled."""

    HELP = "How the model goes on from the prompt (in grey). The arrows scroll it; z shows it large."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "scroll_rows(1)", "Down", show=False, id="words.down"),
        Binding("up,k", "scroll_rows(-1)", "Up", show=False, id="words.up"),
        Binding("pagedown", "scroll_rows(10)", "Page down", show=False, id="words.page-down"),
        Binding("pageup", "scroll_rows(-10)", "Page up", show=False, id="words.page-up"),
    ]

    def __init__(self, title: str, *, id: str | None = None) -> None:
        super().__init__(title, id=id)
        self._prompt, self._text, self._note, self._status = "", "", "", ""
        self._top = 0
        self._follows = False

    def show(
        self, title: str, prompt: str, text: str, *, note: str = "", status: str = "", follows: bool = False
    ) -> None:
        """Show another text, raw as it came. One that grows is followed.

        `note` is ours and stands below it, `status` in the frame.
        """
        if title != self.border_title:
            self._top = 0
        self.border_title = title
        self._prompt = fmt.clean(prompt[:_MOST_CHARACTERS], keep_newlines=True)
        self._text = fmt.clean(text[:_MOST_CHARACTERS], keep_newlines=True)
        self._note, self._status, self._follows = note, status, follows
        self.redraw()

    def action_scroll_rows(self, rows: int) -> None:
        """Scroll by rows."""
        self._top += rows
        self.redraw()

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """The wheel scrolls, as the arrows do."""
        self.action_scroll_rows(WHEEL_ROWS)
        event.stop()

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """Back."""
        self.action_scroll_rows(-WHEEL_ROWS)
        event.stop()

    def draw(self, width: int, height: int) -> list[Line]:
        """The rows from the topmost on; the lower frame says how many there are."""
        has_text = self._prompt or self._text
        lines = said_and_gone_on(self._prompt, self._text, width) if has_text else []
        lines += [[(row, FAINT)] for row in (wrap(self._note, width) if self._note else [])]
        most = max(0, len(lines) - height)
        self._top = most if self._follows else max(0, min(self._top, most))
        last = min(len(lines), self._top + height)
        place = tr("row {last} of {lines}", last=last, lines=len(lines)) if most else ""
        self.set_subtitle(" · ".join(part for part in (self._status, place) if part))
        return lines[self._top : last]
