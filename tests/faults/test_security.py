"""Nobody else reads a run, commands it, or is listened to by it."""

from __future__ import annotations

import ast
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from engine import Workspace
from engine.errors import EngineError
from engine.runs import folder as folders
from engine.runs.owner import close_to_others, require_own
from tests.conftest import wait_for
from tests.faults.seat import ROOT

OPEN_FILES = frozenset({"TRAINING.md"})
"""What is meant to be read by others."""


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def made_by_us(workspace: Path) -> Iterator[Path]:
    """Everything of a workspace but the person's own text and settings."""
    for path in workspace.rglob("*"):
        if path.relative_to(workspace).parts[0] not in ("text", "settings.toml"):
            yield path


def can_be_reached(path: Path, workspace: Path) -> bool:
    """Whether no folder between the workspace and a path is closed to others."""
    between = [above for above in path.parents if above != workspace and above.is_relative_to(workspace)]
    return all(permissions(above) & 0o077 for above in between)


@pytest.mark.faults
def test_a_run_keeps_its_files_to_itself_and_listens_nowhere(
    make_workspace: Callable[..., Workspace],
) -> None:
    workspace = make_workspace(10**9)
    before = os.umask(0)  # the worst that a person can have
    try:
        run_id = workspace.start()
    finally:
        os.umask(before)
    wait_for(lambda: (workspace.status(run_id).step or 0) >= 3, what="three steps")
    status = workspace.status(run_id)
    for pid in (status.supervisor_pid, status.trainer_pid):
        assert pid is not None
        process = psutil.Process(pid)
        for part in (process, *process.children(recursive=True)):
            assert [link for link in part.net_connections("inet") if link.status == psutil.CONN_LISTEN] == []
    assert workspace.command(run_id, "checkpoint").is_done
    workspace.command(run_id, "stop")
    workspace.report()
    open_to_others = [
        f"{path.relative_to(workspace.folder)} {permissions(path):o}"
        for path in made_by_us(workspace.folder)
        if permissions(path) & 0o077
        and path.name not in OPEN_FILES
        and can_be_reached(path, workspace.folder)
    ]
    assert open_to_others == []
    assert permissions(workspace.folder / "runs") == 0o700
    assert permissions(workspace.folder_of(run_id).path) == 0o700
    assert permissions(workspace.folder_of(run_id).store_path) == 0o600
    state = Path(os.environ["HOME"]) / ".local/state/llm-tui"
    assert [path for path in (state, *state.rglob("*")) if permissions(path) & 0o077] == []


def test_another_users_run_is_looked_at_and_not_commanded(
    make_workspace: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace()
    settings, plan = workspace.plan()
    run = folders.create(workspace.folder, settings, plan, {}, "test")
    require_own(run.path)
    monkeypatch.setattr(os, "geteuid", lambda: run.path.stat().st_uid + 4321)
    assert workspace.status(run.id).id == run.id
    for act in (lambda: workspace.command(run.id, "stop"), lambda: workspace.resume(run.id)):
        with pytest.raises(EngineError, match="another user's"):
            act()
    assert not run.is_supervised


def test_a_run_that_was_unpacked_open_is_closed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    run.chmod(0o777)
    close_to_others(run)
    assert permissions(run) == 0o700


def test_no_shell_is_built_from_text() -> None:
    """ruff's S602 and S605 see the literal ways; this sees every call of a shell there is."""
    found = []
    for path in [*(ROOT / "engine").rglob("*.py"), *(ROOT / "tui").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            has_shell = any(keyword.arg == "shell" for keyword in node.keywords)
            if has_shell or name in ("os.system", "os.popen", "eval", "exec", "pickle.load", "pickle.loads"):
                found.append(f"{path.name}: {name}")
            if name.endswith("torch.load") or name == "torch.load":
                assert any(
                    keyword.arg == "weights_only" and ast.unparse(keyword.value) == "True"
                    for keyword in node.keywords
                ), path
    assert found == []
