"""The top line: where one is, which workspace this is, and how its run stands, on every screen."""

from __future__ import annotations

from pathlib import Path

from textual.events import Click

from engine.records import RunSnapshot, RunSummary
from tui import format as fmt
from tui.modes import MODES
from tui.verbs import live_run, state_sign
from tui.widgets.lines import FAINT, MUTED, STRONG, Line, Lines, length, ruled

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
        self._left: Line = []

    def show(self, snapshot: RunSnapshot | None, runs: tuple[RunSummary, ...]) -> None:
        """Show how the run stands: the followed one on its screen, else the newest that is going."""
        if self._mode == "run" and snapshot is not None:
            sign, word, style = state_sign(snapshot.status, snapshot.is_stale)
            self._state = [(f"{sign} {word}", style)]
        elif live := live_run(runs):
            sign, word, style = state_sign(live.status, live.is_stale)
            self._state = [(f"{sign} {word}", style)]
        else:
            self._state = [("no run going", MUTED)]
        self.redraw()

    def draw(self, width: int, height: int) -> list[Line]:
        """Name and tabs at the left; workspace and state at the right, the workspace cropped first."""
        left: Line = [("llm-tui ", STRONG), *self._tabs(False)]
        if length(left) + length(self._state) + 2 > width:
            left = self._tabs(True)
        self._left = left
        room = width - length(left) - length(self._state) - 4
        folder: Line = [(_end_of(self._folder, room), FAINT)] if room >= 8 else []
        gap: Line = [("  ", MUTED)] if folder else []
        return [ruled(left, [*folder, *gap, *self._state], width)]

    def _tabs(self, is_narrow: bool) -> Line:
        """The screens by their keys; where it is narrow, only the current one has its whole name."""
        tabs: Line = []
        for key, mode in enumerate(MODES, start=1):
            is_current = mode.name == self._mode
            label = mode.short if is_narrow and not is_current else mode.title
            gap = "" if is_narrow and not is_current else " "
            tabs.append((f"{gap}{key} {label}{gap}", CURRENT if is_current else MUTED))
            if is_narrow:
                tabs.append((" ", MUTED))
        return tabs

    async def on_click(self, event: Click) -> None:
        """Go to the screen whose name was clicked."""
        x = event.get_content_offset(self)
        start = 0
        for text, _ in self._left:
            if x is not None and start <= x.x < start + len(text) and text.strip()[:1].isdigit():
                await self.app.run_action(f"app.switch_mode('{MODES[int(text.strip()[0]) - 1].name}')")
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
