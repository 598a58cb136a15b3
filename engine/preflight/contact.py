"""The check that news reaches the person: a real message is sent."""

from __future__ import annotations

import hashlib

from engine import notify
from engine.errors import SettingsError
from engine.preflight import kept
from engine.preflight.context import Context, Verdict, passed, skipped, warned


def notify_key(context: Context) -> str:
    """What a sent message proves: this address, which is not kept in clear."""
    return hashlib.sha256(_address(context).encode()).hexdigest()


def _address(context: Context) -> str:
    """The address in force; a run's frozen settings have none."""
    try:
        return context.settings.notify.url or notify.address(context.workspace)
    except SettingsError:  # a run's settings were frozen, and the workspace's file was broken since
        return ""


def check_notify(context: Context) -> Verdict:
    """Whether a test message arrives where the news of a run would be sent."""
    url = _address(context)
    if not url:
        return skipped("None is set: notify.url is empty.")
    known = kept.fresh(context.kept, "notify", notify_key(context))
    if known is not None:
        return passed(known.check.evidence)
    try:
        status = notify.send(url, "llm-tui", "This is the test message of the preflight.")
    except notify.UnsupportedError as error:
        return skipped(f"{error.title} {error.remedy}")
    except notify.NotifyError as error:
        return warned(error.title, error.remedy)
    answer = "" if status is None else f", which answered {status}"
    return passed(f"A test message went to {notify.masked(url)}{answer}; so does the news of a run.")
