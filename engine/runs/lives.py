"""The process of a supervisor: one lock, and life after life under it until the run is over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time

from engine import __version__
from engine.errors import StoreError
from engine.records import AcknowledgementRow, HeartbeatRow, RunState
from engine.runs.events import event
from engine.runs.folder import RunFolder
from engine.runs.lock import Lock
from engine.runs.mend import find_damage, mend
from engine.runs.news import News
from engine.runs.supervisor import Supervisor

MAX_MENDS = 5
"""How often one supervisor makes the store anew."""


def main(folder: RunFolder) -> int:
    """Supervise the run in `folder`; the exit code is for nobody but the log.

    The last stand: whatever goes wrong here is written into the run before the process ends.
    """
    if not folder.store_path.exists() and not folder.facts_path.exists():
        return 0  # the start was given up, and the folder with it
    lock = Lock(folder.supervisor_lock)
    if not lock.acquire(str(os.getpid()), timeout_s=2.0):
        return 0
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        _supervise(folder)
    except Exception as error:
        with contextlib.closing(folder.open(read_only=False)) as store:
            news = News(folder, store, has_begun=True)
            store.tell(event("error", "supervisor-died", f"{type(error).__name__}: {error}"))
            store.set_state(RunState.FAILED, f"The supervisor failed: {type(error).__name__}: {error}")
            news.last_words(store)
        raise
    finally:
        lock.release()
    return 0


def _supervise(folder: RunFolder) -> None:
    """Life after life under one lock: a store that turns out to be damaged is made anew, and the run goes on."""
    damage = find_damage(folder)
    if damage:
        mend(folder, damage)
    _dismiss_commands(folder)
    is_checked, device_lock = False, None
    for _ in range(MAX_MENDS + 1):
        with contextlib.closing(folder.open(read_only=False)) as store:
            store.tell(HeartbeatRow(role="supervisor", pid=os.getpid(), at=time.time(), phase="starting"))
            store.keep(supervisor_version=__version__)
            news = News(folder, store, has_begun=is_checked)
        supervisor = Supervisor(folder, news, is_checked=is_checked, device_lock=device_lock)
        outcome = asyncio.run(supervisor.run())
        if not outcome.damage or supervisor.mend(outcome):
            with contextlib.closing(folder.open()) as store:
                news.last_words(store)
            return
        is_checked, device_lock = supervisor.is_checked, supervisor.device_lock
    raise StoreError(f"{folder.store_path} was damaged {MAX_MENDS + 1} times.", "Check the disk.")


def _dismiss_commands(folder: RunFolder) -> None:
    """Answer what a supervisor left unanswered that was killed: an old stop must not end the resume."""
    with contextlib.closing(folder.open(read_only=False)) as store:
        for command in store.open_commands():
            text = "The supervisor that was asked is gone; ask again."
            store.tell(AcknowledgementRow(command_id=command.id, at=time.time(), is_done=False, message=text))
