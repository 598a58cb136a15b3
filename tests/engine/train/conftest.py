"""A run of a very small model on real text, ready for the trainer: seconds from start to end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import torch

from engine.corpus.build import prepare
from engine.corpus.manifest import TOKENIZER_NAME, save_manifest
from engine.process import module_argv
from engine.records import Device, RunPlan
from engine.runs.folder import RunFolder, create
from engine.settings import CorpusSettings, ScaleSettings, Settings, TrainingSettings
from engine.shape import ModelShape
from tests.conftest import end

torch.set_num_threads(1)  # a model this small only loses by more, most of all beside other tests

SMALL = ModelShape(
    vocab_size=512,
    n_layer=2,
    n_head=4,
    n_kv_head=2,
    n_embd=64,
    intermediate=128,
    context=64,
    tie_embeddings=False,
)
DEVICE = Device(kind="cpu", name="a processor", identity="cpu", total_bytes=None, free_bytes=None)


def make_plan(**changes: object) -> RunPlan:
    """A plan for the small model; `steps` and `micro_batch` may be changed, the rest follows."""
    steps, micro_batch = changes.pop("steps", 12), changes.pop("micro_batch", 4)
    assert isinstance(steps, int) and isinstance(micro_batch, int)
    plan = RunPlan(
        preset="tiny",
        shape=SMALL,
        device=DEVICE,
        precision="fp32",
        optimizer="muon",
        learning_rate=3e-3,
        tokens_total=steps * 512,
        tokens_per_step=512,
        micro_batch=micro_batch,
        grad_accum=8 // micro_batch,
        steps=steps,
        is_compiled=False,
        num_recomputed_blocks=0,
        memory_parts_bytes={},
        memory_total_bytes=0,
        memory_budget_bytes=None,
    )
    return msgspec.structs.replace(plan, **changes)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the corpus.json and tokenizer.json of real text, tokenized once."""
    workspace = tmp_path_factory.mktemp("corpus")
    (workspace / "text").mkdir()
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:24]:
        (workspace / "text" / f"{path.stem}.txt").write_bytes(path.read_bytes()[:5000])
    settings = CorpusSettings(source="text", validation_frac=0.1)
    manifest = prepare(settings, vocab_size=512, context=64, workspace=workspace, on_progress=lambda _: None)
    save_manifest(manifest, workspace / "corpus.json")
    shutil.copy(Path(manifest.folder) / TOKENIZER_NAME, workspace / TOKENIZER_NAME)
    return workspace


MakeRun = Callable[..., RunFolder]


@pytest.fixture
def make_run(tmp_path: Path, corpus: Path) -> Iterator[MakeRun]:
    """Make a run folder as the corpus process leaves it; settings, and what changes the plan."""
    made: list[RunFolder] = []

    def make(
        training: dict[str, object] | None = None, scale: dict[str, object] | None = None, **plan: object
    ) -> RunFolder:
        cadence = {"checkpoint_every_s": 1000, "eval_every_s": 1000, "sample_every_s": 1000}
        settings = Settings(
            training=msgspec.convert({**cadence, **(training or {})}, TrainingSettings),
            scale=msgspec.convert(scale or {}, ScaleSettings),
        )
        run = create(tmp_path, settings, make_plan(**plan), {}, "test")
        for name in ("corpus.json", TOKENIZER_NAME):
            shutil.copy(corpus / name, run.path / name)
        made.append(run)
        return run

    yield make
    for run in made:
        end(run)


@pytest.fixture(autouse=True)
def full_precision() -> Iterator[None]:
    """Give the test process torch's own precision of fp32 products back: an accelerator sets it for good."""
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.fixture
def signals() -> Iterator[None]:
    """Give the test process its own signal handlers back after a trainer ran in it."""
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def start_trainer() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a real trainer on a run; what still lives at the end of the test is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def start(run: RunFolder, **environment: str) -> subprocess.Popen[bytes]:
        with run.log_path.open("ab") as log:
            process = subprocess.Popen(
                module_argv("engine.train", "run", str(run.path)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
