"""The settings screen: settings.toml as a form, checked as one types, with what a change does before it is saved.

The facts about the keys, the checks and the saving are the engine's; here they are laid out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import getters, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.widgets import Input, Static

from engine.errors import EngineError, SettingsError
from tui import format as fmt
from tui.language import mark, tr
from tui.late_messages import EffectArrived, FormArrived, SettingsSaved, ValueChecked
from tui.screens.room import RoomScreen
from tui.screens.settings_change import changes_since, effect_of
from tui.threads import in_thread
from tui.verbs import live_run
from tui.widgets.effect_panel import EffectPanel
from tui.widgets.line_input import LineInput, PromptLine
from tui.widgets.panel import Panel
from tui.widgets.rows import Rows
from tui.widgets.settings_panels import (
    Changes,
    KeyPanel,
    SettingsRows,
    changed_text,
    frame_text,
    next_choice,
    saved_text,
    settled,
    still_changed,
    value_of,
    why_none,
)

if TYPE_CHECKING:
    from engine.estimate import Estimate
    from engine.settings_edit import KeyForm, SettingsForm

_WORKING = mark("Working out what it does …")


class SettingsScreen(RoomScreen):
    """Holds the changes that are not saved, and asks the engine what to make of them."""

    MODE = "settings"
    CSS_PATH = "settings.tcss"
    AUTO_FOCUS = "SettingsRows"
    HELP_TEXT = """
settings.toml as a form: what every key is for, what it
takes, its default, and what a change does to memory, hours
and money. Nothing is written before ctrl+s; the comments and
the order of the file stay. A run that is going keeps the
settings it began with: they are frozen in its folder.

  enter    edit the selected key; enter again takes the value
  escape   leave it as it was
  space    the next value, where there are only a few
  d        back to the default
  u        undo the change of the selected key
  /        show only keys that hold a word; escape shows all
  ctrl+s   save
  r        read the file again; what is not saved stays
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "save", "Save", tooltip="Write the changes into settings.toml", id="settings.save"),
        Binding("enter", "edit", "Edit", tooltip="Change the selected key", id="settings.edit"),
        Binding("enter", "write", "Write settings.toml", id="settings.write"),
        Binding("space", "next_value", "Next value", id="settings.next"),
        Binding("d", "take_default", "Default", tooltip="Back to the default", id="settings.default"),
        Binding("u", "undo", "Undo", tooltip="As the file has it", id="settings.undo"),
        Binding("slash", "filter", "Filter", key_display="/", id="settings.filter"),
        Binding("escape", "show_all", "All keys", id="settings.all"),
        Binding("r", "read_form", "Read again", show=False, id="settings.read"),
    ]
    rows = getters.query_one("#keys", SettingsRows)
    about = getters.query_one("#about", KeyPanel)
    effect = getters.query_one("#effect", EffectPanel)
    value_line = getters.query_one("#value", LineInput)
    filter_line = getters.query_one("#filter", LineInput)

    def compose_room(self) -> ComposeResult:
        """The keys with the line that edits one, and beside or below them what they mean and do."""
        yield Static("", id="nothing", markup=False)
        with Container(id="form"):
            with Container(id="list"):
                yield SettingsRows(id="keys")
                yield LineInput(id="value")
            with Container(id="facts"):
                yield KeyPanel(id="about")
                yield EffectPanel(id="effect")
        yield PromptLine("/", tr("part of a key's name or reason"), id="filter")

    def on_mount(self) -> None:
        """Nothing was read yet."""
        super().on_mount()
        self._form: SettingsForm | None = None
        self._changes: dict[str, str | None] = {}
        self._state = 0
        """Counts what the form has been, so that an answer about an older one is known as such."""
        self._shown_state = -1
        self._saves_when_shown = False
        self._saving: tuple[SettingsForm, Changes] | None = None
        """What is being saved, from then on until the file was read again: the form and its changes."""
        self._is_saved = False
        """Whether of that only the reading is left."""
        self._before: Estimate | None = None
        self._after: Estimate | None = None
        self._editing: KeyForm | None = None
        self._problem = self._wants = ""
        self.watch(self.app, "runs", self._tell_frozen)

    def on_screen_resume(self) -> None:
        """The file may have been changed elsewhere."""
        self.action_read_form()

    # --- reading ------------------------------------------------------------------------------------------------

    @work(exclusive=True, group="form", exit_on_error=False)
    async def action_read_form(self) -> None:
        """Read the file."""
        try:
            self.post_message(FormArrived(await in_thread(self.room_app.bridge.settings_form)))
        except (EngineError, OSError) as error:
            self.post_message(
                FormArrived(None, getattr(error, "title", str(error)), getattr(error, "remedy", ""))
            )

    @on(FormArrived)
    def _take_form(self, message: FormArrived) -> None:
        if self._saving is not None and not self._is_saved:
            return
        old, form, saving = self._form, message.form, self._saving
        self._saving = None
        if form is not None and form == old and saving is None and self._shown_state == self._state:
            return
        is_usable = form is not None and form.text is not None and bool(form.keys)
        self.set_class(not is_usable, "-empty")
        if not is_usable:
            self._form = form
            self.query_one("#nothing", Static).update(Content(why_none(form, message.title, message.remedy)))
            self.offer("none", form is not None and form.text is None)
            return
        assert form is not None
        if saving is not None:
            self._changes = changes_since(*saving, self._changes)
        elif old is not None and changed_text(old, form):
            self.notify(changed_text(old, form), title="settings.toml", markup=False)
        self._form = form
        self._changes = still_changed(form, self._changes)
        self._before = None
        self._has_changed()

    # --- showing ------------------------------------------------------------------------------------------------

    def _has_changed(self) -> None:
        """Show the form as it is now, and ask what it does."""
        self._state += 1
        self.room_app.num_unsaved = len(self._changes)
        self._problem, self._wants = self._form.problem if self._form and not self._changes else "", ""
        self._show()
        self._work_out()

    def _show(self) -> None:
        if self._form is None:
            return
        self.rows.show(self._form, self._changes, self.filter_line.value if self.filter_line.is_open else "")
        self.filter_line.tell(tr("{shown} of {num} keys", shown=self.rows.num_keys, num=len(self._form.keys)))
        self._tell()
        self._show_key()

    def _tell(self) -> None:
        is_editing = self.value_line.is_open
        self.rows.set_subtitle(frame_text(len(self._changes), self.rows.num_hidden, is_editing=is_editing))

    @on(Rows.Moved)
    def _leave_row(self) -> None:
        """What was typed for a key that the cursor has left is taken, if it may stand."""
        key, selected = self._editing, self.rows.selected
        if key is not None and (selected is None or selected.dotted != key.dotted):
            if self.value_line.value != value_of(key, self._changes):
                self._check(key, self.value_line.value, is_final=True)
            self._stop_editing()
        self._show_key()

    def _show_key(self) -> None:
        key = self.rows.selected
        self.about.show(key, self._changes, self._problem, self._wants)
        is_filtered, is_editing = self.filter_line.is_open, self.value_line.is_open
        self.offer(key and key.dotted, tuple(self._changes), is_filtered, is_editing)

    def _tell_frozen(self) -> None:
        run = live_run(self.room_app.runs)
        self.effect.set_subtitle(tr("{id} keeps its own, frozen", id=fmt.clean(run.id)) if run else "")

    @work(exclusive=True, group="effect", exit_on_error=False)
    async def _work_out(self) -> None:
        """Estimate what is on the disk, once, and what the changes make of it."""
        bridge, form, changes, number = self.room_app.bridge, self._form, dict(self._changes), self._state
        if form is None:
            return
        self.effect.show(self._before, None, tr(_WORKING), is_bad=False)
        before, after, problem = self._before, None, ""
        if before is None:
            before, problem = await effect_of(bridge, form, {})
        if changes:
            after, problem = await effect_of(bridge, form, changes)
        self.post_message(EffectArrived(number, before, after, problem))

    @on(EffectArrived)
    def _show_effect(self, message: EffectArrived) -> None:
        if message.number != self._state:
            return
        self._before, self._after, self._shown_state = message.before, message.after, message.number
        title = mark("What the changes do") if self._changes else mark("What a run of these takes")
        self.effect.border_title = tr(title)
        before = message.before or message.after
        self.effect.show(before, message.after, message.problem, is_bad=bool(message.problem))
        if self._saves_when_shown and self._saving is None:
            self._saves_when_shown = False
            if self._changes:
                self._save()

    # --- changing -----------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what makes no sense now."""
        if not self.is_mounted or not hasattr(self, "_form"):
            return super().check_action(action, parameters)
        is_usable = self._form is not None and self._form.text is not None and bool(self._form.keys)
        is_typing = self.focused in (self.value_line, self.filter_line)
        key = self.rows.selected if is_usable else None
        if action == "write":
            return self._form is not None and self._form.text is None
        if action == "save":
            return is_usable and (True if self._changes else None)
        if action in ("edit", "filter"):
            return is_usable and not is_typing
        if action == "next_value":
            return key is not None and bool(key.choices) and not is_typing
        if action == "take_default":
            return key is not None and value_of(key, self._changes) != key.default and not is_typing
        if action == "undo":
            return key is not None and key.dotted in self._changes and not is_typing
        if action == "show_all":
            return (self.filter_line.is_open or self.value_line.is_open) and not is_typing
        return super().check_action(action, parameters)

    def action_edit(self) -> None:
        """Open the line on the selected row, or go on in it."""
        if self.value_line.is_open:
            self.value_line.focus()
        if (key := self.rows.selected) is None or self.value_line.is_open:
            return
        self._editing = key
        self.value_line.styles.offset = (2 + self.rows.VALUE_AT, 1 + self.rows.cursor - self.rows.top)
        self.value_line.styles.width = max(12, self.rows.size.width - self.rows.VALUE_AT)
        self.value_line.placeholder = key.expected
        self.value_line.password = key.is_secret
        self.value_line.open(value_of(key, self._changes))
        self._tell()
        self._show_key()

    @on(Input.Changed, "#value")
    def _look_at_typed(self, event: Input.Changed) -> None:
        if self._editing is not None and self.value_line.is_open:
            self._check(self._editing, event.value, is_final=False)

    @on(Input.Submitted, "#value")
    def _take_typed(self, event: Input.Submitted) -> None:
        if self._editing is not None:
            self._check(self._editing, event.value, is_final=True)

    def _check(self, key: KeyForm, text: str, *, is_final: bool) -> None:
        """Ask the engine about a value; of those that were given, one for the same key alone takes another's place."""
        group = f"given-{key.dotted}" if is_final else "check"
        self.run_worker(self._ask(key, text, is_final), group=group, exclusive=True, exit_on_error=False)

    async def _ask(self, key: KeyForm, text: str, is_final: bool) -> None:
        """An empty value is the default."""
        if (form := self._form) is None:
            return
        value = text.strip() or key.default or None
        changes = {**self._changes, key.dotted: value}
        problem = wants = ""
        try:
            await in_thread(self.room_app.bridge.check_settings, form, changes)
        except SettingsError as error:
            problem, wants = str(error), error.expected if error.dotted == key.dotted else ""
        except (EngineError, OSError) as error:
            problem = str(error)
        self.post_message(ValueChecked(key.dotted, value or "", problem, is_final, wants))

    @on(ValueChecked)
    def _take_verdict(self, message: ValueChecked) -> None:
        """Of what was only typed it counts for the key that is edited, of what was given for the key wherever it is."""
        shown, form = self._editing or self.rows.selected, self._form
        is_shown = shown is not None and shown.dotted == message.dotted
        if message.is_final and not message.problem and form is not None:
            if self._editing is not None and is_shown:
                self._stop_editing()
            for key in form.keys:
                if key.dotted == message.dotted:
                    self._changes[key.dotted] = settled(key, message.text or None)
            self._changes = still_changed(form, self._changes)
            self._has_changed()
        elif is_shown:
            self._problem, self._wants = message.problem, message.wants
            self._show_key()
        elif message.is_final:
            self.notify(fmt.said(message.problem, keep_newlines=True), severity="warning", markup=False)

    @on(LineInput.Left, "#value")
    def _leave_value(self) -> None:
        if self._editing is not None:
            self.workers.cancel_group(self, f"given-{self._editing.dotted}")
        self._problem = self._wants = ""
        self._stop_editing()
        self._show_key()

    def _stop_editing(self) -> None:
        self._editing = None
        if self.focused in (None, self.value_line):
            self.rows.focus()
        self.value_line.close()
        self._tell()

    def action_next_value(self) -> None:
        """The next of the few values that the key takes."""
        if (key := self.rows.selected) is not None and key.choices:
            self._check(key, next_choice(key, self._changes), is_final=True)

    def action_take_default(self) -> None:
        """Back to the default."""
        if (key := self.rows.selected) is not None:
            self._check(key, "", is_final=True)

    def action_undo(self) -> None:
        """As the file has it."""
        if (key := self.rows.selected) is not None and key.dotted in self._changes:
            self.workers.cancel_group(self, f"given-{key.dotted}")
            del self._changes[key.dotted]
            self._has_changed()

    # --- the filter ---------------------------------------------------------------------------------------------

    def action_filter(self) -> None:
        """Open the line above the keys."""
        self.filter_line.open(self.filter_line.value)

    @on(Input.Changed, "#filter")
    def _filter(self) -> None:
        self._show()

    @on(Input.Submitted, "#filter")
    def _go_to_found(self) -> None:
        if not self.filter_line.value:
            self.filter_line.close()
        self.rows.focus()
        self._show_key()

    def action_show_all(self) -> None:
        """Leave the value that is still being typed, or else take the filter away."""
        if self.value_line.is_open:
            self._leave_value()
        else:
            self._end_filter()

    @on(LineInput.Left, "#filter")
    def _end_filter(self) -> None:
        self.filter_line.close()
        self.filter_line.value = ""
        self.rows.focus()
        self._show()

    # --- saving -------------------------------------------------------------------------------------------------

    async def action_write(self) -> None:
        """Write the documented file, where there is none."""
        try:
            await in_thread(self.room_app.bridge.write_settings)
        except (EngineError, OSError) as error:
            self.notify(fmt.said(str(error), keep_newlines=True), severity="error", markup=False)
        self.action_read_form()

    def action_save(self) -> None:
        """Save, once it was shown what the changes do."""
        if self.value_line.is_open:
            self.value_line.focus()
            self.notify(tr("Take the value with enter, or leave it with escape, first."), markup=False)
        elif self._saving is not None:
            self._saves_when_shown = (
                True  # what has changed since; that two presses save twice is nobody's wish
            )
        elif self._shown_state == self._state:
            self._save()
        elif not self._saves_when_shown:
            self._saves_when_shown = True
            self.notify(tr("Saved as soon as it stands there what the changes do."), markup=False)

    def _save(self) -> None:
        """Write the changes; nothing else is saved meanwhile."""
        if self._form is not None:
            self._saving, self._is_saved = (self._form, dict(self._changes)), False
            self._write(*self._saving)

    @work(group="save", exit_on_error=False)
    async def _write(self, form: SettingsForm, changes: Changes) -> None:
        try:
            await in_thread(self.room_app.bridge.save_settings, form, changes)
        except (EngineError, OSError) as error:
            title, remedy = getattr(error, "title", str(error)), getattr(error, "remedy", "")
            self.post_message(SettingsSaved(title, remedy))
        else:
            self.post_message(SettingsSaved())

    @on(SettingsSaved)
    def _tell_saved(self, message: SettingsSaved) -> None:
        if self._saving is None:
            return
        if message.title:
            self._saving, self._saves_when_shown = None, False
            text = fmt.said(f"{message.title}\n{message.remedy}".strip(), keep_newlines=True)
            self.notify(text, title=tr("Not saved"), severity="error", timeout=15, markup=False)
            return
        run = live_run(self.room_app.runs)
        text = saved_text(len(self._saving[1]), run.id if run else "")
        self.notify(text, title=tr("Saved"), markup=False)
        self._is_saved = True
        self.action_read_form()

    def panel_to_maximise(self) -> Panel | None:
        """What the changes do, unless another panel has the focus."""
        return super().panel_to_maximise() or self.effect
