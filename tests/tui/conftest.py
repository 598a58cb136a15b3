"""What the app's tests lean on besides."""

from __future__ import annotations

import pytest

from tui import follower


@pytest.fixture(autouse=True)
def steady_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read every second though the app, its pilot and its test are one busy process here."""
    monkeypatch.setattr(follower, "MOST_FRAC", 1.0)
