"""The ground of the screens: header, footer, help, and the key that maximises a panel."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import getters
from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget

from tui.dialogs.dialog import WORDS_STYLE
from tui.dialogs.help import HelpDialog
from tui.dialogs.key_row import KEY_STYLE
from tui.language import tr
from tui.modes import MODES
from tui.own_keys import key
from tui.verbs import is_changing
from tui.widgets.header_line import HeaderLine
from tui.widgets.key_line import KeyLine
from tui.widgets.panel import Panel

if TYPE_CHECKING:
    from tui.app import LlmTui

KEYS_EVERYWHERE = """\
Everywhere
  1 to 8     Preflight, Run, Ledger, Runs, Plan, Settings, Samples, Log
  tab        the next panel
  z          the panel with the focus on the whole screen, and back
  ctrl+p     every command by its name
  ?          this help
  q          leave the app; a run that is going goes on
"""


def no_run_yet() -> Content:
    """What a screen about a run says where there is none, its keys as the footer has them."""
    said = tr(
        "No run yet. Press {checks} for the checks, and {start} there to start one.",
        checks=f"\0{key('app.preflight')}\0",
        start=f"\0{key('preflight.start')}\0",
    )
    parts = enumerate(said.split("\0"))
    return Content.assemble(*((part, KEY_STYLE if at % 2 else WORDS_STYLE) for at, part in parts))


class RoomScreen(Screen[None]):
    """A screen that belongs to a mode."""

    MODE: ClassVar[str]
    HELP_TEXT: ClassVar[str]
    """What the screen is for and its keys, in plain text."""
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]
    ALLOW_IN_MAXIMIZED_VIEW = f"{HeaderLine.__name__}, {KeyLine.__name__}"
    _offered: tuple[object, ...] = ()
    header = getters.query_one(HeaderLine)

    def __init__(self) -> None:
        super().__init__()
        # What Textual 8.2 would parse and apply once more for a screen that is new: it is styled as it is mounted.
        self._css_update_count = self.app._css_update_count

    def compose(self) -> ComposeResult:
        """Header, the screen's own widgets, footer."""
        yield HeaderLine(self.MODE, self.room_app.folder)
        yield from self.compose_room()
        yield KeyLine()

    def compose_room(self) -> ComposeResult:
        """The widgets between header and footer."""
        raise NotImplementedError

    @property
    def room_app(self) -> LlmTui:
        """The app, by its own type."""
        from tui.app import LlmTui

        assert isinstance(self.app, LlmTui)
        return self.app

    def on_mount(self) -> None:
        """Follow what the header tells."""
        self.watch(self.app, "snapshot", self._show_state)
        self.watch(self.app, "runs", self._show_state)
        self.watch(self.app, "own_keys", self._show_state)
        self.watch(self, "maximized", self.refresh_bindings, init=False)

    def _show_state(self) -> None:
        self.header.show(self.room_app.snapshot, self.room_app.runs)

    @property
    def active_bindings(self) -> dict[str, ActiveBinding]:
        """What can be done now; a viewer that is to read alone is offered nothing else."""
        found = super().active_bindings
        if not self.room_app.is_read_only:
            return found
        return {key: active for key, active in found.items() if not is_changing(active.binding.action)}

    def offer(self, *facts: object) -> None:
        """Let the footer follow what `check_action` goes by; the same facts again send nothing."""
        if facts != self._offered:
            self._offered = facts
            self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Zoom is offered where there is a panel in sight to show large."""
        if action == "toggle_maximised":
            return self.maximized is not None or self._can_maximise()
        return super().check_action(action, parameters)

    def _can_maximise(self) -> bool:
        if not self.is_mounted or (panel := self.panel_to_maximise()) is None:
            return False
        return all(node.display for node in panel.ancestors_with_self if isinstance(node, Widget))

    def panel_to_maximise(self) -> Panel | None:
        """The panel that z means: the one with the focus."""
        return self.focused if isinstance(self.focused, Panel) else None

    def action_toggle_maximised(self) -> None:
        """Give the panel the whole screen, or take it back."""
        if self.maximized is not None:
            self.minimize()
        elif panel := self.panel_to_maximise():
            self.maximize(panel, container=False)

    def action_show_help(self) -> None:
        """Help for this screen, and for the panel that has the focus."""
        app = self.room_app
        about = getattr(self.focused, "help_text", "") or getattr(self.focused, "HELP", None) or ""
        heading = self.focused.border_title if isinstance(self.focused, Panel) else tr("In the list")
        parts = [tr(self.HELP_TEXT.strip()), tr(KEYS_EVERYWHERE.strip())]
        if about:
            parts.insert(1, f"{heading}\n  {tr(about)}")
        text = "\n\n".join(parts)
        if app.own_keys:
            from tui.keymap import retold

            focused = self.focused.BINDINGS if self.focused is not None else []
            bindings = [b for b in (*app.BINDINGS, *focused, *self.BINDINGS) if isinstance(b, Binding)]
            text = retold(text, bindings, app.own_keys)
        title = next(mode.title for mode in MODES if mode.name == self.MODE)
        self.app.push_screen(HelpDialog(tr("Help: {screen}", screen=tr(title).lower()), text))
