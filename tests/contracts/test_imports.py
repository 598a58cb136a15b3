"""What a fresh interpreter loads: the windows stay light, whatever the engine needs."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "pynvml", "psutil", "numpy", "tokenizers", "safetensors")


@pytest.mark.parametrize(
    "module",
    [
        "tui.app",
        "tui.bridge",
        "tui.cli",
        "tui.screens.run",
        "tui.screens.preflight",
        "tui.screens.ledger",
        "tui.screens.runs",
        "tui.screens.plan",
        "tui.screens.settings",
        "tui.screens.samples",
        "tui.screens.log",
        "engine.estimate",
        "engine.runs.client",
    ],
)
def test_importing_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*(name for name in {HEAVY} if name in sys.modules))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.split() == []


def test_the_first_screen_waits_for_no_record_and_no_command_line() -> None:
    code = "import sys, tui.__main__, tui.app, tui.screens.preflight, tui.terminal; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert not {"msgspec", "engine.records", "click", "sqlite3", "tui.cli"} & set(found.stdout.split())
