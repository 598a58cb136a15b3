"""Wrong input of every kind: exit code 2 with a remedy or a name that fits, never a traceback, and nothing lost."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from engine import Workspace
from engine.errors import CorpusError, EngineError, SettingsError
from engine.preflight.context import Context
from engine.preflight.inputs import check_corpus
from engine.process import workspace_path
from engine.records import RunState
from engine.runs import folder as folders
from engine.settings import Settings
from engine.settings_edit import read_form
from engine.settings_file import parse, to_toml
from tests.conftest import SMALL, write_text
from tests.faults.seat import ROOT
from tui.cli import main

NOBODY = 54_321
"""A user that no machine has a name for."""

WRONG = (
    *(
        '""',
        '"x"',
        "-1",
        "0",
        "1",
        "9" * 40,
        "9" * 5000,
        "1e400",
        "nan",
        "-inf",
        "0.5",
        "true",
        "[]",
        "[1]",
        '["x"]',
    ),
    *(
        "[[]]",
        "{}",
        "{a=1}",
        "[{a=1}]",
        "1979-05-27",
        "07:32:00",
        "1979-05-27T07:32:00Z",
        '"\\u0000"',
        '"\\u001b[31m"',
    ),
    *(
        '"' + "x" * 100_000 + '"',
        "[" * 3000,
        "{a=" * 3000,
        '[{from="25:00",to="06:00",price_per_kwh=0.1}]',
        "'",
        "\\",
    ),
)
NAMES = (
    *(
        "../../x",
        "-rf",
        "--",
        "x" * 300,
        "🙂",
        "\x1b[31m",
        "\udce9",
        "",
        " ",
        ".",
        "..",
        "/",
        "*",
        "a/b",
        "\u202eabc",
    ),
    *("[bold]x[/]", "%s{0}", "\n", "~root", "CON", "$(id)", "`id`", ";id"),
)


def test_every_key_of_every_wrong_kind_is_taken_or_refused_with_a_remedy() -> None:
    num_refused = 0
    for section in msgspec.structs.fields(Settings):
        for field in msgspec.structs.fields(section.type):
            for value in WRONG:
                for text, overrides in (
                    (f"[{section.name}]\n{field.encode_name} = {value}\n", []),
                    ("", [f"{section.name}.{field.encode_name}={value}"]),
                ):
                    try:
                        parse(text, "settings.toml", overrides)
                    except SettingsError as error:
                        num_refused += 1
                        assert error.title and error.remedy
    assert num_refused > 1000


@pytest.mark.parametrize(
    "text",
    [
        "\x00",
        "[",
        "[model]\n[model]",
        "model = 1",
        "[[model]]",
        "x = {" * 3000,
        "a." * 500 + "b = 1",
        "\u2028",
    ],
    ids=range(8),
)
def test_a_file_that_is_no_settings_is_refused_and_has_a_form_that_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.toml").write_text(text, "utf-8")
    with pytest.raises(SettingsError) as refused:
        parse(text, "settings.toml")
    assert refused.value.remedy
    assert read_form(tmp_path / "settings.toml").problem
    assert (tmp_path / "settings.toml").read_text("utf-8") == text


def test_values_that_steer_a_terminal_are_written_escaped_and_read_back() -> None:
    evil = 'a\x1b[31m\x9b\u202e\u2028\U000e0041 "quoted" \\ grün\n'
    written = to_toml(evil)
    assert written.isprintable() and "grün" in written
    assert parse("", "f", [f"corpus.source={written}"]).corpus.source == evil


def llm_tui(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--workspace", str(folder), *arguments])


def test_names_of_runs_are_names_and_nothing_else(make_workspace: Callable[..., Workspace]) -> None:
    workspace = make_workspace()
    settings, plan = workspace.plan()
    run = folders.create(workspace.folder, settings, plan, {}, "test")
    store = run.open(read_only=False)
    store.set_state(RunState.STOPPED, "for the test")
    store.close()
    before = sorted(path for path in workspace.folder.rglob("*"))
    for name in NAMES:
        for verb in ("status", "pause", "resume", "checkpoint", "stop", "generate"):
            done = llm_tui(workspace.folder, verb, "--", name)
            assert isinstance(done.exception, SystemExit), (verb, name, done.exception)
            assert done.exit_code == 2, (verb, name, done.output)
            assert "→" in done.output
    assert sorted(path for path in workspace.folder.rglob("*")) == before


def test_folders_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("file", "loop", "absent", "x" * 300, "file/below"):
        for command in ("runs", "check", "estimate", "init"):
            done = llm_tui(tmp_path / name, command)
            is_made = command == "init" and name == "absent"
            assert done.exit_code == (0 if is_made else 2), (name, command, done.output)
            assert is_made or "→" in done.output
    for path in ("~nobody-of-that-name/x", "/tmp/\udce9"):
        with pytest.raises(EngineError) as refused:
            workspace_path(Path(path))
        assert refused.value.remedy


def test_a_corpus_of_one_line_of_two_gigabytes_is_refused_at_once(
    make_workspace: Callable[..., Workspace],
) -> None:
    workspace = make_workspace()
    for name in ("one-line.txt", "one-line.jsonl"):
        big = workspace.folder / name
        with big.open("wb") as file:
            file.write(b'{"text": "')
            file.truncate(2 * 2**30)
        began_s = time.monotonic()
        verdict = check_corpus(Context(workspace.folder, overrides=(f"corpus.source={name}",)))
        assert verdict.status == "fail" and name in verdict.evidence and verdict.remedy
        assert time.monotonic() - began_s < 20
        big.unlink()


AS_NOBODY = ("unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}")
"""Without a name, and without root's right to pass over permissions."""


def as_nobody(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key in ("PATH", "TMPDIR")}
    return subprocess.run(
        [*AS_NOBODY, sys.executable, "-m", "tui", "--workspace", str(folder), *arguments],
        cwd="/",
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_folders_without_permission_and_a_user_without_a_name_or_a_home(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or subprocess.run([*AS_NOBODY, "true"]).returncode != 0:
        pytest.skip("no user namespace may be made here")
    folder = tmp_path / "other's"
    folder.mkdir()
    assert as_nobody(folder, "init").returncode == 0
    assert stat.S_IMODE((folder / "settings.toml").stat().st_mode) == 0o600
    done = as_nobody(folder, "runs")
    assert (done.returncode, done.stderr) == (0, "")
    folder.chmod(0o500)
    try:
        refusals = [as_nobody(folder, "run")]
        folder.chmod(0o000)
        refusals += [as_nobody(folder, command) for command in ("runs", "check", "report", "init")]
    finally:
        folder.chmod(0o700)
    for refused in refusals:
        assert refused.returncode in (2, 3), (refused.args, refused.stdout, refused.stderr)
        assert "→" in refused.stderr + refused.stdout and "Traceback" not in refused.stderr


@pytest.mark.faults
def test_a_whole_run_without_a_home_in_a_folder_with_an_odd_name(tmp_path: Path) -> None:
    folder = tmp_path / "wö s 日本 [b] $(id) ' \""
    write_text(folder / "text")
    (folder / "settings.toml").write_text(SMALL.format(tokens=20_480), "utf-8")
    environment = {key: value for key, value in os.environ.items() if key != "HOME"}
    done = subprocess.run(
        [sys.executable, "-m", "tui", "run"],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    assert "finished" in done.stdout
    (run,) = folders.all_runs(folder)
    assert (run.model / "model.safetensors").is_file()
    assert "日本" in (folder / "TRAINING.md").read_text("utf-8") or len(Workspace(folder).ledger()) == 1


def test_a_corpus_that_is_gone_says_so(make_workspace: Callable[..., Workspace]) -> None:
    workspace = make_workspace()
    shutil.rmtree(workspace.folder / "text")
    with pytest.raises(EngineError) as refused:
        workspace.start()
    assert not isinstance(refused.value, CorpusError) or refused.value.remedy
    assert "text" in str(refused.value)
    assert workspace.runs() == []
