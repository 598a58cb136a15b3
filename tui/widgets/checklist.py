"""The checklist: one line a check, in order, filled in as the verdicts come."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from engine.records import Check
from tui import format as fmt

EXPECTED = (
    "settings",
    "corpus",
    "device",
    "close-apps",
    "free-vram",
    "memory",
    "disk",
    "power",
    "sleep",
    "logout",
    "sensors",
    "temperature",
    "device-free",
    "rehearsal",
    "notify",
)
"""The checks in the order in which they are made; the person's own follow."""

_WORDS = {
    "pass": ("✓ pass   ", "$success"),
    "warn": ("! warn   ", "$warning"),
    "fail": ("✗ FAIL   ", "$error"),
    "waived": ("⊘ waived ", "$accent"),
    "skipped": ("– skipped", "$muted"),
    "running": ("… running", "$primary"),
    "waiting": ("· waiting", "$faint"),
}
_TITLE_WIDTH = 24


class CheckList(OptionList):
    """Checks by their ids; the highlighted one is what the detail is about."""

    HELP = "The checks in order. j and k or the arrows move; w waives a check that blocks, with a reason."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", "Down", show=False, id="checklist.down"),
        Binding("k", "cursor_up", "Up", show=False, id="checklist.up"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._prompts: dict[str, Content] = {}

    def show(self, verdicts: dict[str, Check], is_running: bool) -> None:
        """Show verdicts by their ids; what is expected and not there yet is running or waiting."""
        order = [*EXPECTED, *(check_id for check_id in verdicts if check_id not in EXPECTED)]
        if not is_running and verdicts:
            order = [check_id for check_id in order if check_id in verdicts]
        next_up = next((check_id for check_id in order if check_id not in verdicts), None)
        prompts = {
            check_id: _prompt(check_id, verdicts.get(check_id), is_running and check_id == next_up)
            for check_id in order
        }
        if list(prompts) != list(self._prompts):
            highlighted = self.highlighted
            self.set_options([Option(prompt, id=check_id) for check_id, prompt in prompts.items()])
            self.highlighted = min(highlighted or 0, len(prompts) - 1) if prompts else None
        else:
            for check_id, prompt in prompts.items():
                if prompt != self._prompts[check_id]:
                    self.replace_option_prompt(check_id, prompt)
        self._prompts = prompts

    @property
    def selected_id(self) -> str | None:
        """The id of the highlighted check."""
        return None if self.highlighted is None else self.get_option_at_index(self.highlighted).id


def _prompt(check_id: str, check: Check | None, is_next: bool) -> Content:
    word, colour = _WORDS[check.status if check else "running" if is_next else "waiting"]
    title = fmt.clean(check.title) if check else check_id
    evidence = fmt.clean(check.evidence) if check else ""
    is_quiet = check is None or check.status in ("pass", "skipped")
    return Content.assemble(
        (word, f"bold {colour}" if check else colour),
        (
            "  "
            + (title if len(title) < _TITLE_WIDTH else title[: _TITLE_WIDTH - 2] + "…").ljust(_TITLE_WIDTH)
        ),
        (evidence, "$muted" if is_quiet else "$foreground"),
    )
