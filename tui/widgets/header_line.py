"""The top line: where one is, which workspace this is, and how its run stands, on every screen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from textual.events import Click

from engine import __version__
from tui import format as fmt
from tui.language import tr
from tui.modes import MODES
from tui.verbs import live_run, state_sign
from tui.widgets.lines import DOUBTFUL, FAINT, MUTED, STRONG, Line, Lines, length, ruled

if TYPE_CHECKING:
    from engine.records import RunSnapshot, RunSummary

CURRENT = "header-line--current"


class HeaderLine(Lines):
    """The screens by their keys, the workspace, the run's state."""

    COMPONENT_CLASSES = {CURRENT}
    DEFAULT_CSS = """
    HeaderLine {
        dock: top; height: 1; background: $panel; padding: 0 1;
        & > .header-line--current { color: $background; background: $primary; text-style: bold; }
    }
    """

    def __init__(self, mode: str, folder: Path) -> None:
        super().__init__()
        self._mode = mode
        self._folder = fmt.clean(_short(folder))
        self._state: Line = []
        self._note: Line = []
        self._has_run = False
        self._left: Line = []
        self._modes: dict[str, str] = {}
        """The names of the screens by their tabs as drawn."""

    def show(self, snapshot: RunSnapshot | None, runs: tuple[RunSummary, ...]) -> None:
        """Show how the run stands: the followed one on its screen, else the newest that is going."""
        shown = snapshot if self._mode == "run" and snapshot is not None else live_run(runs)
        self._has_run = shown is not None
        if shown is None:
            is_read = bool(runs) or getattr(self.app, "followed_id", None) is None
            self._state = [(tr("no run going") if is_read else tr("reading …"), MUTED)]
        else:
            sign, word, style = state_sign(shown.status, shown.is_stale)
            self._state = [(f"{sign} {word}", style)]
        self._note = []
        if shown is not None and shown.version not in ("", __version__):
            self._note += [
                (tr("run by {version}", version=fmt.clean(shown.version)), DOUBTFUL),
                ("  ", MUTED),
            ]
        if getattr(self.app, "is_read_only", False):
            self._note += [(tr("read-only"), STRONG), ("  ", MUTED)]
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """Name and tabs at the left; workspace and state at the right, the workspace cropped first."""
        left: Line = [("llm-tui ", STRONG), *self._tabs(False)]
        state: Line = [*self._note, *self._state]
        if length(left) + length(state) + 2 > width:
            left = self._tabs(True)
        if self._note and length(left) + length(state) + 1 > width:
            # Where nothing goes on, what kind of viewer this is says more.
            state = [*self._note[-2:], *self._state] if self._has_run else [*self._note[-2:-1]]
        self._left = left
        room = width - length(left) - length(state) - 4
        folder: Line = [(_end_of(self._folder, room), FAINT)] if room >= 8 else []
        gap: Line = [("  ", MUTED)] if folder else []
        return [ruled(left, [*folder, *gap, *state], width)]

    def _tabs(self, is_narrow: bool) -> Line:
        """The screens by their keys; where it is narrow, only the current one has its whole name."""
        tabs: Line = []
        own = getattr(self.app, "own_keys", {})
        for number, mode in enumerate(MODES, start=1):
            is_current = mode.name == self._mode
            key = own.get(f"app.{mode.name}", str(number)).partition(",")[0]
            label = tr(mode.short if is_narrow and not is_current else mode.title)
            gap = "" if is_narrow and not is_current else " "
            tab = f"{gap}{key} {label}{gap}"
            self._modes[tab] = mode.name
            tabs.append((tab, CURRENT if is_current else MUTED))
            if is_narrow:
                tabs.append((" ", MUTED))
        return tabs

    async def on_click(self, event: Click) -> None:
        """Go to the screen whose name was clicked."""
        x = event.get_content_offset(self)
        start = 0
        for text, _ in self._left:
            name = self._modes.get(text)
            if x is not None and start <= x.x < start + len(text) and name:
                await self.app.run_action(f"app.switch_mode('{name}')")
                return
            start += len(text)


def _end_of(text: str, width: int) -> str:
    """The last `width` characters, with an ellipsis for what came before."""
    return text if len(text) <= width else "…" + text[1 - width :]


def _short(folder: Path) -> str:
    try:
        home = Path.home()
    except RuntimeError:  # a user without a name and without HOME, as in many containers
        return str(folder)
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) and folder != home else str(folder)
