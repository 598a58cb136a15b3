"""How the supervisor tells the person something."""

from __future__ import annotations

import time

import msgspec

from engine.records import EventRow


def event(level: str, kind: str, text: str, **data: object) -> EventRow:
    """An event of the supervisor, now."""
    return EventRow(
        at=time.time(),
        level=level,
        source="supervisor",
        kind=kind,
        text=text,
        data=msgspec.json.encode(data).decode(),
    )
