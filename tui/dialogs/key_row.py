"""The last row of a dialog: the keys that answer it, the person's own in their places."""

from __future__ import annotations

import re
from typing import Any

from textual.binding import Binding
from textual.content import Content
from textual.screen import Screen

KEY_STYLE = "bold $primary"
_GRAVE_STYLE = "$error"
_GAP, _NARROW_GAP = 6, 3


def key_row(screen: Screen[Any], keys: str, width: int, *, is_grave: bool = False) -> Content:
    """`keys` is what a dialog answers to: a key, two blanks, what it does; four blanks or more between them.

    The first is told as grave where it cannot be taken back.
    """
    answers = [_own(screen, part) for part in re.split(r" {4,}", keys) if part]
    gap = _GAP if sum(map(len, answers)) + _GAP * (len(answers) - 1) <= width else _NARROW_GAP
    told = Content("")
    for number, answer in enumerate(answers):
        key, between, words = answer.partition("  ")
        is_red = is_grave and not number
        told += Content(" " * gap if number else "")
        told += Content.styled(key, f"bold {_GRAVE_STYLE}" if is_red else KEY_STYLE) + Content(between)
        told += Content.styled(words, _GRAVE_STYLE) if is_red else Content(words)
    return told


def _own(screen: Screen[Any], answer: str) -> str:
    own = getattr(screen.app, "own_keys", {})
    if not own:
        return answer
    from tui.keymap import retold

    return retold(answer, [each for each in screen.BINDINGS if isinstance(each, Binding)], own)
