from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from engine.corpus import cache
from engine.corpus.manifest import load_manifest
from engine.corpus.shard import TokenStore
from engine.records import Device, EventRow, HeartbeatRow, ProgressRow, RunPlan
from engine.runs.store import RunStore
from engine.settings import Settings
from engine.settings_file import freeze
from engine.shape import PRESETS
from tests.engine.corpus.conftest import build, corpus_settings, prose

BUILD = """
import sys
from pathlib import Path
from tests.engine.corpus.conftest import build
print(build(Path(sys.argv[1])).key, flush=True)
"""


def start_build(workspace: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", BUILD, str(workspace)], stdout=subprocess.PIPE)


def wait_for(condition: object, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def write_corpus(workspace: Path, num_bytes: int) -> None:
    (workspace / "text").mkdir()
    (workspace / "text" / "a.txt").write_bytes(prose(num_bytes // 8).encode() * 8)


def test_killed_half_way_it_is_gone_on_with(workspace: Path) -> None:
    write_corpus(workspace, 12_000_000)
    folder = cache.cache_folder(workspace)
    process = start_build(workspace)
    wait_for(lambda: any(path.stat().st_size > 100_000 for path in folder.glob(".build-*/train-*.bin")))
    process.kill()
    assert process.wait() == -signal.SIGKILL
    (leftover,) = folder.glob(".build-*")
    assert not (folder / leftover.name.removeprefix(".build-")).exists()
    # A leftover of another corpus goes too; the lock of a build that lives keeps its own.
    (folder / ".build-dead").mkdir()
    (folder / ".build-alive").mkdir()
    with cache.exclusive(folder, "alive", lambda: None):
        manifest = build(workspace)
    assert [path.name for path in folder.glob(".build-*")] == [".build-alive"]
    TokenStore.open(Path(manifest.folder), "train").verify()


def test_two_builds_at_once_are_one(workspace: Path) -> None:
    write_corpus(workspace, 3_000_000)
    processes = [start_build(workspace) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0] == outputs[1]
    folder = cache.cache_folder(workspace) / outputs[0].decode().strip()
    TokenStore.open(folder, "train").verify()
    inode = folder.stat().st_ino
    assert build(workspace).folder == str(folder)
    assert folder.stat().st_ino == inode


def test_a_builder_waits_for_the_other_and_finds_its_work(workspace: Path) -> None:
    write_corpus(workspace, 200_000)
    key = build(workspace).key
    folder = cache.cache_folder(workspace)
    (folder / key).rename(folder / "aside")
    with cache.exclusive(folder, key, lambda: None):
        process = start_build(workspace)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        (folder / "aside").rename(folder / key)
        inode = (folder / key).stat().st_ino
    assert process.wait(30) == 0
    assert (folder / key).stat().st_ino == inode


# --- python -m engine.corpus RUN_DIR ---------------------------------------------------------------------------


def make_run(workspace: Path, source: str = "text", *, tokens: int = 4096) -> Path:
    run = workspace / "runs" / "r1"
    run.mkdir(parents=True)
    freeze(Settings(corpus=corpus_settings(source)), run / "settings.toml")
    shape = msgspec.structs.replace(PRESETS["tiny"], vocab_size=400, context=64)
    plan = RunPlan(
        preset="tiny",
        shape=shape,
        device=Device(kind="cpu", name="cpu", identity="cpu", total_bytes=None, free_bytes=None),
        precision="fp32",
        optimizer="adamw",
        learning_rate=1e-3,
        tokens_total=tokens,
        tokens_per_step=512,
        micro_batch=8,
        grad_accum=1,
        steps=tokens // 512,
        is_compiled=False,
        num_recomputed_blocks=0,
        memory_parts_bytes={},
        memory_total_bytes=0,
        memory_budget_bytes=None,
    )
    store = RunStore(run / "run.db")
    store.set_meta(plan=plan, workspace=str(workspace))
    store.close()
    return run


def corpus_process(run: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "engine.corpus", str(run)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def events(run: Path) -> dict[str, EventRow]:
    store = RunStore(run / "run.db", read_only=True)
    found = {row.kind: row for row in store.rows(EventRow)}
    store.close()
    return found


def test_the_process_tells_the_run_and_leaves_what_the_trainer_needs(workspace: Path) -> None:
    write_corpus(workspace, 1_000_000)
    (workspace / "text" / "b.jsonl").write_text('{"text": "good"}\n{}\n')
    (workspace / "text" / "c.txt").write_bytes(b"plain text with one odd byte: \xff")
    run = make_run(workspace)
    ended = corpus_process(run)
    assert (ended.returncode, ended.stderr) == (0, "")
    manifest = load_manifest(run / "corpus.json")
    folder = Path(manifest.folder)
    assert folder.is_absolute() and folder.parent == cache.cache_folder(workspace)
    assert (run / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    store = RunStore(run / "run.db", read_only=True)
    beat = store.heartbeat("corpus")
    progress = {row.kind: row for row in store.rows(ProgressRow)}
    store.close()
    assert beat is not None and beat.phase == "tokenizing"
    assert progress["tokens"].done_bytes == progress["tokens"].total_bytes
    told = events(run)
    assert told["corpus-ready"].level == "info"
    assert json.loads(told["corpus-invalid-utf8"].data) == {"count": 1}
    assert json.loads(told["corpus-bad-lines"].data) == {"count": 1}
    assert {row.source for row in told.values()} == {"corpus"}


def test_a_run_keeps_the_tokens_that_it_began_with(workspace: Path) -> None:
    write_corpus(workspace, 200_000)
    run = make_run(workspace)
    assert corpus_process(run).returncode == 0
    before = (run / "corpus.json").read_bytes()
    (workspace / "text" / "a.txt").write_text(prose(200_000, 77))
    assert corpus_process(run).returncode == 0
    assert (run / "corpus.json").read_bytes() == before
    folder = Path(load_manifest(run / "corpus.json").folder)
    folder.rename(folder.with_name("gone"))
    ended = corpus_process(run)
    assert ended.returncode == 2
    assert "has changed since this run began" in ended.stderr
    assert (run / "corpus.json").read_bytes() == before


def test_a_refusal_is_an_event_a_message_and_exit_2(workspace: Path) -> None:
    run = make_run(workspace, "absent")
    ended = corpus_process(run)
    assert ended.returncode == 2
    assert "'absent'" in ended.stderr and "Traceback" not in ended.stderr
    row = events(run)["corpus-refused"]
    assert row.level == "error" and json.loads(row.data)["remedy"]
    assert not (run / "corpus.json").exists()
    assert corpus_process(workspace / "no-run").returncode == 2


def test_it_lives_on_while_the_store_is_locked(workspace: Path) -> None:
    write_corpus(workspace, 2_000_000)
    run = make_run(workspace)
    import sqlite3

    other = sqlite3.connect(run / "run.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    process = subprocess.Popen([sys.executable, "-m", "engine.corpus", str(run)])
    wait_for(
        lambda: any(load_or_none(path) for path in cache.cache_folder(workspace).glob("*/manifest.json"))
    )
    other.execute("ROLLBACK")
    other.close()
    assert process.wait(30) == 0
    assert "corpus-ready" in events(run)


def load_or_none(path: Path) -> object:
    return path.parent.name[0] != "." and load_manifest(path)


def test_an_orphan_ends_and_its_half_build_counts_for_nothing(workspace: Path) -> None:
    write_corpus(workspace, 24_000_000)
    run = make_run(workspace)
    middle = f"import subprocess, sys; subprocess.Popen([sys.executable, '-m', 'engine.corpus', {str(run)!r}]).wait()"
    parent = subprocess.Popen([sys.executable, "-c", middle], stderr=subprocess.DEVNULL)

    def phase() -> str | None:
        store = RunStore(run / "run.db", read_only=True)
        beats = store.rows(HeartbeatRow)
        store.close()
        return beats[0].phase if beats else None

    wait_for(lambda: phase() == "tokenizing")
    store = RunStore(run / "run.db", read_only=True)
    pid = store.rows(HeartbeatRow)[0].pid
    store.close()
    parent.kill()
    parent.wait()
    wait_for(lambda: not Path(f"/proc/{pid}").exists() or is_zombie(pid))
    folder = cache.cache_folder(workspace)
    (half,) = folder.glob(".build-*")
    assert not (folder / half.name.removeprefix(".build-")).exists()
    assert not (run / "corpus.json").exists()


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_many_small_files_are_each_a_document(workspace: Path) -> None:
    folder = workspace / "text"
    folder.mkdir()
    for index in range(1000):
        (folder / f"{index}.txt").write_text(prose(200, index))
    manifest = build(workspace)
    assert manifest.num_files == manifest.num_documents == 1000
