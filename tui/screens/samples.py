"""The samples screen: what the model says, step by step and side by side, and from a prompt of one's own."""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar

from textual import getters, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal
from textual.widgets import Static

from engine.errors import EngineError
from engine.story import SampleAt, SampleBook, TextRequest
from tui import format as fmt
from tui.language import tr, trn
from tui.late_messages import SamplesArrived, TextEnded, TextGrew
from tui.messages import CallFailed
from tui.screens.room import RoomScreen, no_run_yet
from tui.threads import in_thread
from tui.widgets.panel import Panel
from tui.widgets.rows import Rows
from tui.widgets.sample_panels import StepRows, WordsPanel

READ_EVERY_S = 5.0
SHOW_EVERY_S = 0.1
"""How often a text that is being written is shown: a model may write faster than a terminal reads."""


class SamplesScreen(RoomScreen):
    """Reads the samples of the followed run while it is shown; a text that is being written goes on meanwhile."""

    MODE = "samples"
    CSS_PATH = "samples.tcss"
    AUTO_FOCUS = "StepRows"
    HORIZONTAL_BREAKPOINTS = [*RoomScreen.HORIZONTAL_BREAKPOINTS, (180, "-broad")]
    HELP_TEXT = """
What the model made of a fixed prompt at every sample: two of
them side by side. The prompts are training.sample_prompt of
the settings; the list has the loss of each step.

  j k ↑ ↓  another step at the right
  l        the selected step at the left
  f        the next of the fixed prompts, where there are several
  p        a prompt of your own, from any checkpoint that is
           kept; written on the CPU, a training goes first
  escape   give up a text that is being written; else back
           from your own text to the samples
  y        copy the text at the right
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "ask", "Your prompt", tooltip="Let a checkpoint go on with it", id="samples.ask"),
        Binding("l", "put_left", "Left", tooltip="The selected step at the left", id="samples.left"),
        Binding("f", "next_prompt", "Prompt", tooltip="The next of the fixed prompts", id="samples.prompt"),
        Binding("y", "copy", "Copy", tooltip="The text at the right", id="samples.copy"),
        Binding("escape", "give_up", "Give up", tooltip="End the writing", id="samples.give-up"),
        Binding("escape", "back", "Samples", tooltip="Back to the samples", id="samples.back"),
    ]
    steps = getters.query_one("#steps", StepRows)
    left = getters.query_one("#left", WordsPanel)
    right = getters.query_one("#right", WordsPanel)

    def compose_room(self) -> ComposeResult:
        """The steps, and two texts."""
        yield Static(no_run_yet(), id="nothing")
        with Container(id="room"):
            yield StepRows(id="steps")
            with Horizontal(id="texts"):
                yield WordsPanel(tr("Left"), id="left")
                yield WordsPanel(tr("Right"), id="right")

    def on_mount(self) -> None:
        """Nothing was read or written yet."""
        super().on_mount()
        self._book: SampleBook | None = None
        self._left_step: int | None = None
        self._prompt: str | None = None
        """The fixed prompt whose samples are shown; None: the first."""
        self._request = TextRequest(prompt="def ")
        self._own: str | None = None
        """The text of the person's own prompt; None: a sample stands at the right."""
        self._own_note = ""
        self._is_writing = False

    # --- reading ------------------------------------------------------------------------------------------------

    def on_screen_resume(self) -> None:
        """Follow the run's samples while they are looked at."""
        self._follow()

    def on_screen_suspend(self) -> None:
        """Nobody looks."""
        self.workers.cancel_group(self, "samples")

    @work(exclusive=True, group="samples", exit_on_error=False)
    async def _follow(self) -> None:
        """Read them again and again; a failure is told once, and may pass."""
        told = ""
        while True:
            run_id = self.room_app.followed_id
            self.set_class(run_id is None, "-empty")
            if run_id is not None:
                try:
                    self.post_message(SamplesArrived(await in_thread(self.room_app.bridge.samples, run_id)))
                    told = ""
                except (EngineError, OSError) as error:
                    title, remedy = getattr(error, "title", str(error)), getattr(error, "remedy", "")
                    if title != told:
                        self.app.post_message(CallFailed(title, remedy))
                    told = title
            await asyncio.sleep(READ_EVERY_S)

    @on(SamplesArrived)
    def _take(self, message: SamplesArrived) -> None:
        book = message.book
        if self._book is not None and self._book.run_id != book.run_id:
            self._left_step, self._own, self._own_note, self._prompt = None, None, "", None
            self._give_up()
        if book == self._book:
            return
        self._book = book
        steps = [sample.step for sample in book.samples]
        if self._left_step not in steps:
            self._left_step = steps[0] if steps else None
        self._show()

    # --- showing ------------------------------------------------------------------------------------------------

    @property
    def _prompts(self) -> list[str]:
        """The fixed prompts, in their order, each once."""
        return list(dict.fromkeys(sample.prompt for sample in self._book.samples)) if self._book else []

    def _show(self) -> None:
        prompts = self._prompts
        if self._prompt not in prompts:
            self._prompt = prompts[0] if prompts else None
        samples = tuple(s for s in self._book.samples if s.prompt == self._prompt) if self._book else ()
        place = prompts.index(self._prompt) + 1 if self._prompt is not None else 0
        prompt = tr("prompt {number} of {num}", number=place, num=len(prompts)) if prompts[1:] else ""
        self.steps.set_subtitle(prompt)
        run_id = fmt.clean(self._book.run_id) if self._book else ""
        self.steps.border_title = tr("Steps of {run_id}", run_id=run_id) if run_id else tr("Steps")
        self.steps.show(samples, self._left_step)
        left = next((sample for sample in samples if sample.step == self._left_step), None)
        self._show_sample(self.left, left)
        self._show_right()

    @on(Rows.Moved)
    def _show_selected(self) -> None:
        """Moving through the steps is looking at samples again."""
        if not self._is_writing:
            self._own = None
        self._show_right()

    def _show_right(self) -> None:
        self.steps.point(self._own is None)
        if self._own is None:
            self._show_sample(self.right, self.steps.selected)
        else:
            source = tr("the model") if self._request.source == "model" else fmt.clean(self._request.source)
            self.right.show(
                tr("Your prompt, {source}", source=source),
                self._request.prompt,
                self._own,
                note=self._own_note,
                status=self._status(self._own) if self._is_writing else "",
                follows=self._is_writing,
            )
        self.offer(
            bool(self._book and self._book.sources),
            self._is_writing,
            self._own is None,
            self.steps.num_rows,
            len(self._prompts),
        )

    def _status(self, text: str) -> str:
        most = trn("at most {num} token", "at most {num} tokens", self._request.max_tokens)
        return tr("writing … {num} characters, {most}", num=len(text), most=most)

    @staticmethod
    def _show_sample(panel: WordsPanel, sample: SampleAt | None) -> None:
        if sample is None:
            panel.show(tr("No sample"), "", "")
        else:
            title = tr("Step {step}", step=sample.step)
            if sample.loss is not None:
                title = tr("Step {step}, loss {loss}", step=sample.step, loss=fmt.number(sample.loss, 3))
            panel.show(title, sample.prompt, sample.text)

    # --- what may be asked --------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what makes no sense now."""
        if not self.is_mounted or not hasattr(self, "_own"):
            return super().check_action(action, parameters)
        if action == "ask":
            return bool(self._book and self._book.sources) and not self._is_writing
        if action in ("put_left", "copy"):
            return self.steps.selected is not None
        if action == "next_prompt":
            return len(self._prompts) > 1
        if action == "give_up":
            return self._is_writing
        if action == "back":
            return self._own is not None and not self._is_writing
        return super().check_action(action, parameters)

    def action_put_left(self) -> None:
        """The selected step at the left."""
        if self.steps.selected is not None:
            self._left_step = self.steps.selected.step
            self._show()

    def action_next_prompt(self) -> None:
        """The samples of the next fixed prompt, at the same steps."""
        prompts = self._prompts
        self._prompt = (
            prompts[(prompts.index(self._prompt) + 1) % len(prompts)] if self._prompt in prompts else None
        )
        if not self._is_writing:
            self._own = None
        self._show()

    def action_copy(self) -> None:
        """The text at the right, with its prompt, cleaned."""
        sample = self.steps.selected
        text = self._request.prompt + self._own if self._own is not None else ""
        if self._own is None and sample is not None:
            text = sample.prompt + sample.text
        self.app.copy_to_clipboard(fmt.clean(text, keep_newlines=True))
        self.notify(tr("The text at the right was given to the terminal's clipboard."), title=tr("Copied"))

    def action_back(self) -> None:
        """From one's own text back to the samples."""
        self._own = None
        self._show_right()

    # --- one's own prompt ---------------------------------------------------------------------------------------

    def action_ask(self) -> None:
        """Ask for a prompt, and let it be written."""
        from tui.dialogs.ask_text import AskTextDialog

        if self._book is not None and self._book.sources:
            self.app.push_screen(AskTextDialog(self._request, self._book.sources), self._start)

    def _start(self, request: TextRequest | None) -> None:
        if request is not None and self._book is not None:
            self._request, self._own, self._is_writing = request, "", True
            self._own_note = tr("The model is being read …")
            self._show_right()
            self._write(self._book.run_id, request)

    @work(exclusive=True, group="text", exit_on_error=False)
    async def _write(self, run_id: str, request: TextRequest) -> None:
        """Take the text as it comes; leaving ends its process."""
        text, shown_s = "", 0.0
        pieces = self.room_app.bridge.text(run_id, request)
        try:
            async for piece in pieces:
                text += piece
                if time.monotonic() - shown_s >= SHOW_EVERY_S:
                    shown_s = time.monotonic()
                    self.post_message(TextGrew(text))
            self.post_message(TextGrew(text))
            self.post_message(TextEnded())
        except asyncio.CancelledError:
            self.post_message(TextEnded(is_given_up=True))
            raise
        except (EngineError, OSError) as error:
            self.post_message(TextEnded(str(error)))
        finally:
            await pieces.aclose()

    @on(TextGrew)
    def _grow(self, message: TextGrew) -> None:
        if self._own is not None:
            self._own, self._own_note = message.text, "…"
            self._show_right()

    @on(TextEnded)
    def _end(self, message: TextEnded) -> None:
        self._is_writing = False
        self._own_note = (
            tr("Given up here.") if message.is_given_up else fmt.said(message.problem, keep_newlines=True)
        )
        self._show_right()

    def action_give_up(self) -> None:
        """End the writing; what was written stays."""
        self._give_up()

    def _give_up(self) -> None:
        self.workers.cancel_group(self, "text")

    def panel_to_maximise(self) -> Panel | None:
        """The text at the right, unless another panel has the focus."""
        return super().panel_to_maximise() or self.right
