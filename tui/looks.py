"""How the app looks on this terminal: theme, colours and characters, from the settings and the environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from engine.appearance import Appearance
from tui.theme import NIGHT, SIXTEEN

if TYPE_CHECKING:
    from textual.app import App
    from textual.filter import LineFilter

UNICODE, CONSOLE, ASCII = "unicode", "console", "ascii"


def characters_of(environ: Mapping[str, str], wanted: str) -> str:
    """What may be shown: `UNICODE`, `CONSOLE` (the 256 characters of a PC's console) or `ASCII`.

    A locale that is not named at all says nothing: most containers have none, and terminals read UTF-8 today.
    """
    if wanted in (UNICODE, ASCII):
        return wanted
    locale = next((environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(name)), "")
    if locale and not locale.lower().replace("-", "").partition("@")[0].endswith("utf8"):
        return ASCII
    return CONSOLE if environ.get("TERM") == "linux" else UNICODE


class Looks:
    """The app's theme and what stands between it and the terminal."""

    def __init__(self, appearance: Appearance, environ: Mapping[str, str]) -> None:
        self._appearance = appearance
        self.characters = characters_of(environ, appearance.characters)
        self._is_colourless = "NO_COLOR" in environ
        self._terminal = environ.get("TERM", "")
        self.filters: list[LineFilter] = []
        if self._is_colourless or self.characters != UNICODE:
            from tui.charset import CharacterFilter, ColourlessFilter

            if self._is_colourless:
                self.filters.append(ColourlessFilter())
            if self.characters != UNICODE:
                self.filters.append(CharacterFilter(has_lines=self.characters == CONSOLE))

    def behind(self, filters: Sequence[LineFilter]) -> Sequence[LineFilter]:
        """Textual's own filters with ours behind them; its greys are colours too where there are to be none."""
        if not self.filters:
            return filters
        from textual.filter import Monochrome

        kept = [f for f in filters if not (self._is_colourless and isinstance(f, Monochrome))]
        return [*kept, *self.filters]

    def put_on(self, app: App[str | None]) -> str:
        """Put on the theme; the answer is what is wrong with the one that was asked for, or nothing."""
        app.register_theme(NIGHT)
        app.register_theme(SIXTEEN)
        wanted = self._appearance.theme or NIGHT.name
        problem = ""
        # TEXTUAL_THEME goes before a setting that was never changed.
        if app.theme == "textual-dark" or wanted != NIGHT.name:
            if wanted not in app.available_themes:
                problem, wanted = wanted, NIGHT.name
            is_poor = app.console.color_system == "standard" and self._terminal not in ("", "dumb")
            if wanted == NIGHT.name and is_poor:
                wanted = SIXTEEN.name
            if wanted in (NIGHT.name, SIXTEEN.name):
                # Not watched: a watched theme has every style parsed and applied once more before the first paint.
                app.set_reactive(type(app).theme, wanted)
                app.stylesheet.set_variables(app.get_css_variables())
            else:
                app.theme = wanted
        self.follow_theme(app.get_css_variables())
        return problem

    def follow_theme(self, variables: Mapping[str, str]) -> None:
        """Without colours, the grounds that tell where the cursor is are those of the theme."""
        if self._is_colourless:
            from tui.charset import ColourlessFilter

            for line_filter in self.filters:
                if isinstance(line_filter, ColourlessFilter):
                    line_filter.mark(*(variables.get(name, "") for name in _CURSORS))


_CURSORS = (
    "block-cursor-background",
    "block-cursor-blurred-background",
    "primary",
    "input-selection-background",
)
