"""What becomes of the changes of the settings form: what they do, and what is left of them after a save."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import EngineError
from tui.threads import in_thread

if TYPE_CHECKING:
    from engine.estimate import Estimate
    from engine.settings_edit import SettingsForm
    from tui.bridge import Bridge
    from tui.widgets.settings_panels import Changes


async def effect_of(bridge: Bridge, form: SettingsForm, changes: Changes) -> tuple[Estimate | None, str]:
    """What a run of the form with these changes takes, or why that cannot be told."""
    try:
        return await in_thread(bridge.estimate_of, form, changes), ""
    except (EngineError, OSError) as error:
        return None, str(error)


def changes_since(form: SettingsForm, saved: Changes, changes: Changes) -> dict[str, str | None]:
    """What is to be saved still, where `changes` of a form stand after `saved` of it was written.

    A change that was taken back meanwhile is one now: to what the file had before.
    """
    left = {name: value for name, value in changes.items() if name not in saved or saved[name] != value}
    before = {key.dotted: key.value if key.is_in_file else None for key in form.keys}
    return left | {name: before[name] for name in saved if name not in changes}
