"""Reading the one-value files of /sys and /proc: a file that is missing, empty or refused is None."""

from __future__ import annotations

from pathlib import Path


def read_text(path: Path) -> str | None:
    """The file's text without the white space around it; None where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def read_int(path: Path) -> int | None:
    """The file's whole number; None where it cannot be read or holds something else ("max")."""
    text = read_text(path)
    try:
        return int(text) if text else None
    except ValueError:
        return None


def folders(path: Path, pattern: str) -> list[Path]:
    """What `pattern` matches below `path`, in a steady order; empty where there is no such folder."""
    try:
        return sorted(path.glob(pattern))
    except OSError:
        return []
