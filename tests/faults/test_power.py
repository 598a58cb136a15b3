"""A laptop whose plug is pulled: the kernel's own files are covered by others, in a mount namespace of the run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import Workspace
from engine.records import CommandRow, RunState
from engine.runs.mains import WHO
from tests.conftest import wait_for
from tests.faults.seat import ROOT

SUPPLIES = Path("/sys/class/power_supply")


def set_supply(folder: Path, *, is_on_ac: bool, percent: int) -> None:
    for name, values in {
        "AC": {"type": "Mains", "online": int(is_on_ac)},
        "BAT0": {
            "type": "Battery",
            "status": "Charging" if is_on_ac else "Discharging",
            "capacity": percent,
        },
    }.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for key, value in values.items():
            (folder / name / key).write_text(f"{value}\n")


@pytest.mark.faults
def test_a_real_run_on_a_laptop_that_is_unplugged_pauses_at_five_percent_and_goes_on(
    make_workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    supplies = tmp_path / "power_supply"
    set_supply(supplies, is_on_ac=True, percent=90)
    mount = f"mount --bind {supplies} {SUPPLIES}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode != 0:
        pytest.skip("no mount namespace may be made here, so the kernel's own supplies cannot be covered")
    workspace = make_workspace(10**9)
    start = f'{mount} && exec "$0" -m tui run --detach'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", start, sys.executable],
        cwd=workspace.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (run,) = workspace.runs()

    def kinds() -> list[str]:
        return [row.kind for _, row in workspace.events(run.id)]

    wait_for(lambda: (workspace.status(run.id).step or 0) >= 3, what="three steps")
    set_supply(supplies, is_on_ac=False, percent=80)
    wait_for(lambda: "on-battery" in kinds(), what="the warning")
    set_supply(supplies, is_on_ac=False, percent=5)
    wait_for(lambda: workspace.status(run.id).state is RunState.PAUSED, what="the pause")
    assert workspace.snapshot(run.id).checkpoint is not None
    paused_at = workspace.status(run.id).step or 0
    set_supply(supplies, is_on_ac=True, percent=5)
    wait_for(lambda: (workspace.status(run.id).step or 0) > paused_at, what="a step with the mains")
    workspace.command(run.id, "stop")
    store = workspace.folder_of(run.id).open()
    asked = [(row.verb, row.who) for row in store.rows(CommandRow, "ORDER BY id")][:4]
    store.close()
    assert asked == [("checkpoint", WHO), ("checkpoint", WHO), ("pause", WHO), ("resume", WHO)]
    assert [kind for kind in kinds() if kind in ("on-battery", "battery-low", "on-mains")] == [
        "on-battery",
        "battery-low",
        "on-mains",
    ]
