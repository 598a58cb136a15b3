"""The catalogue on the disk: read, brought up to what the source says, and compiled."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from tests.catalogue import engine, scan

FOLDER = scan.ROOT / "tui" / "locale"
LANGUAGES = ("az",)
Key = tuple[str | None, str]
_NO_DATE = datetime(2026, 1, 1, tzinfo=UTC)
"""The date in the header of what is compiled: the same texts come out as the same bytes."""


def po_path(language: str) -> Path:
    """What a translator edits."""
    return FOLDER / language / "LC_MESSAGES" / "llm-tui.po"


def mo_path(language: str) -> Path:
    """What the app reads."""
    return po_path(language).with_suffix(".mo")


def load(language: str) -> Catalog:
    """The catalogue as it is on the disk."""
    with po_path(language).open("rb") as file:
        return read_po(file, locale=language)


def key_of(message: Message) -> Key:
    """Context and English words of an entry."""
    return message.context, message.id[0] if isinstance(message.id, (tuple, list)) else str(message.id)


def strings(message: Message) -> tuple[str, ...]:
    """The translation of an entry, one text a plural form."""
    return message.string if isinstance(message.string, tuple) else (message.string,)


def wanted() -> dict[Key, scan.Text]:
    """Every text of the source: those of the windows, then those of the engine."""
    own = engine.words() | scan.texts()
    return own | {(engine.CONTEXT, msgid): text for msgid, text in engine.texts().items()}


def updated(old: Catalog) -> Catalog:
    """The catalogue with an entry for every text of the source and none for others; translations are kept."""
    known = {key_of(message): message for message in old if message.id}
    fresh = Catalog(
        locale=old.locale,
        domain="llm-tui",
        header_comment=old.header_comment,
        project="llm-tui",
        version="",
        charset="utf-8",
        creation_date=_NO_DATE,
        revision_date=_NO_DATE,
        fuzzy=False,
    )
    for key, text in wanted().items():
        string = known[key].string if key in known else None
        msgid = text.msgid if text.plural is None else (text.msgid, text.plural)
        if text.plural is not None and not isinstance(string, (tuple, list)):
            string = (string or "",) * 2
        fresh.add(
            msgid,
            string or "",
            context=text.context,
            locations=[(text.place.partition(":")[0], None)],
            user_comments=known[key].user_comments if key in known else (),
        )
    return fresh


_NEEDLESS = (
    b"Report-Msgid-Bugs-To",
    b"POT-Creation-Date",
    b"PO-Revision-Date",
    b"Last-Translator",
    b"Language-Team",
)


def written(catalogue: Catalog) -> bytes:
    """The catalogue as a translator reads it."""
    buffer = io.BytesIO()
    write_po(buffer, catalogue, width=110)
    lines = buffer.getvalue().splitlines(keepends=True)
    needless = tuple(b'"' + name for name in (*_NEEDLESS, b"Generated-By"))
    return b"".join(line for line in lines if not line.startswith(needless))


def compiled(catalogue: Catalog) -> bytes:
    """The catalogue as the app reads it; what is not translated, or not sure, is left out."""
    buffer = io.BytesIO()
    write_mo(buffer, catalogue, use_fuzzy=False)
    return buffer.getvalue()
