"""A run moves to a rented GPU by a file: the money first, then a task that SkyPilot's own parser takes."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import yaml

from engine.corpus.__main__ import main as prepare_corpus
from engine.errors import EngineError, RunFailedError
from engine.records import CheckpointRow, Device, RunPlan
from engine.runs.cloud_task import write_task
from engine.runs.folder import RunFolder, create
from engine.runs.lock import Lock
from engine.runs.view import describe_source
from engine.settings import CloudOffer, CloudSettings, CorpusPart, CorpusSettings, NotifySettings, Settings
from engine.settings_file import freeze
from engine.shape import PRESETS
from tests.conftest import write_text

GPU = Device(
    kind="cuda",
    name="NVIDIA GeForce RTX 2050",
    identity="GPU-1",
    total_bytes=4 << 30,
    free_bytes=3 << 30,
    capability=(8, 6),
)


def plan_of(device: Device = GPU) -> RunPlan:
    return RunPlan(
        preset="134m",
        shape=PRESETS["134m"],
        device=device,
        precision="bf16",
        optimizer="muon",
        learning_rate=3e-3,
        tokens_total=1_000_000_512,
        tokens_per_step=1_000_000_512 // 1000,
        micro_batch=4,
        grad_accum=8,
        steps=1000,
        is_compiled=False,
        num_recomputed_blocks=0,
        memory_parts_bytes={},
        memory_total_bytes=3 << 30,
        memory_budget_bytes=None,
    )


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run of the laptop with a quarter done, its text in the workspace."""
    workspace = tmp_path / "workspace"
    write_text(workspace / "books")
    settings = Settings(
        corpus=CorpusSettings(source="books"),
        cloud=CloudSettings(offers=[CloudOffer(name="a friend", gpu="NVIDIA T4", usd_per_hour=0.01)]),
        notify=NotifySettings(url="https://hooks.example.org/s3cret"),
    )
    folder = create(workspace, settings, plan_of(), {}, "test")
    checkpoint = folder.checkpoints / "step-250"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(b"x" * 1_000_000)
    store = folder.open(read_only=False)
    store.put(
        CheckpointRow(step=250, at=1.0, tokens=250_000_128, folder="step-250", total_bytes=1, write_s=1.0)
    )
    store.close()
    return folder


def test_what_it_costs_stands_above_a_task_that_takes_the_run_along(run: RunFolder, tmp_path: Path) -> None:
    target = tmp_path / "move.yaml"
    quote = write_task(run, target, "google t4")
    assert (quote.provider, quote.gpu, quote.usd_per_hour) == ("Google Cloud", "NVIDIA T4", 0.54)
    text = target.read_text("utf-8")
    head = [line for line in text.splitlines() if line.startswith("#")]
    assert head[0] == f"# Run {run.id} on a rented GPU: 75% of its 1,000,000,512 tokens."
    cost = re.search(r"COST +([\d.]+) USD for about ([\d.]+) h", text)
    assert cost is not None and quote.usd is not None and float(cost[1]) == pytest.approx(quote.usd, abs=0.01)
    assert any("bf16" in line for line in head), "a T4 has none"
    assert "s3cret" not in text
    task = yaml.safe_load(text)
    assert task["resources"]["infra"] == "gcp" and task["resources"]["accelerators"] == "T4:1"
    assert task["resources"]["use_spot"] is False and task["resources"]["autostop"]["down"] is False
    mounts = task["file_mounts"]
    assert all(Path(local).exists() for local in mounts.values())
    assert mounts[f"~/llm-tui/workspace/runs/{run.id}/checkpoints/step-250"] == str(
        run.checkpoints / "step-250"
    )
    assert mounts["~/llm-tui/workspace/books"] == str(run.workspace / "books")
    assert "s3cret" not in Path(mounts["~/llm-tui/workspace/settings.toml"]).read_text("utf-8")
    assert f"resume {run.id} --set scale.processes=1" in task["run"] and "torch" in task["setup"]


def test_every_source_of_a_mix_goes_along(run: RunFolder, tmp_path: Path) -> None:
    apart = tmp_path / "web"
    write_text(apart)
    mix = [
        CorpusPart(source=["books"]),
        CorpusPart(source=f"{apart}/*.txt", weight=2.0),
        CorpusPart(source="gone"),
    ]
    freeze(Settings(corpus=CorpusSettings(mix=mix)), run.settings_path)
    write_task(run, tmp_path / "mix.yaml", "lambda a10")
    mounts = yaml.safe_load((tmp_path / "mix.yaml").read_text("utf-8"))["file_mounts"]
    assert mounts["~/llm-tui/workspace/books"] == str(run.workspace / "books")
    assert mounts[str(apart)] == str(apart) and not any("gone" in name for name in mounts)
    assert describe_source(run.settings()) == f"books, {apart}/*.txt, gone"


def test_the_cheapest_offer_that_can_be_used_is_taken_and_wrong_ones_are_refused(
    run: RunFolder, tmp_path: Path
) -> None:
    assert write_task(run, tmp_path / "a.yaml").provider == "a friend"
    assert "infra" not in yaml.safe_load((tmp_path / "a.yaml").read_text("utf-8"))["resources"]
    with pytest.raises(EngineError, match="left as it is"):
        write_task(run, tmp_path / "a.yaml")
    with pytest.raises(EngineError, match="No offer holds") as caught:
        write_task(run, tmp_path / "b.yaml", "no such cloud")
    assert "Google Cloud, NVIDIA L4, on-demand" in caught.value.remedy
    many = write_task(run, tmp_path / "many.yaml", "AWS H100")
    task = yaml.safe_load((tmp_path / "many.yaml").read_text("utf-8"))
    assert many.gpu == "8 x NVIDIA H100 SXM" and task["resources"]["accelerators"] == "H100:8"
    assert "scale.processes=8" in task["run"] and "CUDA_VISIBLE_DEVICES=0,1,2,3,4,5,6,7" in task["run"]
    lock = Lock(run.supervisor_lock)
    assert lock.acquire("1")
    with pytest.raises(RunFailedError, match="two places"):
        write_task(run, tmp_path / "b.yaml")
    lock.release()
    assert not (tmp_path / "b.yaml").exists()


def test_a_run_of_a_cpu_is_begun_anew(run: RunFolder, tmp_path: Path) -> None:
    cpu = Device(kind="cpu", name="a processor", identity="cpu", total_bytes=None, free_bytes=None)
    store = run.open(read_only=False)
    store.set_meta(plan=plan_of(cpu))
    store.close()
    write_task(run, tmp_path / "new.yaml", "lambda a10")
    text = (tmp_path / "new.yaml").read_text("utf-8")
    assert "begins a new one" in text and "100% of its" in text
    assert "resume" not in yaml.safe_load(text)["run"] and "checkpoints" not in text


def test_skypilot_takes_it(run: RunFolder, tmp_path: Path) -> None:
    sky = pytest.importorskip("sky")
    write_task(run, tmp_path / "move.yaml", "aws t4 spot")
    task = sky.Task.from_yaml(str(tmp_path / "move.yaml"))
    (resources,) = task.resources
    assert resources.accelerators == {"T4": 1} and resources.use_spot
    assert str(resources.cloud).lower() == "aws"
    assert task.name == f"llm-tui-{run.id}".lower() and len(task.file_mounts) >= 6


def test_a_run_that_was_moved_finds_its_tokens_beside_it(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    write_text(here / "books")
    settings = Settings(corpus=CorpusSettings(source="books", validation_frac=0.1))
    shape = msgspec.structs.replace(PRESETS["tiny"], vocab_size=512, context=64)
    run = create(here, settings, msgspec.structs.replace(plan_of(), shape=shape), {}, "test")
    assert prepare_corpus([str(run.path)]) == 0
    here.rename(there)
    for text in (there / "books").iterdir():
        text.unlink()
    assert prepare_corpus([str(there / "runs" / run.id)]) == 0
    assert str(there) in (there / "runs" / run.id / "corpus.json").read_text("utf-8")
