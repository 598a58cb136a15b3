"""The supervisor's eye: a guard that is blind for long does not look as if it still saw."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable

import pytest

from engine import Workspace
from engine.errors import StoreError
from engine.records import SensorRow
from engine.runs import folder as folders
from engine.runs import lives, watch


def test_a_store_that_stays_unreadable_ends_the_watch_and_one_that_recovers_does_not(
    make_workspace: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace()
    settings, plan = workspace.plan()
    folder = folders.create(workspace.folder, settings, plan, {}, "test")
    store = folder.open(read_only=False)
    watching = watch.Watch(store, settings, folder.path, os.getpid())
    other = sqlite3.connect(folder.store_path, isolation_level=None)

    async def follow() -> None:
        task = asyncio.create_task(watching.run())
        other.execute("ALTER TABLE checkpoint RENAME TO hidden")
        await asyncio.sleep(1.5)
        assert not task.done()
        other.execute("ALTER TABLE hidden RENAME TO checkpoint")
        before = store.num_rows(SensorRow)
        await asyncio.sleep(1.5)
        assert store.num_rows(SensorRow) > before
        monkeypatch.setattr(watch, "MAX_UNREADABLE_S", 0.5)
        other.execute("ALTER TABLE checkpoint RENAME TO hidden")
        with pytest.raises(StoreError):
            await asyncio.wait_for(task, 20)

    asyncio.run(follow())


def test_a_supervisor_of_a_start_that_was_given_up_makes_no_folder(
    make_workspace: Callable[..., Workspace],
) -> None:
    gone = folders.RunFolder(make_workspace().folder / "runs" / "gone")
    assert lives.main(gone) == 0
    assert not gone.path.exists()
