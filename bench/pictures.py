"""Makes pictures of every screen in every state, to be looked at: SVG, and PNG where cairosvg is installed.

Run: python -m bench.pictures FOLDER [--workspace DIR] [--language az] [NAME ...]; NAME picks pictures by the beginning
of their file name. Without a workspace the facts are those of tests/tui/recorded; with one, its own, and only read.
"""

from __future__ import annotations

import asyncio
import html
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from tui import language
from tui.app import LlmTui
from tui.bridge import Bridge

CELL = 12.2
"""Width of a character in Textual's SVG."""
SIZES = ((80, 24), (120, 34), (200, 50))
AT = 1_795_548_513.0
"""The instant of which the recorded facts are told, so that pictures of one state are equal."""
Story = tuple[Callable[[], Any], tuple[str, ...]]
"""What makes the bridge anew for each size, and the keys."""
WAIT = "wait"
"""In place of a key: a second passes."""
REAL_S = 8.0
"""What a real workspace needs until checks and estimate stand on the screen."""


_STILL_S, _POLL_S = 0.15, 0.03
"""How long a screen stays as it is before it counts as through."""
_PATIENCE_S = 2.5


async def still(pilot: Pilot[Any], still_s: float = _STILL_S) -> None:
    """Wait until what is on the screen has stayed the same for that long."""
    deadline, same_since, before = time.monotonic() + _PATIENCE_S, time.monotonic(), None
    while (now := time.monotonic()) < deadline and now - same_since < still_s:
        await pilot.pause(_POLL_S)
        shown = [strip.text for strip in pilot.app.screen._compositor.render_strips()]
        if shown != before:
            same_since, before = time.monotonic(), shown


async def take(folder: Path, name: str, bridge: Any, keys: tuple[str, ...], size: tuple[int, int]) -> None:
    """One picture."""
    app = LlmTui(getattr(bridge, "folder", Path("/home/ana/gpt")), bridge)
    async with app.run_test(size=size, notifications=True) as pilot:
        await still(pilot, 2 * _POLL_S)
        for number, key in enumerate(keys):
            if key == WAIT:
                await pilot.pause(1.1)
                continue
            await pilot.press(key)
            # The same key again, and letters typed, need no look between them; behind the last one there is.
            is_typed = len(key) == 1 and len(keys[number - 1]) == 1
            is_last = number == len(keys) - 1
            if is_last or (number and (key == keys[number - 1] or is_typed)):
                await pilot.pause()
            else:
                await still(pilot)
        await (pilot.pause(REAL_S) if isinstance(bridge, Bridge) else still(pilot, 1.5 * _STILL_S))
        path = folder / f"{name}-{size[0]}x{size[1]}.svg"
        path.write_text(aligned(app.export_screenshot(title=name)), "utf-8")
    try:
        import cairosvg
    except ImportError:
        return
    svg = aligned(with_dots(path.read_text("utf-8").replace("Fira Code", "DejaVu Sans Mono")))
    cairosvg.svg2png(
        bytestring=svg.encode(), write_to=str(path.with_suffix(".png")), output_width=size[0] * 10
    )


def aligned(svg: str) -> str:
    """Begin each text at its first letter: the programs that draw SVG leave out the blanks before it."""

    def drawn(match: re.Match[str]) -> str:
        attributes, content = match.groups()
        text = html.unescape(content)
        bare = text.lstrip(" \u00a0")
        num = len(text) - len(bare)
        if not bare:
            return ""
        for name, change in (("x", num * CELL), ("textLength", -num * CELL)):
            attributes = re.sub(
                rf'( {name}=")([\d.]+)"',
                lambda found, change=change: f'{found[1]}{float(found[2]) + change:.1f}"',
                attributes,
            )
        return f"<text{attributes}>{_escaped(bare)}</text>" if num else match.group(0)

    return re.sub(r"<text([^>]*)>([^<]*)</text>", drawn, svg)


def _escaped(text: str) -> str:
    return html.escape(text, quote=False).replace("\u00a0", "&#160;")


def with_dots(svg: str) -> str:
    """Draw braille as dots: the fonts that cairosvg finds seldom have it."""

    def drawn(match: re.Match[str]) -> str:
        attributes, content = match.groups()
        text = html.unescape(content)
        if not any(0x2800 <= ord(character) <= 0x28FF for character in text):
            return match.group(0)
        kind = re.search(r'class="([^"]+)"', attributes).group(1)  # type: ignore[union-attr]
        x, y = (float(re.search(rf' {axis}="([^"]+)"', attributes).group(1)) for axis in "xy")  # type: ignore[union-attr]
        dots = [
            f'<rect class="{kind}" x="{x + (i + 0.15 + 0.5 * (bit in (3, 4, 5, 7))) * CELL:.1f}" '
            f'y="{y - 17 + 6 * {0: 0, 1: 1, 2: 2, 6: 3, 3: 0, 4: 1, 5: 2, 7: 3}[bit]:.1f}" width="4" height="4"/>'
            for i, character in enumerate(text)
            for bit in range(8)
            if 0x2800 <= ord(character) <= 0x28FF and (ord(character) - 0x2800) >> bit & 1
        ]
        blank = "".join("\u00a0" if 0x2800 <= ord(c) <= 0x28FF else c for c in text)
        return f"<text{attributes}>{html.escape(blank)}</text>{''.join(dots)}"

    return re.sub(r"<text([^>]*)>([^<]*)</text>", drawn, svg)


def real_stories(workspace: Path) -> dict[str, Story]:
    """The screens on a workspace of this machine."""
    keys = {
        "preflight": ("1", "r"),
        "run": ("2",),
        "ledger": ("3",),
        "runs": ("4",),
        "plan": ("5",),
        "settings": ("6",),
        "samples": ("7",),
        "log": ("8",),
    }
    return {f"real-{name}": (lambda: Bridge(workspace), pressed) for name, pressed in keys.items()}


def main() -> None:
    """All pictures, or those whose names begin as given."""
    # The same looks whatever terminal this is called from.
    os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", LC_ALL="C.UTF-8", TZ="UTC")
    os.environ.pop("NO_COLOR", None)
    time.tzset()
    folder, arguments = Path(sys.argv[1]), sys.argv[2:]
    if "--language" in arguments:
        at = arguments.index("--language")
        language.use(arguments[at + 1])
        del arguments[at : at + 2]
    told: Mapping[str, Story]
    if "--workspace" in arguments:
        at = arguments.index("--workspace")
        told = real_stories(Path(arguments[at + 1]))
        del arguments[at : at + 2]
    else:
        time.time = lambda: AT
        # Only now: the facts are told of the instant at which they are imported.
        from bench.picture_stories import stories

        told = stories()
    wanted = tuple(arguments)
    folder.mkdir(parents=True, exist_ok=True)
    for name, (make, keys) in told.items():
        for size in SIZES:
            if not wanted or f"{name}-{size[0]}x{size[1]}".startswith(wanted):
                asyncio.run(take(folder, name, make(), keys, size))


if __name__ == "__main__":
    main()
