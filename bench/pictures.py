"""Makes pictures of every screen in every state, to be looked at: SVG, and PNG where cairosvg is installed.

Run: python -m bench.pictures FOLDER [--workspace DIR] [--language az] [NAME ...]; NAME picks pictures by the beginning
of their file name. Without a workspace the facts are those of tests/tui/recorded.py; with one, its own, and only read.
"""

from __future__ import annotations

import asyncio
import html
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from tests.tui.recorded import (
    RecordedBridge,
    checks,
    closings,
    digest,
    entry,
    estimated,
    in_state,
    program,
    unticked,
)
from tui import language
from tui.app import LlmTui
from tui.bridge import Bridge

CELL = 12.2
"""Width of a character in Textual's SVG."""
SIZES = ((80, 24), (120, 34), (200, 50))
RUN_STATES = (
    "running",
    "gpu",
    "preparing",
    "ramp",
    "paused",
    "stale",
    "abandoned",
    "failed",
    "stopped",
    "finished",
)
ENTRIES = (
    entry("1123-192601-tiny-ab12", 60),
    entry(
        "1122-080000-134m-77ff",
        90_000,
        state="stopped",
        preset="134m",
        device="NVIDIA GeForce RTX 2050",
        tokens=212_000_000,
        elapsed_s=201_000,
        gpu_energy_j=6.4e6,
        machine_energy_j=None,
        energy_source=None,
        cost=None,
        gpu_celsius_max=78.0,
        gpu_watts_max=39.0,
    ),
    entry("1120-211500-tiny-03c9", 260_000, waivers='{"power": "the socket is on a UPS"}'),
)


def stories() -> dict[str, tuple[Any, tuple[str, ...]]]:
    """Name to the bridge and the keys that lead to the picture."""
    found: dict[str, tuple[Any, tuple[str, ...]]] = {
        f"run-{state}": (RecordedBridge(in_state(state)), ("2",)) for state in RUN_STATES
    }
    away = RecordedBridge(in_state("gpu"))
    away.digest = digest()
    moving = RecordedBridge(in_state("gpu"))
    moving.plan = estimated(move=True)
    many = RecordedBridge(in_state("running"), entries=ENTRIES)
    for index, state in enumerate(("finished", "failed", "stopped")):
        shot = in_state(state)
        many.shots[f"112{index}-080000-tiny-0{index}ff"] = shot
    found |= preflight_stories() | {
        "run-empty": (RecordedBridge(), ("2",)),
        "run-help": (RecordedBridge(in_state("running")), ("2", "question_mark")),
        "run-stop": (RecordedBridge(in_state("running")), ("2", "x")),
        "run-zoom": (RecordedBridge(in_state("running")), ("2", "z")),
        "welcome": (RecordedBridge(has_settings=False), ()),
        "ledger": (many, ("3",)),
        "ledger-empty": (RecordedBridge(), ("3",)),
        "runs": (many, ("4",)),
        "runs-marked": (many, ("4", "space", "space", "space")),
        "runs-filter": (many, ("4", "slash", *"tiny -failed")),
        "runs-tags": (many, ("4", "j", "t", *"best")),
        "runs-delete": (many, ("4", "j", "D")),
        "runs-overlay": (many, ("4", "space", "space", "space", "o", *["left"] * 5)),
        "runs-help": (many, ("4", "question_mark")),
        "run-cursor": (RecordedBridge(in_state("gpu")), ("2", *["left"] * 9)),
        "run-smooth": (RecordedBridge(in_state("gpu")), ("2", "y", "m", "plus", "z")),
        "run-hour": (RecordedBridge(in_state("gpu")), ("2", *["plus"] * 3, "comma")),
        "run-sensors": (RecordedBridge(in_state("gpu")), ("2", "tab", "tab", "z")),
        "plan": (RecordedBridge(), ("5",)),
        "plan-move": (moving, ("5",)),
        "run-away": (away, ()),
        "settings": (RecordedBridge(in_state("running")), ("6",)),
        "settings-changed": (
            RecordedBridge(),
            ("6", "space", "space", *"/tokens", "enter", "j", "j", *("enter", "ctrl+u"), *"5000000", "enter"),
        ),
        "settings-refused": (RecordedBridge(), ("6", "j", "enter", *"12x")),
        "samples": (RecordedBridge(in_state("running")), ("7",)),
        "samples-ask": (RecordedBridge(in_state("running")), ("7", "p")),
        "samples-own": (RecordedBridge(in_state("running")), ("7", "p", *"for x", "enter")),
        "samples-empty": (RecordedBridge(), ("7",)),
        "log": (RecordedBridge(in_state("running")), ("8",)),
        "log-search": (RecordedBridge(in_state("running")), ("8", "slash", *"step 12", "enter")),
        "log-warnings": (RecordedBridge(in_state("failed")), ("8", "l")),
        "log-empty": (RecordedBridge(), ("8",)),
        "settings-help": (RecordedBridge(), ("6", "question_mark")),
    }
    return found


def preflight_stories() -> dict[str, tuple[Any, tuple[str, ...]]]:
    """The checks before a run in every state, and the dialogs that mend them."""
    clear, checking, own = RecordedBridge(), RecordedBridge(), RecordedBridge()
    clear.verdicts = checks(blocking=False)
    checking.slow = {"device": 3.0}
    checking.known = tuple(replace(check, at=time.time() - 11_000) for check in checks(blocking=False))
    own.verdicts = unticked()
    killed = RecordedBridge()
    blender, firefox, content = (killed.open.processes[index] for index in (0, 2, 4))
    told = closings((blender, "still-there"), (firefox, "closed"), (content, "gone"))
    killed.closing_reports = [replace(told, came_back=(program(5120, "firefox", age_s=1.0),))]
    closing = RecordedBridge()
    closing.close_s = 3.0
    closing.closing_reports = [told]
    empty = RecordedBridge()
    empty.open = replace(empty.open, processes=())
    quiet = RecordedBridge()
    quiet.open = replace(
        quiet.open,
        processes=tuple(replace(process, gpu_bytes=None) for process in quiet.open.processes),
        note="The driver does not tell how much GPU memory each program holds, as under WSL2: the order is by RAM.",
    )
    return {
        "preflight-locked": (RecordedBridge(), ("1",)),
        "preflight-clear": (clear, ("1",)),
        "preflight-checking": (checking, ("1", "1", "1", "1", "1", "1", "1", "1", "1")),
        "preflight-figures": (clear, ("1", "j", "j", "j", "j")),
        "preflight-large": (RecordedBridge(), ("1", "enter")),
        "preflight-lock-told": (RecordedBridge(), ("1", "s")),
        "preflight-waive": (RecordedBridge(), ("1", "w", *"test")),
        "preflight-tick": (own, ("1", "space")),
        "preflight-help": (clear, ("1", "question_mark")),
        "close-list": (RecordedBridge(), ("1", "x", "a")),
        "close-not-told": (quiet, ("1", "x", "j")),
        "close-none": (empty, ("1", "x")),
        "close-question": (RecordedBridge(), ("1", "x", "a", "enter")),
        "close-waiting": (closing, ("1", "x", "a", "enter", "y")),
        "close-kill": (killed, ("1", "x", "a", "enter", "y")),
        "close-told": (killed, ("1", "x", "a", "enter", "y", "n")),
    }


REAL_S = 8.0
"""What a real workspace needs until checks and estimate stand on the screen."""


async def take(folder: Path, name: str, bridge: Any, keys: tuple[str, ...], size: tuple[int, int]) -> None:
    """One picture."""
    app = LlmTui(getattr(bridge, "folder", Path("/home/ana/gpt")), bridge)
    async with app.run_test(size=size, notifications=True) as pilot:
        for _ in range(4):
            await pilot.pause(0.05)
        for key in keys:
            await pilot.press(key)
            await pilot.pause(0.15)
        await pilot.pause(REAL_S if isinstance(bridge, Bridge) else 0.3)
        path = folder / f"{name}-{size[0]}x{size[1]}.svg"
        path.write_text(app.export_screenshot(title=name), "utf-8")
    try:
        import cairosvg
    except ImportError:
        return
    svg = with_dots(path.read_text("utf-8").replace("Fira Code", "DejaVu Sans Mono"))
    cairosvg.svg2png(
        bytestring=svg.encode(), write_to=str(path.with_suffix(".png")), output_width=size[0] * 10
    )


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


def real_stories(workspace: Path) -> dict[str, tuple[Any, tuple[str, ...]]]:
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
    return {f"real-{name}": (Bridge(workspace), pressed) for name, pressed in keys.items()}


def main() -> None:
    """All pictures, or those whose names begin as given."""
    # The same looks whatever terminal this is called from.
    os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", LC_ALL="C.UTF-8")
    os.environ.pop("NO_COLOR", None)
    folder, arguments = Path(sys.argv[1]), sys.argv[2:]
    if "--language" in arguments:
        at = arguments.index("--language")
        language.use(arguments[at + 1])
        del arguments[at : at + 2]
    told = stories()
    if "--workspace" in arguments:
        at = arguments.index("--workspace")
        told = real_stories(Path(arguments[at + 1]))
        del arguments[at : at + 2]
    wanted = tuple(arguments)
    folder.mkdir(parents=True, exist_ok=True)
    for name, (bridge, keys) in told.items():
        for size in SIZES:
            if not wanted or f"{name}-{size[0]}x{size[1]}".startswith(wanted):
                asyncio.run(take(folder, name, bridge, keys, size))


if __name__ == "__main__":
    main()
