"""The command line as a shell sees it: exit codes, stdout, stderr, JSON shapes, hang-ups."""

from __future__ import annotations

import csv
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import Workspace
from engine.records import Check, Status
from tests.conftest import wait_for

Make = Callable[..., Workspace]


def llm_tui(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tui", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        env=os.environ | environment,
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("status",), "no run"),
        (("estimate",), "llm-tui init"),
        (("check",), "settings.toml"),
        (("run", "--waive", "power"), "a check and a reason"),
        (("run", "--waive", "nonsense=because"), "no check 'nonsense'"),
        (("frobnicate",), "No such command"),
        (("generate", "--max-tokens", "0"), "--max-tokens"),
        (("runs", "--nope"), "No such option"),
        (("--workspace", "/nonexistent/x", "runs"), "not a folder"),
        (("ledger", "--json", "--csv"), "ask for one"),
        (("generate", "--temperature", "nan"), "no number"),
    ],
)
def test_bad_usage_ends_with_two_or_blocks_and_never_with_a_traceback(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    done = llm_tui(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert told in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_setting_is_told_with_file_line_key_and_remedy(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("[training]\n\ntokns = 5\n", "utf-8")
    for command in (("run",), ("estimate",)):
        done = llm_tui(*command, folder=tmp_path)
        assert done.returncode == 2
        assert "settings.toml:3" in done.stderr
        assert "training.tokens" in done.stderr
        assert done.stdout == ""
    assert not (tmp_path / "runs").exists()


def test_init_writes_once(tmp_path: Path) -> None:
    assert llm_tui("init", "new", folder=tmp_path).returncode == 0
    text = (tmp_path / "new" / "settings.toml").read_text("utf-8")
    again = llm_tui("init", "new", folder=tmp_path)
    assert again.returncode == 2
    assert (tmp_path / "new" / "settings.toml").read_text("utf-8") == text


def test_check_json_is_one_document_in_the_documented_shape(make_workspace: Make) -> None:
    workspace = make_workspace()
    done = llm_tui("check", "--json", folder=workspace.folder)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["clear"] is True
    assert all(set(check) == set(Check.__struct_fields__) for check in report["checks"])
    assert [check["id"] for check in report["checks"]][:4] == ["settings", "corpus", "device", "close-apps"]
    endless = "training.keep_checkpoints=1000", "model.vocab_size=262144", "model.n_embd=1024"
    settings = [f"--set={setting}" for setting in endless]
    blocked = llm_tui("check", "--json", *settings, folder=workspace.folder)
    assert blocked.returncode == 3
    (disk,) = [check for check in json.loads(blocked.stdout)["checks"] if check["id"] == "disk"]
    assert (disk["status"], disk["blocking"]) == ("fail", True)
    waived = llm_tui("check", "--json", *settings, "--waive=disk=it is a test", folder=workspace.folder)
    assert waived.returncode == 0
    (disk,) = [check for check in json.loads(waived.stdout)["checks"] if check["id"] == "disk"]
    assert (disk["status"], disk["blocking"]) == ("waived", False)


def test_run_prints_its_id_follows_and_leaves_a_model_that_speaks(make_workspace: Make) -> None:
    folder = make_workspace().folder
    done = llm_tui("run", "--set", "training.seed=7", folder=folder)
    assert done.returncode == 0, done.stderr
    run_id, *lines = done.stdout.splitlines()
    assert (folder / "runs" / run_id).is_dir()
    assert any("step 20/20" in line for line in lines)
    status = json.loads(llm_tui("status", "--json", folder=folder).stdout)
    assert set(status) == set(Status.__struct_fields__)
    assert (status["id"], status["state"], status["gpu_watts"]) == (run_id, "finished", None)
    spoken = llm_tui("generate", run_id[:6], "--prompt", "import ", "--max-tokens", "20", folder=folder)
    assert spoken.returncode == 0, spoken.stderr
    assert len(spoken.stdout.strip()) > 5
    (line,) = json.loads(llm_tui("ledger", "--json", folder=folder).stdout)
    assert line["run_id"] == run_id
    (row,) = csv.DictReader(llm_tui("ledger", "--csv", folder=folder).stdout.splitlines())
    assert row["gpu_energy_j"] == ""
    assert float(row["machine_energy_j"]) == pytest.approx(line["machine_energy_j"])
    assert run_id in llm_tui("runs", folder=folder).stdout
    before = (folder / "TRAINING.md").read_bytes()
    assert llm_tui("report", folder=folder).returncode == 0
    assert (folder / "TRAINING.md").read_bytes() == before


def test_what_blocks_is_named_with_its_remedy_and_nothing_is_left(make_workspace: Make) -> None:
    folder = make_workspace().folder
    done = llm_tui("run", "--set", "limits.min_free_disk_gib=900000", folder=folder)
    assert done.returncode == 3
    assert "disk:" in done.stderr
    assert "Free some space" in done.stderr
    assert list((folder / "runs").iterdir()) == []


def test_an_interrupt_during_the_start_leaves_no_run_behind(make_workspace: Make) -> None:
    workspace = make_workspace(10**9)
    command = [sys.executable, "-m", "tui", "run"]
    with subprocess.Popen(
        command, cwd=workspace.folder, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        wait_for(lambda: any((workspace.folder / "runs").glob("*/supervisor.lock")), 60, "a supervisor")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
    assert workspace.runs() == []
    assert workspace.ledger() == [], "nothing was spent that anybody was told of"
    assert workspace.start()
    workspace.command(workspace.runs()[0].id, "stop")


def test_a_run_that_a_limit_stopped_goes_on_with_another_limit_only(make_workspace: Make) -> None:
    folder = make_workspace(10**9).folder
    assert llm_tui("run", "--set", "limits.max_hours=0.0002", folder=folder).returncode == 0
    refused = llm_tui("resume", folder=folder)
    assert refused.returncode == 1
    assert "limits.max_hours is reached" in refused.stderr
    assert "--set limits." in refused.stderr
    assert llm_tui("resume", "--set", "training.seed=1", folder=folder).returncode == 2
    assert llm_tui("resume", "--set", "limits.max_hours=0", folder=folder).returncode == 0
    assert llm_tui("stop", folder=folder).returncode == 0


def test_a_hang_up_of_the_terminal_leaves_the_run_alone(make_workspace: Make) -> None:
    workspace = make_workspace(10**9)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(workspace.folder)
        os.execv(sys.executable, [sys.executable, "-m", "tui", "run"])
    try:
        wait_for(lambda: any(run.status.step for run in workspace.runs()), 90, "the first step")
        (run,) = workspace.runs()
        os.close(terminal)  # the kernel sends SIGHUP to all that this terminal controls
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        before = workspace.status(run.id).step or 0
        wait_for(lambda: (workspace.status(run.id).step or 0) > before + 5, what="steps after the hang-up")
    finally:
        for run in workspace.runs():
            workspace.command(run.id, "stop")


def test_without_a_terminal_the_bare_command_does_the_job_and_joins_a_run_that_is_alive(
    make_workspace: Make,
) -> None:
    workspace = make_workspace()
    done = llm_tui(folder=workspace.folder)
    assert done.returncode == 0, done.stderr
    assert "finished" in done.stdout
    assert len(workspace.runs()) == 1
    run_id = workspace.start(overrides=["training.tokens=40960"])
    joined = llm_tui(folder=workspace.folder)
    assert joined.returncode == 0
    assert f"Run {run_id} finished" in joined.stdout
    assert len(workspace.runs()) == 2
