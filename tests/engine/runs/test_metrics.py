"""The curves of a run for other tools: every step once, validations and sensors where they belong, files that hold."""

from __future__ import annotations

import csv
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.records import EvaluationRow, SensorRow, StepRow
from engine.runs import metrics
from engine.runs.folder import RunFolder, create
from engine.settings import Settings
from engine.tensorboard import crc32c
from tests.engine.train.conftest import make_plan

NUM_STEPS = 6_000
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run of 6,000 steps a second apart, a validation every 1,000, a reading every two seconds with a gap."""
    folder = create(tmp_path, Settings(), make_plan(steps=NUM_STEPS), {}, "test")
    store = folder.open(read_only=False)
    began_at = 1_700_000_000.0
    store.queue(EvaluationRow(step=0, at=began_at, tokens=0, val_loss=8.5))
    for step in range(1, NUM_STEPS + 1):
        store.queue(
            StepRow(
                step=step,
                at=began_at + step,
                tokens=512 * step,
                loss=8 - step / NUM_STEPS,
                learning_rate=1e-3,
                tokens_per_s=512.0,
                micro_batch=4,
                grad_accum=2,
            )
        )
        if step % 1000 == 0:
            store.queue(EvaluationRow(step=step, at=began_at + step, tokens=512 * step, val_loss=step / 1000))
        if step % 2 == 0 and not 3000 < step < 4000:
            store.queue(SensorRow(at=began_at + step - 0.5, elapsed_s=float(step), gpu_celsius=step % 90))
    assert store.flush()
    store.close()
    return folder


def test_csv_and_json_have_every_step_once_with_what_belongs_to_it(run: RunFolder) -> None:
    untrained, *rows = csv.DictReader(metrics.csv_lines(run))
    assert (untrained["step"], untrained["val_loss"], untrained["loss"]) == ("0", "8.5", "")
    assert list(rows[0]) == [column.name for column in metrics.COLUMNS]
    assert [int(row["step"]) for row in rows] == list(range(1, NUM_STEPS + 1))
    assert (rows[2999]["val_loss"], rows[2998]["val_loss"]) == ("3.0", "")
    assert rows[0]["at"] == "2023-11-14T22:13:21.000Z"
    assert (rows[0]["gpu_celsius"], rows[1]["gpu_celsius"], rows[2]["gpu_celsius"]) == ("", "2.0", "2.0")
    assert rows[3049]["gpu_celsius"] == str(3000 % 90 * 1.0) and rows[3099]["gpu_celsius"] == ""
    assert rows[0]["gpu_watts"] == ""
    document = json.loads("".join(metrics.json_lines(run)))
    assert document["run"] == run.id and len(document["rows"]) == 1 + NUM_STEPS
    assert document["rows"][1]["gpu_watts"] is None and document["rows"][2]["gpu_celsius"] == 2.0
    assert [column["name"] for column in document["columns"]] == list(document["rows"][0])
    assert all(column["unit"] and column["meaning"] for column in document["columns"])


def records(data: bytes) -> Iterator[bytes]:
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        for part, mask in ((data[:8], data[8:12]), (data[12 : 12 + length], data[12 + length : 16 + length])):
            crc = crc32c(part)
            turned = ((crc >> 15) | (crc << 17)) & 0xFFFFFFFF
            assert struct.unpack("<I", mask)[0] == (turned + 0xA282EAD8) % 2**32
        yield data[12 : 12 + length]
        data = data[16 + length :]


def test_an_event_file_holds_the_curves_and_is_written_anew_in_its_place(
    run: RunFolder, tmp_path: Path
) -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of the CRC's own catalogue
    path = metrics.write_tensorboard(run, tmp_path / "board")
    assert metrics.write_tensorboard(run, tmp_path / "board") == path
    assert [other.name for other in path.parent.iterdir()] == [path.name]
    found = list(records(path.read_bytes()))
    assert len(found) == 2 + NUM_STEPS and b"brain.Event:2" in found[0]
    thousandth = found[1001]
    assert thousandth[9:12] == b"\x10\xe8\x07"  # field 2, a varint: step 1000
    at = thousandth.index(b"validation/loss") + len(b"validation/loss")
    assert thousandth[at : at + 5] == b"\x15" + struct.pack("<f", 1.0)
    assert b"validation/loss" not in found[1000] and b"sensors/gpu_watts" not in thousandth


def test_tensorboard_itself_reads_it(run: RunFolder, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    path = metrics.write_tensorboard(run, tmp_path / "board")
    board = accumulator.EventAccumulator(str(path.parent), size_guidance={"scalars": 0})
    board.Reload()
    losses = board.Scalars("train/loss")
    assert [point.step for point in losses] == list(range(1, NUM_STEPS + 1))
    assert losses[-1].value == pytest.approx(7.0) and losses[0].wall_time == 1_700_000_001.0
    assert len(board.Scalars("validation/loss")) == 7


def test_every_column_is_documented_with_its_unit() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    for column in metrics.COLUMNS:
        tag = f"`{column.tag}`" if column.tag else ""
        assert f"| `{column.name}` | {column.unit} | {column.meaning} | {tag} |" in text
