"""Keys as sentences name them: the person's own where there are some, else the app's."""

from __future__ import annotations

from collections.abc import Mapping

from tui.language import mark, tr

DEFAULTS: Mapping[str, str] = {
    "app.preflight": "1",
    "app.run": "2",
    "app.ledger": "3",
    "app.settings": "6",
    "app.samples": "7",
    "app.log": "8",
    "app.zoom": "z",
    "run.detach": "d",
    "run.resume": "r",
    "run.unpause": "p",
    "preflight.again": "r",
    "preflight.apply": "a",
    "preflight.cancel": "c",
    "preflight.close": "x",
    "preflight.start": "s",
    "preflight.tick": mark("space"),
    "preflight.waive": "w",
    "settings.save": "ctrl+s",
    "stop.no": "n",
}
"""The keys that sentences name, by their binding; the bindings themselves are read only where there are own ones."""

_own: dict[str, str] = {}


def use(keys: Mapping[str, str]) -> None:
    """Name these from now on: binding to its keys, as Textual takes them."""
    _own.clear()
    _own.update(keys)


def key(binding: str) -> str:
    """What to press, as it is told: `r`, `^s`."""
    own = _own.get(binding)
    if own is None:
        return tr(DEFAULTS[binding])
    from tui.keymap import shown

    return shown(own.partition(",")[0])
