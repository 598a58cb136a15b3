"""The shelf's commands, on folders of runs with real rows and files."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from engine.records import RunState
from tests.engine.runs.test_keep import made, names
from tui.cli import main


def call(workspace: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--workspace", str(workspace), *arguments])


def test_tags_are_given_shown_and_taken_away(tmp_path: Path) -> None:
    folder = made(tmp_path, RunState.FINISHED)
    assert call(tmp_path, "tag", folder.id, "night", "muon").output == "night\nmuon\n"
    assert call(tmp_path, "tag", folder.id).output == "night\nmuon\n"
    assert json.loads(call(tmp_path, "runs", "--json").output)[0]["tags"] == ["night", "muon"]
    refused = call(tmp_path, "tag", folder.id, "two words")
    assert refused.exit_code == 2 and "cannot be a tag" in refused.output
    assert call(tmp_path, "tag", folder.id, "--clear").output == ""


def test_archive_and_delete_ask_and_say_what_that_frees(tmp_path: Path) -> None:
    folder = made(tmp_path, RunState.STOPPED)
    unasked = call(tmp_path, "delete", folder.id)
    assert unasked.exit_code == 2 and "Give --yes" in unasked.output and folder.path.exists()
    archived = call(tmp_path, "archive", folder.id, "--yes")
    assert archived.exit_code == 0 and "2 checkpoints" in archived.output and names(folder) == ["step-40"]
    assert call(tmp_path, "delete", folder.id, "--yes").exit_code == 0 and not folder.path.exists()
    assert json.loads(call(tmp_path, "ledger", "--json").output)[0]["run_id"] == folder.id


def test_a_comparison_names_what_differs(tmp_path: Path) -> None:
    one, two = made(tmp_path, RunState.STOPPED), made(tmp_path, RunState.STOPPED, seed=7)
    assert "training.seed: 1  |  7" in call(tmp_path, "compare", one.id, two.id).output
    found = json.loads(call(tmp_path, "compare", one.id, two.id, "--json").output)
    assert [run["run_id"] for run in found["runs"]] == [one.id, two.id]
    assert call(tmp_path, "compare", one.id).exit_code == 2
