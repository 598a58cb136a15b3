"""The app opened by a pilot, and what then stands on its terminal."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tui.app import LlmTui

SIZES = ((80, 24), (120, 34), (200, 50))


@asynccontextmanager
async def opened(bridge: Any, size: tuple[int, int] = (80, 24)):
    app = LlmTui(Path("/home/ana/gpt"), bridge)
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda: app.current_mode != "_default" or app.screen.is_modal)
        await pilot.pause(0.05)
        yield app, pilot


async def until(pilot: Any, is_so: Any, timeout_s: float = 20.0) -> None:
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not is_so():
        assert asyncio.get_running_loop().time() < deadline, "it never came to be"
        await pilot.pause(0.02)


def text(app: LlmTui) -> str:
    """What stands on the terminal."""
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text for strip in strips)


async def settled(app: Any, pilot: Any, word: str = "LOCKED") -> None:
    await until(pilot, lambda: word in text(app), 20)
    await pilot.pause(0.05)
