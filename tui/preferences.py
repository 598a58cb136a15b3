"""What a person prefers, taken up once the first screen stands, and a theme that is chosen in the app."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import EngineError
from tui import format as fmt
from tui import own_keys
from tui.language import tr
from tui.messages import CallFailed
from tui.threads import in_thread

if TYPE_CHECKING:
    from engine.appearance import Appearance
    from tui.app import LlmTui
    from tui.looks import Looks


async def take_up(app: LlmTui, appearance: Appearance, unknown_theme: str) -> None:
    """Put the person's own keys in force, and say what of the looks and the keys cannot be had."""
    problems: list[str] = []
    if unknown_theme:
        names = ", ".join(sorted(app.available_themes))
        text = tr("ui.theme = {theme!r} is no theme. There are: {names}.", theme=unknown_theme, names=names)
        problems.append(text)
    own_keys.use({})
    if appearance.keys:
        from tui.keymap import resolve

        keys, unused = await in_thread(resolve, appearance.keys)
        app.own_keys = keys
        app.set_keymap(keys)
        own_keys.use(keys)
        problems += unused
    for problem in problems:
        app.notify(fmt.clean(problem), title="settings.toml", severity="warning", timeout=15, markup=False)


async def keep_theme(app: LlmTui, looks: Looks, name: str) -> None:
    """Remember a theme in settings.toml, where there is one and it may be written."""
    looks.follow_theme(app.theme_variables)
    if app.is_read_only or not await in_thread(app.bridge.has_settings):
        return
    try:
        await in_thread(app.bridge.keep_theme, name)
    except (EngineError, OSError) as error:
        app.post_message(CallFailed(getattr(error, "title", str(error)), getattr(error, "remedy", "")))
