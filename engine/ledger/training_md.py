"""TRAINING.md: the part of it that the program writes, between two markers; the rest is the person's.

The file is handled as bytes, so that line ends, a missing last newline and bytes that are no UTF-8 stay as they
are. What stands between the markers is written by `engine/ledger/report.py`.
"""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from engine import atomic
from engine.errors import StoreError

BEGIN = b"<!-- llm-tui:begin -->"
END = b"<!-- llm-tui:end -->"
HEADING = (
    "# Training\n\nNotes of your own go here; what stands between the two markers is rewritten by llm-tui.\n"
)


def update(path: Path, body: str) -> bool:
    """Put `body` between the markers of a file; whether that changed the file.

    A file that is absent is made; one without markers gets them at its end. Everything outside of them stays as
    it is, byte for byte; the part between takes the file's line ends. Symbolic links are followed, the mode stays.
    Raises: StoreError where the markers are damaged or the file cannot be read or written; it is as it was then.
    """
    generated = body.strip("\n").encode("utf-8", "replace")
    if BEGIN in generated or END in generated:
        raise ValueError("the body has a marker in it")
    target = Path(os.path.realpath(path))
    try:
        old = target.read_bytes()
        mode = target.stat().st_mode & 0o7777
    except FileNotFoundError:
        old, mode = None, 0o644
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error}", "Make it a readable file.") from error
    new = _joined(HEADING.encode() if old is None else old, generated, path)
    if new == old:
        return False
    if old is not None and not os.access(target, os.W_OK):
        raise StoreError(f"{path} is read-only.", "Allow writing to it, then run `llm-tui report`.")
    try:
        atomic.write_bytes(target, new, mode)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error}", "Make its folder writable, then run `llm-tui report`."
        ) from error
    return True


def _joined(old: bytes, generated: bytes, path: Path) -> bytes:
    if old.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise StoreError(f"{path} is in UTF-16.", "Save it as UTF-8, then run `llm-tui report`.")
    newline = b"\r\n" if b"\r\n" in old else b"\n"
    part = newline.join((BEGIN, b"", *generated.split(b"\n"), b"", END))
    begins, ends = old.count(BEGIN), old.count(END)
    if begins == ends == 0:
        if not old:
            return part + newline
        gap = newline if old.endswith(b"\n") else newline * 2
        return old + gap + part + newline
    at, after = old.find(BEGIN), old.find(END)
    if begins != 1 or ends != 1 or after < at:
        found = f"{begins} x {BEGIN.decode()} and {ends} x {END.decode()}"
        wrong = f"{found}, the end before the begin" if begins == ends == 1 else found
        raise StoreError(
            f"{path}: the markers of the generated part are damaged: {wrong}.",
            "Leave exactly one of each, begin before end, or remove all of them for a new part at the end; "
            "then run `llm-tui report`.",
        )
    return old[:at] + part + old[after + len(END) :]
