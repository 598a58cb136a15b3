"""A workspace whose every text is an attack: on the terminal, on markup, on who reads it.

Run as a program it is the app on that workspace, which is what `test_hostile_text.py` has on a real terminal.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import StoreError
from engine.records import Check
from engine.runs.logs import LogReader
from engine.story import TextRequest
from tests.tui.recorded import (
    RecordedBridge,
    closings,
    digest,
    entry,
    in_state,
    program,
    recorded_log,
)
from tests.tui.test_format import HOSTILE
from tui.app import LlmTui

MARK = "7777"
"""No sequence of the app's own has this number."""
EVIL = (
    f"\x1b[{MARK}m\x1b]0;{MARK}\x07\x9b{MARK}m\x1bP{MARK}\x1b\\[bold red]x[/] [/nope] [@click=app.quit]y[/] $x {{0}} "
    + "".join(HOSTILE.values())
)
_WORDS_OF_OURS = frozenset(("id", "run_id", "currency", "preset", "days"))
"""Fields that name something, or are read and not shown."""


def poisoned(value: Any) -> Any:
    """A record with the attack in every field that is free text, and in those of the records in it."""
    if isinstance(value, msgspec.Struct):
        hints = typing.get_type_hints(type(value))
        is_series = type(value).__name__ == "Series"
        changes = {}
        for field in value.__struct_fields__:
            now = getattr(value, field)
            is_text = type(now) is str and hints[field] in (str, str | None)
            if is_text and field not in _WORDS_OF_OURS and not (is_series and field == "name"):
                changes[field] = EVIL
            elif not isinstance(now, str):
                changes[field] = poisoned(now)
        return msgspec.structs.replace(value, **changes)
    if isinstance(value, tuple | list):
        return type(value)(EVIL if type(item) is str else poisoned(item) for item in value)
    if isinstance(value, dict):
        return {key: poisoned(item) for key, item in value.items()}
    return value


def _poisons(name: str) -> Callable[..., Any]:
    def call(self: RecordedBridge, *arguments: Any, **options: Any) -> Any:
        return poisoned(getattr(RecordedBridge, name)(self, *arguments, **options))

    return call


class HostileBridge(RecordedBridge):
    """Hands out recorded facts with the attack in each."""

    for _name in (
        "runs",
        "snapshot",
        "ledger",
        "estimate",
        "estimate_of",
        "look",
        "samples",
        "entry_detail",
        "steps",
        "open_processes",
        "close_processes",
        "removal",
        "remove",
        "compare",
    ):
        locals()[_name] = _poisons(_name)

    def ask(self, run_id: str, verb: str) -> tuple[bool, str]:
        return verb == "pause", EVIL

    def start(self, waivers: Mapping[str, str], ticks: Sequence[str] = ()) -> str:
        raise StoreError(EVIL, EVIL)

    def check_settings(self, form: Any, changes: Mapping[str, str | None]) -> None:
        raise StoreError(EVIL, EVIL)

    async def checks(
        self, waivers: Mapping[str, str], ticks: Sequence[str] = ()
    ) -> AsyncGenerator[Check, None]:
        async for check in super().checks(waivers, ticks):
            yield poisoned(check)

    async def text(self, run_id: str, request: TextRequest) -> AsyncGenerator[str, None]:
        for piece in EVIL:
            yield piece

    def log(self, run_id: str) -> LogReader:
        run = recorded_log(self.folder_of_settings / "runs" / "hostile")
        with run.log_path.open("ab") as log:
            for _ in range(40):
                log.write(EVIL.encode("utf-8", "surrogatepass") + b"\xff\xfe\x9b\n")
        return LogReader(run)


def main() -> int:
    """The app on the hostile workspace; its exit status."""
    shot = in_state("gpu")
    shot = msgspec.structs.replace(shot, status=msgspec.structs.replace(shot.status, id=EVIL))
    bridge = HostileBridge(shot, in_state("finished"), entries=(entry(EVIL, 60), entry("two", 99)))
    bridge.book = msgspec.structs.replace(bridge.book, run_id=EVIL)
    settings = bridge.settings_path.read_text("utf-8")
    bridge.settings_path.write_text(settings.replace('source = "builtin:python"', f"source = {_toml(EVIL)}"))
    bridge.digest = digest(run_id=EVIL)
    bridge.closing_reports = [closings((program(77, "x"), "refused"))]
    app = LlmTui(Path(f"/home/{EVIL}/gpt"), bridge)
    app.run()
    return app.return_code or 0


def _toml(text: str) -> str:
    """A text as a basic string of TOML, which knows no lone surrogates."""
    kept = "".join(letter for letter in text if not 0xD800 <= ord(letter) < 0xE000)
    return (
        '"'
        + "".join(
            letter if letter.isalnum() or letter in " []/" else f"\\U{ord(letter):08x}" for letter in kept
        )
        + '"'
    )


if __name__ == "__main__":
    sys.exit(main())
