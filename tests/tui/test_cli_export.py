"""What is taken out of a run by command: wrong use ends with exit code 2 and a remedy, before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from engine.records import EvaluationRow, StepRow
from engine.runs.folder import RunFolder, create
from engine.settings import Settings
from tests.engine.runs.test_cloud_task import plan_of
from tui.cli import main


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = create(tmp_path, Settings(), plan_of(), {}, "test")
    store = folder.open(read_only=False)
    store.put(
        StepRow(
            step=1, at=1, tokens=512, loss=8, learning_rate=1, tokens_per_s=1, micro_batch=1, grad_accum=1
        ),
        EvaluationRow(step=1, at=1, tokens=512, val_loss=7.5),
    )
    store.close()
    return folder


def llm_tui(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--workspace", str(folder), *arguments])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["metrics"], "one of --csv, --json and --tensorboard"),
        (["metrics", "--csv", "--json"], "one of --csv"),
        (["metrics", "nobody", "--csv"], "There is no run 'nobody'"),
        (["export", "--to", "out"], "has no checkpoint yet"),
        (["export", "--to", "out", "--numbers", "q8_0"], "only a .gguf"),
        (["export"], "Missing option '--to'"),
        (["generate", "--top-p", "2"], "--top-p"),
        (["generate"], "has no checkpoint yet"),
        (["cloud", "--to", "move.yaml", "--offer", "no such"], "No offer holds"),
        (["cloud", "--to", "."], "left as it is"),
    ],
)
def test_wrong_use_is_told_and_changes_nothing(run: RunFolder, arguments: list[str], words: str) -> None:
    before = sorted(run.workspace.iterdir())
    done = llm_tui(run.workspace, *arguments)
    assert done.exit_code == 2 and words in done.output and "Traceback" not in done.output
    assert (
        sorted(run.workspace.iterdir()) == before
        and not Path("out").exists()
        and not Path("move.yaml").exists()
    )


def test_the_curves_of_a_run_go_to_stdout_alone_or_into_a_folder(run: RunFolder, tmp_path: Path) -> None:
    table = llm_tui(run.workspace, "metrics", "--csv").stdout.splitlines()
    assert len(table) == 2 and table[1].startswith("1,1970-01-01T00:00:01.000Z,512,8.0,7.5,")
    assert (
        json.loads(llm_tui(run.workspace, "metrics", run.id[:6], "--json").stdout)["rows"][0]["val_loss"]
        == 7.5
    )
    board = tmp_path / "board"
    assert "Wrote" in llm_tui(run.workspace, "metrics", "--tensorboard", str(board)).stdout
    assert [path.parent.name for path in board.rglob("events.*")] == [run.id]
